import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnlib.lab.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    paired_ratio,
)

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


def test_interval_of_five_values_by_hand():
    # Mean 3; s = sqrt(10/4); the 0.975 quantile of Student's t with 4 degrees of freedom is 2.776.
    mean, low, high = mean_interval([1, 2, 3, 4, 5])
    assert mean == 3.0
    assert (high - low) / 2 / (math.sqrt(2.5) / math.sqrt(5)) == pytest.approx(2.776, abs=5e-4)
    assert (low, high) == pytest.approx((1.0368, 4.9632), abs=1e-4)


@pytest.mark.parametrize(
    ("n", "confidence", "quantile"),
    [(2, 0.95, 12.706), (3, 0.99, 9.925), (10, 0.95, 2.262), (10, 0.9, 1.833), (121, 0.95, 1.980)],
)
def test_quantiles_agree_with_the_printed_table(n, confidence, quantile):
    x = np.random.default_rng(0).normal(size=n)
    mean, low, high = mean_interval(x, confidence=confidence)
    assert (high - mean) * math.sqrt(n) / x.std(ddof=1) == pytest.approx(quantile, abs=1e-3)
    assert high - mean == pytest.approx(mean - low)


@given(VALUES, st.floats(-10, 10), st.floats(0.1, 10))
def test_it_shifts_and_scales_with_the_values(values, shift, scale):
    before, after = mean_interval(values), mean_interval([scale * x + shift for x in values])
    assert after == pytest.approx([scale * b + shift for b in before], abs=1e-6)


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_the_values_does_not_matter(values, rng):
    shuffled = list(values)
    rng.shuffle(shuffled)
    assert mean_interval(shuffled) == pytest.approx(mean_interval(values), abs=1e-9)


@given(VALUES)
def test_more_confidence_never_makes_it_narrower(values):
    narrow, wide = mean_interval(values, confidence=0.5), mean_interval(values, confidence=0.99)
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


def test_equal_values_give_an_interval_without_width():
    assert mean_interval([0.25] * 5) == (0.25, 0.25, 0.25)


def test_a_nan_makes_everything_nan():
    assert all(map(math.isnan, mean_interval([1.0, math.nan, 3.0])))


def test_float32_values_are_averaged_in_float64():
    values = np.full(1000, 1e4, np.float32) + np.tile(np.float32([0.0, 1.0]), 500)
    assert mean_interval(values).mean == 1e4 + 0.5


@pytest.mark.parametrize(("values", "shape"), [([], (0,)), ([1.0], (1,)), (3.0, ()), ([[1.0, 2.0]], (1, 2))])
def test_fewer_than_two_values_or_more_axes_are_refused(values, shape):
    with pytest.raises(ValueError, match="expected at least two values in one row, got shape") as raised:
        mean_interval(values)
    assert str(raised.value).endswith(f"got shape {shape}")


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95, math.nan])
def test_a_confidence_outside_0_and_1_is_refused(confidence):
    with pytest.raises(ValueError, match=f"^expected a confidence between 0 and 1, got {confidence}$"):
        mean_interval([1.0, 2.0], confidence=confidence)


def test_format_applies_to_each_number():
    interval = Interval(0.51234, 0.4, 0.62468)
    assert f"{interval:.2f}" == "0.51 [0.40, 0.62]"
    assert f"{interval:.0%}" == "51% [40%, 62%]"
    assert f"{Interval(1.0, 0.5, 1.5)}" == "1.0 [0.5, 1.5]"


# The bootstrap


def test_the_bootstrap_of_many_values_agrees_with_student():
    x = np.random.default_rng(0).normal(size=400).tolist()
    assert bootstrap_interval(x) == pytest.approx(mean_interval(x), abs=0.01)


def test_the_bootstrap_stays_within_the_values_and_repeats():
    x = [1.0, 1.0, 1.0, 1.0, 50.0]
    found = bootstrap_interval(x)
    assert found == bootstrap_interval(x)
    assert 1 <= found.low <= found.mean <= found.high <= 50
    assert mean_interval(x).low < 1
    assert bootstrap_interval(x, confidence=0.5).high < found.high


def test_the_bootstrap_of_equal_values_and_of_nan():
    assert bootstrap_interval([0.25] * 5) == (0.25, 0.25, 0.25)
    assert all(map(math.isnan, bootstrap_interval([1.0, math.nan, 3.0])))
    with pytest.raises(ValueError, match="expected at least two values"):
        bootstrap_interval([1.0])


# Pairs


def test_what_two_runs_share_cancels():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=10) * 100, rng.normal(size=10)
    found = paired_difference(shared + 3 + own, shared)
    assert found == pytest.approx(mean_interval((3 + own).tolist()))
    assert found.high - found.low < 3


def test_pairs_need_partners():
    with pytest.raises(ValueError, match=r"expected as many values in both, got shapes \(3,\) and \(2,\)"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])


def test_a_ratio_and_its_inverse_count_alike():
    rng = np.random.default_rng(1)
    shared = np.exp(5 * rng.normal(size=8))
    own = np.array([0.5, 2.0, 0.25, 4.0, 0.5, 2.0, 0.5, 2.0])
    mean, low, high = paired_ratio(3 * own * shared, shared)
    assert mean == pytest.approx(3)  # the geometric mean of own is 1
    assert low * high == pytest.approx(9)
    assert paired_ratio(shared, 3 * own * shared) == pytest.approx((1 / 3, 1 / high, 1 / low))
    assert mean_interval(np.log(own)).high == pytest.approx(math.log(high / 3))


def test_a_ratio_leaves_out_pairs_without_a_partner():
    first, second = [1.0, 2.0, math.nan, 4.0, 9.0], [2.0, 1.0, 5.0, math.nan, 3.0]
    assert paired_ratio(first, second) == paired_ratio([1.0, 2.0, 9.0], [2.0, 1.0, 3.0])
    with pytest.raises(ValueError, match=r"expected at least two values in one row, got shape \(1,\)"):
        paired_ratio([1.0, math.nan, 2.0], [1.0, 2.0, math.nan])
    with pytest.raises(ValueError, match="expected values above 0, got -2"):
        paired_ratio([1.0, 2.0], [math.nan, -2.0])
    with pytest.raises(ValueError, match=r"expected as many values in both, got shapes \(2,\) and \(3,\)"):
        paired_ratio([1.0, 2.0], [1.0, 2.0, 3.0])


def test_a_ratio_of_pairs_by_hand():
    # The ratios are 2, 8 and 4, the logarithms to base 2 of which have mean 2 and standard deviation 1.
    mean, low, high = paired_ratio([2.0, 24.0, 20.0], [1.0, 3.0, 5.0])
    assert mean == pytest.approx(4.0)
    half = 4.302653 / math.sqrt(3)  # the 0.975 quantile of Student's t with 2 degrees of freedom
    assert (low, high) == pytest.approx((2 ** (2 - half), 2 ** (2 + half)), rel=1e-6)


def test_the_inverse_ratio_has_the_inverse_interval():
    first, second = np.random.default_rng(0).uniform(0.1, 9, (2, 6)).tolist()
    mean, low, high = paired_ratio(first, second)
    assert paired_ratio(second, first) == pytest.approx((1 / mean, 1 / high, 1 / low))
    assert paired_ratio(first, second, confidence=0.5).high < high


def test_ratios_need_positive_values():
    for first, second in (([1.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [-1.0, 2.0])):
        with pytest.raises(ValueError, match="expected values above 0"):
            paired_ratio(first, second)
