"""Comparisons between methods, where the answer is known."""

import numpy as np
import pytest

from bnlib.lab.records import Record
from bnlib.lab.shifts import Shifts

LOSSES = {"BN": [0.9, 0.5, 0.7], "no BN": [2.2, 1.5, 0.8]}  # at three rates


def record(overflows=False):
    """Make a record of two networks whose shifts with BN are twice those without, at every rate."""
    rng = np.random.default_rng(0)
    settings, metrics = {}, {}
    for network in ("A", "B"):
        shift = rng.uniform(0.1, 2.0, (4, 3, 2, 3))
        for method, losses in LOSSES.items():
            part = f"{network}, {method}"
            settings[part] = {"lr": [0.1, 0.3, 1.0], "probed": [5, 9]}
            loss = np.tile(losses, (4, 1))
            loss[1, 2] = np.nan if overflows else loss[1, 2]
            cosine = shift[..., 2:] - 1
            factor = 2 if method == "BN" else 1
            values = np.concatenate([factor * shift[..., :2], cosine + factor], -1)
            metrics[part] = {"train_loss": loss.tolist(), "gradient_shift": values.tolist()}
    return Record("covariate_shift", settings, [0, 1, 2, 3], metrics, {}, "", "")


def test_networks_methods_and_rates_are_read_from_the_parts():
    shifts = Shifts(record())
    assert (shifts.networks, shifts.methods) == (["A", "B"], ["BN", "no BN"])
    assert (shifts.rates, shifts.steps) == ([0.1, 0.3, 1.0], [5, 9])


def test_the_best_rate_has_the_lowest_loss_and_never_overflows():
    assert [Shifts(record()).best("A", method) for method in LOSSES] == [1, 2]
    assert [Shifts(record(overflows=True)).best("A", method) for method in LOSSES] == [1, 1]
    at_best = Shifts(record()).at_best("B", "train_loss")
    assert {method: set(values) for method, values in at_best.items()} == {"BN": {0.5}, "no BN": {0.8}}


def test_comparisons_are_those_where_both_train_and_the_best():
    assert [(c.network, c.at, c.words) for c in Shifts(record()).comparisons("BN", "no BN")][:3] == [
        ("A", (1, 1), "A, rate 0.3"),
        ("A", (2, 2), "A, rate 1"),
        ("A", (1, 2), "A, best 0.3 | 1"),
    ]
    found = list(Shifts(record(overflows=True)).comparisons("BN", "no BN"))
    assert [(c.network, c.at, c.words) for c in found] == [
        (network, (1, 1), f"{network}, best 0.3") for network in "AB"
    ]


def test_ratios_are_paired_and_cosines_are_subtracted():
    shifts = Shifts(record())
    comparison = next(iter(shifts.comparisons("BN", "no BN")))
    np.testing.assert_allclose(shifts.ratio(comparison, "gradient_shift", 0), 2)
    np.testing.assert_allclose(shifts.difference(comparison, "gradient_shift", 2), 1)


def test_shifts_are_averaged_geometrically_and_cosines_plainly():
    one = record()
    values = np.array(one.metrics["A, BN"]["gradient_shift"])[:, 1]
    shifts = Shifts(one)
    np.testing.assert_allclose(
        shifts.over_time("A", "BN", 1, "gradient_shift", 0), np.sqrt(values[:, 0, 0] * values[:, 1, 0])
    )
    np.testing.assert_allclose(shifts.over_time("A", "BN", 1, "gradient_shift", 2), values[:, :, 2].mean(-1))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="expected a part"):
        Shifts(record()).best("A", "LN")
