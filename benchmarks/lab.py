"""Time the training of many networks at once against the same runs one after another.

    python benchmarks/lab.py [--json FILE] [--steps T]

40 runs, 8 learning rates times 5 seeds, of a sigmoid MLP on 14x14 images, with and without batch
normalization, each of T steps. "One after another" is a plain loop with ``torch.nn`` and
``torch.optim.SGD``. The two take turns of a few steps, so that a busy machine slows both; the time of one run
counts 40 times. The goal is 4 times as fast on 2 cores.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "2"  # these are read once, when PyTorch is loaded
os.environ["OMP_WAIT_POLICY"] = "passive"  # a thread that waits leaves its core to others

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from bnlib.lab.batches import batch_order
from bnlib.lab.data import FashionMNIST, fashion_mnist
from bnlib.lab.models import MLP
from bnlib.lab.network import seeded
from bnlib.lab.runs import Settings, grid
from bnlib.lab.train import train

LEAST_SPEEDUP = 4.0
RATES, SEEDS, BATCH = [float(r) for r in np.geomspace(0.01, 30, 8)], range(5), 64
TURNS = 10
WIDTHS = (196, 32, 32, 10)

Losses = NDArray[np.floating[Any]]


def torch_mlp(norm: bool) -> nn.Module:
    """Make the network of the benchmark from PyTorch's own layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(WIDTHS[:-1]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(*WIDTHS[-2:]))


def one_run(norm: bool, data: FashionMNIST, steps: int, rate: float = 0.1, seed: int = 0) -> list[float]:
    """Train one network by a plain loop; return its losses."""
    model = seeded(partial(torch_mlp, norm), seed)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    order, losses = batch_order(seed, len(x), BATCH), torch.empty(steps)
    for step in range(steps):
        index = next(order)
        loss = cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
    return [float(v) for v in losses]


def all_runs(
    norm: bool, data: FashionMNIST, steps: int, settings: Sequence[Settings]
) -> np.ndarray[Any, Any]:
    """Train all networks at once; return their losses, shape (K, S, T)."""
    make = partial(MLP, WIDTHS, norm="batch" if norm else "none", activation="sigmoid")
    runs = train(make, data, steps=steps, batch_size=BATCH, seeds=SEEDS, settings=settings, evaluate_at=[])
    return runs.train_loss


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(steps: int) -> list[dict[str, Any]]:
    """Return a row for each network: the median times of a step of all runs and of one, and the speedup."""
    data, settings, rows = fashion_mnist(), grid(lr=RATES), []
    count, part = len(settings) * len(SEEDS), -(-steps // TURNS)
    for norm in (True, False):
        calls: dict[str, Callable[[], object]] = {
            "one run": partial(one_run, norm, data, part),
            "all at once": partial(all_runs, norm, data, part, settings),
        }
        turns = [{name: 1e3 * seconds(call) / part for name, call in calls.items()} for _ in range(TURNS + 1)]
        one, together = (median(turn[name] for turn in turns[1:]) for name in calls)  # the first warms up
        speedup = count * one / together
        rows.append(
            {
                "network": "sigmoid MLP with batch norm" if norm else "sigmoid MLP without",
                "runs": count,
                "steps": part * TURNS,
                "milliseconds": {"one run": one, "all at once": together},
                "speedup": speedup,
                "goal_met": speedup >= LEAST_SPEEDUP,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay ``rows`` out as text, a line each."""
    lines = [
        f"{torch.get_num_threads()} threads, float32, median ms a step. Goal: speedup >= {LEAST_SPEEDUP:g}.",
        f"{'network':<30}{'runs':>6}{'steps':>7}{'one run':>10}{'all at once':>13}{'speedup':>14}",
    ]
    for r in rows:
        goal = f"{r['speedup']:.2f} {'met' if r['goal_met'] else 'not'}"
        one, together = r["milliseconds"].values()
        lines.append(
            f"{r['network']:<30}{r['runs']:>6}{r['steps']:>7}{one:>10.2f}{together:>13.2f}{goal:>14}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the rows and the versions to ``--json``."""
    parser = argparse.ArgumentParser(description="Time bnlib.lab.train on two threads.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--steps", type=int, default=1000, help="of each run; default 1000")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"expected --steps of at least 1, got {options.steps}")
    rows = measure(options.steps)
    print(table(rows))
    if options.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
        record = {"versions": versions, "threads": torch.get_num_threads(), "rows": rows}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
