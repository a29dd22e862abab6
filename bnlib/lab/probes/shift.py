"""Internal covariate shift, by two published definitions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bnlib.lab.network import Network
from bnlib.lab.probes.places import activations, weight_names
from bnlib.lab.train import Moment

__all__ = ["gradient_shift", "moment_shift", "shift_of_moments", "unit_moments"]


def unit_moments(network: Network, moment: Moment, x: Tensor, names: Sequence[str] | None = None) -> Tensor:
    """Return mean and standard deviation of the activations on a batch that is the same at every step.

    The weights and the noise are those of the step, so that ``shift_of_moments`` between two steps is what
    a layer meets from one to the other.

    Args:
        network: the network.
        moment: the step.
        x: the batch, shape (B, ...); where there is noise, B must be that of the training.
        names: of L modules with C units each; None is all blocks.

    Returns:
        Shape (L, 2, C).
    """
    found = activations(network, moment.params, moment.buffers, x, names)
    return torch.stack([moments(a) for a in found.values()])


def shift_of_moments(before: Tensor, after: Tensor) -> Tensor:
    """Measure how far mean and standard deviation of a layer's units have moved.

    ``mean_j(|mu'_j - mu_j| / sigma_j)`` and ``mean_j(|log(sigma'_j / sigma_j)|)``, over the units j. Units
    whose sigma or sigma' is 0 do not count.

    Args:
        before: mu and sigma, shape (..., 2, C).
        after: mu' and sigma', the same.

    Returns:
        Shape (..., 2): the shift of the mean, in standard deviations, and of the logarithm of the latter.
    """
    (mu, sigma), (mu_next, sigma_next) = before.unbind(-2), after.unbind(-2)
    counts = (sigma > 0) & (sigma_next > 0)
    one = torch.ones_like(sigma)
    safe, safe_next = sigma.where(counts, one), sigma_next.where(counts, one)
    moved = torch.stack([(mu_next - mu).abs() / safe, (safe_next / safe).log().abs()], -2)
    return (moved * counts.unsqueeze(-2)).sum(-1) / counts.sum(-1, keepdim=True)


def moment_shift(network: Network, moment: Moment, names: Sequence[str] | None = None) -> Tensor:
    """Measure how far a step moves mean and standard deviation of the activations, on the step's batch.

    It is ``shift_of_moments`` between the weights before and after the step, under the same noise.

    Args:
        network: the network.
        moment: the step.
        names: of L modules; None is all blocks.

    Returns:
        Shape (L, 2): the shift of the mean, in standard deviations, and of the logarithm of the latter.

    Source: Ioffe & Szegedy (2015), section 2, define the shift as "the change in the distribution of network
    activations due to the change in network parameters"; here by its first two moments.
    """
    before, after = (
        activations(network, params, moment.buffers, moment.x, names).values()
        for params in (moment.params, moment.next_params)
    )
    pairs = zip(before, after, strict=True)
    return torch.stack([shift_of_moments(moments(a), moments(b)) for a, b in pairs])


def moments(a: Tensor) -> Tensor:
    """Return mean and biased standard deviation of each unit or channel, shape (2, C), of (N, C, ...)."""
    flat = a.movedim(1, -1).reshape(-1, a.shape[1])
    return torch.stack([flat.mean(0), flat.var(0, correction=0).sqrt()])


def gradient_shift(network: Network, moment: Moment) -> Tensor:
    """Measure how the update of the layers below changes the gradient of each layer.

    ``G_i``: the gradient of the loss for the weights W_i of layer i. ``G'_i``: the same on the same batch,
    after the parameters of all layers below i, and no others, have made the step. The shift is
    ``||G_i - G'_i||``.

    Args:
        network: the network, with L linear maps and convolutions.
        moment: the step.

    Returns:
        Shape (L, 3): ``||G_i - G'_i||``, ``||G_i||``, and the cosine of the angle between the two. Nothing
        lies below the first layer, so its shift is 0.

    Source: Santurkar et al. (2018), Definition 2.1.
    """
    order, rows = list(moment.params), []
    for name in weight_names(network):
        # What precedes a weight in the module, its own bias not included, is below it.
        below = set(order[: order.index(name)])
        mixed = {n: (moment.next_params if n in below else moment.params)[n] for n in order}
        first = moment.gradient[name]
        second = network.gradient(mixed, moment.buffers, moment.x, moment.y)[name]
        norm, other = first.norm(), second.norm()
        rows.append(torch.stack([(first - second).norm(), norm, (first * second).sum() / (norm * other)]))
    return torch.stack(rows)
