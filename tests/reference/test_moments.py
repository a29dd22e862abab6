import math
from fractions import Fraction

import numpy as np
import pytest
from batches import LAYOUTS, batches_and_axes, lay_out
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import (
    center,
    moments,
    one_pass_moments,
    shifted_one_pass_moments,
    two_pass_moments,
)
from bnlib.reference.moments import mean_square


def reduced(x, axes):
    return tuple(a % x.ndim for a in axes)


@given(batches_and_axes())
def test_moments_are_numpys(case):
    x, axes = case
    mean, var = moments(x, axes)
    np.testing.assert_allclose(mean, x.mean(axes), atol=1e-14)
    np.testing.assert_allclose(var, x.var(axes), rtol=1e-12)
    assert mean.shape == var.shape == x.mean(axes).shape


@given(batches_and_axes())
def test_unbiased_divides_by_one_less(case):
    x, axes = case
    np.testing.assert_allclose(moments(x, axes, unbiased=True)[1], x.var(axes, ddof=1), rtol=1e-12)


@given(batches_and_axes(dtype=np.float32, on_grid=True), st.sampled_from([-1e6, -3.0, 1e2, 1e4, 1e6]))
def test_a_shift_moves_the_mean_and_leaves_the_variance(case, shift):
    x, axes = case
    mean, var = moments(x, axes)
    shifted_mean, shifted_var = moments(x + np.float32(shift), axes)
    np.testing.assert_allclose(shifted_var, var, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(shifted_mean, mean + shift, rtol=1.2e-7, atol=1e-6)


@given(batches_and_axes(), st.floats(1e-3, 1e3))
def test_a_scale_multiplies_the_variance_by_its_square(case, a):
    x, axes = case
    mean, var = moments(x, axes)
    scaled_mean, scaled_var = moments(a * x, axes)
    np.testing.assert_allclose(scaled_mean, a * mean, rtol=1e-9, atol=1e-12 * a)
    np.testing.assert_allclose(scaled_var, a**2 * var, rtol=1e-9)


@given(batches_and_axes(dtype=np.float32))
def test_center_leaves_mean_zero_and_adds_up(case):
    x, axes = case
    x_centered, mean = center(x, axes)
    assert mean.shape == tuple(1 if a in reduced(x, axes) else n for a, n in enumerate(x.shape))
    np.testing.assert_allclose(x_centered.mean(axes, dtype=np.float64), 0, atol=2e-7)
    np.testing.assert_allclose(x_centered + mean, x, atol=5e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mean", [0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(65536, 8), (4096, 64), (32, 64, 14, 14)])
def test_float32_moments_at_large_means(shape, mean, layout):
    rng = np.random.default_rng(1)
    x = lay_out((rng.standard_normal(shape) + mean).astype(np.float32), layout)
    axes = (0, *range(2, x.ndim))
    exact = x.astype(np.float64)
    mu, var = moments(x, axes)
    assert mu.dtype == var.dtype == np.float32
    np.testing.assert_allclose(mu, exact.mean(axes), rtol=6.1e-8, atol=1e-7)
    np.testing.assert_allclose(var, exact.var(axes), rtol=1e-6)


def test_float64_is_corrected_too():
    # At 1e15 the mean of three numbers is not a float64, and the rounded one is off by 1/24.
    x = np.array([[1e15], [1e15 + 1], [1e15 + 0.375]])
    exact = [Fraction(v) for v in x[:, 0]]
    mu = sum(exact) / 3
    x_centered, _ = center(x, 0)
    np.testing.assert_allclose(x_centered[:, 0], [float(v - mu) for v in exact], rtol=1e-14)
    var = sum((v - mu) ** 2 for v in exact) / 3
    np.testing.assert_allclose(moments(x, 0)[1], float(var), rtol=1e-14)


def test_float64_mean_is_better_than_a_plain_sum():
    x = np.random.default_rng(5).standard_normal((65536, 4)) + 1e6
    exact = [math.fsum(column) / len(x) for column in x.T]
    assert np.abs(x.mean(0) - exact).max() > np.spacing(1e6)
    np.testing.assert_allclose(moments(x, 0)[0], exact, rtol=0, atol=np.spacing(1e6))


def test_sorted_values_are_centered_too():
    # Partial sums of sorted residuals grow with m: float32 would lose 1e-6 of the mean and more.
    x = np.sort(np.random.default_rng(6).standard_normal((2**20, 2)).astype(np.float32), axis=0)
    x_centered, _ = center(x, 0)
    assert np.abs(x_centered.sum(0) / len(x)).max() > 1e-6
    np.testing.assert_allclose(x_centered.mean(0, dtype=np.float64), 0, atol=3e-8)


def test_float16_statistics_are_float32():
    x = np.full((5000, 2), 60.0, np.float16)
    x[::2] += 8
    mean, var = moments(x, 0)
    assert mean.dtype == var.dtype == np.float32
    np.testing.assert_array_equal(mean, [64, 64])
    np.testing.assert_array_equal(var, [16, 16])


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_squares_neither_overflow_nor_vanish(size):
    x = np.random.default_rng(2).standard_normal((64, 3)).astype(np.float32) * np.float32(size)
    x_centered, _ = center(x, 0)
    np.testing.assert_allclose(mean_square(x_centered, (0,))[0], x.astype(np.float64).var(0), rtol=1e-6)
    moments(x, 0)  # the float32 variance is infinite or 0, without a warning


@pytest.mark.parametrize("value", [0.0, 1e-7, 3.3, 1e6 + 0.0625])
def test_a_constant_has_variance_zero(value):
    mean, var = moments(np.full((1000, 2), value, np.float32), 0)
    np.testing.assert_array_equal(mean, np.float32(value))
    np.testing.assert_array_equal(var, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_spoils_its_channel_only(bad):
    x = np.random.default_rng(3).standard_normal((6, 3)).astype(np.float32)
    want = moments(x, 0)
    x[4, 1] = bad
    for got, clean in zip(moments(x, 0), want, strict=True):
        assert np.isnan(got[1])
        np.testing.assert_array_equal(got[[0, 2]], clean[[0, 2]])


def test_the_input_is_left_alone():
    x = np.random.default_rng(4).standard_normal((6, 3))
    before = x.copy()
    x_centered, _ = center(x, 0)
    moments(x, 0)
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(x, x_centered)


# The plain algorithms, in the precision of their input

PLAIN = [one_pass_moments, two_pass_moments, shifted_one_pass_moments]
U = np.finfo(np.float32).eps / 2


def variance_error(function, x, **kwargs):
    exact = x.astype(np.float64).var(0)
    return float(np.abs(function(x, 0, **kwargs)[1] / exact - 1).max())


def gaussian(m, mean, seed=0):
    return (np.random.default_rng(seed).standard_normal((m, 64)) + mean).astype(np.float32)


@pytest.mark.parametrize("function", PLAIN)
@given(case=batches_and_axes())
def test_plain_algorithms_agree_where_nothing_cancels(function, case):
    x, axes = case
    mean, var = function(x, axes)
    np.testing.assert_allclose(mean, x.mean(axes), atol=1e-13)
    np.testing.assert_allclose(var, x.var(axes), rtol=1e-9, atol=1e-13)
    assert mean.shape == var.shape == x.mean(axes).shape


@pytest.mark.parametrize("function", PLAIN)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_plain_algorithms_stay_in_the_precision_of_x(function, dtype):
    x = np.random.default_rng(0).standard_normal((40, 3, 2)).astype(dtype)
    for axes in (0, (0, 2), (0, 1, 2)):
        assert [a.dtype for a in function(x, axes)] == [dtype, dtype]


def test_float16_sums_are_float16():
    # 2048 + 1 is 2048 in float16: a sum of ones along a strided axis stops there.
    x = np.ones((6000, 2), np.float16)
    mean, var = one_pass_moments(x, 0)
    assert mean.tolist() == [np.float16(2048 / 6000)] * 2
    np.testing.assert_allclose(var, 2048 / 6000 - (2048 / 6000) ** 2, rtol=1e-2)
    assert moments(x, 0)[0].tolist() == [1, 1]


def test_float16_squares_overflow():
    x = np.full((4, 1), 300, np.float16)
    assert not np.isfinite(one_pass_moments(x, 0)[1]).any()
    assert shifted_one_pass_moments(x, 0)[1].tolist() == [0]


@pytest.mark.parametrize("mean", [0, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("m", [256, 4096])
def test_errors_are_below_the_bounds(m, mean):
    x = gaussian(m, mean)
    kappa2 = 1 + mean**2
    assert variance_error(one_pass_moments, x) <= 2 * m * U * kappa2
    assert variance_error(two_pass_moments, x) <= (m + 3) * U + (m * U) ** 2 * kappa2
    near = 1 + 4.5**2  # the first value is within 4.5 standard deviations
    assert variance_error(shifted_one_pass_moments, x) <= 2 * m * U * near
    assert variance_error(moments, x) <= 1e-6


def test_the_one_pass_error_grows_as_the_square_of_the_mean():
    means = np.array([30.0, 100.0, 300.0, 1000.0, 3000.0])
    errors = [variance_error(one_pass_moments, gaussian(1024, mean)) for mean in means]
    slope = np.polyfit(np.log(means), np.log(errors), 1)[0]
    assert 1.7 < slope < 2.3


def test_one_pass_is_lost_where_the_others_are_not():
    x = gaussian(1000, 1e4)
    var = one_pass_moments(x, 0)[1]
    assert var.min() < 0
    assert var.max() > 8
    for function, most in ((two_pass_moments, 0.01), (shifted_one_pass_moments, 1e-4), (moments, 1e-6)):
        assert variance_error(function, x) < most


def test_correction_matters_when_the_mean_is_not_exact():
    x = gaussian(65536, 1e4)
    assert variance_error(two_pass_moments, x) > 1
    assert variance_error(moments, x) < 1e-6


@pytest.mark.parametrize(
    "shift", [0, 1e4, np.float32(1e4), np.full(64, 1e4), np.full(64, 1e4, np.float32), None]
)
def test_any_shift_gives_the_same_mean_and_a_near_one_the_variance(shift):
    x = gaussian(256, 1e4)
    mean, var = shifted_one_pass_moments(x, 0, shift)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-5)
    if shift is None or np.any(shift):
        np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-4)
    assert var.dtype == np.float32


def test_no_shift_is_one_pass():
    x = gaussian(256, 1e3)
    for a, b in zip(one_pass_moments(x, 0), shifted_one_pass_moments(x, 0, 0.0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_default_shift_is_the_first_value():
    x = np.random.default_rng(0).standard_normal((4, 3, 5)) + 100
    for got, want in zip(
        shifted_one_pass_moments(x, (0, 2)),
        shifted_one_pass_moments(x, (0, 2), x[0, :, 0]),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("shift", "error", "message"),
    [
        (np.ones(4), ValueError, r"expected shift of shape \(C,\) = \(3,\), got \(4,\)"),
        (np.ones((1, 3)), ValueError, r"expected shift of shape \(C,\) = \(3,\), got \(1, 3\)"),
        ([1.0], TypeError, "expected shift to be a NumPy array"),
        (np.ones(3, int), TypeError, "expected shift to be a NumPy array"),
    ],
)
def test_refused_shifts(shift, error, message):
    with pytest.raises(error, match=message):
        shifted_one_pass_moments(np.ones((2, 3)), 0, shift)


# The sum of squares


@given(batches_and_axes(dtype=np.float32))
def test_mean_square_keeps_the_axes(case):
    x, axes = case
    axes = tuple(sorted(reduced(x, axes)))
    got = mean_square(x, axes)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, np.square(x.astype(np.float64)).mean(axes, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("m", [32, 64, 97, 256, 4096])
@pytest.mark.parametrize("axis", [0, 1])
def test_mean_square_is_nearly_that_of_float64(m, axis):
    x = np.random.default_rng(m).standard_normal((m, 256)).astype(np.float32)
    x = x if axis == 0 else np.ascontiguousarray(x.T)
    exact = np.square(x.astype(np.float64)).mean(axis, keepdims=True)
    np.testing.assert_allclose(mean_square(x, (axis,)), exact, rtol=3e-7)


def test_squares_beyond_float32_leave_the_other_channels_alone():
    x = np.random.default_rng(2).standard_normal((64, 3)).astype(np.float32)
    want = mean_square(x, (0,))
    x[:, 1] *= np.float32(1e25)
    got = mean_square(x, (0,))
    np.testing.assert_array_equal(got[:, [0, 2]], want[:, [0, 2]])
    np.testing.assert_allclose(got[:, 1], np.square(x[:, 1].astype(np.float64)).mean(), rtol=1e-12)


# What is refused

ERRORS = [
    ([[1.0]], 0, TypeError, "expected x to be a NumPy array of float16, float32 or float64, got list"),
    (np.ones((2, 3), int), 0, TypeError, "float64, got an array of int64"),
    (np.ones((2, 3), complex), 0, TypeError, "float64, got an array of complex128"),
    (np.ones((2, 3)), 2, ValueError, r"expected axes between -2 and 1 for shape \(2, 3\), got \(2,\)"),
    (np.ones((2, 3)), -3, ValueError, r"expected axes between -2 and 1 for shape \(2, 3\), got \(-3,\)"),
    (np.ones((2, 3)), (0, -2), ValueError, r"expected axes that differ from one another, got \(0, -2\)"),
    (np.ones((2, 3)), (), ValueError, r"expected at least one axis to average over, got \(\)"),
    (
        np.ones((0, 3)),
        0,
        ValueError,
        r"expected at least 1 value to average over axes \(0,\), got shape \(0, 3\)",
    ),
    (np.ones((2, 3)), 0.5, TypeError, "integer"),
]


@pytest.mark.parametrize("function", [center, moments, *PLAIN])
@pytest.mark.parametrize(("x", "axes", "error", "message"), ERRORS)
def test_errors(function, x, axes, error, message):
    with pytest.raises(error, match=message):
        function(x, axes)


def test_unbiased_needs_two_values():
    with pytest.raises(
        ValueError, match=r"more than 1 value for an unbiased variance, got 1 in shape \(1, 3\)"
    ):
        moments(np.ones((1, 3)), 0, unbiased=True)
    assert moments(np.ones((1, 3)), 0)[1].tolist() == [0, 0, 0]
