"""Time `bnlib.reference` against the textbook formula and PyTorch, on one thread.

    python benchmarks/reference.py [--json FILE] [--repeat R]

The calls compared take turns within one run, so that a busy machine slows all of them; the table shows
medians. The forward pass aims at half the time of the textbook version and at most 3 times that of
`torch.nn.functional.batch_norm(training=True)`; the backward pass at most 3 times that of PyTorch,
which finds the statistics saved by its forward pass where the reference computes them anew.

What limits the reference: a NumPy call is one pass over an array, and the forward pass makes five, for the
mean in float64, the difference, the sum of squares, the scale and the shift. They keep the output within
1e-6 for means up to 1e6, where the textbook version and PyTorch are wrong in the first digit.

- Large arrays: the memory. The output is new to the process or left by an earlier call, and the call before
  decides which: new pages are slow. So the ratios to PyTorch vary from run to run, more so on a busy machine.
- Short rows, as at (8, 256, 14, 14): NumPy starts anew for each row of one channel, which takes longer than
  the arithmetic. Here the reference is faster than the textbook version, but not twice as fast.
- Small arrays, as at (128, 512): nearly half of the time is the fixed cost of NumPy calls and of checks. The
  textbook version has fewer of both, and is faster.

Not done, because the code would lose more than the time gains:

- Parameters repeated for each position of a sample. That is faster for short rows only, slower for
  long ones, and would not quite reach the goal.
- Blocks that fit the cache. They gain at most a little since rows are read in place (`short_buffer`).
- The mean in float32, corrected by the mean of the differences. It is one pass more, faster
  for short rows and slower for small arrays.
- Sums by BLAS. Their rounding depends on the processor, and the book shows such errors.
- Fewer checks.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # these are read once, when NumPy and PyTorch are loaded
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bnlib.lab.timing import median_times
from bnlib.reference import batch_norm, batch_norm_axes, batch_norm_backward

SHAPES = [(128, 512), (4096, 1024), (32, 64, 56, 56), (8, 256, 14, 14)]
LEAST_SPEEDUP, MOST_TIMES_TORCH = 2.0, 3.0

Array = NDArray[np.float32]
Calls = dict[str, Callable[[], object]]


def textbook_batch_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Normalize as most tutorials do: five lines, and float32 throughout."""
    axes, shape = batch_norm_axes(x.ndim), (1, -1, *[1] * (x.ndim - 2))
    mean = x.mean(axes, keepdims=True)
    var = x.var(axes, keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + np.float32(eps))
    y: Array = weight.reshape(shape) * x_hat + bias.reshape(shape)
    return y


def calls(shape: tuple[int, ...]) -> dict[str, Calls]:
    """Return what is timed for one shape, by direction and name."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    weight, bias = (rng.standard_normal(shape[1], dtype=np.float32) for _ in range(2))
    tensors = [torch.from_numpy(a) for a in (x, weight, bias)]
    leaves = [t.clone().requires_grad_() for t in tensors]
    upstream = torch.from_numpy(dy)

    def torch_forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)

    y = torch_forward(*leaves)
    return {
        "forward": {
            "textbook": lambda: textbook_batch_norm(x, weight, bias),
            "bnlib": lambda: batch_norm(x, weight, bias),
            "torch": lambda: torch_forward(*tensors),
        },
        "backward": {
            "bnlib": lambda: batch_norm_backward(dy, x, weight),
            "torch": lambda: torch.autograd.grad(y, leaves, upstream, retain_graph=True),
        },
    }


def measure(shapes: Sequence[tuple[int, ...]], repeat: int | None = None) -> list[dict[str, Any]]:
    """Return one row for each shape and direction: times, ratios, and whether the goals are met.

    ``repeat`` is the number of turns; None makes more of them for smaller arrays, 15 to 300.
    """
    rows = []
    for shape in tqdm(shapes, unit="shape"):
        turns = repeat or int(np.clip(3e7 / np.prod(shape), 15, 300))
        for direction, peers in calls(shape).items():
            times = median_times(peers, turns)
            times_torch = times["bnlib"] / times["torch"]
            row: dict[str, Any] = {"shape": list(shape), "direction": direction, "milliseconds": times}
            row |= {"times_torch": times_torch, "torch_goal_met": times_torch <= MOST_TIMES_TORCH}
            if "textbook" in times:
                speedup = times["textbook"] / times["bnlib"]
                row |= {"speedup": speedup, "speedup_goal_met": speedup >= LEAST_SPEEDUP}
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Lay ``rows`` out as text, a line each."""

    def goal(row: dict[str, Any], ratio: str, met: str) -> str:
        return f"{row[ratio]:6.2f} {'met' if row[met] else 'not'}" if ratio in row else f"{'-':>10}"

    head = f"{'shape':<20}{'direction':<10}{'textbook':>10}{'bnlib':>10}{'torch':>10}"
    lines = [
        f"One thread, float32, medians in ms. Goals: textbook/bnlib >= {LEAST_SPEEDUP:g} (forward), "
        f"bnlib/torch <= {MOST_TIMES_TORCH:g}.",
        f"{head}{'textbook/bnlib':>16}{'bnlib/torch':>13}",
    ]
    for row in rows:
        times = row["milliseconds"]
        cells = "".join(
            f"{times[n]:10.3f}" if n in times else f"{'-':>10}" for n in ("textbook", "bnlib", "torch")
        )
        ratios = (
            f"{goal(row, 'speedup', 'speedup_goal_met'):>16}{goal(row, 'times_torch', 'torch_goal_met'):>13}"
        )
        lines.append(f"{tuple(row['shape'])!s:<20}{row['direction']:<10}{cells}{ratios}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, shapes: Sequence[tuple[int, ...]] = SHAPES) -> None:
    """Measure ``shapes``, print the table, and write the rows and the versions to ``--json``."""
    parser = argparse.ArgumentParser(description="Time bnlib.reference on one thread.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--repeat", type=int, help="turns for each shape; default 15 to 300 by size")
    options = parser.parse_args(arguments)
    if options.repeat is not None and options.repeat < 1:
        parser.error(f"expected --repeat of at least 1, got {options.repeat}")
    torch.set_num_threads(1)
    rows = measure(shapes, options.repeat)
    print(table(rows))
    if options.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
        record = {"versions": versions, "threads": 1, "dtype": "float32", "rows": rows}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
