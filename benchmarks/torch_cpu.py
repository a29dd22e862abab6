"""Time `bnlib.torch.batch_norm` against `torch.nn.functional.batch_norm` on the CPU.

    python benchmarks/torch_cpu.py [--threads 1 2] [--repeat R] [--json FILE]

The calls compared take turns within one run, with equal threads, so that a busy machine slows both; the table
shows medians. The goal is at most 1.05 times the time of PyTorch, and, for the forward pass in training on
contiguous (N, C, H, W) float32, at most 1/1.5 of it. The times are for float32 of mean 0; a mean larger than
its standard deviation costs one more pass over the input, which PyTorch saves and pays for in accuracy.

Where no mean exceeds its standard deviation, output and gradient come from PyTorch's own kernels, given the
statistics that `bnlib` computed (see `bnlib.torch.native`); these statistics are what is timed then.

What limits the rest:

- Small tensors: the fixed cost of some twenty calls from Python, where PyTorch makes one.
- Statistics of channels last and of (N, C): PyTorch's kernels for these are vectorized, and add up thousands
  of rows one after the other in float32. That error is avoided here: below a million values by sums in
  pairs, each of the sums and squares an operation of its own; above, by the same kernels on short columns,
  whose results are merged.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import batch_norm as torch_batch_norm
from tqdm import tqdm

import bnlib.torch
from bnlib.lab.timing import Calls, median_times

SHAPES = [
    (128, 512),
    (4096, 64),
    (65536, 8),
    (4096, 1024),
    (16, 32, 7, 7),
    (8, 256, 14, 14),
    (64, 512, 7, 7),
    (32, 64, 56, 56),
]
MOST_TIMES_TORCH, MOST_FORWARD = 1.05, 1 / 1.5
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def calls(shape: tuple[int, ...], layout: str) -> dict[str, Calls]:
    """Return what is timed for one shape and layout, by direction and name."""
    generator = torch.Generator().manual_seed(0)
    x, dy = (
        torch.randn(shape, generator=generator).contiguous(memory_format=LAYOUTS[layout]) for _ in range(2)
    )
    weight, bias, var = (torch.rand(shape[1], generator=generator) + 0.5 for _ in range(3))
    mean = torch.rand(shape[1], generator=generator) - 0.5
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    peers = {"bnlib": bnlib.torch.batch_norm, "torch": torch_batch_norm}

    def forward(name: str, inputs: list[Tensor], training: bool) -> Tensor:
        running = [None, None] if training else [mean, var]
        return peers[name](inputs[0], running[0], running[1], inputs[1], inputs[2], training)

    def backward(output: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(output, leaves, dy, retain_graph=True)

    inputs = [x, weight, bias]
    return {
        "forward": {name: partial(forward, name, inputs, True) for name in peers},
        "backward": {name: partial(backward, forward(name, leaves, True)) for name in peers},
        "evaluation": {name: partial(forward, name, inputs, False) for name in peers},
    }


def measure(
    shapes: Sequence[tuple[int, ...]], threads: Sequence[int], repeat: int | None = None
) -> list[dict[str, Any]]:
    """Return one row for each number of threads, shape, layout and direction.

    ``repeat`` is the number of turns; None makes more of them for smaller tensors, 15 to 300.
    """
    cases = [(s, layout) for s in shapes for layout in LAYOUTS if layout == "contiguous" or len(s) == 4]
    rows = []
    for number in threads:
        torch.set_num_threads(number)
        for shape, layout in tqdm(cases, unit="case", desc=f"{number} thread(s)"):
            turns = repeat or int(np.clip(3e7 / np.prod(shape), 15, 300))
            for direction, peers in calls(shape, layout).items():
                times = median_times(peers, turns)
                large = len(shape) == 4 and layout == "contiguous" and direction == "forward"
                goal, ratio = (MOST_FORWARD if large else MOST_TIMES_TORCH), times["bnlib"] / times["torch"]
                row = {"threads": number, "shape": list(shape), "layout": layout, "direction": direction}
                row |= {"milliseconds": times, "ratio": ratio, "goal": goal, "goal_met": ratio <= goal}
                rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Lay ``rows`` out as text, a line each."""
    lines = [
        "float32, medians in ms. Goal: bnlib/torch at most the number given.",
        f"{'threads':<8}{'shape':<18}{'layout':<14}{'direction':<11}"
        f"{'bnlib':>9}{'torch':>9}{'ratio':>7}{'goal':>6}",
    ]
    for r in rows:
        t = r["milliseconds"]
        lines.append(
            f"{r['threads']:<8}{tuple(r['shape'])!s:<18}{r['layout']:<14}{r['direction']:<11}"
            f"{t['bnlib']:9.3f}{t['torch']:9.3f}{r['ratio']:7.2f}{r['goal']:6.2f}"
            f" {'met' if r['goal_met'] else 'not'}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, shapes: Sequence[tuple[int, ...]] = SHAPES) -> None:
    """Measure ``shapes``, print the table, and write the rows and the versions to ``--json``."""
    parser = argparse.ArgumentParser(description="Time bnlib.torch on the CPU beside PyTorch.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument("--repeat", type=int, help="turns for each case; default 15 to 300 by size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = parser.parse_args(arguments)
    given = {"--threads": options.threads, "--repeat": [1 if options.repeat is None else options.repeat]}
    for name, values in given.items():
        if min(values) < 1:
            parser.error(f"expected {name} of at least 1, got {min(values)}")
    rows = measure(shapes, options.threads, options.repeat)
    print(table(rows))
    if options.json:
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        options.json.write_text(json.dumps({"versions": versions, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
