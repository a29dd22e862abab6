"""Bands and limits of sweeps, by hand and by their properties."""

import numpy as np
import pytest

from bnlib.lab.sweeps import band, best, limit

RATES = [0.01, 0.1, 1.0, 10.0, 100.0]
LOSSES = np.array(
    [
        [2.0, 0.6, 0.5, 0.58, np.nan],
        [0.5, 2.0, 0.45, 2.4, 0.5],  # two separate valleys
        [0.3, 1.0, 2.0, 2.3, 9.0],  # the best rate is the smallest
        [2.4, 2.2, 1.0, 0.9, 0.4],  # the best rate is the largest
    ]
)


def test_bands_by_hand():
    np.testing.assert_array_equal(band(RATES, LOSSES, 0.09), [[1, 10], [1, 1], [0.01, 0.01], [100, 100]])
    np.testing.assert_array_equal(band(RATES, LOSSES, 0.55), [[0.1, 10], [1, 1], [0.01, 0.01], [1e1, 100]])
    np.testing.assert_array_equal(
        band(RATES, LOSSES, 9.0), [[0.01, 10], [0.01, 100], [0.01, 100], [0.01, 100]]
    )


def test_a_larger_tolerance_never_narrows_a_band():
    losses = np.random.default_rng(0).uniform(0, 3, (50, 5))
    narrow, wide = (band(RATES, losses, tolerance) for tolerance in (0.2, 0.7))
    assert (wide[:, 0] <= narrow[:, 0]).all()
    assert (wide[:, 1] >= narrow[:, 1]).all()
    assert (wide != narrow).any()


def test_limits_by_hand():
    np.testing.assert_array_equal(limit(RATES, LOSSES, 2.303), [10, 1, 10, 100])
    np.testing.assert_array_equal(limit(RATES, LOSSES, 0.48), [np.nan, 1, 0.01, 100])
    # The bound itself is lost.
    np.testing.assert_array_equal(limit(RATES, LOSSES[2:3], 2.3), [1.0])


@pytest.mark.parametrize("read", [band, limit])
def test_what_is_no_sweep_is_refused(read):
    with pytest.raises(ValueError, match=r"expected rates in increasing order, got \[1, 1\]"):
        read([1, 1], [[2.0, 3.0]], 0.1)
    with pytest.raises(ValueError, match=r"shape \(S, 2\), got \(3,\)"):
        read([1, 2], [2.0, 3.0, 4.0], 0.1)
    with pytest.raises(ValueError, match="a finite loss in each row"):
        read([1, 2], [[2.0, 3.0], [np.nan, np.nan]], 0.1)


def test_the_best_rate_is_that_of_the_mean_and_never_overflows():
    assert best([[0.2, 0.5, 0.4], [0.3, 0.1, 0.4]]) == 2
    assert best([[0.2, 0.5, np.nan], [0.2, 0.5, 0.9]]) == 1
    with pytest.raises(ValueError, match="expected a rate at which no run of 'A' overflows, got none"):
        best([[np.nan, 0.5], [0.5, np.nan]], "run of 'A'")
