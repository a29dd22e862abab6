"""Time batch norm of `bnlib` on the GPU beside PyTorch, and record the result for chapter 17.

    python benchmarks/gpu.py [--minutes M] [--no-compile] [--again] [--folder DIRECTORY]

What is compared computes the same on the same tensors, without casts: `torch.nn.functional.batch_norm` with
cuDNN and without, and the same under `torch.compile`; with shortcut and ReLU, also what follows. Times are
medians of `triton.testing.do_bench`, which empties the cache before each. What takes less than 20
microseconds, or would at the bandwidth of a copy, is timed in a CUDA graph of many calls, whose inputs take
turns so that none is found in the cache.

The record says, for each shape, layout, dtype and direction, all times, and what failed and why. A run that
is cut off, by `--minutes` or otherwise, goes on when it is started again with the same versions; `--again`
starts afresh. Rows come in an order of which each beginning stands for the whole. Rows that were measured
with `--no-compile` are measured once more by a run without it. A record with more times than the new one
stays until that one holds as many. The goals are in `bnlib.lab.gpu_goals`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from gpu_cases import DTYPES, FORMATS, Call, Case, Function, peers, plan, prepare
from tqdm import tqdm

import bnlib
import bnlib.torch
from bnlib.lab.gpu import GpuRecord, Row, Run, least_bytes, unfinished, write
from bnlib.lab.records import RESULTS
from bnlib.torch.kernels.launch import Launch

SHORT = 20.0  # microseconds, of which the start of a kernel is too large a part
LEAST_CALLS = 20  # in a graph, whose own start takes some microseconds

Timer = Callable[[Callable[[], Call], int], float]


class Chip(NamedTuple):
    """What the way of timing depends on."""

    device: str
    l2_bytes: int
    bandwidth: float


class Times(NamedTuple):
    """Medians in microseconds and reasons for having none, by name."""

    microseconds: dict[str, float]
    failures: dict[str, str]


def time_call(prepared: Callable[[], Call], calls: int) -> float:
    """Return the median time of a call in microseconds, in a graph of ``calls`` or, if 0, in none.

    A backward pass runs on the stream of its forward pass: so all of it, ``prepared`` too, which makes the
    call, happens on the stream of the graph. Outputs are kept, or all would be written to the same place,
    which the cache holds.
    """
    from triton.testing import do_bench

    if not calls:
        return 1e3 * float(do_bench(prepared(), warmup=20, rep=60, return_mode="median"))
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(side):
        call = prepared()
        for _ in range(3):
            call()
        side.synchronize()
        with torch.cuda.graph(graph, stream=side):
            kept = [call() for _ in range(calls)]
    found = 1e3 * float(do_bench(graph.replay, warmup=20, rep=60, return_mode="median")) / calls
    del kept
    return found


def all_times(
    functions: dict[str, Function], prepared: Callable[..., Call], calls: int, timer: Timer
) -> Times:
    """Return the times of all; what fails is passed over, with the reason."""
    found = Times({}, {})
    for name, function in functions.items():
        try:
            found.microseconds[name] = round(timer(partial(prepared, function), calls), 3)
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), "")
            found.failures[name] = f"{type(error).__name__}: {first}"[:200]
        if name in found.failures:  # only now is the exception gone, and with it what its frames hold
            gc.collect()
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
    return found


def time_peers(
    functions: dict[str, Function], direction: str, case: Case, chip: Chip, timer: Timer = time_call
) -> tuple[Times, str]:
    """Return the times, and how they were taken: all in a graph if one of them is short, or should be."""
    number = case.inputs(chip.l2_bytes)

    def prepared(function: Function) -> Call:
        return prepare(function, direction, case, number, chip.device)

    moved = least_bytes(torch.Size(case.shape).numel(), DTYPES[case.dtype].itemsize, direction, stays=True)
    if 1e6 * moved / chip.bandwidth >= SHORT:
        found = all_times(functions, prepared, 0, timer)
        if min(found.microseconds.values(), default=SHORT) >= SHORT:
            return found, "events"
    calls = number * -(-LEAST_CALLS // number)
    found = all_times(functions, prepared, calls, timer)
    if found.failures:
        # Times from within a graph and from outside cannot be compared: what fails only inside moves all out.
        outside = all_times(functions, prepared, 0, timer)
        if set(outside.microseconds) - set(found.microseconds):
            inside = {f"{name} in a graph": reason for name, reason in found.failures.items()}
            return Times(outside.microseconds, outside.failures | inside), "events"
    return found, "graph"


def method(case: Case, direction: str, device: str) -> str:
    """Return how the kernels go about a case."""
    if direction == "evaluation":
        return "one"
    x = torch.empty(case.shape, dtype=DTYPES[case.dtype], device=device)
    x = x.contiguous(memory_format=FORMATS[case.layout])
    return Launch.of(x, 2 if direction.endswith("backward") else 1).plan.method


def copy_bandwidth() -> float:
    """Return the bytes that a copy of 2 GiB reads and writes per second."""
    x = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    return 2 * x.numel() / (1e-6 * time_call(lambda: lambda: y.copy_(x), 0))


def new_record(planned: int) -> GpuRecord:
    """Return a record of this device without rows."""
    import triton

    device = torch.cuda.get_device_properties(0)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "triton": triton.__version__,
        "bnlib": bnlib.__version__,
    }
    return GpuRecord(
        device.name, device.multi_processor_count, device.L2_cache_size, versions, planned, [], []
    )


def measure(
    record: GpuRecord,
    todo: Sequence[tuple[Case, str]],
    run: Run,
    keep: Callable[[GpuRecord], object],
    seconds: float,
    timer: Timer = time_call,
) -> GpuRecord:
    """Add a row for each case and direction that has none, and hand each state to ``keep``.

    Rows of runs without ``torch.compile`` are measured last again by a run with it.

    Raises:
        RuntimeError: the GPU no longer answers; the row that did it is kept, so that the next run passes it.
    """
    start, device = time.monotonic(), "cuda" if torch.cuda.is_available() else "cpu"
    chip = Chip(device, record.l2_bytes, run.bandwidth)
    rows = {(Case(tuple(r.shape), r.layout, r.dtype), r.direction): r for r in record.rows}
    lacking = {key for key, row in rows.items() if run.compiled and not record.runs[row.run].compiled}
    left = [one for one in todo if one not in rows] + [one for one in todo if one in lacking]
    record = replace(record, runs=[*record.runs, run])
    for case, direction in tqdm(left, unit="row"):
        if time.monotonic() - start > seconds:
            break
        (times, failures), timed = time_peers(peers(run.compiled), direction, case, chip, timer)
        how, number = method(case, direction, device), len(record.runs) - 1
        shape, layout, dtype = case
        rows[case, direction] = Row(shape, layout, dtype, direction, how, times, timed, number, failures)
        record = replace(record, rows=list(rows.values()))
        keep(record)
        if failures and device == "cuda":
            torch.cuda.synchronize()
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, write the record, and print what became of the goals."""
    parser = argparse.ArgumentParser(description="Time bnlib.torch on the GPU beside PyTorch.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--again", action="store_true", help="begin a new record")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="of the records")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("expected a GPU that PyTorch can use, got none")
    todo = plan()
    record = new_record(len(todo))
    if not options.again:
        record = unfinished(record.device, record.versions, options.folder) or record
    today = datetime.now(timezone.utc).date().isoformat()
    run = Run(today, copy_bandwidth(), not options.no_compile)
    record = measure(record, todo, run, lambda r: write(r, options.folder), 60 * options.minutes)
    print(record.report())


if __name__ == "__main__":
    main()
