"""What the kernels share: where a tile lies, its bits, the barrier, the merging of sums.

A tile is a matrix of ``BLOCK_M`` values of each of ``BLOCK_C`` channels. Value i of channel c lies at place
``i % S`` of sample ``i // S``. Offsets are int64; masked loads give 0.
"""

import triton
import triton.language as tl


@triton.jit
def offsets(i, c, C, S, CHANNELS_LAST: tl.constexpr):
    """Return the offsets of the values i (BLOCK_M,) of the channels c (BLOCK_C,) as a matrix."""
    if CHANNELS_LAST:
        at = i.to(tl.int64)[:, None] * C + c[None, :]
    else:
        sample = (i // S).to(tl.int64)
        at = (sample * C * S + i % S)[:, None] + (c.to(tl.int64) * S)[None, :]
    return at


@triton.jit
def bit_offsets(i0, c0, C, M, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Return the offsets of the bytes of a tile that starts at (i0, c0), and which of them exist.

    A byte holds 8 neighbours in memory: of (M, C) in rows of ceil(C/8) bytes, of (C, M) in rows of ceil(M/8).
    """
    if CHANNELS_LAST:
        row = i0 + tl.arange(0, BLOCK_M)
        byte = c0 // 8 + tl.arange(0, BLOCK_C // 8)
        width = (C + 7) // 8
        at = row.to(tl.int64)[:, None] * width + byte[None, :]
        ok = (row < M)[:, None] & (byte < width)[None, :]
    else:
        byte = i0 // 8 + tl.arange(0, BLOCK_M // 8)
        row = c0 + tl.arange(0, BLOCK_C)
        width = (M + 7) // 8
        at = byte[:, None] + row.to(tl.int64)[None, :] * width
        ok = (byte < width)[:, None] & (row < C)[None, :]
    return at, ok


@triton.jit
def store_bits(
    ptr, bits, i0, c0, C, M, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, CHANNELS_LAST: tl.constexpr
):
    """Store the truth values ``bits`` of a tile, 8 to a byte."""
    at, ok = bit_offsets(i0, c0, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST)
    place = tl.arange(0, 8)
    if CHANNELS_LAST:
        grouped = tl.reshape(bits.to(tl.int32), [BLOCK_M, BLOCK_C // 8, 8])
        bytes = tl.sum(grouped << place[None, None, :], 2)
    else:
        grouped = tl.reshape(bits.to(tl.int32), [BLOCK_M // 8, 8, BLOCK_C])
        bytes = tl.sum(grouped << place[None, :, None], 1)
    tl.store(ptr + at, bytes.to(tl.uint8), mask=ok)


@triton.jit
def load_bits(ptr, i0, c0, C, M, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Return the truth values of a tile that ``store_bits`` has stored."""
    at, ok = bit_offsets(i0, c0, C, M, BLOCK_M, BLOCK_C, CHANNELS_LAST)
    bytes = tl.load(ptr + at, mask=ok, other=0).to(tl.int32)
    place = tl.arange(0, 8)
    if CHANNELS_LAST:
        bits = (bytes[:, :, None] >> place[None, None, :]) & 1
    else:
        bits = (bytes[:, None, :] >> place[None, :, None]) & 1
    return tl.reshape(bits, [BLOCK_M, BLOCK_C]) != 0


@triton.jit
def arrive_last(ticket_ptr, MEMBERS):
    """Tell whether this program is the last of ``MEMBERS`` to come here; the ticket is then 0 again.

    What the others stored before they came is visible to the last one.
    """
    tl.debug_barrier()
    last = tl.atomic_add(ticket_ptr, 1, sem="acq_rel") == MEMBERS - 1
    if last:
        tl.atomic_xchg(ticket_ptr, 0, sem="relaxed")
    tl.debug_barrier()
    return last


@triton.jit
def wait_for_all(ticket_ptr, MEMBERS):
    """Wait until ``MEMBERS`` programs have come here; all of them have to run at a time.

    What each stored before is visible to all after.
    """
    tl.debug_barrier()
    arrived = tl.atomic_add(ticket_ptr, 1, sem="acq_rel") + 1
    while arrived < MEMBERS:
        arrived = tl.atomic_add(ticket_ptr, 0, sem="acq_rel")
    tl.debug_barrier()


@triton.jit
def leave(ticket_ptr, MEMBERS):
    """Count the programs that have left ``wait_for_all``; the last one sets the ticket to 0 again."""
    if tl.atomic_add(ticket_ptr, 1, sem="acq_rel") == 2 * MEMBERS - 1:
        tl.atomic_xchg(ticket_ptr, 0, sem="relaxed")


@triton.jit
def load_parameter(ptr, c, ok, default: tl.constexpr):
    """Return the values of a parameter (C,) as float32, or ``default`` where there is none."""
    if ptr is None:
        values = tl.full(c.shape, default, tl.float32)
    else:
        values = tl.load(ptr + c, mask=ok, other=0).to(tl.float32)
    return values


@triton.jit
def inverse_root(v):
    """Return 1 / sqrt(v), correctly rounded twice, which the chip's own instruction is not."""
    return tl.div_rn(tl.full(v.shape, 1.0, tl.float32), tl.sqrt_rn(v))


@triton.jit
def load_statistics(shift_ptr, residual_ptr, var_ptr, c, ok, eps):
    """Return shift, residual and 1 / sqrt(var + eps) of the channels c; a residual of None is 0."""
    shift = load_parameter(shift_ptr, c, ok, 0.0)
    residual = load_parameter(residual_ptr, c, ok, 0.0)
    return shift, residual, inverse_root(load_parameter(var_ptr, c, ok, 1.0) + eps)


@triton.jit
def centered(x, shift, residual):
    """Return x - mean for a tile in float32; ``shift`` goes first, so that a large mean costs no digit."""
    return (x - shift[None, :]) - residual[None, :]


@triton.jit
def store_statistics(
    ptr, running_mean_ptr, running_var_ptr, momentum_ptr, momentum, c, ok, C, M, shift, residual, var
):
    """Store the statistics in (3, C), move the running ones towards the mean and the unbiased variance."""
    tl.store(ptr + c, shift, mask=ok)
    tl.store(ptr + C + c, residual, mask=ok)
    tl.store(ptr + 2 * C + c, var, mask=ok)
    if running_mean_ptr is not None:
        if momentum_ptr is not None:
            momentum = tl.load(momentum_ptr)
        mean = load_parameter(running_mean_ptr, c, ok, 0.0)
        tl.store(running_mean_ptr + c, mean + momentum * ((shift - mean) + residual), mask=ok)
        unbiased = var * (M.to(tl.float32) / (M - 1).to(tl.float32))
        before = load_parameter(running_var_ptr, c, ok, 1.0)
        tl.store(running_var_ptr + c, before + momentum * (unbiased - before), mask=ok)


@triton.jit
def store_moments(ptr, k, c, ok, C, shift, offset, square, count, MEMBERS):
    """Store the moments of the part k of each channel in (4, MEMBERS, C)."""
    at, plane = ptr + k * C + c, MEMBERS * C
    tl.store(at, shift, mask=ok)
    tl.store(at + plane, offset, mask=ok)
    tl.store(at + 2 * plane, square, mask=ok)
    tl.store(at + 3 * plane, tl.full(c.shape, 0.0, tl.float32) + count, mask=ok)


@triton.jit
def merge_moments(ptr, c, ok, C, M, MEMBERS, CHUNK: tl.constexpr):
    """Return shift, residual and variance of channels from the moments of their parts.

    A part of n values has the mean ``shift + offset`` and the sum of squares about it ``square``. The parts'
    means are taken relative to the shift of the first:
    ``residual = sum(n * r) / M``, ``var = sum(square + n * (r - residual)**2) / M``

    Source: Chan, Golub & LeVeque (1983).
    """
    plane = MEMBERS * C
    base = tl.load(ptr + c, mask=ok, other=0, cache_modifier=".cg")
    total = tl.zeros(c.shape, tl.float32)
    for start in range(0, MEMBERS, CHUNK):
        k = start + tl.arange(0, CHUNK)
        at, there = ptr + k[:, None] * C + c[None, :], (k < MEMBERS)[:, None] & ok[None, :]
        shift = tl.load(at, mask=there, other=0, cache_modifier=".cg")
        offset = tl.load(at + plane, mask=there, other=0, cache_modifier=".cg")
        n = tl.load(at + 3 * plane, mask=there, other=0, cache_modifier=".cg")
        total += tl.sum(tl.where(there, n * ((shift - base[None, :]) + offset), 0.0), 0)
    residual = total / M
    total = tl.zeros(c.shape, tl.float32)
    for start in range(0, MEMBERS, CHUNK):
        k = start + tl.arange(0, CHUNK)
        at, there = ptr + k[:, None] * C + c[None, :], (k < MEMBERS)[:, None] & ok[None, :]
        shift = tl.load(at, mask=there, other=0, cache_modifier=".cg")
        offset = tl.load(at + plane, mask=there, other=0, cache_modifier=".cg")
        square = tl.load(at + 2 * plane, mask=there, other=0, cache_modifier=".cg")
        n = tl.load(at + 3 * plane, mask=there, other=0, cache_modifier=".cg")
        d = ((shift - base[None, :]) + offset) - residual[None, :]
        total += tl.sum(tl.where(there, square + n * d * d, 0.0), 0)
    return base, residual, total / M


@triton.jit
def store_sums(ptr, k, c, ok, C, first, second, MEMBERS):
    """Store the two sums over the part k of each channel in (2, MEMBERS, C)."""
    tl.store(ptr + k * C + c, first, mask=ok)
    tl.store(ptr + (MEMBERS + k) * C + c, second, mask=ok)


@triton.jit
def merge_sums(ptr, c, ok, C, MEMBERS, CHUNK: tl.constexpr):
    """Return the two sums over the parts in (2, MEMBERS, C)."""
    first = tl.zeros(c.shape, tl.float32)
    second = tl.zeros(c.shape, tl.float32)
    for start in range(0, MEMBERS, CHUNK):
        k = start + tl.arange(0, CHUNK)
        at, there = ptr + k[:, None] * C + c[None, :], (k < MEMBERS)[:, None] & ok[None, :]
        first += tl.sum(tl.load(at, mask=there, other=0, cache_modifier=".cg"), 0)
        second += tl.sum(tl.load(at + MEMBERS * C, mask=there, other=0, cache_modifier=".cg"), 0)
    return first, second


@triton.jit
def exchange_sums(
    parts_ptr, ticket_ptr, block, member, c, ok, C, first, second, MEMBERS, CHUNK: tl.constexpr
):
    """Return the two sums of channels over all members, which wait for each other.

    A program alone exchanges nothing: then ``parts_ptr`` is None.
    """
    if parts_ptr is not None:
        store_sums(parts_ptr, member, c, ok, C, first, second, MEMBERS)
        wait_for_all(ticket_ptr + block, MEMBERS)
        first, second = merge_sums(parts_ptr, c, ok, C, MEMBERS, CHUNK)
        leave(ticket_ptr + block, MEMBERS)
    return first, second
