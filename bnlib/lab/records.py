"""Recorded results: one small JSON file for each experiment, shipped with the package.

A record is written whole or not at all. While an experiment runs, what is finished lies in a file beside it,
so that a run after an interrupt goes on where the last one stopped.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

import bnlib
from bnlib.atomic import replace
from bnlib.lab.registry import Experiment

__all__ = ["RESULTS", "Record", "load", "recorded", "run"]

RESULTS = Path(__file__).parent / "results"
DIGITS = 6


@dataclass(frozen=True)
class Record:
    """The result of an experiment.

    Attributes:
        experiment: its name.
        settings: those of each part.
        seeds: S of them.
        metrics: by part and by name, a list with an entry, a number or nested lists, for each seed. What is
            not finite is None.
        versions: of Python, NumPy, PyTorch and bnlib.
        device: what it ran on.
        date: of the day it was finished, as YYYY-MM-DD, in UTC.
    """

    experiment: str
    settings: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    metrics: Mapping[str, Mapping[str, Sequence[Any]]]
    versions: Mapping[str, str]
    device: str
    date: str

    def metric(self, part: str, name: str) -> NDArray[np.float64]:
        """Return a metric of a part as an array of shape (S, ...), NaN where it was not finite.

        Raises:
            ValueError: there is no such part, or the part has no such metric.
        """
        if part not in self.metrics:
            raise ValueError(f"expected a part {', '.join(self.metrics)}, got {part!r}")
        if name not in self.metrics[part]:
            raise ValueError(f"expected a metric {', '.join(self.metrics[part])}, got {name!r}")
        return np.array(self.metrics[part][name], dtype=np.float64)


def load(name: str, folder: Path = RESULTS) -> Record:
    """Read the record of an experiment.

    Raises:
        FileNotFoundError: there is none; says how to make it.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a record of the experiment {name!r}, got none; make it with: "
            f"python -m bnlib.lab run {name}"
        )
    return Record(**json.loads(path.read_bytes()))


def recorded(folder: Path = RESULTS) -> list[str]:
    """Return the names of all experiments that have a record; times on GPUs are none, see ``gpu``."""
    return sorted(path.stem for path in folder.glob("*.json") if not path.stem.startswith("gpu-"))


def run(experiment: Experiment, seeds: int | None = None, folder: Path = RESULTS) -> Record:
    """Run an experiment and write its record, going on from what an interrupted run has finished.

    What is finished counts only if it was made with the present settings and versions.

    Args:
        experiment: to run.
        seeds: how many, 0 to ``seeds - 1``; None is the experiment's own number.
        folder: of the records.

    Returns:
        The record, which is then also in ``folder``. It is the same at each run on one device, but for its
        date.

    Raises:
        ValueError: fewer than 2 seeds, or a metric without one entry for each seed.
    """
    wanted = list(range(experiment.seeds if seeds is None else seeds))
    if len(wanted) < 2:
        raise ValueError(f"expected at least 2 seeds, got {len(wanted)}")
    stamp = {
        "experiment": experiment.name,
        "settings": json.loads(json.dumps(experiment.parts)),
        "versions": versions(),
        "device": device(),
    }
    partial = folder / f".{experiment.name}.part"
    finished = read_partial(partial, stamp)
    calls = [
        (part, missing[i : i + experiment.at_once])
        for part in experiment.parts
        for missing in [[s for s in wanted if str(s) not in finished.get(part, {})]]
        for i in range(0, len(missing), experiment.at_once)
    ]
    for part, some in tqdm(calls, desc=experiment.name, unit="call", leave=False, disable=None):
        found = experiment.measure(experiment.parts[part], some)
        finished.setdefault(part, {}).update(by_seed(found, some))
        replace(partial, json.dumps({**stamp, "finished": finished}).encode())
    record = Record(
        **stamp,
        seeds=wanted,
        metrics={part: by_name(finished[part], wanted) for part in experiment.parts},
        date=datetime.now(timezone.utc).date().isoformat(),
    )
    replace(folder / f"{record.experiment}.json", as_json(record))
    partial.unlink(missing_ok=True)
    return record


def read_partial(path: Path, stamp: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is finished, by part and seed; nothing if the file is missing or of another make."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_bytes())
    finished: dict[str, dict[str, Any]] = content.pop("finished")
    return finished if content == stamp else {}


def by_seed(found: Mapping[str, ArrayLike], seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Turn arrays by name, each of shape (S, ...), into plain values by seed and name."""
    lists = {}
    for name, values in found.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim < 1 or len(array) != len(seeds):
            raise ValueError(f"expected {name} of shape ({len(seeds)}, ...), got {array.shape}")
        lists[name] = rounded(array.tolist())
    return {str(seed): {name: values[i] for name, values in lists.items()} for i, seed in enumerate(seeds)}


def by_name(finished: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, list[Any]]:
    """Turn values by seed and name into lists by name."""
    names = finished[str(seeds[0])]
    return {name: [finished[str(seed)][name] for seed in seeds] for name in names}


def rounded(value: Any) -> Any:
    """Round the numbers of nested lists to 6 significant digits; None for what is not finite."""
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def as_json(record: Record) -> bytes:
    """Write a record as JSON, with one line for the settings of a part and for each seed of a metric."""

    def block(items: Sequence[str], ends: str, depth: int) -> str:
        lines = ",".join("\n" + " " * (depth + 1) + item for item in items)
        return f"{ends[0]}{lines}\n{' ' * depth}{ends[1]}"

    def named(name: str, text: str) -> str:
        return f"{json.dumps(name)}: {text}"

    def line(value: Any) -> str:
        return json.dumps(value, allow_nan=False)

    metrics = [
        named(
            part, block([named(n, block([line(v) for v in rows], "[]", 3)) for n, rows in m.items()], "{}", 2)
        )
        for part, m in record.metrics.items()
    ]
    content = {name: line(value) for name, value in asdict(record).items()}
    content["settings"] = block([named(n, line(s)) for n, s in record.settings.items()], "{}", 1)
    content["metrics"] = block(metrics, "{}", 1)
    return (block([named(n, text) for n, text in content.items()], "{}", 0) + "\n").encode()


def versions() -> dict[str, str]:
    """Return the versions of what the results depend on."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__).partition("+")[0],
        "bnlib": bnlib.__version__,
    }


def device() -> str:
    """Name the kind of processor and the number of threads, on which the last digits depend."""
    return f"cpu ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads"
