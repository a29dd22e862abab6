"""How loss and gradient change along the direction of the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bnlib.lab.network import Network
from bnlib.lab.train import Moment

__all__ = ["along_gradient"]


def along_gradient(network: Network, moment: Moment, distances: Sequence[float]) -> Tensor:
    """Measure loss and gradient on the step's batch at points along the gradient.

    At ``w(d) = w - d * g``, with g the gradient at w: the loss, the distance ``||g(d) - g||``, and their
    ratio to the way, ``||g(d) - g|| / (d * ||g||)``, which bounds the smoothness beta of the loss from below.

    Args:
        network: the network.
        moment: the step.
        distances: D step sizes d, above 0.

    Returns:
        Shape (D, 3): loss, distance of the gradients, effective smoothness. The range of the first column,
        the range of the second and the maximum of the third are what the source plots.

    Source: Santurkar et al. (2018), figure 4.
    """
    g = moment.gradient
    norm = torch.stack([t.square().sum() for t in g.values()]).sum().sqrt()
    rows = []
    for d in distances:
        there = {name: w - d * g[name] for name, w in moment.params.items()}
        loss = network.batch_loss(there, moment.buffers, moment.x, moment.y)
        g_there = network.gradient(there, moment.buffers, moment.x, moment.y)
        change = torch.stack([(g_there[n] - g[n]).square().sum() for n in g]).sum().sqrt()
        rows.append(torch.stack([loss, change, change / (d * norm)]))
    return torch.stack(rows)
