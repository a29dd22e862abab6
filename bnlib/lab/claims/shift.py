"""Claim C10: running statistics stand in for batch statistics, and disagree most under distribution shift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bnlib.lab.corruptions import CORRUPTIONS, SEVERITIES
from bnlib.lab.records import Record
from bnlib.lab.statistics import mean_interval, paired_difference, paired_ratio
from bnlib.lab.verdicts import Comparison, Part

__all__ = ["MARGIN", "disagreements", "gains", "judge"]

MARGIN = 1.0
"""Running statistics stand in for others if they lose less than so many points of accuracy."""

Array = NDArray[np.float64]


def judge(record: Record) -> list[Part]:
    """Compare running statistics with others, without a shift and under each corruption at each severity.

    Args:
        record: of the experiment ``distribution_shift``.

    Returns:
        Three parts: running statistics do without a shift; under one they disagree more with those of the
        images; and that costs accuracy, which re-estimated statistics win back.
    """
    clean = 100 * record.metric("BN", "clean")
    stand_in = Comparison(
        "no shift",
        "test accuracy, running less batch statistics, points",
        paired_difference(clean[:, 0], clean[:, 2]),
        none=-MARGIN,
    )
    before, after = disagreements(record)
    what = "disagreement of running statistics, ratio to no shift"
    more = [
        Comparison(where, what, paired_ratio(values, before), none=1.0) for where, values in each_shift(after)
    ]
    what = "test accuracy, re-estimated less running statistics, points"
    won = [Comparison(where, what, mean_interval(values)) for where, values in each_shift(gains(record))]
    return [
        Part("Without a shift, running statistics stand in for those of the batch.", [stand_in]),
        Part("Under a shift they disagree more with those of the images.", more),
        Part("The disagreement costs accuracy, which re-estimated statistics win back.", won),
    ]


def each_shift(values: Array) -> Iterator[tuple[str, Array]]:
    """Yield the name of each shift and its values, shape (S,), out of (S, 8, 5)."""
    for k, name in enumerate(CORRUPTIONS):
        for i, severity in enumerate(SEVERITIES):
            yield f"{name} {severity}", values[:, k, i]


def disagreements(record: Record) -> tuple[Array, Array]:
    """Return the disagreement, of means and spreads together, without a shift (S,) and with (S, 8, 5)."""
    return (
        record.metric("BN", "clean_disagreement").sum(-1),
        record.metric("BN", "disagreement").sum(-1),
    )


def gains(record: Record) -> Array:
    """Return accuracy with re-estimated less that with running statistics, points, shape (S, 8, 5)."""
    accuracy = 100 * record.metric("BN", "accuracy")
    gain: Array = accuracy[..., 1] - accuracy[..., 0]
    return gain
