"""Recorded times of batch norm on GPUs, the bytes that it has to move at least, and the goals that were set.

``make bench-gpu`` measures on the GPU at hand and writes ``results/gpu-<device>.json``, which is read here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bnlib.atomic import replace
from bnlib.lab.gpu_goals import (
    RATIO_GOALS,
    SHARE_GOALS,
    Found,
    RatioGoal,
    ShareGoal,
    granted_passes,
    judge,
)
from bnlib.lab.records import RESULTS

__all__ = [
    "EAGER", "PASSES", "RATIO_GOALS", "SHARE_GOALS", "Found", "GpuRecord", "RatioGoal", "Row", "Run",
    "ShareGoal", "gpu_records", "intensity", "least_bytes", "unfinished", "write",
]  # fmt: skip

Direction = Literal["forward", "backward", "evaluation", "fused forward", "fused backward"]

PASSES: dict[str, tuple[int, int]] = {
    "forward": (2, 3),
    "backward": (3, 5),
    "evaluation": (2, 2),
    "fused forward": (3, 4),
    "fused backward": (4, 6),
}
"""The least passes over a tensor of the size of the input, if a channel stays on the chip, and if not.

Forward: x is read, once or twice, and y written. Backward: dy and x are read, once or twice, and dx written.
Fused with a shortcut and ReLU, the shortcut is read forward and its gradient written backward.
"""

OPERATIONS = {"forward": 7, "backward": 10, "evaluation": 3}
"""Additions and multiplications for each value, about."""

EAGER = ("cuDNN", "native")
"""The names of PyTorch's own operations, run one by one: with cuDNN, and without."""

SMALL_BYTES = 25 << 20  # of a tensor that stays in the cache of an H200


def least_bytes(values: int, itemsize: int, direction: str, stays: bool) -> int:
    """Return the bytes that a pass over ``values`` values of ``itemsize`` bytes moves at least.

    Statistics and parameters, a few numbers a channel, and the bits of ReLU are left out.

    Args:
        values: of the input.
        itemsize: bytes of a value.
        direction: a key of ``PASSES``.
        stays: whether what was read for the sums stays on the chip until the output is computed.

    Raises:
        ValueError: there is no such direction.
    """
    if direction not in PASSES:
        raise ValueError(f"expected a direction {', '.join(PASSES)}, got {direction!r}")
    return values * itemsize * PASSES[direction][0 if stays else 1]


def intensity(itemsize: int, direction: str, stays: bool) -> float:
    """Return the operations for each byte that batch norm moves at least."""
    return OPERATIONS[direction] / least_bytes(1, itemsize, direction, stays)


class Run(NamedTuple):
    """One start of the benchmark.

    Attributes:
        date: as YYYY-MM-DD, in UTC.
        bandwidth: of a copy in this run, bytes read and written per second.
        compiled: whether ``torch.compile`` took part.
    """

    date: str
    bandwidth: float
    compiled: bool


class Row(NamedTuple):
    """The times of one pass on one kind of tensor.

    Attributes:
        shape: of the input.
        layout: "contiguous" or "channels last".
        dtype: of the input, "float32", "float16" or "bfloat16".
        direction: a key of ``PASSES``.
        method: how the kernels of bnlib go about it, see ``bnlib.torch.kernels.plan``.
        microseconds: medians by name; "bnlib" is ours.
        timed: by "events", or as part of a CUDA "graph".
        run: number of the run that measured it, in ``GpuRecord.runs``.
        failures: why something has no time, by name.
    """

    shape: Sequence[int]
    layout: str
    dtype: str
    direction: str
    method: str
    microseconds: Mapping[str, float]
    timed: str
    run: int = 0
    failures: Mapping[str, str] = {}

    @property
    def bytes(self) -> int:
        """Of the input."""
        return math.prod(self.shape) * (4 if self.dtype == "float32" else 2)

    @property
    def order(self) -> str:
        """Which lie side by side in memory: "NHWC" if channels do, as in a matrix (N, C) too, else "NCHW"."""
        return "NHWC" if self.layout == "channels last" or len(self.shape) == 2 else "NCHW"

    @property
    def size(self) -> str:
        """The class of the input: "small" up to 25 MiB, else "large"."""
        return "small" if self.bytes <= SMALL_BYTES else "large"

    @property
    def passes(self) -> int:
        """The passes that the goals grant; fused, the shortcut or its gradient is one more."""
        return granted_passes(self.direction, self.order, self.size)

    def fastest(self, against: str = "best peer") -> str | None:
        """Return the name of the fastest of the others, or only of ``EAGER``; None if none has a time."""
        others = EAGER if against == "eager" else [name for name in self.microseconds if name != "bnlib"]
        times = [(self.microseconds[name], name) for name in others if name in self.microseconds]
        return min(times)[1] if times else None

    def ratio(self, against: str = "best peer") -> float | None:
        """Return the time of the fastest of the others over ours; None if one of the two is missing."""
        other = self.fastest(against)
        if other is None or "bnlib" not in self.microseconds:
            return None
        return self.microseconds[other] / self.microseconds["bnlib"]

    def share(self, bandwidth: float) -> float | None:
        """Return the bytes of ``passes`` over our time, as a share of ``bandwidth`` in bytes per second.

        It does not depend on what the kernels do. None without a time of ours.
        """
        if "bnlib" not in self.microseconds:
            return None
        return self.bytes * self.passes / (self.microseconds["bnlib"] * 1e-6) / bandwidth


@dataclass(frozen=True)
class GpuRecord:
    """What ``benchmarks/gpu.py`` found on one device.

    Attributes:
        device: its name.
        multiprocessors: their number.
        l2_bytes: of its level-2 cache.
        versions: of Python, PyTorch, CUDA, cuDNN, Triton and bnlib.
        planned: the number of rows of the whole benchmark.
        runs: a Run each; a benchmark that was cut off and went on has several.
        rows: a Row each.
    """

    device: str
    multiprocessors: int
    l2_bytes: int
    versions: Mapping[str, str]
    planned: int
    runs: Sequence[Run]
    rows: Sequence[Row]

    @property
    def complete(self) -> bool:
        """Whether all rows were measured."""
        return len(self.rows) >= self.planned

    @property
    def date(self) -> str:
        """Of the last run, as YYYY-MM-DD, in UTC."""
        return max(run.date for run in self.runs)

    @property
    def without_compile(self) -> int:
        """The number of rows of runs in which ``torch.compile`` took no part."""
        return sum(not self.runs[row.run].compiled for row in self.rows)

    @property
    def times(self) -> int:
        """The number of all times."""
        return sum(len(row.microseconds) for row in self.rows)

    def of(self, direction: str) -> list[Row]:
        """Return the rows of a direction."""
        return [row for row in self.rows if row.direction == direction]

    def share(self, row: Row) -> float | None:
        """Return ``row.share`` of the bandwidth that was measured in the same run."""
        return row.share(self.runs[row.run].bandwidth)

    def shares(self) -> list[Found]:
        """Return what became of each of ``SHARE_GOALS``."""
        return [
            judge(goal, [self.share(r) for r in self.rows if goal.covers(r.direction, r.order, r.size)])
            for goal in SHARE_GOALS
        ]

    def ratios(self) -> list[Found]:
        """Return what became of each of ``RATIO_GOALS``; rows with nothing to compare with do not count."""
        return [
            judge(g, [r.ratio(g.against) for r in self.of(g.direction) if r.fastest(g.against)])
            for g in RATIO_GOALS
        ]

    def report(self) -> str:
        """Return text that says how much was measured, what failed, and what became of each goal."""
        lines = [f"{self.device}: {len(self.rows)} of {self.planned} rows"]
        for run in self.runs:
            others = "" if run.compiled else ", without torch.compile"
            lines.append(f"{run.date}: a copy moves {run.bandwidth / 1e12:.2f} TB/s{others}")
        if self.without_compile:
            lines.append(f"torch.compile took no part in {self.without_compile} rows")
        for name, number in sorted(Counter(name for row in self.rows for name in row.failures).items()):
            lines.append(f"{name} failed in {number} rows")
        lines += ["", f"{'share of a copy':<36}goal rows  median  worst"]
        lines += [str(found) for found in self.shares()]
        lines += ["", f"{'time of others over ours':<31}goals     rows    mean  worst"]
        lines += [str(found) for found in self.ratios()]
        return "\n".join(lines)


def path_of(device: str, folder: Path, suffix: str) -> Path:
    """Return the path of the record of a device, ``gpu-<device>.<suffix>``."""
    name = "".join(c if c.isalnum() else "-" for c in device.lower()).strip("-")
    return folder / f"gpu-{name}.{suffix}"


def gpu_records(folder: Path = RESULTS) -> list[GpuRecord]:
    """Return all records of GPUs, by name of the file; none if none was made yet."""
    return [read(path) for path in sorted(folder.glob("gpu-*.json"))]


def unfinished(device: str, versions: Mapping[str, str], folder: Path = RESULTS) -> GpuRecord | None:
    """Return what a benchmark has left on this device with these versions, to go on with; or None."""
    for path in (path_of(device, folder, "part"), path_of(device, folder, "json")):
        if path.is_file() and (record := read(path)).versions == versions:
            return record
    return None


def read(path: Path) -> GpuRecord:
    """Return the record in a file."""
    found = json.loads(path.read_bytes())
    rows = [Row(**row | {"shape": tuple(row["shape"])}) for row in found["rows"]]
    return GpuRecord(**{**found, "runs": [Run(**run) for run in found["runs"]], "rows": rows})


def write(record: GpuRecord, folder: Path = RESULTS) -> Path:
    """Write a record to ``gpu-<device>.json`` and return the path.

    A record there that holds more times, such as a complete one of older versions, is not lost: until this
    one holds as many, it goes to ``gpu-<device>.part``, which ``unfinished`` finds.
    """
    path, part = path_of(record.device, folder, "json"), path_of(record.device, folder, "part")
    lesser = path.is_file() and read(path).times > record.times
    replace(part if lesser else path, as_json(record))
    if not lesser:
        part.unlink(missing_ok=True)
    return part if lesser else path


def as_json(record: GpuRecord) -> bytes:
    """Write a record as JSON with one line for each run and row."""

    def block(items: Sequence[Any]) -> str:
        return "[\n  " + ",\n  ".join(json.dumps(item._asdict()) for item in items) + "\n ]"

    content = {name: json.dumps(value) for name, value in asdict(record).items()}
    content |= {"runs": block(record.runs), "rows": block(record.rows)}
    return (
        "{\n " + ",\n ".join(f"{json.dumps(n)}: {text}" for n, text in content.items()) + "\n}\n"
    ).encode()
