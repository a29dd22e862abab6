"""What the models of the lab are put together from: activations, normalizations by name, initial values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bnlib.lab.noise import Noisy
from bnlib.torch import BatchNorm1d, BatchNorm2d, group_norm, rms_norm

__all__ = [
    "ACTIVATIONS",
    "INITS",
    "NORMS",
    "GroupNorm",
    "Norm",
    "RMSNorm",
    "activation",
    "initialize",
    "norm",
]

Norm = str | Callable[[int, int], nn.Module]
"""A name in ``NORMS``, or a function of the number of channels and of positional axes (0 or 2)."""


class GroupNorm(nn.GroupNorm):
    """``torch.nn.GroupNorm`` computed by ``bnlib.torch.group_norm``."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample over groups of channels; shape (N, C, ...)."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Divide each sample by the root mean square of all its values; a weight for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` of shape (N, C, ...)."""
        return rms_norm(x, x.shape[1:]) * self.weight.view(-1, *[1] * (x.ndim - 2))


def batch(channels: int, positions: int) -> nn.Module:
    """Make a batch norm for (N, C) or (N, C, H, W)."""
    return BatchNorm2d(channels) if positions == 2 else BatchNorm1d(channels)


NORMS: Mapping[str, Callable[[int, int], nn.Module] | None] = {
    "none": None,
    "batch": batch,
    "noisy": lambda channels, positions: Noisy(batch(channels, positions)),
    "noise": lambda channels, positions: Noisy(nn.Identity()),
    "layer": lambda channels, positions: GroupNorm(1, channels),
    "group": lambda channels, positions: GroupNorm(4, channels),
    "instance": lambda channels, positions: GroupNorm(channels, channels),
    "rms": lambda channels, positions: RMSNorm(channels),
}
"""Normalizations by name; "layer" takes all channels and positions of a sample, "group" 4 groups of them.

"noisy" is batch norm followed by noise, "noise" the same noise alone.
"""

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
}

INITS: Mapping[str, float | None] = {"torch": None, "he": 2.0, "lecun": 1.0}
"""Initial values by name: the variance of a weight times its number of inputs; None is PyTorch's own rule."""


def norm(kind: Norm, channels: int, positions: int = 0) -> list[nn.Module]:
    """Make a normalization for inputs (N, C) or, with 2 ``positions``, (N, C, H, W).

    Returns:
        A list of one module, or of none for ``"none"``.

    Raises:
        ValueError: the name is not one of ``NORMS``.
    """
    if callable(kind):
        return [kind(channels, positions)]
    make = NORMS[known(kind, NORMS, "norm")]
    return [] if make is None else [make(channels, positions)]


def activation(kind: str) -> nn.Module:
    """Make an activation; ``ValueError`` if the name is not one of ``ACTIVATIONS``."""
    return ACTIVATIONS[known(kind, ACTIVATIONS, "activation")]()


def initialize(model: nn.Module, init: str) -> None:
    """Draw the weights of linear maps and convolutions from a normal law, and set their biases to 0.

    ``std = sqrt(gain / fan_in)``, gain 2 for ``"he"``, 1 for ``"lecun"``; ``"torch"`` changes nothing.

    Raises:
        ValueError: the name is not one of ``INITS``.

    Source: He et al. (2015), arXiv:1502.01852; LeCun et al. (1998), "Efficient BackProp".
    """
    gain = INITS[known(init, INITS, "init")]
    if gain is None:
        return
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=(gain / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def known(name: str, names: Mapping[str, object], what: str) -> str:
    """Return ``name``; raise ValueError if it is not in ``names``."""
    if name not in names:
        raise ValueError(f"expected {what} {', '.join(names)}, got {name!r}")
    return name
