"""Layers with noise of their own: dropout, and batch normalization followed by a random shift of its output.

``bnlib.lab.train`` draws the noise of a run from the run's seed, and hands it in through the buffer
``draws``, so that a run does not depend on what is trained beside it. Where ``draws`` is empty, a layer draws
for itself, from PyTorch's generator.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Dropout", "NoiseLayer", "Noisy"]


class NoiseLayer(nn.Module):
    """The base of layers that are random in training.

    Attributes:
        draws: the noise of the next forward pass, as ``draw`` returns it; empty to draw anew.
        seen: the shape of the last input in training.
    """

    draws: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("draws", torch.empty(0), persistent=False)
        self.seen: tuple[int, ...] | None = None

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draw the noise for an input of the given shape."""
        raise NotImplementedError

    def noise(self, x: Tensor) -> Tensor:
        """Return the noise handed in, or draw it; remember the shape of ``x``."""
        self.seen = tuple(x.shape)
        drawn = self.draws if self.draws.numel() else self.draw(self.seen)
        return drawn.to(device=x.device, dtype=x.dtype)


class Dropout(NoiseLayer):
    """Set each value to 0 with probability ``p`` in training, and divide the others by ``1 - p``.

    Args:
        p: probability, at least 0 and below 1.

    Raises:
        ValueError: ``p`` is outside [0, 1).

    Source: Srivastava et al. (2014), "Dropout"; scaled in training, as in PyTorch.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"expected p of at least 0 and below 1, got {p}")
        self.p = p

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draw the factor of each value: 0 or ``1 / (1 - p)``; shape as ``shape``."""
        return (torch.rand(shape, generator=generator) >= self.p) / (1 - self.p)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times the factors in training, else ``x``."""
        return x * self.noise(x) if self.training else x


class Noisy(NoiseLayer):
    """Follow a normalization by noise whose distribution changes at each step: a covariate shift on purpose.

    ``y[i, j] = s[i, j] * norm(x)[i, j] + m[i, j]`` in training. At each step every unit j draws a mean and a
    scale, ``mu[j] ~ U(-mean, mean)`` and ``sigma[j] ~ U(1, scale)``; around these every value draws its own,
    ``m ~ U(mu - jitter, mu + jitter)`` and ``s ~ N(sigma, jitter**2)``. Evaluation adds no noise.

    Args:
        norm: the normalization, a module that keeps the shape.
        mean: half the range of the means.
        scale: upper end of the range of the scales.
        jitter: spread of the values of one unit around its mean and its scale.

    Source: after the "noisy" BatchNorm of Santurkar et al. (2018), section 2.1.
    """

    def __init__(self, norm: nn.Module, mean: float = 0.5, scale: float = 1.25, jitter: float = 0.1) -> None:
        super().__init__()
        self.norm = norm
        self.mean, self.scale, self.jitter = mean, scale, jitter

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draw the factors s and the terms m of every value, stacked: shape (2, *shape)."""
        unit = (1, shape[1], *[1] * (len(shape) - 2))
        mu = (2 * torch.rand(unit, generator=generator) - 1) * self.mean
        sigma = 1 + torch.rand(unit, generator=generator) * (self.scale - 1)
        m = mu + (2 * torch.rand(shape, generator=generator) - 1) * self.jitter
        s = sigma + torch.randn(shape, generator=generator) * self.jitter
        return torch.stack([s, m])

    def forward(self, x: Tensor) -> Tensor:
        """Normalize, and add the noise in training."""
        y: Tensor = self.norm(x)
        if not self.training:
            return y
        s, m = self.noise(y).unbind(0)
        return s * y + m
