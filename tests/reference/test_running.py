import numpy as np
import pytest
import torch
from batches import batches
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import RunningStatistics, moments, update_running

MOMENTUM = st.floats(0, 1)


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@given(MOMENTUM, st.integers(1, 50))
def test_many_identical_batches_converge_geometrically(momentum, t):
    running, batch = np.array([0.0, 5.0]), np.array([1.0, -3.0])
    start = running
    for _ in range(t):
        running = update_running(running, batch, momentum)
    want = start + (batch - start) * (1 - (1 - momentum) ** t)
    np.testing.assert_allclose(running, want, rtol=1e-12, atol=1e-12)


@given(MOMENTUM)
def test_the_two_conventions_mirror_one_another(momentum):
    running, batch = random(3, seed=1), random(3, seed=2)
    new = update_running(running, batch, momentum, "new")
    old = update_running(running, batch, 1 - momentum, "old")
    np.testing.assert_allclose(new, old, rtol=1e-12, atol=1e-15)


def test_what_momentum_weighs():
    running, batch = np.array([0.0]), np.array([10.0])
    assert update_running(running, batch, 0.1).tolist() == [1.0]
    assert update_running(running, batch, 0.1, "new").tolist() == [1.0]
    assert update_running(running, batch, 0.1, "old").tolist() == [9.0]
    assert update_running(running, batch, 1).tolist() == [10.0]
    assert update_running(running, batch, 0).tolist() == [0.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_is_that_of_the_running_statistic(dtype):
    running = np.zeros(3, dtype)
    for momentum in (0.1, np.float64(0.1), np.float32(0.1)):
        got = update_running(running, np.ones(3), momentum)
        assert got.dtype == dtype
        assert not running.any()
    assert update_running(np.array(0.0, dtype), np.array(1.0), 0.5).dtype == dtype


# The state, against the trusted framework


MODULES = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, 0.37, None])
@pytest.mark.parametrize("shape", [(2, 3), (9, 3), (5, 3, 7), (4, 3, 5, 2), (2, 3, 2, 3, 2)])
def test_pytorch_agrees_step_by_step(shape, momentum):
    module = MODULES[len(shape)](3, momentum=momentum)
    running = RunningStatistics.start(3)
    for step in range(5):
        x = (3 * random(*shape, seed=step) + step).astype(np.float32)
        module(torch.from_numpy(x))
        running = running.update(x, momentum)
        assert running.count == module.num_batches_tracked == step + 1
        assert running.mean.dtype == running.var.dtype == np.float32
        np.testing.assert_allclose(running.mean, module.running_mean.numpy(), rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(running.var, module.running_var.numpy(), rtol=2e-6, atol=2e-6)


def test_the_default_momentum_is_pytorchs():
    x = random(8, 3, dtype=np.float32)
    got = RunningStatistics.start(3).update(x)
    np.testing.assert_allclose(got.mean, 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(got.var, 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)


@given(batches(least_ndim=3), MOMENTUM, st.sampled_from(["new", "old"]), st.booleans())
def test_an_update_moves_both_statistics(x, momentum, convention, unbiased):
    axes = (0, *range(2, x.ndim))
    state = RunningStatistics.start(x.shape[1], np.float64)
    got = state.update(x, momentum, convention=convention, unbiased=unbiased)
    mean, var = moments(x, axes, unbiased=unbiased)
    np.testing.assert_array_equal(got.mean, update_running(state.mean, mean, momentum, convention))
    np.testing.assert_array_equal(got.var, update_running(state.var, var, momentum, convention))


@pytest.mark.parametrize("convention", ["new", "old"])
def test_the_cumulative_average_weighs_all_batches_alike(convention):
    xs = [random(6, 2, seed=s) + s for s in range(7)]
    state = RunningStatistics.start(2, np.float64)
    for x in xs:
        state = state.update(x, None, convention=convention)
    np.testing.assert_allclose(state.mean, np.mean([x.mean(0) for x in xs], 0), rtol=1e-13)
    np.testing.assert_allclose(state.var, np.mean([x.var(0, ddof=1) for x in xs], 0), rtol=1e-13)


def test_an_update_returns_new_statistics():
    state = RunningStatistics.start(3)
    x = random(4, 3, dtype=np.float32)
    before = x.copy()
    state.update(x)
    assert state.count == 0
    np.testing.assert_array_equal(state.mean, 0)
    np.testing.assert_array_equal(state.var, 1)
    np.testing.assert_array_equal(x, before)


def test_float16_batches_update_in_float32():
    x = np.full((5000, 1), 60, np.float16)
    x[::2] += 8
    got = RunningStatistics.start(1).update(x, 1.0, unbiased=False)
    assert (got.mean.tolist(), got.var.tolist()) == ([64], [16])


def test_a_large_mean_leaves_the_variance_right():
    x = random(4096, 2, dtype=np.float32) + np.float32(1e6)
    got = RunningStatistics.start(2).update(x, 1.0)
    np.testing.assert_allclose(got.var, x.astype(np.float64).var(0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_spoils_its_channel_only(bad):
    x = random(6, 3)
    clean = RunningStatistics.start(3).update(x)
    x[4, 1] = bad
    got = RunningStatistics.start(3).update(x)
    assert np.isnan(got.var[1])
    np.testing.assert_array_equal(got.var[[0, 2]], clean.var[[0, 2]])


# What is refused

START = RunningStatistics.start(3)
ONES = np.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: update_running([1.0], ONES, 0.1), TypeError, "expected running to be a NumPy array"),
        (lambda: update_running(ONES, np.ones(3, int), 0.1), TypeError, "expected batch to be a NumPy array"),
        (
            lambda: update_running(ONES, np.ones(1), 0.1),
            ValueError,
            r"expected batch of shape \(3,\), as running, got \(1,\)",
        ),
        (
            lambda: update_running(ONES, ONES, 1.5),
            ValueError,
            "expected momentum between 0 and 1, got 1.5",
        ),
        (lambda: update_running(ONES, ONES, -0.1), ValueError, "expected momentum between 0 and 1, got -0.1"),
        (
            lambda: update_running(ONES, ONES, np.nan),
            ValueError,
            "expected momentum between 0 and 1, got nan",
        ),
        (lambda: update_running(ONES, ONES, None), TypeError, "expected momentum to be a number"),
        (lambda: update_running(ONES, ONES, 0.1, "keras"), ValueError, "'new' or 'old', got 'keras'"),
        (
            lambda: START.update(np.ones((2, 4))),
            ValueError,
            r"expected running mean of shape \(C,\) = \(4,\), got \(3,\)",
        ),
        (lambda: START.update(np.ones((1, 3))), ValueError, "expected more than 1 value per channel"),
        (lambda: START.update(np.ones(3)), ValueError, r"expected at least 2 axes, \(N, C, ...\), got 1"),
        (lambda: START.update([[1.0]]), TypeError, "expected x to be a NumPy array"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
