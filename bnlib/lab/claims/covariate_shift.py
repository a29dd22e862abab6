"""Whether batch norm reduces internal covariate shift, and whether that is its purpose (C3)."""

from __future__ import annotations

from bnlib.lab.records import Record
from bnlib.lab.shifts import Shifts
from bnlib.lab.statistics import mean_interval
from bnlib.lab.verdicts import Comparison, Part

MOST = 0.5
"""A method keeps most of a benefit if it keeps more than this share."""


def judge(record: Record) -> list[Part]:
    """Judge the claim by the record of ``covariate_shift``.

    Two definitions of the shift, at each rate at which networks with and without BN train, and at the best
    rate of each; then the shift put back on purpose, at the best rates.
    """
    shifts = Shifts(record)
    cases = list(shifts.comparisons("BN", "no BN"))
    moments = [
        Comparison(case.words, f"shift of the {word}, BN / no BN", ratio, 1.0, "below")
        for column, word in enumerate(("mean", "standard deviation"))
        for case in cases
        for ratio in [shifts.ratio(case, "input_shift", column)]
    ]
    gradients = [
        Comparison(case.words, "change δ of the gradient, BN / no BN", ratio, 1.0, "below")
        for case in cases
        for ratio in [shifts.ratio(case, "gradient_shift", 1)]
    ]
    return [
        Part("The moments of what layers take in shift less.", moments),
        Part("The gradients of layers change less.", gradients),
        Part(
            "With the shift put back, most of the benefit goes.", [kept(shifts, n) for n in shifts.networks]
        ),
    ]


def kept(shifts: Shifts, network: str) -> Comparison:
    """Compare the gain in training loss that noisy BN has over no BN with BN's own gain."""
    loss = shifts.at_best(network, "train_loss")
    gains = [loss["no BN"] - loss[method] for method in ("noisy BN", "BN")]
    share = mean_interval(gains[0] / gains[1])
    return Comparison(network, "share of BN's gain in loss that noisy BN keeps", share, MOST, "below")
