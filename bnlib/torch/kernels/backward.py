"""The backward pass on the GPU: the kernel that reads dy and x once, and what launches all.

``dx = weight / sqrt(var + eps) * (g - mean(g) - x_hat * mean(g * x_hat))``, where g is dy, or 0 where ReLU
was off.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from bnlib.torch.kernels.backward_streamed import (
    gradient,
    load_upstream,
    store_gradients,
    sums,
    through_cache_backward,
)
from bnlib.torch.kernels.launch import Launch
from bnlib.torch.kernels.tiles import (
    centered,
    exchange_sums,
    load_parameter,
    load_statistics,
    offsets,
    store_sums,
)


@triton.jit
def hold_backward(
    dy_ptr,  # (N, C, S), or (M, C) where CHANNELS_LAST
    x_ptr,  # the same
    dx_ptr,  # the same
    dadded_ptr,  # the same, or None
    bits_ptr,  # uint8, see bit_offsets, or None
    shift_ptr,  # (C,)
    residual_ptr,  # (C,), or None
    var_ptr,  # (C,)
    weight_ptr,  # (C,), or None
    sums_ptr,  # (2, C) float32: of g and of g * x_hat
    parts_ptr,  # (2, MEMBERS, C) float32, or None
    ticket_ptr,  # (blocks of channels,) int32, zero, or None
    MEMBERS,
    eps,
    CHANNELS,
    POSITIONS,
    M,  # values of a channel
    RUN: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNK: tl.constexpr,
    TRAINING: tl.constexpr,
):
    """Differentiate blocks of channels, each held in the registers of ``MEMBERS`` programs at a time.

    A program alone merges nothing: then ``parts_ptr`` is None.
    """
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member = tl.program_id(0) % MEMBERS
    i0 = member * BLOCK_M
    i = i0 + tl.arange(0, BLOCK_M)
    for block in range(tl.program_id(0) // MEMBERS, tl.cdiv(C, BLOCK_C), tl.num_programs(0) // MEMBERS):
        c0 = block * BLOCK_C
        c = c0 + tl.arange(0, BLOCK_C)
        inside = c < C
        at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
        g = load_upstream(
            dy_ptr, bits_ptr, at, ok, i0, c0, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST, "evict_first"
        )
        x = tl.load(x_ptr + at, mask=ok, other=0, eviction_policy="evict_first")
        shift, residual, inv_std = load_statistics(shift_ptr, residual_ptr, var_ptr, c, inside, eps)
        x_hat = centered(x.to(tl.float32), shift, residual) * inv_std[None, :]
        first = tl.sum(g.to(tl.float32), 0)
        second = tl.sum(tl.where(ok, g.to(tl.float32) * x_hat, 0.0), 0)
        first, second = exchange_sums(
            parts_ptr, ticket_ptr, block, member, c, inside, C, first, second, MEMBERS, CHUNK
        )
        if member == 0:
            store_sums(sums_ptr, 0, c, inside, C, first, second, 1)
        factor = inv_std * load_parameter(weight_ptr, c, inside, 1.0)
        x_hat = centered(x.to(tl.float32), shift, residual) * inv_std[None, :]
        store_gradients(g, x_hat, factor, first, second, at, ok, M, dx_ptr, dadded_ptr, TRAINING)


class Saved(NamedTuple):
    """What the forward pass leaves to the backward pass; a residual of None is 0."""

    x: Tensor
    shift: Tensor
    residual: Tensor | None
    var: Tensor
    weight: Tensor | None
    bits: Tensor | None


def differentiate(
    dy: Tensor, saved: Saved, eps: float, training: bool, added: bool, launch: Launch
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the gradients for the input and for what was added, like ``x``, and the sums (2, C).

    The sums, in float32, are the gradients for bias and weight. ``dy`` lies in memory as ``x`` does.
    """
    x, shift, residual, var, weight, bits = saved
    plan = launch.plan
    dx, dadded = torch.empty_like(x), torch.empty_like(x) if added else None
    totals = x.new_empty(2, launch.channels, dtype=torch.float32)
    parts, ticket = launch.workspace(2, x)
    if plan.in_one_launch:
        kernel = hold_backward if plan.holds else through_cache_backward
        kernel[launch.grid_of_groups()](
            dy, x, dx, dadded, bits, shift, residual, var, weight, totals, parts, ticket, plan.members, eps,
            *launch.sizes, **launch.tile, CHUNK=launch.chunk, TRAINING=training,
            **launch.options(barrier=plan.members > 1),
        )  # fmt: skip
        return dx, dadded, totals
    policy = "evict_last" if plan.method == "l2" else ""
    for first, last, grid in launch.slices():
        sums[grid](
            dy, x, bits, shift, residual, var, totals, parts, ticket, eps, first, last,
            *launch.sizes, **launch.tile, CHUNK=launch.chunk, POLICY=policy, **launch.options(),
        )  # fmt: skip
        gradient[grid](
            dy, x, dx, dadded, bits, shift, residual, var, weight, totals, eps, first, last,
            *launch.sizes, **launch.tile, TRAINING=training, **launch.options(),
        )  # fmt: skip
    return dx, dadded, totals
