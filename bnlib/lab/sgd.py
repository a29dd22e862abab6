"""Stochastic gradient descent for many runs at once, and schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bnlib.lab.runs import Settings

__all__ = ["SGD", "Schedule", "constant", "cosine", "linear"]

Schedule = Callable[[int, int], float]
"""The factor of the learning rate, given the step, from 0, and the number of steps."""


def constant(step: int, steps: int) -> float:
    """Return 1."""
    return 1.0


def linear(step: int, steps: int) -> float:
    """Fall from 1 to 0 along a straight line: ``1 - step / steps``."""
    return 1 - step / steps


def cosine(step: int, steps: int) -> float:
    """Fall from 1 to 0 along half a wave: ``(1 + cos(pi * step / steps)) / 2``.

    Source: Loshchilov & Hutter (2017), arXiv:1608.03983, without restarts.
    """
    return (1 + math.cos(math.pi * step / steps)) / 2


class SGD:
    """Gradient descent with momentum and weight decay, each run by its own settings.

    ``g += weight_decay * w``, ``v = momentum * v + g``, ``w -= factor * lr * v``, as ``torch.optim.SGD``

    Args:
        params: tensors of shape (R, ...), changed in place.
        settings: of the R runs.
    """

    def __init__(self, params: Sequence[Tensor], settings: Sequence[Settings]) -> None:
        self.params = params
        self.lr = self.spread([s.lr for s in settings])
        momentum, decay = [s.momentum for s in settings], [s.weight_decay for s in settings]
        self.decay = self.spread(decay) if any(decay) else None
        self.momentum = self.spread(momentum) if any(momentum) else None
        self.velocity = [torch.zeros_like(p) for p in params] if any(momentum) else None

    def spread(self, values: Sequence[float]) -> list[Tensor]:
        """Return the values of the R runs once for each parameter, of a shape that broadcasts to it."""
        return [
            torch.tensor(values, dtype=p.dtype, device=p.device).view(-1, *[1] * (p.ndim - 1))
            for p in self.params
        ]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], factor: float = 1.0) -> None:
        """Move every parameter by its gradient, of the same shape; ``factor`` multiplies the rates."""
        if self.decay is not None:
            pairs = zip(gradients, self.params, self.decay, strict=True)
            gradients = [torch.addcmul(g, p, d) for g, p, d in pairs]
        if self.velocity is not None and self.momentum is not None:
            for v, mu, g in zip(self.velocity, self.momentum, gradients, strict=True):
                v.mul_(mu).add_(g)
            gradients = self.velocity
        for p, lr, g in zip(self.params, self.lr, gradients, strict=True):
            p.addcmul_(g, lr, value=-factor)
