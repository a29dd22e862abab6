"""What shared statistics are worth, by samples a process, and what a collective costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from bnlib.lab.distributed import PARTS, compare
from bnlib.lab.processes import run_on
from bnlib.lab.registry import experiment
from bnlib.torch import BatchNorm1d, SyncBatchNorm

PROCESSES = 4
SAMPLES = [2, 8, 32]
"""Of a process in a step."""
SIZES = [2**n for n in range(7, 23)]
"""Bytes that are summed over the processes: from 16 numbers to half a million."""
CHANNELS = [16, 64, 256, 1024]


@experiment(
    "across_devices",
    parts={f"{part}, {n}": {**PARTS[part], "samples": n} for part in PARTS for n in SAMPLES},
    seeds=5,
    at_once=1,
)
def across_devices(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Loss and accuracy with batch norm by process and with shared statistics, on 4 processes.

    This is the example ``bnlib.lab.distributed``; see there for the metrics.
    """
    result: Mapping[str, Any] = run_on(PROCESSES, compare, dict(settings), list(seeds))[0]
    return result


@experiment(
    "collectives",
    parts={f"{n} processes": {"processes": n, "bytes": SIZES, "channels": CHANNELS} for n in (2, 4)},
    seeds=5,
    at_once=1,
)
def collectives(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Time of a sum over local processes against its size, and of batch norm with and without sharing.

    A seed is a repetition. Metrics, in microseconds on rank 0, the fastest of 60 calls, which other work of
    the machine disturbs least:
        all_reduce: shape (S, K) for K sizes in bytes.
        by_process, shared: forward and backward pass of a layer on (2, C), shape (S, L) for L values of C.
    """
    found = [run_on(settings["processes"], times, settings["bytes"], settings["channels"]) for _ in seeds]
    return {name: np.stack([ranks[0][name] for ranks in found]) for name in found[0][0]}


def times(sizes: Sequence[int], channels: Sequence[int]) -> Mapping[str, NDArray[np.float64]]:
    """Measure on a rank what ``collectives`` records of one repetition."""
    buffers = [torch.zeros(size // 8, dtype=torch.float64) for size in sizes]
    layers: dict[str, type[nn.Module]] = {"by_process": BatchNorm1d, "shared": SyncBatchNorm}
    found = {"all_reduce": [fastest(partial(dist.all_reduce, b)) for b in buffers]}
    for name, kind in layers.items():
        found[name] = [fastest(Step(kind(c), torch.randn(2, c))) for c in channels]
    return {name: np.array(values) for name, values in found.items()}


class Step:
    """A forward and a backward pass of a layer."""

    def __init__(self, layer: nn.Module, x: torch.Tensor) -> None:
        self.layer, self.x = layer, x.requires_grad_()

    def __call__(self) -> None:
        """Do both."""
        self.layer(self.x).sum().backward()


def fastest(call: Callable[[], object], repeat: int = 60) -> float:
    """Return the shortest time of a call in microseconds; all ranks call at once."""
    spent = []
    for _ in range(repeat):
        dist.barrier()
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return 1e6 * min(spent)
