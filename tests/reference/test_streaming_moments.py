import math

import numpy as np
import pytest
from batches import batches
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import Moments, merge, merge_all, moments, streaming_moments, welford

NONE = Moments(0, np.zeros(3), np.zeros(3))
U = np.finfo(np.float32).eps / 2


def assert_close(a, b, rtol=1e-12):
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(a.m2, b.m2, rtol=rtol, atol=rtol)


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def three_parts(draw):
    sizes = [draw(st.integers(0, 6)) for _ in range(3)]
    x = random(*(sum(sizes), 3), seed=draw(st.integers(0, 2**32 - 1))) + draw(st.floats(-100, 100))
    return x, np.split(x, np.cumsum(sizes)[:2])


# Welford


@given(batches())
def test_welford_is_two_pass(x):
    got = welford(x)
    assert got.count == len(x)
    np.testing.assert_allclose(got.mean, x.mean(0), atol=1e-13)
    np.testing.assert_allclose(got.var, x.var(0), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(got.unbiased_var, x.var(0, ddof=1), rtol=1e-10, atol=1e-14)


@given(three_parts())
def test_welford_resumes(case):
    x, parts = case
    seen = None
    for part in parts:
        seen = welford(part, seen)
    whole = welford(x)
    assert seen.count == whole.count
    np.testing.assert_array_equal(seen.mean, whole.mean)
    np.testing.assert_array_equal(seen.m2, whole.m2)


def test_welford_leaves_its_arguments_alone():
    x = random(4, 3)
    first = welford(x)
    before = first.mean.copy(), first.m2.copy()
    welford(x + 1, first)
    np.testing.assert_array_equal(first.mean, before[0])
    np.testing.assert_array_equal(first.m2, before[1])


def test_welford_of_plain_numbers():
    got = welford(np.array([1.0, 2.0, 6.0]))
    assert (got.count, float(got.mean), float(got.var), float(got.unbiased_var)) == (3, 3, 14 / 3, 7)


@given(batches(on_grid=True), st.sampled_from([-1e6, 3.0, 1e6]))
def test_a_shift_moves_the_mean_alone(x, shift):
    a, b = welford(x), welford(x + shift)
    np.testing.assert_allclose(b.mean - shift, a.mean, atol=1e-8)
    np.testing.assert_allclose(b.m2, a.m2, rtol=1e-7, atol=1e-7)


# Merge


@given(three_parts())
def test_merging_any_split_gives_the_whole(case):
    x, parts = case
    a, b, c = (welford(part) for part in parts)
    assert_close(merge(merge(a, b), c), welford(x), rtol=1e-10)


@given(three_parts())
def test_merge_is_associative_and_commutative(case):
    a, b, c = (welford(part) for part in case[1])
    assert_close(merge(a, b), merge(b, a), rtol=1e-11)
    assert_close(merge(merge(a, b), c), merge(a, merge(b, c)), rtol=1e-10)


@given(batches())
def test_merging_single_values_is_welford(x):
    # With one value in b, the formula of merge is that of welford.
    seen = Moments(0, np.zeros(x.shape[1:]), np.zeros(x.shape[1:]))
    for value in x:
        seen = merge(seen, Moments(1, value, np.zeros_like(value)))
    assert_close(seen, welford(x))


def test_nothing_changes_nothing():
    a = welford(random(5, 3))
    assert merge(a, NONE) is a
    assert merge(NONE, a) is a
    assert merge(NONE, NONE).count == 0


def test_no_value_beside_an_infinite_one():
    a = Moments(1, np.array([np.inf, 1.0, np.nan]), np.zeros(3))
    np.testing.assert_array_equal(merge(NONE, a).mean, a.mean)


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8, 13])
def test_merge_all_of_unequal_batches_is_the_whole(parts):
    x = random(200, 4) + 50
    cuts = np.sort(np.random.default_rng(parts).integers(1, 199, parts - 1))
    batches = [Moments.of_batch(part, 0) for part in np.split(x, cuts) if len(part)]
    assert_close(merge_all(batches), Moments.of_batch(x, 0))
    assert_close(merge_all(tuple(batches)), Moments.of_batch(x, 0))


def test_merge_all_is_a_tree(monkeypatch):
    counts = []
    monkeypatch.setattr(
        streaming_moments, "merge", lambda a, b: counts.append((a.count, b.count)) or merge(a, b)
    )
    merge_all([Moments(1, np.array([float(i)]), np.zeros(1)) for i in range(8)])
    assert counts == [(1, 1)] * 4 + [(2, 2)] * 2 + [(4, 4)]


@given(batches(least_ndim=3))
def test_of_batch_is_moments(x):
    axes = (0, *range(2, x.ndim))
    got = Moments.of_batch(x, axes)
    mean, var = moments(x, axes)
    assert got.count == x.size // x.shape[1]
    np.testing.assert_array_equal(got.mean, mean)
    np.testing.assert_allclose(got.var, var, rtol=1e-12, atol=1e-15)


# Accuracy


def kappa(mean):
    return math.sqrt(1 + mean**2)


@pytest.mark.parametrize("mean", [0, 1e2, 1e4])
@pytest.mark.parametrize("m", [256, 4096])
def test_float32_errors_are_below_the_bounds(m, mean):
    x = random(m, 64, dtype=np.float32) + np.float32(mean)
    exact = x.astype(np.float64).var(0)

    def error(got):
        return float(np.abs(got.var / exact - 1).max())

    one_by_one = welford(x)
    assert one_by_one.var.dtype == np.float32
    assert error(one_by_one) <= m * U * kappa(mean)
    leaves = [Moments(1, row, np.zeros_like(row)) for row in x]
    assert error(merge_all(leaves)) <= 4 * math.log2(m) * U * kappa(mean)
    assert (one_by_one.m2 >= 0).all()


def test_float16_is_accumulated_in_float32():
    x = np.full((5000, 2), 60, np.float16)
    x[::2] += 8
    for got in (welford(x), Moments.of_batch(x, 0)):
        assert got.mean.dtype == got.m2.dtype == got.var.dtype == np.float32
        np.testing.assert_allclose(got.mean, 64, rtol=1e-5)
        np.testing.assert_allclose(got.var, 16, rtol=1e-4)


def test_axes_of_length_1_that_are_not_averaged_stay():
    found = Moments.of_batch(np.arange(4.0).reshape(4, 1), 0)
    assert found.mean.shape == found.m2.shape == found.var.shape == (1,)


def test_what_is_too_large_becomes_infinite_without_a_warning():
    found = Moments.of_batch(np.array([[3e38], [-3e38]], np.float32), 0)
    np.testing.assert_array_equal(found.m2, [np.inf])
    assert found.var.dtype == found.m2.dtype == np.float32


def test_a_merge_has_the_finer_dtype():
    a, b = welford(random(5, 3, dtype=np.float32)), welford(random(5, 3))
    assert merge(a, a).m2.dtype == merge(a, a).mean.dtype == np.float32
    assert merge(a, b).m2.dtype == merge(b, a).mean.dtype == np.float64


def test_numbers_without_axes_keep_float32():
    a = welford(random(5, dtype=np.float32))
    for got in (a, merge(a, a), Moments.of_batch(random(5, dtype=np.float32), 0)):
        assert got.mean.dtype == got.m2.dtype == got.var.dtype == got.unbiased_var.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_spoils_its_feature_only(bad):
    x = random(6, 3)
    clean = welford(x)
    x[4, 1] = bad
    for got in (welford(x), merge(welford(x[:3]), welford(x[3:])), Moments.of_batch(x, 0)):
        assert np.isnan(got.var[1])
        np.testing.assert_allclose(got.var[[0, 2]], clean.var[[0, 2]], rtol=1e-12)


# What is refused


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: welford([1.0]), TypeError, "expected values to be a NumPy array of .*, got list"),
        (lambda: welford(np.ones((2, 3), int)), TypeError, "got an array of int64"),
        (lambda: welford(np.array(1.0)), ValueError, r"expected values of shape \(m, ...\), got \(\)"),
        (
            lambda: welford(np.ones((2, 4)), NONE),
            ValueError,
            r"expected initial moments of shape \(4,\), got \(3,\)",
        ),
        (
            lambda: merge(NONE, Moments(0, np.zeros(4), np.zeros(4))),
            ValueError,
            r"expected moments of one shape, got \(3,\) and \(4,\)",
        ),
        (lambda: merge_all([]), ValueError, "^expected at least one part to merge, got none$"),
        (lambda: merge_all(3), TypeError, "^expected parts to be of type Sequence, got int$"),
        (lambda: merge_all([3]), TypeError, "^expected a part to be of type Moments, got int$"),
        (lambda: NONE.var, ValueError, "expected a count of at least 1 for a variance, got 0"),
        (
            lambda: welford(np.ones((1, 3))).unbiased_var,
            ValueError,
            "expected a count of at least 2 for an unbiased variance, got 1",
        ),
        (lambda: Moments.of_batch(np.ones((0, 3)), 0), ValueError, "expected at least 1 value to average"),
        (lambda: Moments.of_batch([[1.0]], 0), TypeError, "expected x to be a NumPy array"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
