"""What batch norm computes, what its parameters can do, and which values share a statistic."""

from __future__ import annotations

from bnlib.lab.records import Record
from bnlib.lab.statistics import mean_interval
from bnlib.lab.verdicts import Comparison, Part

EXACT = 1e-12
"""Differences of float64 values of about 1 that rounding explains."""

VISIBLE = 0.01
"""The least move of a parameter, or distance from normalized, that is more than nothing."""


def judge_definition(record: Record) -> list[Part]:
    """Judge that BN subtracts the mean and divides by the standard deviation of each feature (C1)."""
    what = "largest difference from the definition, float64"
    return [Part("PyTorch's output is the definition's.", compare(record, "difference", what, EXACT))]


def judge_scale(record: Record) -> list[Part]:
    """Judge that gamma and beta are learned per activation and let a layer choose its scale (C2)."""
    undone = "largest difference from the input, with the standard deviation as γ and the mean as β"
    sharing = "values of a sample that share one γ and one β"
    moved = [
        comparison
        for name, what in (("gamma", "γ − 1"), ("beta", "β"))
        for comparison in compare(
            record, name, f"{what} after training, root mean square", VISIBLE, above=True
        )
    ]
    return [
        Part(
            "They can give any scale, even undo the normalization.", compare(record, "undone", undone, EXACT)
        ),
        Part("Training moves them.", moved),
        Part("Each activation has its own.", compare(record, "sharing", sharing, 1.5)),
    ]


def judge_across_features(record: Record) -> list[Part]:
    """Judge that BN also normalizes across the features of each sample (C4)."""
    return [
        Part(
            f"After BN, the {word} over the features of a sample is {value}.",
            compare(record, f"sample_{name}", f"{what}, root mean square over samples", VISIBLE),
        )
        for name, word, value, what in (
            ("mean", "mean", 0, "mean over features"),
            ("std", "standard deviation", 1, "standard deviation over features less 1"),
        )
    ]


def compare(record: Record, name: str, what: str, bound: float, *, above: bool = False) -> list[Comparison]:
    """Compare a metric of every part with a bound below which (or above which) the claim expects it."""
    return [
        Comparison(
            part,
            what,
            mean_interval(record.metric(part, name)),
            bound,
            "above" if above else "below",
        )
        for part in record.settings
    ]
