"""Time batch norm of `bnlib` on the GPU beside PyTorch, and record the result for chapter 17.

    python benchmarks/gpu.py [--minutes M] [--no-compile] [--folder DIRECTORY]

What is compared computes the same on the same tensors, without casts: `torch.nn.functional.batch_norm` with
cuDNN and without, and the same under `torch.compile`. Times are medians of `triton.testing.do_bench`; inputs
take turns, so that none is found in the cache. What takes less than 20 microseconds is timed in a CUDA graph.
The record says, for each shape, layout, dtype and direction, all times; bandwidth is that of a copy in the
same run. A run that is cut off, by `--minutes` or otherwise, goes on when it is started again.

Goals on an H200: forward 0.85 of the bandwidth of a copy at the least number of passes, backward 0.80,
evaluation 0.95; against the fastest of the others, as geometric means, forward 1.4 times, backward 1.5 times,
with shortcut and ReLU 2 times; no case below 0.97.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm as torch_batch_norm
from tqdm import tqdm

import bnlib
import bnlib.torch
from bnlib.lab.gpu import PASSES, GpuRecord, Row, gpu_records, write
from bnlib.lab.records import RESULTS
from bnlib.torch.kernels.launch import Launch

RESNET50 = [
    (64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28),
    (256, 28), (256, 14), (1024, 14), (512, 14), (512, 7), (2048, 7),
]  # fmt: skip
OTHERS = [(4, 128, 1024, 1024), (20, 6, 65536), (136000, 16, 16)]
ROWS = [(n, c) for n in (128, 4096, 65536, 1 << 20) for c in (64, 512, 1024)]
SHAPES = [(n, c, s, s) for n in (32, 128, 256) for c, s in RESNET50] + OTHERS + ROWS
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHORT, ROTATED_BYTES, MOST_BYTES = 20.0, 256 << 20, 40 << 30


class Case(NamedTuple):
    """One kind of tensor."""

    shape: tuple[int, ...]
    layout: str
    dtype: str

    @property
    def bytes(self) -> int:
        """Of one tensor."""
        return torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize


Function = Callable[..., Tensor]
Timer = Callable[[Callable[[], Any], bool], float]


def cases(shapes: Sequence[tuple[int, ...]] = SHAPES) -> Iterator[Case]:
    """Yield what is measured; channels last where there are images."""
    for dtype, shape in itertools.product(DTYPES, shapes):
        for layout in FORMATS if len(shape) == 4 and shape[0] >= 32 else ["contiguous"]:
            case = Case(shape, layout, dtype)
            if case.bytes * 6 <= MOST_BYTES:
                yield case


def ours(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, training: bool) -> Tensor:
    """Normalize by `bnlib`."""
    return bnlib.torch.batch_norm(x, mean, var, w, b, training)


def theirs(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, training: bool) -> Tensor:
    """Normalize by PyTorch, which asks cuDNN if it may."""
    return torch_batch_norm(x, mean, var, w, b, training)


def ours_fused(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, training: bool) -> Tensor:
    """Normalize, add x itself, and apply ReLU by `bnlib`."""
    return bnlib.torch.batch_norm_act(x, x.detach(), mean, var, w, b, training)


def theirs_fused(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, training: bool) -> Tensor:
    """Normalize, add x itself, and apply ReLU by PyTorch."""
    return nn.functional.relu(torch_batch_norm(x, mean, var, w, b, training) + x.detach())


def without_cudnn(function: Function) -> Function:
    """Return ``function`` with cuDNN switched off."""

    def called(*arguments: Any) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):
            return function(*arguments)

    return called


def peers(direction: str, with_compile: bool) -> dict[str, Function]:
    """Return the functions that are compared, by name."""
    fused = direction.startswith("fused")
    reference = theirs_fused if fused else theirs
    found = {"bnlib": ours_fused if fused else ours, "cuDNN": reference, "native": without_cudnn(reference)}
    if with_compile:
        torch._dynamo.reset()
        found["compiled"] = torch.compile(reference, mode="max-autotune-no-cudagraphs", dynamic=False)
    return found


def draw(case: Case, device: str) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Return inputs that take turns, an upstream gradient, and parameters and running statistics."""
    number = max(1, min(16, ROTATED_BYTES // case.bytes + 1))

    def tensor() -> Tensor:
        x = torch.randn(case.shape, dtype=DTYPES[case.dtype], device=device)
        return x.contiguous(memory_format=FORMATS[case.layout])

    rows = [torch.rand(case.shape[1], device=device) + 0.5 for _ in range(4)]
    return [tensor() for _ in range(number)], tensor(), rows


def prepare(function: Function, direction: str, case: Case, device: str) -> Callable[[], Any]:
    """Return the call that is timed; the forward pass of a backward pass is done here."""
    xs, dy, (w, b, mean, var) = draw(case, device)
    training = direction != "evaluation"
    if not direction.endswith("backward"):
        turns = itertools.cycle(xs)
        return lambda: function(next(turns), w, b, mean, var, training)
    leaves = [(x.requires_grad_(), w.clone().requires_grad_(), b.clone().requires_grad_()) for x in xs]
    made = itertools.cycle([(function(*leaf, mean, var, True), leaf) for leaf in leaves])

    def backward() -> tuple[Tensor, ...]:
        y, leaf = next(made)
        return torch.autograd.grad(y, leaf, dy, retain_graph=True)

    return backward


def time_call(prepared: Callable[[], Any], in_graph: bool) -> float:
    """Return the median time of a call in microseconds; ``prepared`` makes the call.

    A backward pass runs on the stream of its forward pass: so all of it happens on the stream of the graph.
    """
    from triton.testing import do_bench

    if not in_graph:
        return 1e3 * float(do_bench(prepared(), warmup=20, rep=60, return_mode="median"))
    side, graph, number = torch.cuda.Stream(), torch.cuda.CUDAGraph(), 20
    with torch.cuda.stream(side):
        call = prepared()
        for _ in range(3):
            call()
        side.synchronize()
        with torch.cuda.graph(graph, stream=side):
            for _ in range(number):
                call()
    return 1e3 * float(do_bench(graph.replay, warmup=20, rep=60, return_mode="median")) / number


def time_peers(functions: dict[str, Function], direction: str, case: Case, timer: Timer) -> tuple[Any, str]:
    """Return the times by name, and how they were taken: in a graph if one of them is short."""

    def all_times(in_graph: bool) -> dict[str, float]:
        def prepared(function: Function) -> Callable[[], Any]:
            return lambda: prepare(function, direction, case, "cuda" if torch.cuda.is_available() else "cpu")

        return {name: timer(prepared(f), in_graph) for name, f in functions.items()}

    times = all_times(in_graph=False)
    if min(times.values()) >= SHORT:
        return times, "events"
    return all_times(in_graph=True), "graph"


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
    return 2 * x.numel() / (1e-6 * time_call(lambda: lambda: y.copy_(x), in_graph=False))


def new_record() -> GpuRecord:
    """Return a record of this device without rows, or the one that an unfinished run has left."""
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
    today = datetime.now(timezone.utc).date().isoformat()
    sizes = device.multi_processor_count, device.L2_cache_size
    return GpuRecord(device.name, *sizes, copy_bandwidth(), versions, today, False, [])


def measure(
    record: GpuRecord,
    todo: Sequence[Case],
    keep: Callable[[GpuRecord], object],
    seconds: float,
    with_compile: bool = True,
    timer: Timer = time_call,
) -> GpuRecord:
    """Add a row for each case and direction that has none, and hand each state to ``keep``."""
    start, device = time.monotonic(), "cuda" if torch.cuda.is_available() else "cpu"
    done = {(tuple(r.shape), r.layout, r.dtype, r.direction) for r in record.rows}
    left = [(c, d) for c in todo for d in PASSES if (*c, d) not in done]
    for case, direction in tqdm(left, unit="pass"):
        if time.monotonic() - start > seconds:
            return record
        times, timed = time_peers(peers(direction, with_compile), direction, case, timer)
        row = Row(
            case.shape, case.layout, case.dtype, direction, method(case, direction, device), times, timed
        )
        record = GpuRecord(**{**vars(record), "rows": [*record.rows, row]})
        keep(record)
    record = GpuRecord(**{**vars(record), "complete": True})
    keep(record)
    return record


def table(record: GpuRecord) -> str:
    """Lay the summary of a record out as text."""
    lines = [
        f"{record.device}: a copy moves {record.bandwidth / 1e12:.2f} TB/s",
        f"{'direction':<16}best peer/ours, worst, share",
    ]
    for direction in PASSES:
        if record.of(direction):
            s = record.summary(direction)
            lines.append(f"{direction:<16}{s['geometric mean']:14.2f}{s['worst']:7.2f}{s['share']:7.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, write the record, and print its summary."""
    parser = argparse.ArgumentParser(description="Time bnlib.torch on the GPU beside PyTorch.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="of the records")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("expected a GPU that PyTorch can use, got none")
    record = new_record()
    for old in gpu_records(options.folder):
        if (old.device, old.versions, old.complete) == (record.device, record.versions, False):
            record = old
    record = measure(
        record,
        list(cases()),
        lambda r: write(r, options.folder),
        60 * options.minutes,
        not options.no_compile,
    )
    print(table(record))


if __name__ == "__main__":
    main()
