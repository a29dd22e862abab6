"""What the record of ``covariate_shift`` says: its shifts, compared between methods over shared seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnlib.lab.records import Record
from bnlib.lab.statistics import Interval, paired_difference, paired_ratio

__all__ = ["Pairing", "Shifts"]

COSINE = ("gradient_shift", 2)
TRAINED = 2.0
"""A network counts as trained where its loss is below this with every seed; guessing gives ln(10) = 2.3."""


class Pairing(NamedTuple):
    """Two methods on one network, each at one learning rate; ``words`` say which."""

    network: str
    methods: tuple[str, str]
    at: tuple[int, int]
    words: str


class Shifts:
    """Read the record of ``covariate_shift``.

    Args:
        record: as ``bnlib.lab.records.load`` gives it; its parts are named "network, method".
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        names = [part.split(", ", 1) for part in record.settings]
        self.networks = list(dict.fromkeys(network for network, _ in names))
        self.methods = list(dict.fromkeys(method for _, method in names))
        settings = next(iter(record.settings.values()))
        self.rates, self.steps = list(settings["lr"]), list(settings["probed"])

    def metric(self, network: str, method: str, name: str) -> NDArray[np.float64]:
        """Return a metric of a part, shape (S, K, ...) for S seeds and K rates."""
        return self.record.metric(f"{network}, {method}", name)

    def best(self, network: str, method: str) -> int:
        """Return the place of the rate with the lowest mean training loss and no overflow."""
        return int(np.nanargmin(self.metric(network, method, "train_loss").mean(0)))

    def at_best(self, network: str, name: str) -> dict[str, NDArray[np.float64]]:
        """Return a metric by method, each method at its best rate; shape (S, ...) each."""
        return {m: self.metric(network, m, name)[:, self.best(network, m)] for m in self.methods}

    def over_time(self, network: str, method: str, at: int, name: str, column: int) -> NDArray[np.float64]:
        """Average a column of a shift over the steps: geometrically, but plainly for a cosine; shape (S,)."""
        values = self.metric(network, method, name)[:, at, :, column]
        means: NDArray[np.float64] = (
            values.mean(-1) if (name, column) == COSINE else np.exp(np.log(values).mean(-1))
        )
        return means

    def pair(self, network: str, first: str, second: str) -> Pairing:
        """Compare two methods, each at its best rate."""
        at = self.best(network, first), self.best(network, second)
        rates = " | ".join(f"{self.rates[k]:g}" for k in at)
        return Pairing(network, (first, second), at, f"{network}, best {rates}")

    def comparisons(self, first: str, second: str) -> Iterator[Pairing]:
        """Compare two methods at each rate at which both train, and each at its best."""
        for network in self.networks:
            losses = [self.metric(network, method, "train_loss").max(0) for method in (first, second)]
            best = self.pair(network, first, second)
            for k in map(int, np.flatnonzero((np.array(losses) < TRAINED).all(0))):
                word = "best" if best.at == (k, k) else "rate"
                words = f"{network}, {word} {self.rates[k]:g}"
                yield Pairing(network, (first, second), (k, k), words)
            if best.at[0] != best.at[1]:
                yield best

    def ratio(self, comparison: Pairing, name: str, column: int) -> Interval:
        """Return the ratio of a shift, first method over second: a geometric mean over the seeds."""
        first, second = self.sides(comparison, name, column)
        return paired_ratio(first, second)

    def difference(self, comparison: Pairing, name: str, column: int) -> Interval:
        """Return the difference of a shift or a cosine, first method less second."""
        first, second = self.sides(comparison, name, column)
        return paired_difference(first, second)

    def sides(self, comparison: Pairing, name: str, column: int) -> Sequence[NDArray[np.float64]]:
        """Return what ``over_time`` gives for both methods."""
        pairs = zip(comparison.methods, comparison.at, strict=True)
        return [self.over_time(comparison.network, method, k, name, column) for method, k in pairs]
