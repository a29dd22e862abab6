"""The forward pass on the GPU: the kernel that reads x once, and what launches all.

``y = weight * (x - mean) / sqrt(var + eps) + bias``, then ``+ residual`` and ReLU where asked for. The mean
is kept as ``shift + residual``, so that ``(x - shift) - residual`` loses no digit to a large mean.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bnlib.torch.kernels.forward_streamed import moments, normalize, store_output, through_cache
from bnlib.torch.kernels.launch import Launch
from bnlib.torch.kernels.tiles import (
    centered,
    inverse_root,
    leave,
    load_parameter,
    merge_moments,
    offsets,
    store_moments,
    store_statistics,
    wait_for_all,
)


@triton.jit
def hold(
    x_ptr,  # (N, C, S), or (M, C) where CHANNELS_LAST
    added_ptr,  # the same, or None
    y_ptr,  # the same
    bits_ptr,  # uint8, see bit_offsets, or None
    statistics_ptr,  # (3, C) float32: shift, residual, variance
    running_mean_ptr,  # (C,), or None
    running_var_ptr,
    momentum_ptr,  # one float32 in place of momentum, or None
    weight_ptr,  # (C,), or None
    bias_ptr,
    parts_ptr,  # (4, MEMBERS, C) float32, or None
    ticket_ptr,  # (blocks of channels,) int32, zero, or None
    MEMBERS,
    momentum,
    eps,
    CHANNELS,
    POSITIONS,
    M,  # values of a channel
    RUN: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Normalize blocks of channels, each held in the registers of ``MEMBERS`` programs that run at a time.

    A program alone merges nothing: then ``parts_ptr`` is None.
    """
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member = tl.program_id(0) % MEMBERS
    i0 = member * BLOCK_M
    i = i0 + tl.arange(0, BLOCK_M)
    n = tl.minimum(M - i0, BLOCK_M).to(tl.float32)
    for block in range(tl.program_id(0) // MEMBERS, tl.cdiv(C, BLOCK_C), tl.num_programs(0) // MEMBERS):
        c0 = block * BLOCK_C
        c = c0 + tl.arange(0, BLOCK_C)
        inside = c < C
        at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
        x = tl.load(x_ptr + at, mask=ok, other=0, eviction_policy="evict_first")
        shift = tl.sum(x.to(tl.float32), 0) / n
        z = tl.where(ok, x.to(tl.float32) - shift[None, :], 0.0)
        residual = tl.sum(z, 0) / n
        square = tl.sum(z * z, 0) - residual * residual * n
        if parts_ptr is None:
            var = square / n
        else:
            store_moments(parts_ptr, member, c, inside, C, shift, residual, square, n, MEMBERS)
            wait_for_all(ticket_ptr + block, MEMBERS)
            shift, residual, var = merge_moments(parts_ptr, c, inside, C, M, MEMBERS, CHUNK)
            leave(ticket_ptr + block, MEMBERS)
        if member == 0:
            store_statistics(
                statistics_ptr, running_mean_ptr, running_var_ptr, momentum_ptr, momentum,
                c, inside, C, M, shift, residual, var,
            )  # fmt: skip
        factor = inverse_root(var + eps) * load_parameter(weight_ptr, c, inside, 1.0)
        bias = load_parameter(bias_ptr, c, inside, 0.0)
        z = centered(x.to(tl.float32), shift, residual)
        if added_ptr is not None:
            # The offsets again: kept until here, they would take registers that x and the shortcut need. The
            # compiler does not know that the program's second number is 0, and that they are the same
            # therefore; and it moves nothing from below a barrier to above it.
            tl.debug_barrier()
            i = (member + tl.program_id(1)) * BLOCK_M + tl.arange(0, BLOCK_M)
            at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
        store_output(
            z, at, ok, i0, c0, factor, bias, added_ptr, y_ptr, bits_ptr, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST
        )


def train(
    x: Tensor,
    added: Tensor | None,
    bits: Tensor | None,
    running: tuple[Tensor | None, Tensor | None, Tensor | None],
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    launch: Launch,
) -> tuple[Tensor, Tensor]:
    """Return the output, like ``x``, and its statistics (3, C) in float32; fill ``bits``, move ``running``.

    ``running`` are the mean, the variance, and a momentum in place of ``momentum``, if given.
    """
    plan = launch.plan
    y, statistics = torch.empty_like(x), x.new_empty(3, launch.channels, dtype=torch.float32)
    parts, ticket = launch.workspace(4, x)
    if plan.in_one_launch:
        kernel = hold if plan.holds else through_cache
        kernel[launch.grid_of_groups()](
            x, added, y, bits, statistics, *running, weight, bias, parts, ticket, plan.members, momentum, eps,
            *launch.sizes, **launch.tile, CHUNK=launch.chunk, **launch.options(barrier=plan.members > 1),
        )  # fmt: skip
        return y, statistics
    policy = "evict_last" if plan.method == "l2" else ""
    for first, last, grid in launch.slices():
        moments[grid](
            x, statistics, *running, parts, ticket, momentum, first, last,
            *launch.sizes, **launch.tile, CHUNK=launch.chunk, POLICY=policy, **launch.options(),
        )  # fmt: skip
        normalize[grid](
            x, added, y, bits, *statistics, weight, bias, eps, first, last,
            *launch.sizes, **launch.tile, **launch.options(),
        )  # fmt: skip
    return y, statistics


def evaluate(
    x: Tensor,
    added: Tensor | None,
    bits: Tensor | None,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    launch: Launch,
) -> Tensor:
    """Return the output, like ``x``, normalized by ``mean`` and ``var`` of shape (C,); fill ``bits``."""
    y = torch.empty_like(x)
    normalize[launch.grid_of_tiles()](
        x, added, y, bits, mean, None, var, weight, bias, eps, 0, launch.channels,
        *launch.sizes, **launch.tile, **launch.options(),
    )  # fmt: skip
    return y
