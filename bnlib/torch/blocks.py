"""Normalization on the CPU in blocks that fit its cache: memory is read twice and written once.

A plain computation sends the whole tensor through memory at each of its steps. Here a block of samples goes
through all steps of a pass while it is in the cache. Sums in one pass suffice where no mean exceeds its
standard deviation; otherwise the pass is repeated with the means found, so that no digit cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bnlib.torch import native
from bnlib.torch.arithmetic import (
    Affine,
    Axes,
    Parameters,
    Scratch,
    Statistics,
    Sums,
    apply_maps,
    compute_dtype,
    conclude,
    count,
    is_poorly_shifted,
    normalization,
    power_sums,
    projection,
    split_axes,
    standardized_sums,
    subtract,
    upstream_sums,
    wide_dtype,
)

BYTES_PER_THREAD = 1 << 20  # of a block: smaller ones cost more in calls than the cache saves


class Blocks:
    """The cut of a tensor along axis 0 into blocks; on other devices than the CPU, into one."""

    def __init__(self, x: Tensor, whole: bool = False) -> None:
        self.size = self.rows = x.shape[0]
        dtype = compute_dtype(x.dtype)
        if x.device.type == "cpu" and not whole:
            target = BYTES_PER_THREAD * torch.get_num_threads() // dtype.itemsize
            self.rows = max(1, -(-self.size // -(-x.numel() // target)))
        self.one = self.rows >= self.size
        self.buffers = [torch.empty_like(x[: self.rows], dtype=dtype) for _ in range(2)]

    def __iter__(self) -> Iterator[tuple[slice, Scratch]]:
        for start in range(0, self.size, self.rows):
            rows = min(self.rows, self.size - start)
            scratch = self.buffers if rows == self.rows else [b[:rows] for b in self.buffers]
            yield slice(start, start + rows), Scratch(*scratch)


def cut(tensors: Sequence[Tensor | None], block: slice) -> list[Tensor | None]:
    """Return the rows of each tensor in ``block``, or all of one that is constant along axis 0."""
    return [t if t is None or t.shape[0] == 1 else t[block] for t in tensors]


def total(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Add up the sums of blocks, each of length 1 along axis 0, in the wide dtype."""
    if len(parts) == 1:
        return parts[0][0], parts[0][1]
    wide = wide_dtype(parts[0][0])
    first, second = (torch.cat([p[i] for p in parts]).sum(0, keepdim=True, dtype=wide) for i in range(2))
    return first, second


def statistics_of(x: Tensor, axes: Axes, center: bool, blocks: Blocks) -> Statistics:
    """Return the statistics of ``x``, whose blocks are parts of every mean.

    The shift is tried as 0 on the CPU, where asking whether that was good enough costs nothing.
    """

    def one_pass(shift: Tensor | None) -> Statistics:
        sums = native.power_sums(x, axes) if shift is None and x.numel() >= native.LEAST_VALUES else None
        if sums is None:
            parts = (
                power_sums(subtract(x[block], shift, scratch.first), axes, scratch)
                for block, scratch in blocks
            )
            sums = total(list(parts))
        return conclude(shift, sums, count(x, axes), center)

    if x.device.type != "cpu":
        return one_pass(x.mean(axes, keepdim=True, dtype=compute_dtype(x.dtype)) if center else None)
    statistics = one_pass(None)
    if center and is_poorly_shifted(statistics):
        return one_pass(statistics.mean().to(compute_dtype(x.dtype)))
    return statistics


def join(every: list[Statistics]) -> Statistics:
    """Join the statistics of blocks along axis 0."""
    shifts = [s.shift for s in every]
    shift = None
    if any(t is not None for t in shifts):
        dtype = next(t.dtype for t in shifts if t is not None)
        shift = torch.cat(
            [torch.zeros_like(s.var, dtype=dtype) if s.shift is None else s.shift for s in every]
        )
    return Statistics(shift, torch.cat([s.residual for s in every]), torch.cat([s.var for s in every]))


def forward(
    x: Tensor, parameters: Parameters, axes: Axes, eps: float, center: bool, out: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """Return the normalized tensor, of the dtype of ``x``, and the statistics that normalized it."""
    blocks = Blocks(x)
    if not blocks.one and 0 not in axes:
        y = torch.empty_like(x) if out is None else out
        every = []
        for block, _ in blocks:
            own = Parameters(*cut(parameters, block))
            every.append(forward(x[block], own, axes, eps, center, y[block])[1])
        return y, join(every)
    statistics = statistics_of(x, axes, center, blocks)
    if out is None and native.suits(x, parameters, axes, statistics):
        return native.forward(x, parameters, statistics, eps), statistics
    y = torch.empty_like(x) if out is None else out
    maps = normalization(statistics, parameters, axes, eps, compute_dtype(x.dtype))
    for block, scratch in blocks:
        z = subtract(x[block], statistics.shift, scratch.first)
        apply_maps(z, [Affine(*cut(m, block)) for m in maps], scratch, y[block])  # type: ignore[arg-type]
    return y, statistics


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    statistics: Statistics,
    axes: Axes,
    shared: Axes,
    eps: float,
    center: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Sums]:
    """Return dx, of the dtype of ``x``, and the sums over ``shared`` that are dbias and dweight."""
    given = Parameters(weight, None)
    if out is None and axes == shared and native.suits_backward(x, given, axes, statistics):
        return native.backward(dy, x, weight, statistics, eps)
    blocks = Blocks(x, whole=0 in axes and 0 not in shared)
    dx = torch.empty_like(x) if out is None else out
    if not blocks.one and 0 not in axes:
        parts = []
        for block, _ in blocks:
            (own_weight,) = cut([weight], block)
            own = Statistics(*cut(statistics, block))  # type: ignore[arg-type]
            rows = dy[block], x[block], own_weight, own
            parts.append(backward(*rows, axes, shared, eps, center, dx[block])[1])
        return dx, Sums(*(total(parts) if 0 in shared else map(torch.cat, zip(*parts, strict=True))))
    both, rest = split_axes(axes, shared)
    dtype = compute_dtype(x.dtype)
    if not both:
        dx_whole, sums = backward_whole(dy, x, weight, statistics, axes, shared, eps, center)
        return dx.copy_(dx_whole), sums
    pairs = []
    for block, scratch in blocks:
        z = subtract(x[block], statistics.shift, scratch.first)
        pairs.append(upstream_sums(dy[block].to(dtype), z, both, scratch))
    sums = standardized_sums(*total(pairs), statistics, eps)
    project = projection(statistics, sums, weight, axes, eps, count(x, axes), center, dtype)
    for block, scratch in blocks:
        if not blocks.one:
            z = subtract(x[block], statistics.shift, scratch.first)
        project.apply(dy[block].to(dtype), z, scratch, dx[block])
    return dx, sums.over(rest)


def backward_whole(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    statistics: Statistics,
    axes: Axes,
    shared: Axes,
    eps: float,
    center: bool,
) -> tuple[Tensor, Sums]:
    """Return what ``backward`` does, by operations that autograd can follow.

    Along the axes that are reduced and where the parameters are shared, ``weight`` is a constant factor.
    So one pair of sums over those axes serves dx, which sums on over the other reduced axes, and the
    parameters, which sum on over the other shared axes.
    """
    both, rest = split_axes(axes, shared)
    z = subtract(x, statistics.shift)
    g = dy.to(z.dtype)
    if both:
        sums = standardized_sums(*upstream_sums(g, z, both), statistics, eps)
    else:  # nothing to sum before the weight: keep to the dtype of the values
        (x_hat,) = normalization(statistics, Parameters(None, None), axes, eps, z.dtype)
        sums = Sums(g, g * x_hat.apply(z))
    project = projection(statistics, sums, weight, axes, eps, count(x, axes), center, z.dtype)
    return project.apply(g, z).to(x.dtype), sums.over(rest)


def scale_shift(x: Tensor, shift: Tensor, scale: Tensor, term: Tensor | None) -> Tensor:
    """Return ``(x - shift) * scale + term``, of the dtype of ``x``."""
    y = torch.empty_like(x)
    for block, scratch in Blocks(x):
        own_shift, *own = cut((shift, scale, term), block)
        z = subtract(x[block], own_shift, scratch.first)
        Affine(*own).apply(z, scratch.second, y[block])  # type: ignore[arg-type]
    return y
