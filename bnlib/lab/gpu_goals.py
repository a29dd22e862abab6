"""The goals that were set for batch norm on an H200, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import geometric_mean, median
from typing import NamedTuple

__all__ = ["RATIO_GOALS", "SHARE_GOALS", "Found", "RatioGoal", "ShareGoal", "granted_passes", "judge"]


class ShareGoal(NamedTuple):
    """A share of the bandwidth of a copy that was to be reached on an H200.

    Attributes:
        direction: a key of ``PASSES``.
        order: "NCHW" or "NHWC" of ``Row.order``; "any".
        size: "small" or "large" of ``Row.size``; "any".
        passes: over a tensor of the size of the input, which are granted.
        share: of the bandwidth, at least.
    """

    direction: str
    order: str
    size: str
    passes: int
    share: float

    def covers(self, direction: str, order: str, size: str) -> bool:
        """Tell whether a row is measured by this goal."""
        return self.direction == direction and self.order in ("any", order) and self.size in ("any", size)

    def __str__(self) -> str:
        """Return what is asked for, and how much."""
        kind = ", ".join(word for word in self[:3] if word != "any")
        return f"{f'{kind}, {self.passes} passes':<36}{self.share:.2f}"

    def reached(self, middle: float, worst: float) -> bool:
        """Tell whether the worst row is good enough; then the median is."""
        return worst >= self.share


SHARE_GOALS = (
    ShareGoal("forward", "NCHW", "any", 2, 0.85),
    ShareGoal("forward", "NHWC", "small", 2, 0.80),
    ShareGoal("forward", "NHWC", "large", 3, 0.92),
    ShareGoal("backward", "NCHW", "any", 3, 0.80),
    ShareGoal("backward", "NHWC", "any", 5, 0.90),
    ShareGoal("evaluation", "any", "any", 2, 0.95),
)
"""Each row that is not fused is covered by one of these; no share was set as a goal for fused ones.

Small tensors in NHWC are granted two passes, the least there are: they stay in the cache.
"""


class RatioGoal(NamedTuple):
    """How many times faster than others the kernels were to be.

    Attributes:
        direction: a key of ``PASSES``.
        against: "best peer", or "eager", the faster of ``EAGER``.
        mean: the least geometric mean of their time over ours; None if none was set.
        worst: the least of any row; None if none was set.
    """

    direction: str
    against: str
    mean: float | None
    worst: float | None

    def __str__(self) -> str:
        """Return what is asked for, and how much: mean and worst."""
        limits = " ".join("   -" if limit is None else f"{limit:.2f}" for limit in (self.mean, self.worst))
        return f"{f'{self.direction}, {self.against}':<31}{limits}"

    def reached(self, middle: float, worst: float) -> bool:
        """Tell whether the geometric mean and the worst row are good enough."""
        return middle >= (self.mean or 0) and worst >= (self.worst or 0)


RATIO_GOALS = (
    RatioGoal("forward", "best peer", 1.4, 0.97),
    RatioGoal("backward", "best peer", 1.5, 0.97),
    RatioGoal("evaluation", "best peer", None, 0.97),
    RatioGoal("fused forward", "best peer", None, 0.97),
    RatioGoal("fused backward", "best peer", None, 0.97),
    RatioGoal("fused forward", "eager", 2.0, None),
    RatioGoal("fused backward", "eager", 2.0, None),
)
"""Batch norm alone and fused, against the fastest of all, and against PyTorch's own operations."""


class Found(NamedTuple):
    """What became of a goal.

    Attributes:
        goal: a ShareGoal or a RatioGoal.
        rows: that were compared.
        missing: rows without a time of ours; one of them misses the goal.
        middle: the median of the shares, or the geometric mean of the ratios; NaN if there is no row.
        worst: the least of them; NaN if there is no row.
    """

    goal: ShareGoal | RatioGoal
    rows: int
    missing: int
    middle: float
    worst: float

    @property
    def verdict(self) -> str:
        """One of "met", "missed" and "not measured"."""
        if not self.rows + self.missing:
            return "not measured"
        return "met" if not self.missing and self.goal.reached(self.middle, self.worst) else "missed"

    def __str__(self) -> str:
        """Return the line of a report."""
        numbers = f"{self.rows + self.missing:5d}{self.middle:8.2f}{self.worst:7.2f}"
        return f"{self.goal}{numbers if self.rows else 20 * ' '}  {self.verdict}"


def granted_passes(direction: str, order: str, size: str) -> int:
    """Return the passes over the input that the goals grant; the shortcut of a fused pass is one more."""
    alone = direction.removeprefix("fused ")
    (goal,) = (goal for goal in SHARE_GOALS if goal.covers(alone, order, size))
    return goal.passes + (alone != direction)


def judge(goal: ShareGoal | RatioGoal, values: Sequence[float | None]) -> Found:
    """Return what became of a goal, given the shares or ratios of its rows, None where ours has no time."""
    known = [value for value in values if value is not None]
    if not known:
        return Found(goal, 0, len(values), math.nan, math.nan)
    middle = median(known) if isinstance(goal, ShareGoal) else geometric_mean(known)
    return Found(goal, len(known), len(values) - len(known), middle, min(known))
