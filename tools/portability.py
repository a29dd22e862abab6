"""Run the notebooks on other arithmetic and other numbers of threads, and the unit tests in random order.

PyTorch chooses its kernels by the processor, and sums in another order with each choice and each number of
threads. The stored outputs must be the same for all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

REPOSITORY = Path(__file__).parents[1]
CAPABILITIES = ("default", "avx2", "avx512")
QUICK = ("02-forward-pass", "06-running-statistics")
"""The chapters of the reduced form: NumPy alone, and PyTorch."""


class Run(NamedTuple):
    """One run of pytest: what is tested, and the variables of the environment."""

    words: str
    arguments: Sequence[str]
    environment: dict[str, str]


def available(capability: str | None = None) -> list[str]:
    """Return the capabilities up to that of the processor, or up to ``capability``."""
    best = (capability or torch.backends.cpu.get_cpu_capability()).lower()
    if best not in CAPABILITIES:
        return ["default"]
    return list(CAPABILITIES[: CAPABILITIES.index(best) + 1])


def plan(quick: bool, seeds: Sequence[int]) -> list[Run]:
    """List the runs: notebooks by capability and threads, then unit tests by the seed of their order."""
    notebooks = [f"chapters/{name}.ipynb" for name in QUICK] if quick else ["chapters"]
    choices = [("default", 2)] if quick else [(c, n) for c in available() for n in (1, 2)]
    units = ["tests/reference"]
    everything = ["tests", "--ignore", "tests/site", "--ignore", "tests/book"]
    return [
        Run(
            f"notebooks, {capability}, threads: {threads}",
            ["--nbval", *notebooks],
            {"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": str(threads)},
        )
        for capability, threads in choices
    ] + [
        Run(
            f"unit tests, order {seed}",
            ["--random-order", "--random-order-seed", str(seed), *(units if quick else everything)],
            {"OMP_NUM_THREADS": "1"},
        )
        for seed in seeds
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, one after the other, and print a line for each; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two chapters and the unit tests of the reference"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests (default: 2)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="orders of the unit tests")
    chosen = parser.parse_args(arguments)
    failed = False
    for run in plan(chosen.quick, chosen.seeds[:1] if chosen.quick else chosen.seeds):
        command = [sys.executable, "-m", "pytest", "--quiet", "-rN", "--dist", "loadfile"]
        command += ["--numprocesses", str(chosen.workers), *run.arguments]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=os.environ | run.environment, capture_output=True, text=True
        )
        summary = done.stdout.strip().rpartition("\n")[2].strip("= ")
        print(f"{run.words}: {'passed' if done.returncode == 0 else 'FAILED'} ({summary})", flush=True)
        if done.returncode:
            failed = True
            print(done.stdout, done.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
