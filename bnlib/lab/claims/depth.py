"""Whether batch norm prevents vanishing and exploding gradients (C7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnlib.lab.records import Record
from bnlib.lab.statistics import mean_interval, paired_difference
from bnlib.lab.verdicts import Comparison, Part

TAME = 1000 ** (1 / 50)
"""Growth of the squared gradient a layer at which 50 layers make a factor of 1000."""

DEEP = 20
"""From this many layers on, a network counts as deep."""


def judge(record: Record) -> list[Part]:
    """Judge the claim by the record of ``depth``: growth at initialization, then training.

    Gradients vanish below ``1 / TAME`` and explode above ``TAME``. They count in the deepest networks; for
    vanishing only those that vanish without BN.
    """
    names = networks(record)
    grown = {
        (name, word): mean_interval(initial_growth(record, f"{name}, {word}"))
        for name in names
        for word in ("BN", "no BN")
    }
    what = "growth of the squared gradient a layer at initialization, with BN"
    vanishing = [
        Comparison(name, what, grown[name, "BN"], 1 / TAME)
        for name in names
        if grown[name, "no BN"].high < 1 / TAME
    ]
    exploding = [Comparison(name, what, grown[name, "BN"], TAME, "below") for name in names]
    found = [Part("Gradients that vanish without BN do not with it.", vanishing)] if vanishing else []
    return [
        *found,
        Part("Gradients do not explode with BN.", exploding),
        Part("Deep networks train better with BN.", deep_gains(record)),
    ]


def networks(record: Record) -> list[str]:
    """Return the names of the networks; parts are "name, BN" and "name, no BN"."""
    return list(dict.fromkeys(part.rsplit(", ", 1)[0] for part in record.settings))


def initial_growth(record: Record, part: str) -> NDArray[np.float64]:
    """Return the growth of the squared gradient a layer in the deepest network before training, (S,)."""
    return record.metric(part, "growth")[:, -1, 0, 0]


def accuracies(record: Record, part: str) -> dict[int, NDArray[np.float64]]:
    """Return by depth the test accuracies (S,) at the rate with the lowest loss and no overflow.

    Where every rate overflows with some seed, networks that overflow count as guessing.
    """
    losses, found = (record.metric(part, name) for name in ("train_loss", "test_accuracy"))
    best = np.nan_to_num(losses.mean(0), nan=np.inf).argmin(1)
    found = np.nan_to_num(found, nan=0.1)
    depths = record.settings[part]["depths"]
    return {depth: found[:, i, k] for i, (depth, k) in enumerate(zip(depths, best, strict=True))}


def deep_gains(record: Record) -> list[Comparison]:
    """Compare the test accuracy of deep networks with BN and without, each at its best rate."""
    found = []
    for name in networks(record):
        bn, none = (accuracies(record, f"{name}, {word}") for word in ("BN", "no BN"))
        found += [
            Comparison(
                f"{name}, {depth} layers",
                "test accuracy, BN less no BN, points",
                paired_difference(100 * bn[depth], 100 * none[depth]),
            )
            for depth in bn
            if depth >= DEEP
        ]
    return found
