"""Recorded times of batch norm on GPUs, and the bytes that it has to move at least.

``make bench-gpu`` measures on the GPU at hand and writes ``results/gpu-<device>.json``, which is read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bnlib.atomic import replace
from bnlib.lab.records import RESULTS

__all__ = ["PASSES", "GpuRecord", "Row", "gpu_records", "intensity", "least_bytes", "write"]

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
Fused with a shortcut, one more tensor is read forward and one more written backward.
"""

OPERATIONS = {"forward": 7, "backward": 10, "evaluation": 3}
"""Additions and multiplications for each value, about."""


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
    """

    shape: Sequence[int]
    layout: str
    dtype: str
    direction: str
    method: str
    microseconds: Mapping[str, float]
    timed: str

    @property
    def best_peer(self) -> str:
        """The name of the fastest of the others."""
        return min((t, name) for name, t in self.microseconds.items() if name != "bnlib")[1]

    @property
    def ratio(self) -> float:
        """The time of the fastest of the others over ours."""
        return self.microseconds[self.best_peer] / self.microseconds["bnlib"]

    def share(self, bandwidth: float) -> float:
        """Return the least bytes over our time, as a share of ``bandwidth`` in bytes per second.

        Only what is split between programs is granted the passes of a tensor that is read twice.
        """
        itemsize = 4 if self.dtype == "float32" else 2
        moved = least_bytes(math.prod(self.shape), itemsize, self.direction, stays=self.method != "split")
        return moved / (self.microseconds["bnlib"] * 1e-6) / bandwidth


@dataclass(frozen=True)
class GpuRecord:
    """What ``benchmarks/gpu.py`` found on one device.

    Attributes:
        device: its name.
        multiprocessors: their number.
        l2_bytes: of its level-2 cache.
        bandwidth: of a copy, bytes read and written per second, measured in the same run.
        versions: of Python, PyTorch, CUDA, cuDNN, Triton and bnlib.
        date: of the last measurement, as YYYY-MM-DD, in UTC.
        complete: whether all cases were measured.
        rows: a Row each.
    """

    device: str
    multiprocessors: int
    l2_bytes: int
    bandwidth: float
    versions: Mapping[str, str]
    date: str
    complete: bool
    rows: Sequence[Row]

    def of(self, direction: str) -> list[Row]:
        """Return the rows of a direction."""
        return [row for row in self.rows if row.direction == direction]

    def summary(self, direction: str) -> dict[str, float]:
        """Return the geometric mean and the least of the ratios, and the median share of the bandwidth.

        Raises:
            ValueError: there is no row of this direction.
        """
        rows = self.of(direction)
        if not rows:
            raise ValueError(f"expected rows of direction {direction!r}, got none")
        ratios, shares = [row.ratio for row in rows], sorted(row.share(self.bandwidth) for row in rows)
        return {
            "geometric mean": math.exp(sum(map(math.log, ratios)) / len(ratios)),
            "worst": min(ratios),
            "share": shares[len(shares) // 2],
        }


def gpu_records(folder: Path = RESULTS) -> list[GpuRecord]:
    """Return all records of GPUs, by name of the file; none if none was made yet."""
    return [read(path) for path in sorted(folder.glob("gpu-*.json"))]


def read(path: Path) -> GpuRecord:
    """Return the record in a file."""
    found = json.loads(path.read_bytes())
    return GpuRecord(
        **{**found, "rows": [Row(**row | {"shape": tuple(row["shape"])}) for row in found["rows"]]}
    )


def write(record: GpuRecord, folder: Path = RESULTS) -> Path:
    """Write a record to ``gpu-<device>.json`` and return the path."""
    name = "".join(c if c.isalnum() else "-" for c in record.device.lower()).strip("-")
    content: dict[str, Any] = asdict(record) | {"rows": [row._asdict() for row in record.rows]}
    path = folder / f"gpu-{name}.json"
    replace(path, (json.dumps(content, indent=1) + "\n").encode())
    return path
