"""The backward pass on the GPU where dy and x are read twice: sums first, then the gradients.

``sums`` and ``gradient`` do it in two launches, ``through_cache_backward`` in one. The formula is that of
``backward``.
"""

import triton
import triton.language as tl

from bnlib.torch.kernels.tiles import (
    arrive_last,
    centered,
    exchange_sums,
    load_bits,
    load_parameter,
    load_statistics,
    merge_sums,
    offsets,
    store_sums,
)


@triton.jit
def load_upstream(
    dy_ptr,
    bits_ptr,
    at,
    ok,
    i0,
    c0,
    C,
    M,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    POLICY: tl.constexpr,
):
    """Return the tile of the gradient that reaches the normalization, in its dtype."""
    g = tl.load(dy_ptr + at, mask=ok, other=0, eviction_policy=POLICY)
    if bits_ptr is not None:
        g = tl.where(load_bits(bits_ptr, i0, c0, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST), g, 0.0).to(g.dtype)
    return g


@triton.jit
def store_gradients(
    g,  # (BLOCK_M, BLOCK_C)
    x_hat,
    factor,  # (BLOCK_C,)
    first,
    second,
    at,
    ok,
    M,
    dx_ptr,
    dadded_ptr,
    TRAINING: tl.constexpr,
):
    """Store the gradients for the input and for what was added, given the sums of g and g * x_hat."""
    if dadded_ptr is not None:
        tl.store(dadded_ptr + at, g, mask=ok, eviction_policy="evict_first")
    d = g.to(tl.float32)
    if TRAINING:
        d = (d - (first / M)[None, :]) - x_hat * (second / M)[None, :]
    tl.store(dx_ptr + at, d * factor[None, :], mask=ok, eviction_policy="evict_first")


@triton.jit
def sum_upstream(
    dy_ptr,
    x_ptr,
    bits_ptr,
    shift,
    residual,
    inv_std,
    member,
    MEMBERS,
    c0,
    c,
    inside,
    C,
    S,
    M,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    POLICY: tl.constexpr,
):
    """Return the sums of g and of g * x_hat over the values of a member."""
    plain = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    product = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    for i0 in range(member * BLOCK_M, M, MEMBERS * BLOCK_M):
        i = i0 + tl.arange(0, BLOCK_M)
        at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
        g = load_upstream(dy_ptr, bits_ptr, at, ok, i0, c0, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST, POLICY)
        g = g.to(tl.float32)
        x = tl.load(x_ptr + at, mask=ok, other=0, eviction_policy=POLICY).to(tl.float32)
        plain += g
        product += tl.where(ok, g * centered(x, shift, residual), 0.0)
    first, second = tl.sum(plain, 0), tl.sum(product, 0) * inv_std
    return first, second


@triton.jit
def gradient_tiles(
    dy_ptr,
    x_ptr,
    dx_ptr,
    dadded_ptr,
    bits_ptr,
    shift,
    residual,
    inv_std,
    factor,
    first,
    second,
    member,
    MEMBERS,
    c0,
    c,
    inside,
    C,
    S,
    M,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TRAINING: tl.constexpr,
):
    """Store the gradients for the values of a member, backwards, as ``normalize_tiles``."""
    tiles = tl.cdiv(tl.cdiv(M, BLOCK_M) - member, MEMBERS)
    for k in range(0, tiles):
        i0 = (member + (tiles - 1 - k) * MEMBERS) * BLOCK_M
        i = i0 + tl.arange(0, BLOCK_M)
        at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
        g = load_upstream(
            dy_ptr, bits_ptr, at, ok, i0, c0, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST, "evict_first"
        )
        x = tl.load(x_ptr + at, mask=ok, other=0, eviction_policy="evict_first").to(tl.float32)
        x_hat = centered(x, shift, residual) * inv_std[None, :]
        store_gradients(g, x_hat, factor, first, second, at, ok, M, dx_ptr, dadded_ptr, TRAINING)


@triton.jit
def sums(
    dy_ptr,  # (N, C, S), or (M, C) where CHANNELS_LAST
    x_ptr,  # the same
    bits_ptr,  # uint8, see bit_offsets, or None
    shift_ptr,  # (C,)
    residual_ptr,  # (C,), or None
    var_ptr,  # (C,)
    sums_ptr,  # (2, C) float32: of g and of g * x_hat
    parts_ptr,  # (2, programs, C) float32, or None where one program sums alone
    ticket_ptr,  # (blocks of channels,) int32, zero, or None
    eps,
    first_channel,
    last_channel,
    CHANNELS,
    POSITIONS,
    M,  # values of a channel
    RUN: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNK: tl.constexpr,
    POLICY: tl.constexpr,
):
    """Sum g and g * x_hat over each channel: the gradients for bias and weight.

    The last of the programs of a block of channels merges their sums.
    """
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member, MEMBERS, block = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    c0 = first_channel + block * BLOCK_C
    c = c0 + tl.arange(0, BLOCK_C)
    inside = c < (C if CHANNELS_LAST else last_channel)
    shift, residual, inv_std = load_statistics(shift_ptr, residual_ptr, var_ptr, c, inside, eps)
    first, second = sum_upstream(
        dy_ptr, x_ptr, bits_ptr, shift, residual, inv_std, member, MEMBERS,
        c0, c, inside, C, S, M, BLOCK_M, BLOCK_C, CHANNELS_LAST, POLICY,
    )  # fmt: skip
    if parts_ptr is None:
        store_sums(sums_ptr, 0, c, inside, C, first, second, 1)
    else:
        store_sums(parts_ptr, member, c, inside, C, first, second, MEMBERS)
        if arrive_last(ticket_ptr + block, MEMBERS):
            first, second = merge_sums(parts_ptr, c, inside, C, MEMBERS, CHUNK)
            store_sums(sums_ptr, 0, c, inside, C, first, second, 1)


@triton.jit
def gradient(
    dy_ptr,  # (N, C, S), or (M, C) where CHANNELS_LAST
    x_ptr,  # the same
    dx_ptr,  # the same
    dadded_ptr,  # the same, or None
    bits_ptr,  # uint8, see bit_offsets, or None
    shift_ptr,  # (C,)
    residual_ptr,  # (C,), or None
    var_ptr,  # (C,)
    weight_ptr,  # (C,), or None
    sums_ptr,  # (2, C) float32
    eps,
    first_channel,
    last_channel,
    CHANNELS,
    POSITIONS,
    M,  # values of a channel
    RUN: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    TRAINING: tl.constexpr,
):
    """Store the gradient for the input, given the sums."""
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member, MEMBERS = tl.program_id(0), tl.num_programs(0)
    c0 = first_channel + tl.program_id(1) * BLOCK_C
    c = c0 + tl.arange(0, BLOCK_C)
    inside = c < (C if CHANNELS_LAST else last_channel)
    shift, residual, inv_std = load_statistics(shift_ptr, residual_ptr, var_ptr, c, inside, eps)
    factor = inv_std * load_parameter(weight_ptr, c, inside, 1.0)
    first, second = load_parameter(sums_ptr, c, inside, 0.0), load_parameter(sums_ptr + C, c, inside, 0.0)
    gradient_tiles(
        dy_ptr, x_ptr, dx_ptr, dadded_ptr, bits_ptr, shift, residual, inv_std, factor, first, second,
        member, MEMBERS, c0, c, inside, C, S, M, BLOCK_M, BLOCK_C, CHANNELS_LAST, TRAINING,
    )  # fmt: skip


@triton.jit
def through_cache_backward(
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
    """Differentiate blocks of channels, each read twice by ``MEMBERS`` programs, as ``through_cache``."""
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member = tl.program_id(0) % MEMBERS
    for block in range(tl.program_id(0) // MEMBERS, tl.cdiv(C, BLOCK_C), tl.num_programs(0) // MEMBERS):
        c0 = block * BLOCK_C
        c = c0 + tl.arange(0, BLOCK_C)
        inside = c < C
        shift, residual, inv_std = load_statistics(shift_ptr, residual_ptr, var_ptr, c, inside, eps)
        first, second = sum_upstream(
            dy_ptr, x_ptr, bits_ptr, shift, residual, inv_std, member, MEMBERS,
            c0, c, inside, C, S, M, BLOCK_M, BLOCK_C, CHANNELS_LAST, "evict_last",
        )  # fmt: skip
        first, second = exchange_sums(
            parts_ptr, ticket_ptr, block, member, c, inside, C, first, second, MEMBERS, CHUNK
        )
        if member == 0:
            store_sums(sums_ptr, 0, c, inside, C, first, second, 1)
        factor = inv_std * load_parameter(weight_ptr, c, inside, 1.0)
        gradient_tiles(
            dy_ptr, x_ptr, dx_ptr, dadded_ptr, bits_ptr, shift, residual, inv_std, factor, first, second,
            member, MEMBERS, c0, c, inside, C, S, M, BLOCK_M, BLOCK_C, CHANNELS_LAST, TRAINING,
        )  # fmt: skip
