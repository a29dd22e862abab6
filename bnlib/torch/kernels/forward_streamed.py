"""The forward pass on the GPU where x is read twice: sums first, then the output.

``moments`` and ``normalize`` do it in two launches, ``through_cache`` in one; ``normalize`` alone is
evaluation. The formula is that of ``forward``.
"""

import triton
import triton.language as tl

from bnlib.torch.kernels.tiles import (
    arrive_last,
    centered,
    inverse_root,
    leave,
    load_parameter,
    load_statistics,
    merge_moments,
    offsets,
    store_bits,
    store_moments,
    store_statistics,
    wait_for_all,
)


@triton.jit
def store_output(
    z,  # (BLOCK_M, BLOCK_C) float32, x - mean
    at,
    ok,
    i0,
    c0,
    factor,  # (BLOCK_C,)
    bias,
    added_ptr,
    y_ptr,
    bits_ptr,
    C,
    M,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    """Scale, shift, add, apply ReLU, and store a tile and its bits."""
    y = z * factor[None, :] + bias[None, :]
    if added_ptr is not None:
        y += tl.load(added_ptr + at, mask=ok, other=0, eviction_policy="evict_first").to(tl.float32)
    if bits_ptr is not None:
        off = y <= 0  # a NaN passes, as in torch.relu
        # The tile goes before its bits: then no register holds both.
        tl.store(y_ptr + at, tl.where(off, 0.0, y), mask=ok, eviction_policy="evict_first")
        store_bits(bits_ptr, ~off, i0, c0, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST)
    else:
        tl.store(y_ptr + at, y, mask=ok, eviction_policy="evict_first")


@triton.jit
def sum_moments(
    x_ptr,
    member,
    MEMBERS,
    c,
    inside,
    C,
    S,
    M,
    BLOCK_M: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    POLICY: tl.constexpr,
):
    """Return shift, residual, sum of squares about the mean, and number of the values of a member.

    It sums ``x - shift`` and its square in one pass; the shift is the mean of its first tile.
    """
    i = member * BLOCK_M + tl.arange(0, BLOCK_M)
    at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
    x = tl.load(x_ptr + at, mask=ok, other=0, eviction_policy=POLICY).to(tl.float32)
    n = tl.minimum(M - member * BLOCK_M, BLOCK_M)
    shift = tl.sum(x, 0) / n
    sums = tl.where(ok, x - shift[None, :], 0.0)
    squares = sums * sums
    for start in range((member + MEMBERS) * BLOCK_M, M, MEMBERS * BLOCK_M):
        i = start + tl.arange(0, BLOCK_M)
        at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
        x = tl.load(x_ptr + at, mask=ok, other=0, eviction_policy=POLICY).to(tl.float32)
        z = tl.where(ok, x - shift[None, :], 0.0)
        sums += z
        squares += z * z
        n += tl.minimum(M - start, BLOCK_M)
    total = tl.sum(sums, 0)
    residual = total / n
    square = tl.sum(squares, 0) - total * residual
    return shift, residual, square, n.to(tl.float32)


@triton.jit
def normalize_tiles(
    x_ptr,
    added_ptr,
    y_ptr,
    bits_ptr,
    shift,
    residual,
    factor,
    bias,
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
):
    """Normalize the values of a member, backwards: what was read last is still in the cache."""
    tiles = tl.cdiv(tl.cdiv(M, BLOCK_M) - member, MEMBERS)
    for k in range(0, tiles):
        i0 = (member + (tiles - 1 - k) * MEMBERS) * BLOCK_M
        i = i0 + tl.arange(0, BLOCK_M)
        at, ok = offsets(i, c, C, S, CHANNELS_LAST), (i < M)[:, None] & inside[None, :]
        x = tl.load(x_ptr + at, mask=ok, other=0, eviction_policy="evict_first").to(tl.float32)
        z = centered(x, shift, residual)
        store_output(
            z, at, ok, i0, c0, factor, bias, added_ptr, y_ptr, bits_ptr, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST
        )


@triton.jit
def moments(
    x_ptr,  # (N, C, S), or (M, C) where CHANNELS_LAST
    statistics_ptr,  # (3, C) float32: shift, residual, variance
    running_mean_ptr,  # (C,), or None
    running_var_ptr,
    momentum_ptr,  # one float32 in place of momentum, or None
    parts_ptr,  # (4, programs, C) float32, or None where one program sums alone
    ticket_ptr,  # (blocks of channels,) int32, zero, or None
    momentum,
    first,  # channel
    last,
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
    """Compute the statistics of the channels from ``first`` to ``last``.

    The last of the programs of a block of channels merges their sums.
    """
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member, MEMBERS, block = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    c = first + block * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < (C if CHANNELS_LAST else last)
    shift, residual, square, n = sum_moments(
        x_ptr, member, MEMBERS, c, inside, C, S, M, BLOCK_M, CHANNELS_LAST, POLICY
    )
    if parts_ptr is None:
        store_statistics(
            statistics_ptr, running_mean_ptr, running_var_ptr, momentum_ptr, momentum,
            c, inside, C, M, shift, residual, square / n,
        )  # fmt: skip
    else:
        store_moments(parts_ptr, member, c, inside, C, shift, residual, square, n, MEMBERS)
        if arrive_last(ticket_ptr + block, MEMBERS):
            shift, residual, var = merge_moments(parts_ptr, c, inside, C, M, MEMBERS, CHUNK)
            store_statistics(
                statistics_ptr, running_mean_ptr, running_var_ptr, momentum_ptr, momentum,
                c, inside, C, M, shift, residual, var,
            )  # fmt: skip


@triton.jit
def normalize(
    x_ptr,  # (N, C, S), or (M, C) where CHANNELS_LAST
    added_ptr,  # the same, or None
    y_ptr,  # the same
    bits_ptr,  # uint8, see bit_offsets, or None
    shift_ptr,  # (C,)
    residual_ptr,  # (C,), or None
    var_ptr,  # (C,)
    weight_ptr,  # (C,), or None
    bias_ptr,
    eps,
    first,  # channel
    last,
    CHANNELS,
    POSITIONS,
    M,  # values of a channel
    RUN: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Normalize the channels from ``first`` to ``last`` by given statistics."""
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member, MEMBERS = tl.program_id(0), tl.num_programs(0)
    c0 = first + tl.program_id(1) * BLOCK_C
    c = c0 + tl.arange(0, BLOCK_C)
    inside = c < (C if CHANNELS_LAST else last)
    shift, residual, inv_std = load_statistics(shift_ptr, residual_ptr, var_ptr, c, inside, eps)
    factor = inv_std * load_parameter(weight_ptr, c, inside, 1.0)
    bias = load_parameter(bias_ptr, c, inside, 0.0)
    normalize_tiles(
        x_ptr, added_ptr, y_ptr, bits_ptr, shift, residual, factor, bias, member, MEMBERS,
        c0, c, inside, C, S, M, BLOCK_M, BLOCK_C, CHANNELS_LAST,
    )  # fmt: skip


@triton.jit
def through_cache(
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
    """Normalize blocks of channels, each read twice by ``MEMBERS`` programs that run at a time.

    As many blocks as there are groups of programs are under way: so many that what is read first stays in
    the cache. A program alone merges nothing: then ``parts_ptr`` is None.
    """
    C = RUN if CHANNELS_LAST and RUN > 0 else CHANNELS
    S = RUN if not CHANNELS_LAST and RUN > 0 else POSITIONS
    member = tl.program_id(0) % MEMBERS
    for block in range(tl.program_id(0) // MEMBERS, tl.cdiv(C, BLOCK_C), tl.num_programs(0) // MEMBERS):
        c0 = block * BLOCK_C
        c = c0 + tl.arange(0, BLOCK_C)
        inside = c < C
        shift, residual, square, n = sum_moments(
            x_ptr, member, MEMBERS, c, inside, C, S, M, BLOCK_M, CHANNELS_LAST, "evict_last"
        )
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
        normalize_tiles(
            x_ptr, added_ptr, y_ptr, bits_ptr, shift, residual, factor, bias, member, MEMBERS,
            c0, c, inside, C, S, M, BLOCK_M, BLOCK_C, CHANNELS_LAST,
        )  # fmt: skip
