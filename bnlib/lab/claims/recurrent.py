"""The claim that batch normalization fits recurrent networks badly."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from bnlib.lab.experiments.recurrent import CELLS, LENGTHS, Chosen, choose
from bnlib.lab.records import Record
from bnlib.lab.statistics import Interval, paired_difference
from bnlib.lab.verdicts import Comparison, Part

__all__ = ["METHODS", "judge"]

METHODS = ("none", "LN", "shared BN", "BN")
"""What is compared: BN has statistics for each step, shared BN one set for all."""

Array = NDArray[Any]
Results = dict[tuple[str, str, str], Chosen]


def judge(record: Record) -> list[Part]:
    """Judge the four statements of the claim by the record of the experiment ``recurrent``.

    Every method has the initial gamma and the rate that are best on validation images. Accuracies are those
    of evaluation on test images, averaged over the lengths met in training where nothing else is said; seeds
    are paired.
    """
    conditions = [(cell, lengths) for cell in CELLS for lengths in LENGTHS]
    results = {(c, n, m): choose(record, c, n, m) for c, n in conditions for m in METHODS}

    def compared(what: str, first: str, second: str) -> list[Comparison]:
        return [
            comparison(
                c, n, what, paired(results[c, n, first].usual, results[c, n, second].usual), expected="below"
            )
            for c, n in conditions
        ]

    what = "loss with BN less loss with LN"
    return [
        Part(
            "One BN shared by all steps loses accuracy when running statistics take over.",
            [
                comparison(
                    c, n, "accuracy by batch less by running statistics", gap(results[c, n, "shared BN"])
                )
                for c, n in conditions
            ],
        ),
        Part(
            "BN with statistics for each step is worse than no normalization.",
            compared("accuracy with BN less without", "BN", "none"),
        ),
        Part(
            "BN with statistics for each step is worse than LN.",
            compared("accuracy with BN less with LN", "BN", "LN"),
        ),
        Part(
            "Unequal lengths cost BN more than LN.",
            [comparison(c, "lengths as trained", what, cost(results, c)) for c in CELLS]
            + [comparison(c, "longer than trained", what, beyond(results, c)) for c in CELLS],
        ),
    ]


def comparison(cell: str, lengths: str, what: str, effect: Interval, expected: Any = "above") -> Comparison:
    """Return a comparison of accuracies, in percentage points."""
    return Comparison(f"{cell}, {lengths}", f"{what}, points", effect, expected=expected)


def paired(first: Array, second: Array) -> Interval:
    """Return the mean of the differences of two arrays of shape (S,), with its interval."""
    return paired_difference(first, second)


def gap(shared: Chosen) -> Interval:
    """Return what evaluation loses against batch statistics, on the lengths met in training."""
    return paired(shared.batch_accuracy[:, shared.trained].mean(1), shared.usual)


def cost(results: Results, cell: str) -> Interval:
    """Return what BN loses from equal to unequal lengths, less what LN loses."""
    bn, ln = (results[cell, "equal", m].usual - results[cell, "unequal", m].usual for m in ("BN", "LN"))
    return paired(bn, ln)


def beyond(results: Results, cell: str) -> Interval:
    """Return what BN loses from the longest length of training to longer ones, less what LN loses."""

    def lost(found: Chosen) -> Array:
        longest: Array = found.accuracy[:, found.trained][:, -1]
        longer: Array = found.accuracy[:, ~found.trained].mean(1)
        return longest - longer

    return paired(*(lost(results[cell, "unequal", m]) for m in ("BN", "LN")))
