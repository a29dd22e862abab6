"""How loss and gradient change along the direction of the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bnlib.lab.network import Network
from bnlib.lab.probes.places import weight_names
from bnlib.lab.train import Moment

__all__ = ["along_gradient", "along_relative_gradient", "relative_step"]


def along_gradient(network: Network, moment: Moment, distances: Sequence[float | Tensor]) -> Tensor:
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
    rows = []
    for d in distances:
        there = {name: w - d * g[name] for name, w in moment.params.items()}
        loss = network.batch_loss(there, moment.buffers, moment.x, moment.y)
        g_there = network.gradient(there, moment.buffers, moment.x, moment.y)
        change = length(g_there[n] - g[n] for n in g)
        rows.append(torch.stack([loss, change, change / (d * length(g.values()))]))
    return torch.stack(rows)


def along_relative_gradient(
    network: Network, moment: Moment, fractions: Sequence[float], names: Sequence[str] | None = None
) -> Tensor:
    """Measure loss and gradient along the gradient, each weight in units of its own norm.

    With ``w = ||w|| * theta`` and ``G = ||w|| * g`` for each weight, the gradient with respect to theta, the
    points are ``theta(r) = theta - r * G / ||G||``: together the weights move by the fraction r of their
    norms. The result is the same for a network whose weights are scaled so that its function stays.

    Args:
        network: the network.
        moment: the step.
        fractions: F fractions r, above 0.
        names: of the weights that move; None is those of all linear maps and convolutions. The others stay.

    Returns:
        Shape (F, 3): loss, distance ``||G(r) - G||``, and this distance divided by ``||G||``.
    """
    names = weight_names(network) if names is None else names
    w, g = moment.params, moment.gradient
    size = {n: w[n].norm() for n in names}
    norm = length(size[n] * g[n] for n in names)
    rows = []
    for r in fractions:
        there = w | {n: w[n] - r * size[n].square() / norm * g[n] for n in names}
        loss = network.batch_loss(there, moment.buffers, moment.x, moment.y)
        g_there = network.gradient(there, moment.buffers, moment.x, moment.y)
        change = length(size[n] * (g_there[n] - g[n]) for n in names)
        rows.append(torch.stack([loss, change, change / norm]))
    return torch.stack(rows)


def relative_step(network: Network, moment: Moment, names: Sequence[str] | None = None) -> Tensor:
    """Measure the way of the step in units of the norms of the weights: r of ``along_relative_gradient``.

    ``sqrt(sum_l(||w'_l - w_l||**2 / ||w_l||**2))``

    Args:
        network: the network.
        moment: the step.
        names: of the weights that count; None is those of all linear maps and convolutions.

    Returns:
        A number.
    """
    names = weight_names(network) if names is None else names
    w, after = moment.params, moment.next_params
    return length((after[n] - w[n]) / w[n].norm() for n in names)


def length(parts: Iterable[Tensor]) -> Tensor:
    """Return the norm of several tensors taken as one vector."""
    return torch.stack([t.square().sum() for t in parts]).sum().sqrt()
