"""Say by one rule what measurements mean for a claim, in the same words throughout the book."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bnlib.lab.statistics import Interval

__all__ = ["CONDITIONS", "FAILS", "HOLDS", "Comparison", "Part", "report", "verdict"]

HOLDS = "holds"
CONDITIONS = "holds under conditions"
FAILS = "does not hold as stated"
Side = Literal["for", "against", "unclear"]
SIDES: tuple[Side, ...] = ("for", "against", "unclear")


@dataclass(frozen=True)
class Comparison:
    """An effect, measured under one condition.

    Attributes:
        where: the condition: network, batch size, severity.
        what: the effect, with its unit: "test accuracy with BN less that without, %".
        effect: its mean and 95 % interval over the seeds.
        none: the value of no effect, 0 for a difference, 1 for a ratio; or the bound that the claim sets.
        expected: the side of ``none`` on which the claim expects the effect.
    """

    where: str
    what: str
    effect: Interval
    none: float = 0.0
    expected: Literal["above", "below"] = "above"

    @property
    def side(self) -> Side:
        """Tell what the interval says: it lies on the expected side, on the other, or leaves both open.

        An interval with a NaN leaves both open.
        """
        if math.isnan(self.effect.low) or math.isnan(self.effect.high):
            return "unclear"
        if self.effect.low > self.none:
            return "for" if self.expected == "above" else "against"
        if self.effect.high < self.none:
            return "for" if self.expected == "below" else "against"
        return "unclear"


@dataclass(frozen=True)
class Part:
    """One statement of a claim, with all that was measured for it.

    Attributes:
        statement: a sentence that is true or false.
        comparisons: at least one; chosen before they are measured.
    """

    statement: str
    comparisons: Sequence[Comparison]

    def __post_init__(self) -> None:
        if not self.comparisons:
            raise ValueError(f"expected at least 1 comparison for {self.statement!r}, got none")

    def count(self, side: Side) -> int:
        """Count the comparisons on a side."""
        return sum(comparison.side == side for comparison in self.comparisons)

    @property
    def verdict(self) -> str:
        """Return ``HOLDS`` if every comparison is for it, ``FAILS`` if none is, else ``CONDITIONS``."""
        found = self.count("for")
        return FAILS if found == 0 else HOLDS if found == len(self.comparisons) else CONDITIONS


def verdict(parts: Sequence[Part]) -> str:
    """Return the verdict on a claim that makes several statements: the worst of theirs.

    Raises:
        ValueError: there are no parts.
    """
    if not parts:
        raise ValueError("expected at least 1 part, got none")
    order = (FAILS, CONDITIONS, HOLDS)
    return min((part.verdict for part in parts), key=order.index)


def report(parts: Sequence[Part]) -> str:
    """Write the parts with the counts of their comparisons, a line each, and the verdict on the whole."""
    lines = []
    for part in parts:
        counts = [f"{part.count(side)} {side}" for side in SIDES if part.count(side)]
        lines += [part.statement, f"    {', '.join(counts)}: {part.verdict}"]
    return "\n".join([*lines, f"The claim: {verdict(parts)}"])
