"""What every launch needs: how a tensor lies in memory, and its plan as the arguments of kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from bnlib.torch.kernels.plan import Device, Geometry, Plan, make_plan, power_of_two

MERGED_VALUES = 4096  # that a program merges at a time
VALUES_PER_WARP = 256
REGISTERS = 128  # of a thread at most: two programs of 8 warps then fit a multiprocessor
NO_GPU = Device(multiprocessors=4, l2_bytes=1 << 16)  # the interpreter's

T = TypeVar("T")

_tickets: dict[tuple[torch.device, int], Tensor] = {}
_keeps: ContextVar[bool] = ContextVar("keeps", default=False)  # in this thread: whether tickets are kept


def geometry_of(x: Tensor) -> Geometry | None:
    """Return how ``x``, of shape (N, C, ...), lies in memory; None unless it is packed in one of two ways."""
    samples, channels = x.shape[:2]
    positions = math.prod(x.shape[2:])
    if positions == 1 and x.is_contiguous():
        return Geometry(samples, channels, 1, channels_last=True)
    if x.is_contiguous():
        return Geometry(samples, channels, positions, channels_last=False)
    if x.movedim(1, -1).is_contiguous():
        return Geometry(samples * positions, channels, 1, channels_last=True)
    return None


def packed_geometry_of(x: Tensor) -> Geometry:
    """Return ``geometry_of(x)``, or raise ValueError if there is none."""
    geometry = geometry_of(x)
    if geometry is None:
        raise ValueError(f"expected a packed tensor, got strides {x.stride()} for shape {tuple(x.shape)}")
    return geometry


@lru_cache
def device_of(device: torch.device) -> Device:
    """Return the properties of a device that plans depend on."""
    if device.type != "cuda":
        return NO_GPU
    found = torch.cuda.get_device_properties(device)
    return Device(found.multi_processor_count, found.L2_cache_size)


def keeping_tickets(function: Callable[..., T], *arguments: Any) -> T:
    """Return ``function(*arguments)``, whose launches may keep their tickets for later ones.

    Not for operators: what lives on after a call is an error where ``torch.compile`` records CUDA graphs,
    whose memory comes from a pool of their own.
    """
    before = _keeps.set(True)
    try:
        return function(*arguments)
    finally:
        _keeps.reset(before)


def stream_of(device: torch.device) -> int | None:
    """Return the stream on which kernels run one after the other; None off the GPU, and for a graph."""
    if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return None
    return torch.cuda.current_stream(device).cuda_stream


def tickets(device: torch.device, number: int) -> Tensor:
    """Return ``number`` zeros in int32, which the kernels leave at zero: fresh, or kept for each stream."""
    stream = stream_of(device) if _keeps.get() else None
    if stream is None:
        return torch.zeros(number, dtype=torch.int32, device=device)
    key = device, stream
    if key not in _tickets or _tickets[key].numel() < number:
        _tickets[key] = torch.zeros(max(1024, power_of_two(number)), dtype=torch.int32, device=device)
    return _tickets[key]


@dataclass(frozen=True)
class Launch:
    """A plan for a tensor of some geometry, as the arguments of kernels."""

    geometry: Geometry
    plan: Plan

    @classmethod
    def of(cls, x: Tensor, tensors: int) -> Launch:
        """Return the launch of a pass that reads ``tensors`` like ``x``, which is packed."""
        geometry = packed_geometry_of(x)
        plan = make_plan(geometry, x.element_size(), tensors, device_of(x.device))
        return cls(geometry, plan if x.is_cuda else plan.in_two_launches())

    @property
    def channels(self) -> int:
        """C."""
        return self.geometry.channels

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """C, the positions of a sample, and the values of a channel."""
        return self.channels, self.geometry.positions, self.geometry.values

    @cached_property
    def tile(self) -> dict[str, Any]:
        """The constants of a tile.

        Of the length of a run of neighbours the compiler knows that it is a multiple of 16, or else its
        value: it then sees how many of them to load at once, and divides without a division.
        """
        run = self.channels if self.geometry.channels_last else self.geometry.positions
        return {
            "RUN": 0 if run % 16 == 0 else run,
            "CHANNELS_LAST": self.geometry.channels_last,
            "BLOCK_M": self.plan.block_m,
            "BLOCK_C": self.plan.block_c,
        }

    @property
    def chunk(self) -> int:
        """The number of parts that are merged at a time."""
        return min(power_of_two(self.plan.members), MERGED_VALUES // self.plan.block_c)

    @property
    def warps(self) -> int:
        """Warps of a program."""
        return max(1, min(8, self.plan.block_m * self.plan.block_c // VALUES_PER_WARP))

    def options(self, barrier: bool = False) -> dict[str, Any]:
        """Return the options of a kernel; with a barrier, the driver refuses what could hang."""
        return {"num_warps": self.warps, "maxnreg": REGISTERS, "launch_cooperative_grid": barrier}

    def workspace(self, rows: int, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the place for ``rows`` numbers of each part of each channel, and the tickets, if needed."""
        if self.plan.members == 1:
            return None, None
        blocks = -(-self.channels // self.plan.block_c)
        return x.new_empty(rows, self.plan.members, self.channels, dtype=torch.float32), tickets(
            x.device, blocks
        )

    def grid_of_groups(self) -> tuple[int]:
        """Return the grid of the programs that hold values."""
        return (self.plan.groups * self.plan.members,)

    def grid_of_tiles(self) -> tuple[int, int]:
        """Return the grid with one program for each tile."""
        return -(-self.geometry.values // self.plan.block_m), -(-self.channels // self.plan.block_c)

    def slices(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Yield the first channel, the one after the last, and the grid of each launch."""
        for first in range(0, self.channels, self.plan.channels_at_once):
            last = min(first + self.plan.channels_at_once, self.channels)
            yield first, last, (self.plan.members, -(-(last - first) // self.plan.block_c))
