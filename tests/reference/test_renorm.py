from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from batches import batches
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import (
    RenormSchedule,
    RunningStatistics,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_renorm,
    batch_renorm_backward,
    renorm_correction,
    update_renorm,
)

UNBOUND = {"r_max": 1e9, "d_max": 1e9}


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def spread(x):
    """Keep samples apart, so that no variance is nearly 0."""
    return 2 * x + np.arange(x.size).reshape(x.shape) * 0.3


def parameters(channels):
    """Return a running mean, a running variance, a weight and a bias."""
    mean, var, weight, bias = (random(channels, seed=seed) for seed in range(1, 5))
    return 3 * mean, 4 * var**2 + 0.1, weight, bias


# The schedule


@pytest.mark.parametrize(
    ("step", "r_max", "d_max"),
    [
        (0, 1, 0),
        (4_999, 1, 0),
        (5_000, 1, 0),
        (15_000, 1 + 2 * 10 / 35, 2.5),
        (22_500, 2, 5 * 17.5 / 20),
        (25_000, 1 + 2 * 20 / 35, 5),
        (40_000, 3, 5),
        (10**9, 3, 5),
    ],
)
def test_the_default_schedule_is_that_of_the_paper(step, r_max, d_max):
    np.testing.assert_allclose(RenormSchedule()(step), (r_max, d_max), rtol=1e-12)


@pytest.mark.parametrize(
    "schedule", [RenormSchedule(), RenormSchedule(1.3, 0.7, 10, 10, 30), RenormSchedule.constant(1.3, 4.7)]
)
def test_numbers_arrays_and_tensors_are_steps_alike(schedule):
    steps = [0, 1, 9, 10, 11, 5_000, 9_999, 33_333, 100_000]
    one_by_one = np.array([schedule(step) for step in steps])
    np.testing.assert_allclose(np.stack(schedule(np.array(steps)), 1), one_by_one, rtol=1e-14)
    r_max, d_max = schedule(torch.tensor(steps, dtype=torch.float64))
    np.testing.assert_allclose(torch.stack([r_max, d_max], 1), one_by_one, rtol=1e-14)
    assert torch.is_tensor(schedule(torch.tensor(3))[0])


def test_an_end_at_the_start_is_a_jump():
    schedule = RenormSchedule(2, 7, start=10, r_end=10, d_end=20)
    assert [schedule(step) for step in (9, 10, 15, 20)] == [(1, 0), (2, 0), (2, 3.5), (2, 7)]


def test_constant_bounds():
    assert {RenormSchedule.constant(2.5, 4)(step) for step in (0, 1, 10**6)} == {(2.5, 4.0)}


def test_a_schedule_is_a_value():
    schedule = RenormSchedule()
    assert schedule == RenormSchedule(3, 5, 5_000, 40_000, 25_000)
    with pytest.raises(FrozenInstanceError):
        schedule.r_max = 4


# The trusted framework


def by_pytorch(x, mean, var, weight, bias, r_max, d_max, eps):
    """Batch renormalization as Algorithm 1 reads."""
    axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    mu_batch = x.mean(axes)
    sigma_batch = ((x - mu_batch.reshape(shape)) ** 2).mean(axes).add(eps).sqrt()
    sigma = (var + eps).sqrt()
    r = (sigma_batch / sigma).detach().clamp(1 / r_max, r_max)
    d = ((mu_batch - mean) / sigma).detach().clamp(-d_max, d_max)
    x_hat = (x - mu_batch.reshape(shape)) / sigma_batch.reshape(shape) * r.reshape(shape) + d.reshape(shape)
    return weight.reshape(shape) * x_hat + bias.reshape(shape)


@given(
    batches(),
    st.sampled_from([1.0, 1.3, 3.0]),
    st.sampled_from([0.0, 0.5, 5.0]),
    st.sampled_from([1e-5, 1.0]),
)
def test_autograd_agrees_where_it_sees_constants(x, r_max, d_max, eps):
    x = spread(x)
    mean, var, weight, bias = parameters(x.shape[1])
    dy, bounds = random(*x.shape, seed=9), {"r_max": r_max, "d_max": d_max, "eps": eps}
    leaves = [torch.from_numpy(v.copy()).requires_grad_() for v in (x, weight, bias)]
    y = by_pytorch(leaves[0], torch.from_numpy(mean), torch.from_numpy(var), *leaves[1:], **bounds)
    expected = torch.autograd.grad(y, leaves, torch.from_numpy(dy))
    np.testing.assert_allclose(batch_renorm(x, mean, var, weight, bias, **bounds), y.detach(), 1e-9, 1e-9)
    for got, want in zip(batch_renorm_backward(dy, x, mean, var, weight, **bounds), expected, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, 1e-9, 1e-8)


# What it reduces to


@given(batches())
def test_bounds_of_1_and_0_are_batch_norm_exactly(x):
    mean, var, weight, bias = parameters(x.shape[1])
    dy, bounds = random(*x.shape, seed=9), {"r_max": 1, "d_max": 0}
    got = batch_renorm(x, mean, var, weight, bias, **bounds)
    np.testing.assert_array_equal(got, batch_norm(x, weight, bias))
    np.testing.assert_array_equal(batch_renorm(x, mean, var, **bounds), batch_norm(x))
    got = batch_renorm_backward(dy, x, mean, var, weight, **bounds)
    for a, b in zip(got, batch_norm_backward(dy, x, weight), strict=True):
        np.testing.assert_array_equal(a, b)


@given(batches(), st.sampled_from([1e-5, 1.0]))
def test_training_computes_what_inference_will_where_nothing_is_clipped(x, eps):
    x = spread(x)
    mean, var, weight, bias = parameters(x.shape[1])
    got = batch_renorm(x, mean, var, weight, bias, **UNBOUND, eps=eps)
    np.testing.assert_allclose(got, batch_norm_inference(x, mean, var, weight, bias, eps=eps), 1e-9, 1e-9)


@given(batches())
def test_the_gradient_is_still_that_of_a_batch(x):
    """With r and d constants, dx is orthogonal to 1 and to x_hat; that of inference is not."""
    x = spread(x)
    mean, var, weight, _ = parameters(x.shape[1])
    axes = (0, *range(2, x.ndim))
    dy = random(*x.shape, seed=9)
    dx = batch_renorm_backward(dy, x, mean, var, weight, eps=0)[0]
    x_hat = batch_norm(x, eps=0)
    small = 1e-9 * np.abs(dy).sum(axes) * np.abs(weight) / x.std(axes)
    assert np.all(np.abs(dx.sum(axes)) < small)
    assert np.all(np.abs((dx * x_hat).sum(axes)) < small)


# The correction


def test_the_correction_stops_at_its_bounds():
    x = np.array([[0.0, 100.0, 0.5], [200.0, 100.2, -0.5]])
    mean, var = np.zeros(3), np.full(3, 0.25)
    r, d = renorm_correction(x, mean, var, 3, 5, eps=0)
    np.testing.assert_allclose(r, [3, 1 / 3, 1], rtol=1e-12)
    np.testing.assert_allclose(d, [5, 5, 0], rtol=1e-12)
    np.testing.assert_allclose(renorm_correction(-x, mean, var, 3, 5, eps=0)[1], [-5, -5, 0], rtol=1e-12)


def test_what_the_correction_is():
    x = random(50, 2) * [2, 3] + [1, -1]
    r, d = renorm_correction(x, np.array([0.5, 0.0]), np.array([4.0, 4.0]), 9, 9, eps=0)
    np.testing.assert_allclose(r, x.std(0) / 2, rtol=1e-12)
    np.testing.assert_allclose(d, (x.mean(0) - [0.5, 0]) / 2, rtol=1e-12)


# Running statistics


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("momentum", [0.3, 0.0, 1.0])
def test_what_runs_is_the_standard_deviation(momentum, eps):
    running = RunningStatistics(np.array([1.0, 2.0]), np.array([0.5, 3.0]))
    mu, sigma = running.mean, np.sqrt(running.var + eps)
    for seed in range(4):
        x = random(7, 2, seed=seed) * (seed + 1)
        running = update_renorm(running, x, momentum, eps=eps)
        mu = mu + momentum * (x.mean(0) - mu)
        sigma = sigma + momentum * (np.sqrt(x.var(0) + eps) - sigma)
    np.testing.assert_allclose(running.mean, mu, rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(running.var + eps), sigma, rtol=1e-12)
    assert running.count == 4


def test_no_momentum_averages_all_batches_alike():
    running, xs = RunningStatistics.start(2, np.float64), [random(6, 2, seed=s) * (s + 1) for s in range(5)]
    for x in xs:
        running = update_renorm(running, x, None)
    np.testing.assert_allclose(running.mean, np.mean([x.mean(0) for x in xs], 0), rtol=1e-12)
    sigma = np.mean([np.sqrt(x.var(0) + 1e-5) for x in xs], 0)
    np.testing.assert_allclose(np.sqrt(running.var + 1e-5), sigma, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.1, 0.3])
def test_a_constant_channel_leaves_no_negative_variance(dtype, eps):
    running = RunningStatistics(np.zeros(1, dtype), np.zeros(1, dtype))
    for _ in range(20):
        running = update_renorm(running, np.full((5, 1), 3, dtype), 0.3, eps=eps)
        assert running.var.dtype == running.mean.dtype == dtype
        assert 0 <= running.var[0] < 1e-6


def test_an_update_returns_new_statistics():
    state, x = RunningStatistics.start(3), random(4, 3, dtype=np.float32)
    before = x.copy()
    update_renorm(state, x)
    batch_renorm(x, state.mean, state.var)
    np.testing.assert_array_equal(state.mean, 0)
    np.testing.assert_array_equal(state.var, 1)
    np.testing.assert_array_equal(x, before)


# Digits, dtypes, bad values


def test_a_large_mean_costs_no_digits():
    x = random(4096, 2, dtype=np.float32) + np.float32(1e6)
    mean, var, weight, bias = (p.astype(np.float32) for p in parameters(2))
    mean = np.float32(1e6) + mean
    exact = batch_renorm(x.astype(np.float64), *(p.astype(np.float64) for p in (mean, var, weight, bias)))
    assert np.abs(batch_renorm(x, mean, var, weight, bias) - exact).max() < 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_those_of_batch_norm(dtype):
    x, dy = random(9, 3, dtype=dtype), random(9, 3, dtype=dtype, seed=1)
    mean, var, weight, bias = (p.astype(dtype) for p in parameters(3))
    assert batch_renorm(x, mean, var, weight, bias).dtype == dtype
    got, want = batch_renorm_backward(dy, x, mean, var, weight), batch_norm_backward(dy, x, weight)
    assert [g.dtype for g in got] == [g.dtype for g in want]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_spoils_its_channel_only(bad):
    x, clean = random(6, 3), random(6, 3)
    x[4, 1] = bad
    mean, var, weight, bias = parameters(3)
    y, expected = (batch_renorm(v, mean, var, weight, bias) for v in (x, clean))
    assert np.isnan(y[:, 1]).all()
    np.testing.assert_array_equal(y[:, [0, 2]], expected[:, [0, 2]])
    assert np.isnan(update_renorm(RunningStatistics.start(3), x).var[1])


X, ONES = np.ones((6, 3)), np.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RenormSchedule(r_max=0.9), ValueError, "expected r_max to be at least 1, got 0.9"),
        (lambda: RenormSchedule(d_max=-1), ValueError, "expected d_max to be at least 0, got -1"),
        (lambda: RenormSchedule(start=-1), ValueError, "expected 0 <= start <= r_end .*, got start=-1"),
        (lambda: RenormSchedule(start=30_000), ValueError, "got start=30000, r_end=40000, d_end=25000"),
        (lambda: batch_renorm(X, ONES, ONES, r_max=np.nan), ValueError, "r_max to be at least 1, got nan"),
        (lambda: batch_renorm(X, ONES, ONES, d_max=-0.5), ValueError, "d_max to be at least 0, got -0.5"),
        (lambda: batch_renorm(X[:1], ONES, ONES), ValueError, "expected more than 1 value per channel"),
        (
            lambda: batch_renorm(X[0], ONES, ONES),
            ValueError,
            r"expected at least 2 axes, \(N, C, ...\), got 1",
        ),
        (lambda: batch_renorm([[1.0]], ONES, ONES), TypeError, "expected x to be a NumPy array"),
        (lambda: batch_renorm(X, ONES[:2], ONES), ValueError, r"expected running_mean of shape \(C,\)"),
        (lambda: batch_renorm(X, ONES, np.ones(3, int)), TypeError, "expected running_var to be a NumPy"),
        (lambda: batch_renorm(X, ONES, ONES, ONES[:1]), ValueError, r"expected weight of shape \(C,\)"),
        (lambda: batch_renorm(X, ONES, ONES, None, ONES[:1]), ValueError, "expected bias of shape"),
        (lambda: batch_renorm(X, ONES, ONES, eps=-1), ValueError, "expected eps to be finite and at least 0"),
        (lambda: batch_renorm_backward(X[:2], X, ONES, ONES), ValueError, "expected dy of the shape of x"),
        (lambda: batch_renorm_backward(X, X, ONES, ONES, ONES[:1]), ValueError, "expected weight of shape"),
        (lambda: update_renorm(RunningStatistics.start(4), X), ValueError, "expected running mean of shape"),
        (lambda: update_renorm(RunningStatistics.start(3), X, 2), ValueError, "momentum between 0 and 1"),
        (lambda: update_renorm(RunningStatistics.start(3), X[:1]), ValueError, "more than 1 value"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
