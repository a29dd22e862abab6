"""Claim C11: layer or instance norm can be preferable; it depends on architecture and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnlib.lab.records import Record
from bnlib.lab.statistics import Interval, mean_interval, paired_difference
from bnlib.lab.verdicts import Comparison, Part

__all__ = ["Advice", "Row", "advice", "grid", "judge", "table", "task_names"]

SHIFTED = "CNN, other contrast"
"""The task without training of its own: the networks of "CNN" on test images of another contrast."""


class Row(NamedTuple):
    """One method on one task.

    Attributes:
        task, method: their names.
        rate: the learning rate that validation chose.
        at_edge: whether it is the smallest or the largest of those tried.
        accuracy: on the test images, in percent, over the seeds.
        difference: the same less that of BN, paired by seed; 0 for BN itself.
    """

    task: str
    method: str
    rate: float
    at_edge: bool
    accuracy: Interval
    difference: Interval

    @property
    def half_width(self) -> float:
        """Return half the width of the interval of the difference."""
        return self.difference.high - self.difference.mean


class Advice(NamedTuple):
    """A line of the guide: on this task, take this method.

    Attributes:
        task: its name.
        method: the one with the best mean accuracy on validation images.
        better_than: the methods that it beats on the test images, with their intervals, which leave out 0.
        like: the methods whose intervals include 0.
    """

    task: str
    method: str
    better_than: dict[str, Interval]
    like: list[str]

    def __str__(self) -> str:
        """Say it in a few lines."""
        gains = [f"{gain:+.1f} {other}" for other, gain in self.better_than.items()]
        rows = [", ".join(gains[i : i + 3]) for i in range(0, len(gains), 3)]
        lines = [f"{self.task}: {self.method}, better than", *(f"    {row}" for row in rows)]
        if self.like:
            lines.append(f"    not seen to differ from {', '.join(self.like)}")
        return "\n".join(lines)


def task_names(record: Record) -> list[str]:
    """Return the tasks in the order of the record, the one without training of its own last."""
    names = dict.fromkeys(part.rpartition(", ")[0] for part in record.settings)
    return [*names, SHIFTED] if "CNN" in names else list(names)


def methods(record: Record, task: str) -> list[str]:
    """Return the methods that were tried on a task, in the order of the record."""
    trained = "CNN" if task == SHIFTED else task
    found = (part.rpartition(", ") for part in record.settings)
    return [method for name, _, method in found if name == trained]


def accuracy(record: Record, task: str, method: str) -> NDArray[np.float64]:
    """Return the accuracy on the test images of a task in percent, shape (S,)."""
    if task == SHIFTED:
        return 100 * record.metric(f"CNN, {method}", "shifted_accuracy")
    return 100 * record.metric(f"{task}, {method}", "test_accuracy")


def difference(record: Record, task: str, first: str, second: str) -> Interval:
    """Return the accuracy with the first method less that with the second, in points, paired by seed."""
    sides = (accuracy(record, task, method) for method in (first, second))
    return paired_difference(*sides)


def table(record: Record) -> Iterator[Row]:
    """Go through all tasks and methods of the record of ``family``."""
    for task in task_names(record):
        for method in methods(record, task):
            part = f"{'CNN' if task == SHIFTED else task}, {method}"
            rates, rate = record.settings[part]["lr"], float(record.metric(part, "rate")[0])
            edge = np.isclose(rate, [min(rates), max(rates)]).any()
            found = mean_interval(accuracy(record, task, method))
            yield Row(task, method, rate, bool(edge), found, difference(record, task, method, "BN"))


def grid(record: Record, cell: Callable[[Row], str]) -> str:
    """Lay out all tasks and methods, a line for each task and a column for each method.

    Args:
        record: of ``family``.
        cell: what to write of a row.
    """
    cells = {(row.task, row.method): cell(row) for row in table(record)}
    names = max((methods(record, task) for task in task_names(record)), key=len)
    widths = [max(len(name), *(len(t) for (_, m), t in cells.items() if m == name)) for name in names]
    lines = [("", *names)]
    lines += [(task, *(cells.get((task, name), "") for name in names)) for task in task_names(record)]
    return "\n".join(
        f"{task:19}" + "".join(f"  {text:>{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for task, *row in lines
    )


def advice(record: Record) -> Iterator[Advice]:
    """Say for each task which method to take, if it beats another one at all.

    Validation images choose the method, test images measure what it gains.
    """
    for task in task_names(record):
        names = methods(record, task)
        scores = [score(record, task, method) for method in names]
        best = names[int(np.argmax(scores))]
        gains = {other: difference(record, task, best, other) for other in names if other != best}
        better = {other: gain for other, gain in gains.items() if gain.low > 0}
        if better:
            yield Advice(task, best, better, [other for other in gains if other not in better])


def score(record: Record, task: str, method: str) -> float:
    """Return what the guide chooses a method by: mean accuracy on validation images, at the best rate."""
    if task == SHIFTED:
        return float(record.metric(f"CNN, {method}", "shifted_validation_accuracy").mean())
    means = record.metric(f"{task}, {method}", "validation_accuracy").mean(0)
    return float(np.nanmax(means))


def judge(record: Record) -> list[Part]:
    """Compare layer and instance norm with batch norm where they are said to be better, and where not.

    Args:
        record: of ``family``.

    Returns:
        Three statements: on layer norm, on instance norm, and that elsewhere batch norm is the better one.
    """

    def compare(method: str, task: str, *, better: bool) -> Comparison:
        what = f"accuracy of {method} less BN, points"
        effect = difference(record, task, method, "BN")
        return Comparison(task, what, effect, expected="above" if better else "below")

    small = ("MLP, batch 4", "CNN, batch 2")
    usual = [("LN", "MLP"), ("LN", "CNN"), ("IN", "CNN")]
    return [
        Part(
            "Layer norm is better in tiny batches, in a recurrent network and with attention.",
            [compare("LN", task, better=True) for task in (*small, "RNN", "attention")],
        ),
        Part(
            "Instance norm is better on images of another contrast and in tiny batches.",
            [compare("IN", task, better=True) for task in (SHIFTED, "CNN, batch 2")],
        ),
        Part(
            "In ordinary batches, on images like those of training, batch norm is better.",
            [compare(method, task, better=False) for method, task in usual],
        ),
    ]
