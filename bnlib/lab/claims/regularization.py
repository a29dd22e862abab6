"""Whether batch norm regularizes, and makes dropout less needed (C6)."""

from __future__ import annotations

from bnlib.lab.experiments.regularization import at_best_rate, dropout_gains
from bnlib.lab.records import Record
from bnlib.lab.statistics import paired_difference
from bnlib.lab.verdicts import Comparison, Part

PAIRS = (("BN 64", "no BN"), ("BN 4", "BN 64"))
"""What has more noise of statistics, and what it is compared with."""


def judge(record: Record) -> list[Part]:
    """Judge the claim by the record of ``regularization``, each configuration at its best rate."""
    results = {part: at_best_rate(record, part) for part in record.settings}
    networks = list(dict.fromkeys(part.split(", ")[0] for part in results))
    pairs = [(n, first, second) for first, second in PAIRS for n in networks]
    gaps, tests = (
        [
            Comparison(
                f"{network}, {first} against {second}",
                f"{what}, difference, points",
                paired_difference(
                    getattr(results[f"{network}, {first}"], name),
                    getattr(results[f"{network}, {second}"], name),
                ),
                expected=expected,  # type: ignore[arg-type]
            )
            for network, first, second in pairs
        ]
        for name, what, expected in (
            ("gap", "training less test accuracy", "below"),
            ("test", "test accuracy", "above"),
        )
    )
    gains = dropout_gains(record)
    less = paired_difference(gains["BN 64"], gains["no BN"])
    what = "gain of dropout in test accuracy, with BN less without, points"
    return [
        Part("The gap between training and test narrows.", gaps),
        Part("Test accuracy rises.", tests),
        Part("Dropout gains less.", [Comparison("MLP", what, less, expected="below")]),
    ]
