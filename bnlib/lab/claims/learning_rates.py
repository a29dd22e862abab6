"""Whether networks with batch norm train faster, and at higher rates (C5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnlib.lab.records import Record
from bnlib.lab.statistics import Interval, paired_difference, paired_ratio
from bnlib.lab.sweeps import band, limit
from bnlib.lab.verdicts import Comparison, Part

TOLERANCE = 0.1
GUESSING = math.log(10)

Values = Mapping[str, NDArray[np.floating[Any]]]
"""A number for each seed, by part."""


class Rates:
    """Read the record of ``learning_rates``.

    Args:
        record: its parts are named "network, method"; the first of a network is BN, the others its rivals.

    Attributes:
        parts: those of each network.
        rates: K of them.
        best: the place of the rate with the lowest mean training loss of a part and no overflow.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.parts: dict[str, list[str]] = {}
        for part in record.settings:
            self.parts.setdefault(part.split(", ")[0], []).append(part)
        self.rates: list[float] = list(next(iter(record.settings.values()))["lr"])
        self.best = {
            part: int(np.argmin(np.nan_to_num(self.losses(part).mean(0), nan=np.inf)))
            for part in record.settings
        }

    def losses(self, part: str) -> NDArray[np.float64]:
        """Return the final training losses, shape (S, K)."""
        return self.record.metric(part, "train_loss")

    def bands(self, tolerance: float = TOLERANCE) -> dict[str, NDArray[np.float64]]:
        """Return by part the bands of usable rates, shape (S, 2)."""
        return {part: band(self.rates, self.losses(part), tolerance) for part in self.record.settings}

    def widths(self) -> dict[str, NDArray[np.float64]]:
        """Return by part the quotient of the ends of each band."""
        return {part: ends[:, 1] / ends[:, 0] for part, ends in self.bands().items()}

    def limits(self) -> dict[str, NDArray[np.float64]]:
        """Return by part the largest rates before the first that diverges."""
        return {part: limit(self.rates, self.losses(part), GUESSING) for part in self.record.settings}

    def level(self, network: str) -> tuple[float, dict[str, NDArray[np.float64]]]:
        """Return the lowest level that all runs of a network reach at their best rates, and its steps."""
        steps = {p: self.record.metric(p, "steps_to")[:, self.best[p]] for p in self.parts[network]}
        last = int(np.flatnonzero(np.isfinite([*steps.values()]).all((0, 1))).max())
        levels = self.record.settings[self.parts[network][0]]["levels"]
        return levels[last], {part: count[:, last] for part, count in steps.items()}

    def speeds(self) -> dict[str, NDArray[np.float64]]:
        """Return by part the inverse of the steps to the level of its network."""
        return {p: 1 / count for network in self.parts for p, count in self.level(network)[1].items()}

    def accuracies(self) -> dict[str, NDArray[np.float64]]:
        """Return by part the test accuracies at the best rate, in percent."""
        return {part: 100 * self.record.metric(part, "test_accuracy")[:, k] for part, k in self.best.items()}

    def ratios(self, values: Values) -> dict[str, Interval]:
        """Return by network the ratio of BN to its better rival, paired by seed."""
        return {
            network: min((paired_ratio(values[bn], values[p]) for p in rivals), key=lambda i: i.mean)
            for network, (bn, *rivals) in self.parts.items()
        }

    def differences(self, values: Values) -> dict[str, Interval]:
        """Return by network BN less its better rival, paired by seed."""
        return {
            network: min((paired_difference(values[bn], values[p]) for p in rivals), key=lambda i: i.mean)
            for network, (bn, *rivals) in self.parts.items()
        }


def judge(record: Record) -> list[Part]:
    """Judge the claim by the record of ``learning_rates``: speed, limits, and the literal form.

    A run without BN is compared at the better of its initial weights.
    """
    rates = Rates(record)
    largest = max(rates.rates)
    limits = rates.limits()
    literal = [
        Comparison(
            network,
            f"largest rate before runs with BN diverge, over the largest tried, {largest:g}",
            paired_ratio(limits[bn], np.full(len(limits[bn]), largest)),
            0.999,
        )
        for network, (bn, *_) in rates.parts.items()
    ]
    return [
        Part("Training converges in fewer steps.", by_network(rates.ratios(rates.speeds()), SPEED)),
        Part("It converges at higher rates than without.", by_network(rates.ratios(limits), LIMIT)),
        Part("Higher rates do not diverge.", literal),
    ]


SPEED = "speed at the best rates, BN / no BN"
LIMIT = "largest rate before runs diverge, BN / no BN"
BAND = "width of the band of usable rates, BN / no BN"


def by_network(ratios: Mapping[str, Interval], what: str) -> list[Comparison]:
    """Make a comparison of each network's ratio with 1."""
    return [Comparison(network, what, ratio, 1.0) for network, ratio in ratios.items()]
