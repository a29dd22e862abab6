"""The claim that small batches give poor statistics and hurt, judged by the record of ``small_batches``."""

from __future__ import annotations

from collections.abc import Callable

from bnlib.lab.experiments.small_batches import METHODS, SIZES, Array, percent
from bnlib.lab.records import Record
from bnlib.lab.statistics import paired_difference
from bnlib.lab.verdicts import Comparison, Part

__all__ = ["judge"]

LARGE, *SMALL = SIZES


def judge(record: Record) -> list[Part]:
    """Return three statements: small batches cost accuracy, more than with GN, and because of the statistics.

    Each is compared in every network and at every batch size below 32, over shared seeds. Accuracy is that on
    test images, in evaluation mode, at the rate that validation chose.

    Args:
        record: of the experiment ``small_batches``.
    """

    def accuracy(model: str, method: str, n: int) -> Array:
        return percent(record, f"{model}, {method}, {n}")

    def bn(model: str, n: int) -> Comparison:
        what = f"test accuracy with BN less that in batches of {LARGE}, points"
        return below(f"{model}, batches of {n}", what, accuracy(model, "BN", n), accuracy(model, "BN", LARGE))

    def against_gn(model: str, n: int) -> Comparison:
        what = "this difference with BN less that with GN, points"
        changes = (accuracy(model, method, n) - accuracy(model, method, LARGE) for method in ("BN", "GN"))
        return below(f"{model}, batches of {n}", what, *changes)

    def ghost(model: str, m: int) -> Comparison:
        what = "test accuracy with ghost batches less that with whole ones, points"
        return below(
            f"{model}, ghost batches of {m}", what, accuracy(model, "ghost", m), accuracy(model, "BN", LARGE)
        )

    def everywhere(compare: Callable[[str, int], Comparison]) -> list[Comparison]:
        return [compare(model, n) for model in METHODS for n in SMALL]

    return [
        Part(f"With BN, a batch below {LARGE} costs test accuracy.", everywhere(bn)),
        Part("It costs more with BN than with GN.", everywhere(against_gn)),
        Part(f"Poor statistics alone cost accuracy, in batches of {LARGE}.", everywhere(ghost)),
    ]


def below(where: str, what: str, first: Array, second: Array) -> Comparison:
    """Compare over shared seeds, with an effect below 0 expected."""
    effect = paired_difference(first, second)
    return Comparison(where, what, effect, expected="below")
