"""The arithmetic of normalization on tensors, over any axes: each formula once.

Every function works on a whole tensor or on a block of one, in steps that autograd, ``vmap``, forward-mode
derivatives and ``torch.compile`` can follow. Given buffers to write to, it allocates nothing large.

A mean is held as a pair. ``shift`` is the mean rounded to the dtype of the values; ``residual`` is the small
rest. ``x - shift`` is exact or nearly so, however large the mean, and so ``(x - shift) - residual`` keeps the
digits that ``x * scale + term`` would cancel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Axes = tuple[int, ...]


class Scratch(NamedTuple):
    """Two buffers of the shape of a block for intermediate results; None lets an operation allocate."""

    first: Tensor | None = None
    second: Tensor | None = None


ALLOCATE = Scratch()


class Statistics(NamedTuple):
    """Mean and variance of a tensor over some axes, which are kept at length 1.

    Attributes:
        shift: the mean, rounded to float32 or float64; a constant to autograd. None is 0: where the mean is
            no larger than the standard deviation, subtracting it first gains no digit.
        residual: the mean less ``shift``, in float64 where the device has it.
        var: the biased variance; if the mean was taken as 0, the mean square. Like ``residual``.
    """

    shift: Tensor | None
    residual: Tensor
    var: Tensor

    def mean(self) -> Tensor:
        """Return the mean in full, of the dtype of ``residual``."""
        return self.residual if self.shift is None else self.shift.to(self.residual.dtype) + self.residual

    def inv_std(self, eps: float) -> Tensor:
        """Return ``1 / sqrt(var + eps)``."""
        return torch.rsqrt(self.var + eps)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that values of ``dtype`` are computed in: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def wide_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of statistics: float64, except on devices that have none."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def count(x: Tensor, axes: Axes) -> int:
    """Return the number of values that one mean over ``axes`` averages."""
    return math.prod([x.shape[a] for a in axes])


def widen(x: Tensor, dtype: torch.dtype, buffer: Tensor | None = None) -> Tensor:
    """Return ``x`` as ``dtype``, by way of ``buffer`` where it has to be converted."""
    if x.dtype == dtype:
        return x
    return x.to(dtype) if buffer is None else buffer.copy_(x)


def subtract(x: Tensor, shift: Tensor | None, buffer: Tensor | None = None) -> Tensor:
    """Return ``z = x - shift`` in the dtype of computation, in ``buffer`` where it is given and needed."""
    x = widen(x, compute_dtype(x.dtype), buffer)
    return x if shift is None else torch.sub(x, shift, out=buffer)


# Statistics


def power_sums(z: Tensor, axes: Axes, scratch: Scratch = ALLOCATE) -> tuple[Tensor, Tensor]:
    """Return the sums of ``z`` and ``z**2`` over ``axes``."""
    return z.sum(axes, keepdim=True), torch.mul(z, z, out=scratch.second).sum(axes, keepdim=True)


def conclude(shift: Tensor | None, sums: tuple[Tensor, Tensor], m: int, center: bool) -> Statistics:
    """Return the statistics that follow from the sums of ``z = x - shift`` and its square over m values.

    ``residual = sum(z) / m``, ``var = sum(z**2) / m - residual**2``

    Accuracy: ``var`` is off by a small multiple of ``u log(m) kappa**2``, relative to itself, with
    ``kappa**2 = 1 + residual**2 / var``.

    Source: "shifted data" in Chan, Golub & LeVeque (1983).
    """
    total, square = (s.to(wide_dtype(s)) / m for s in sums)
    if not center:
        return Statistics(None, torch.zeros_like(square), square)
    return Statistics(shift, total, torch.addcmul(square, total, total, value=-1).clamp_min(0))


def is_poorly_shifted(statistics: Statistics) -> bool:
    """Tell whether some mean, less the shift, exceeds its standard deviation: then digits cancel."""
    return bool((statistics.residual.square() > statistics.var).any())


# The forward pass


class Affine(NamedTuple):
    """The map ``z * factor + term``; a term of None is 0."""

    factor: Tensor
    term: Tensor | None

    def apply(self, z: Tensor, buffer: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Apply the map, by way of ``buffer`` and into ``out`` where these are given."""
        if self.term is None:
            return torch.mul(z, self.factor, out=out)
        return torch.add(torch.mul(z, self.factor, out=buffer), self.term, out=out)


class Parameters(NamedTuple):
    """Weight and bias, of the rank of the input, each broadcasting to it; None is 1 and 0."""

    weight: Tensor | None
    bias: Tensor | None

    def vary_along(self, axes: Axes) -> bool:
        """Tell whether one of them has more than one value along ``axes``."""
        return any(p is not None and any(p.shape[a] != 1 for a in axes) for p in self)


def normalization(
    statistics: Statistics, parameters: Parameters, axes: Axes, eps: float, dtype: torch.dtype
) -> list[Affine]:
    """Return the maps that take ``z = x - shift`` to the output, one after the other.

    ``y = weight * (z - residual) / sqrt(var + eps) + bias``: one map where the parameters are constant along
    the reduced axes, as in batch norm; else one for the statistics and one for the parameters.

    Source: Ioffe & Szegedy (2015), Algorithm 1.
    """
    factor, residual = statistics.inv_std(eps), statistics.residual
    weight, bias = parameters
    if parameters.vary_along(axes):
        first = Affine(factor.to(dtype), (-residual * factor).to(dtype))
        scale = torch.ones_like(residual) if weight is None else weight
        return [first, Affine(scale.to(dtype), None if bias is None else bias.to(dtype))]
    factor = factor if weight is None else factor * weight
    start = torch.zeros_like(residual) if bias is None else bias.to(residual.dtype)
    term = torch.addcmul(start, residual, factor, value=-1)
    return [Affine(factor.to(dtype), term.to(dtype))]


def apply_maps(
    z: Tensor, maps: list[Affine], scratch: Scratch = ALLOCATE, out: Tensor | None = None
) -> Tensor:
    """Apply ``maps`` one after the other; the last one writes into ``out`` where it is given."""
    for each in maps[:-1]:
        z = each.apply(z, scratch.second, scratch.second)
    return maps[-1].apply(z, scratch.second, out)


# The backward pass


class Sums(NamedTuple):
    """Sums of ``dy`` and of ``dy * x_hat`` over some axes, which are kept at length 1."""

    dy: Tensor
    dy_x_hat: Tensor

    def over(self, axes: Axes) -> Sums:
        """Sum on over more axes."""
        return Sums(*(s.sum(axes, keepdim=True) for s in self)) if axes else self


def split_axes(axes: Axes, shared: Axes) -> tuple[Axes, Axes]:
    """Return the axes that are reduced and shared by the parameters, and those that are shared only."""
    return tuple(a for a in axes if a in shared), tuple(a for a in shared if a not in axes)


def upstream_sums(dy: Tensor, z: Tensor, over: Axes, scratch: Scratch = ALLOCATE) -> tuple[Tensor, Tensor]:
    """Return the sums of ``dy`` and ``dy * z`` over ``over``."""
    return dy.sum(over, keepdim=True), torch.mul(dy, z, out=scratch.second).sum(over, keepdim=True)


def standardized_sums(total: Tensor, product: Tensor, statistics: Statistics, eps: float) -> Sums:
    """Return the sums of ``dy`` and ``dy * x_hat``, given those of ``dy`` and ``dy * z``.

    ``sum(dy * x_hat) = (sum(dy * z) - residual * sum(dy)) / sqrt(var + eps)``
    """
    total, residual = total.to(statistics.var.dtype), statistics.residual
    return Sums(
        total, statistics.inv_std(eps) * torch.addcmul(product.to(total.dtype), residual, total, value=-1)
    )


class Projection(NamedTuple):
    """The gradient with respect to the input: ``factor * (weight * dy - line(z))``; a weight of None is 1."""

    weight: Tensor | None
    line: Affine
    factor: Tensor

    def apply(self, dy: Tensor, z: Tensor, scratch: Scratch = ALLOCATE, out: Tensor | None = None) -> Tensor:
        """Compute the gradient, by way of the buffers and into ``out`` where these are given."""
        line = self.line.apply(z, scratch.second, scratch.second)
        g = dy if self.weight is None else torch.mul(dy, self.weight, out=scratch.first)
        return torch.mul(torch.sub(g, line, out=scratch.second), self.factor, out=out)


def projection(
    statistics: Statistics,
    sums: Sums,
    weight: Tensor | None,
    axes: Axes,
    eps: float,
    m: int,
    center: bool,
    dtype: torch.dtype,
) -> Projection:
    """Return the map from ``dy`` and ``z`` to the gradient with respect to the input.

    ``dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(var + eps)``, ``g = weight * dy``

    Source: the equations of Ioffe & Szegedy (2015), section 3, with the sums over the batch carried out.
    """
    inv_std = factor = statistics.inv_std(eps)
    if weight is not None and all(weight.shape[a] == 1 for a in axes):  # a constant factor of the means
        factor, weight = inv_std * weight, None
    elif weight is not None:
        sums = Sums(*(s * weight for s in sums))
    mean, slope = (s / m for s in sums.over(axes))
    slope = inv_std * slope
    term = torch.addcmul(mean, statistics.residual, slope, value=-1).to(dtype) if center else None
    weight = None if weight is None else weight.to(dtype)
    return Projection(weight, Affine(slope.to(dtype), term), factor.to(dtype))
