"""Run the notebooks on other arithmetic and other numbers of threads, and the unit tests in random order.

PyTorch chooses its kernels by the processor, and sums in another order with each choice and each number of
threads. The stored outputs must be the same for all. No machine has every processor, so the notebooks also
run with initial weights that are off by a rounding error (``rounding.py``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rounding import ipython_folder

REPOSITORY = Path(__file__).parents[1]
CAPABILITIES = ("default", "avx2", "avx512")
QUICK = ("02-forward-pass", "06-running-statistics")
"""The chapters of the reduced form: NumPy alone, and PyTorch."""


class Run(NamedTuple):
    """One run of pytest: what is tested, and the variables of the environment."""

    words: str
    arguments: Sequence[str]
    environment: dict[str, str]
    rounding: int | None = None
    """A seed, if initial weights are to be off by a rounding error."""

    @property
    def threads(self) -> int:
        """The threads of one process."""
        return int(self.environment["OMP_NUM_THREADS"])


def available(capability: str | None = None) -> list[str]:
    """Return the capabilities up to that of the processor, or up to ``capability``."""
    best = (capability or torch.backends.cpu.get_cpu_capability()).lower()
    if best not in CAPABILITIES:
        return ["default"]
    return list(CAPABILITIES[: CAPABILITIES.index(best) + 1])


def plan(quick: bool, seeds: Sequence[int]) -> list[Run]:
    """List the runs: notebooks on other arithmetic and with other weights, unit tests in random order."""
    notebooks = [f"chapters/{name}.ipynb" for name in QUICK] if quick else ["chapters"]
    choices = [("default", 2)] if quick else [(c, n) for c in available() for n in (1, 2)]
    units = ["tests/reference"]
    everything = ["tests", "--ignore", "tests/site", "--ignore", "tests/book"]
    arithmetic = [
        Run(
            f"notebooks, {capability}, threads: {threads}",
            ["--nbval", *notebooks],
            {"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": str(threads)},
        )
        for capability, threads in choices
    ]
    rounded = [
        Run(
            f"notebooks, weights off by a rounding error, seed {seed}",
            ["--nbval", *notebooks],
            {"OMP_NUM_THREADS": "1"},
            seed,
        )
        for seed in seeds
    ]
    random_orders = [
        Run(
            f"unit tests, order {seed}",
            ["--random-order", "--random-order-seed", str(seed), *(units if quick else everything)],
            {"OMP_NUM_THREADS": "1"},
        )
        for seed in seeds
    ]
    return [*arithmetic, *rounded, *random_orders]


def execute(run: Run, cores: int) -> subprocess.CompletedProcess[str]:
    """Run pytest in as many processes as there are cores for their threads."""
    command = [sys.executable, "-m", "pytest", "--quiet", "-rN", "--dist", "loadfile"]
    command += ["--numprocesses", str(max(1, cores // run.threads)), *run.arguments]
    environment = os.environ | run.environment
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads leave the cores to others
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if run.rounding is not None:
            environment["IPYTHONDIR"] = str(ipython_folder(Path(folder), run.rounding))
        return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, one after the other, and print a line for each; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two chapters and the unit tests of the reference"
    )
    parser.add_argument("--cores", type=int, default=2, help="threads of all processes (default: 2)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2], help="of rounding errors and of random orders"
    )
    chosen = parser.parse_args(arguments)
    failed = False
    for run in plan(chosen.quick, chosen.seeds[:1] if chosen.quick else chosen.seeds):
        done = execute(run, chosen.cores)
        summary = done.stdout.strip().rpartition("\n")[2].strip("= ")
        print(f"{run.words}: {'passed' if done.returncode == 0 else 'FAILED'} ({summary})", flush=True)
        if done.returncode:
            failed = True
            print(done.stdout, done.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
