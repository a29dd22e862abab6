import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from batches import batches
from hypothesis import assume, given
from hypothesis import strategies as st

from bnlib.reference import (
    RunningStatistics,
    batch_norm,
    batch_norm_backward,
    count_ghost_batches,
    ghost_batch_norm,
    ghost_batch_norm_backward,
    ghost_batches,
    instance_norm,
    instance_norm_backward,
    update_by_ghost_batches,
    update_running,
)

SIZES = st.integers(1, 6)
MOMENTA = st.sampled_from([0.1, 0.0, 1.0, 0.37, None])


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def has_values(x, size):
    """Tell whether each channel of each ghost batch has 2 values or more."""
    return x.shape[0] // count_ghost_batches(len(x), size) * np.prod(x.shape[2:]) >= 2


# The cut


@given(st.integers(1, 300), st.integers(1, 40))
def test_the_ghost_batches_are_the_batch_in_order_in_parts_as_equal_as_possible(n, size):
    parts = ghost_batches(n, size)
    lengths = [part.stop - part.start for part in parts]
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    assert len(parts) == count_ghost_batches(n, size) == max(1, n // size)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1
    assert min(lengths) >= min(n, size)


# The trusted framework


def by_pytorch(x, size, weight, bias, eps):
    parts = torch.tensor_split(x, max(1, len(x) // size))
    return torch.cat([F.batch_norm(part, None, None, weight, bias, True, eps=eps) for part in parts])


@given(batches(), SIZES, st.sampled_from([1e-5, 0.1, 10.0]))
def test_pytorch_agrees_on_every_ghost_batch_and_gradient(x, size, eps):
    assume(has_values(x, size))
    x = 2 * x + np.arange(x.size).reshape(x.shape) * 0.3  # no variance is nearly 0
    dy, weight, bias = random(*x.shape, seed=1), random(x.shape[1], seed=2), random(x.shape[1], seed=3)
    leaves = [torch.from_numpy(v.copy()).requires_grad_() for v in (x, weight, bias)]
    y = by_pytorch(leaves[0], size, *leaves[1:], eps)
    expected = torch.autograd.grad(y, leaves, torch.from_numpy(dy))
    np.testing.assert_allclose(ghost_batch_norm(x, size, weight, bias, eps=eps), y.detach(), 1e-9, 1e-9)
    for got, want in zip(ghost_batch_norm_backward(dy, x, size, weight, eps=eps), expected, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, 1e-9, 1e-9)


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, 0.37, None])
def test_running_statistics_are_those_of_pytorch_fed_with_the_ghost_batches(momentum):
    module, running = torch.nn.BatchNorm1d(3, momentum=momentum), RunningStatistics.start(3)
    for step in range(4):
        x = (2 * random(11, 3, seed=step) + step).astype(np.float32)
        for part in torch.tensor_split(torch.from_numpy(x), 3):
            module(part)
        running = update_by_ghost_batches(running, x, 3, momentum)
        assert running.count == module.num_batches_tracked == 3 * (step + 1)
        assert running.mean.dtype == running.var.dtype == np.float32
        np.testing.assert_allclose(running.mean, module.running_mean, rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(running.var, module.running_var, rtol=2e-6, atol=2e-6)


# What it reduces to


@given(batches(), st.integers(0, 3), MOMENTA)
def test_a_batch_below_twice_the_size_is_one_batch(x, more, momentum):
    size = len(x) // 2 + 1 + more
    dy, weight, bias = random(*x.shape, seed=1), random(x.shape[1], seed=2), random(x.shape[1], seed=3)
    np.testing.assert_array_equal(ghost_batch_norm(x, size, weight, bias), batch_norm(x, weight, bias))
    for got, want in zip(
        ghost_batch_norm_backward(dy, x, size, weight), batch_norm_backward(dy, x, weight), strict=True
    ):
        np.testing.assert_array_equal(got, want)
    start = RunningStatistics.start(x.shape[1], np.float64)
    for got, want in zip(
        update_by_ghost_batches(start, x, size, momentum), start.update(x, momentum), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@given(batches(least_ndim=3))
def test_ghost_batches_of_one_sample_are_instance_norm(x):
    assume(np.prod(x.shape[2:]) > 1)
    dy, weight, bias = random(*x.shape, seed=1), random(x.shape[1], seed=2), random(x.shape[1], seed=3)
    got, want = ghost_batch_norm(x, 1, weight, bias), instance_norm(x, weight, bias)
    np.testing.assert_allclose(got, want, 1e-9, 1e-9)
    got, want = ghost_batch_norm_backward(dy, x, 1, weight), instance_norm_backward(dy, x, weight)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, 1e-8, 1e-8)


def test_identical_ghost_batches_move_the_running_mean_geometrically():
    part = random(4, 2)
    running = update_by_ghost_batches(RunningStatistics.start(2, np.float64), np.tile(part, (5, 1)), 4, 0.3)
    np.testing.assert_allclose(running.mean, part.mean(0) * (1 - 0.7**5), rtol=1e-12)
    assert running.count == 5


def test_the_last_ghost_batch_weighs_most():
    x = np.repeat([[0.0], [10.0], [20.0]], 4, axis=0)
    running = update_by_ghost_batches(RunningStatistics.start(1, np.float64), x, 4, 0.5)
    expected = np.zeros(1)
    for value in (0.0, 10.0, 20.0):
        expected = update_running(expected, np.array([value]), 0.5)
    np.testing.assert_array_equal(running.mean, expected)


# Locality, dtypes, digits


def test_a_ghost_batch_sees_nothing_of_the_others():
    x, dy = random(10, 3), random(10, 3, seed=1)
    other, changed = dy.copy(), x.copy()
    changed[:5], other[:5] = 7 * x[:5] ** 2, 3.0
    np.testing.assert_array_equal(ghost_batch_norm(x, 5)[5:], ghost_batch_norm(changed, 5)[5:])
    got, want = ghost_batch_norm_backward(other, changed, 5)[0], ghost_batch_norm_backward(dy, x, 5)[0]
    np.testing.assert_array_equal(got[5:], want[5:])
    changed[2, 1] = np.nan
    y = ghost_batch_norm(changed, 5)
    assert np.isnan(y[:5, 1]).all()
    assert np.isfinite(y[5:]).all()
    assert np.isfinite(y[:, [0, 2]]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_those_of_batch_norm(dtype):
    x, dy = random(9, 3, dtype=dtype), random(9, 3, dtype=dtype, seed=1)
    before = x.copy()
    assert ghost_batch_norm(x, 3).dtype == dtype
    got, want = ghost_batch_norm_backward(dy, x, 3), batch_norm_backward(dy, x)
    assert [g.dtype for g in got] == [g.dtype for g in want]
    np.testing.assert_array_equal(x, before)


def test_a_large_mean_costs_no_digits():
    x = random(4096, 2, dtype=np.float32) + np.float32(1e6)
    exact = ghost_batch_norm(x.astype(np.float64), 1000)
    assert np.abs(ghost_batch_norm(x, 1000) - exact).max() < 1e-6


X = np.ones((6, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ghost_batches(6, 0), ValueError, "expected ghost_batch_size to be at least 1, got 0"),
        (lambda: ghost_batches(6, 2.0), TypeError, "expected ghost_batch_size to be an integer, got float"),
        (lambda: ghost_batch_norm(X, -1), ValueError, "expected ghost_batch_size to be at least 1, got -1"),
        (
            lambda: ghost_batch_norm(X, 1),
            ValueError,
            r"more than 1 value per channel of a ghost batch, got input of shape \(1, 3\)",
        ),
        (lambda: ghost_batch_norm(X[0], 2), ValueError, r"expected at least 2 axes, \(N, C, ...\), got 1"),
        (lambda: ghost_batch_norm(X[:0], 2), ValueError, "expected more than 1 value"),
        (lambda: ghost_batch_norm([[1.0]], 2), TypeError, "expected x to be a NumPy array"),
        (lambda: ghost_batch_norm(X, 2, np.ones(4)), ValueError, r"expected weight of shape \(C,\)"),
        (lambda: ghost_batch_norm(X, 2, eps=-1), ValueError, "expected eps to be finite and at least 0"),
        (lambda: ghost_batch_norm_backward(X[:4], X, 2), ValueError, r"dy of the shape of x, \(6, 3\)"),
        (lambda: ghost_batch_norm_backward(X, X, 1), ValueError, "channel of a ghost batch"),
        (
            lambda: update_by_ghost_batches(RunningStatistics.start(4), X, 2),
            ValueError,
            r"expected running mean of shape \(C,\) = \(3,\), got \(4,\)",
        ),
        (
            lambda: update_by_ghost_batches(RunningStatistics.start(3), X, 2, 1.5),
            ValueError,
            "expected momentum between 0 and 1",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
