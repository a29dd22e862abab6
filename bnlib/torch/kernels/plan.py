"""Which kernels run for a tensor, and in what pieces: a pure function of its shape and of the device.

Batch norm computes little and moves much, so the plan is made by the bytes of a channel:

- ``one``: a channel fits into the registers of one program, which reads it once;
- ``group``: it fits into those of a group of programs, which exchange their sums at a barrier;
- ``l2``: it fits into the cache of the chip: as many channels as fit are summed, then read again from there;
- ``split``: it fits nowhere: its sums are split among programs, and memory is read twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Method = Literal["one", "group", "l2", "split"]

HELD_VALUES = 8192  # that one program holds in registers: 32 for each of 256 threads
SCATTERED_VALUES = 2048  # that it holds where neighbours cannot be loaded together: each needs its address
STREAMED_VALUES = 4096  # that one program reads at a time where it holds nothing
VECTOR_BYTES = 16  # that one instruction loads
SMALL_BYTES = 16 << 10  # below this a barrier costs more than the other programs save
ROW_BYTES = 128  # of neighbouring channels that one program reads: a line of the cache
MOST_L2_BYTES = 25 << 20
PROGRAMS_HELD, PROGRAMS_STREAMED = 2, 4  # on each multiprocessor
MOST_MEMBERS_CHANNELS_LAST = 64  # each merges the sums of all others, for a row of channels


@dataclass(frozen=True)
class Device:
    """What a plan depends on: the number of multiprocessors, and the bytes of the level-2 cache."""

    multiprocessors: int
    l2_bytes: int


@dataclass(frozen=True)
class Geometry:
    """How a batch lies in memory.

    Attributes:
        samples: N.
        channels: C.
        positions: S, the number of places in a sample; 1 where ``channels_last``, all of whose places count
            as samples.
        channels_last: the channels of one place are neighbours; else the places of one channel are.
    """

    samples: int
    channels: int
    positions: int
    channels_last: bool

    def in_vectors(self, itemsize: int) -> bool:
        """Tell whether each run of neighbours is a multiple of 16 bytes long."""
        run = self.channels if self.channels_last else self.positions
        return run * itemsize % VECTOR_BYTES == 0

    @property
    def values(self) -> int:
        """The number of values of a channel."""
        return self.samples * self.positions


@dataclass(frozen=True)
class Plan:
    """How a pass is cut into programs.

    Attributes:
        method: see the module.
        block_m: values of a channel in the tile of a program, a power of 2.
        block_c: channels in that tile, a power of 2.
        members: programs that share each block of channels.
        groups: groups of ``members`` programs that run at a time and take blocks of channels in turns; 0
            where sums and output are two launches.
        channels_at_once: channels of one launch where there are two.
    """

    method: Method
    block_m: int
    block_c: int
    members: int
    groups: int
    channels_at_once: int

    @property
    def holds(self) -> bool:
        """Whether the input stays in registers between the sums and the output."""
        return self.method in ("one", "group")

    @property
    def in_one_launch(self) -> bool:
        """Whether one kernel does all."""
        return self.groups > 0

    def in_two_launches(self) -> Plan:
        """Return the plan without a barrier that makes the same sums."""
        if self.method == "one":
            return self
        return replace(self, method="split" if self.method == "group" else self.method, groups=0)


def power_of_two(n: int) -> int:
    """Return the least power of 2 that is ``n`` or more."""
    return 1 << max(0, n - 1).bit_length()


def block_channels(geometry: Geometry, itemsize: int) -> int:
    """Return the number of channels in a tile; at least 8 neighbours, whose bits make up a byte."""
    if not geometry.channels_last:
        return 1
    return max(8, min(power_of_two(geometry.channels), ROW_BYTES // itemsize))


def make_plan(geometry: Geometry, itemsize: int, tensors: int, device: Device) -> Plan:
    """Return the plan of a pass.

    Args:
        geometry: of the input.
        itemsize: bytes of a value.
        tensors: of that size, which the pass reads: 1 forward, 2 backward.
        device: that it runs on.
    """
    held = hold(geometry, itemsize, tensors, device)
    return stream(geometry, itemsize, tensors, device) if held is None else held


def hold(geometry: Geometry, itemsize: int, tensors: int, device: Device) -> Plan | None:
    """Return the plan that reads the input once; None where it does not fit or leaves half the chip idle."""
    m, block_c = geometry.values, block_channels(geometry, itemsize)
    blocks = -(-geometry.channels // block_c)
    resident = PROGRAMS_HELD * device.multiprocessors
    row = block_c * itemsize * tensors
    most = HELD_VALUES // tensors if geometry.in_vectors(itemsize) else SCATTERED_VALUES
    most_rows = max(8, most // block_c)
    needed = -(-m // most_rows)
    if needed == 1 and (blocks >= device.multiprocessors or m * row <= SMALL_BYTES):
        return Plan("one", max(8, power_of_two(m)), block_c, 1, blocks, geometry.channels)
    least_rows = max(8, SMALL_BYTES // 2 // row)
    members = max(needed, min(resident // blocks, -(-m // least_rows)))
    block_m = min(most_rows, max(8, power_of_two(-(-m // members))))
    members = -(-m // block_m)
    if members == 1:
        return Plan("one", block_m, block_c, 1, blocks, geometry.channels)
    groups = min(blocks, resident // members)
    limit = MOST_MEMBERS_CHANNELS_LAST if geometry.channels_last else resident
    fills = groups == blocks or 2 * groups * members >= resident
    if members > limit or groups == 0 or not fills:
        return None
    return Plan("group", block_m, block_c, members, groups, geometry.channels)


def stream(geometry: Geometry, itemsize: int, tensors: int, device: Device) -> Plan:
    """Return the plan that sums first and reads the input again, from the cache if it can."""
    m, block_c = geometry.values, block_channels(geometry, itemsize)
    share = min(MOST_L2_BYTES, device.l2_bytes // 2)
    fitting = share // (m * itemsize * tensors)
    block_m = max(8, min(STREAMED_VALUES // (block_c * tensors), power_of_two(m)))
    tiles = -(-m // block_m)
    if fitting and not geometry.channels_last:
        resident = PROGRAMS_HELD * device.multiprocessors
        turns = -(-geometry.channels // min(fitting, resident))
        groups = -(-geometry.channels // turns)  # no more than that many turns need
        members = min(resident // groups, tiles)
        return Plan("l2", block_m, block_c, members, groups, groups)
    blocks = -(-geometry.channels // block_c)
    members = max(1, min(PROGRAMS_STREAMED * device.multiprocessors // blocks, tiles))
    method: Method = "l2" if fitting >= geometry.channels else "split"
    return Plan(method, block_m, block_c, members, 0, geometry.channels)
