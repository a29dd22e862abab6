"""What a step is to weights whose scale does not matter: a turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bnlib.lab.network import Network
from bnlib.lab.probes.places import weight_names
from bnlib.lab.train import Moment

__all__ = ["steps_on_sphere"]


def steps_on_sphere(network: Network, moment: Moment, names: Sequence[str] | None = None) -> Tensor:
    """Measure the norm of weights, their effective learning rate and the angle that the step turns them by.

    ``||w||``, ``lr / ||w||**2`` and ``angle(w, w')``. For weights before a normalization, the loss depends on
    ``w / ||w||`` alone, which moves as if at the effective rate. In equilibrium with weight decay, without
    momentum, the angle is ``sqrt(2 * lr * weight_decay)``.

    Args:
        network: the network.
        moment: the step.
        names: of L weights; None is those of all linear maps and convolutions. A weight is taken as one
            vector.

    Returns:
        Shape (L, 3): norm, effective rate, angle in radians.

    Source: van Laarhoven (2017), arXiv:1706.05350; Wan et al. (2020), arXiv:2006.08419.
    """
    rows = []
    for name in weight_names(network) if names is None else names:
        w, w_next = moment.params[name], moment.next_params[name]
        norm, next_norm = w.norm(), w_next.norm()
        # The half angle by its sine: the cosine of a small angle has lost its digits.
        half = (w / norm - w_next / next_norm).norm() / 2
        rows.append(torch.stack([norm, moment.lr / norm.square(), 2 * half.clamp(max=1).asin()]))
    return torch.stack(rows)
