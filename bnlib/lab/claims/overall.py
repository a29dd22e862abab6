"""Whether batch norm makes networks easier to train overall (C12)."""

from __future__ import annotations

from bnlib.lab.claims.depth import deep_gains
from bnlib.lab.claims.learning_rates import BAND, SPEED, Rates, by_network
from bnlib.lab.records import Record
from bnlib.lab.verdicts import Comparison, Part


def judge(learning_rates: Record, depth: Record) -> list[Part]:
    """Judge the claim by two records: speed, stability and convergence, in shallow and deep networks."""
    rates = Rates(learning_rates)
    what = "test accuracy at the best rates, BN less no BN, points"
    better = [Comparison(n, what, i) for n, i in rates.differences(rates.accuracies()).items()]
    return [
        Part("Speed: training takes fewer steps.", by_network(rates.ratios(rates.speeds()), SPEED)),
        Part("Stability: more rates are usable.", by_network(rates.ratios(rates.widths()), BAND)),
        Part("Convergence: training ends at a better place.", better),
        Part("Depth: deep networks train better.", deep_gains(depth)),
    ]
