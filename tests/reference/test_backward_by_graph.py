import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from batches import batches
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import batch_norm_backward, batch_norm_backward_by_graph, batch_norm_backward_detached

BOTH = [batch_norm_backward_by_graph, batch_norm_backward_detached]


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@given(batches(), st.sampled_from([1e-5, 0.1, 10.0]))
def test_by_graph_equals_the_closed_form(x, eps):
    dy, weight = random(*x.shape, seed=1), random(x.shape[1], seed=2)
    closed = batch_norm_backward(dy, x, weight, eps=eps)
    for got, want in zip(batch_norm_backward_by_graph(dy, x, weight, eps=eps), closed, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * max(1, np.abs(want).max()))


def test_by_graph_equals_pytorch():
    x, dy = torch.from_numpy(random(5, 3, 4)).requires_grad_(), random(5, 3, 4, seed=1)
    (want,) = torch.autograd.grad(F.batch_norm(x, None, None, None, None, True), x, torch.from_numpy(dy))
    np.testing.assert_allclose(batch_norm_backward_by_graph(dy, x.detach().numpy())[0], want, atol=1e-12)


@given(batches(), st.sampled_from([1e-5, 0.1, 10.0]))
def test_detached_is_autograd_with_detached_statistics(x, eps):
    dy, weight = random(*x.shape, seed=1), random(x.shape[1], seed=2)
    t, w = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(weight).requires_grad_()
    axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    mu, var = t.mean(axes, keepdim=True).detach(), t.var(axes, keepdim=True, correction=0).detach()
    y = w.reshape(shape) * (t - mu) / (var + eps).sqrt()
    want = *torch.autograd.grad(y, (t, w), torch.from_numpy(dy)), torch.from_numpy(dy.sum(axes))
    for got, expected in zip(batch_norm_backward_detached(dy, x, weight, eps=eps), want, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-11 * max(1, np.abs(got).max()))


def test_detached_differs_from_the_truth_in_dx_alone():
    x, dy = random(6, 3), random(6, 3, seed=1)
    detached, true = batch_norm_backward_detached(dy, x), batch_norm_backward(dy, x)
    assert np.abs(detached[0] - true[0]).max() > 0.1
    np.testing.assert_allclose(detached[1:], true[1:], atol=1e-12)


def test_detached_statistics_let_the_bias_run_away():
    # The loss does not depend on the bias b before normalization, yet it drifts for ever.
    u, target, b = random(64, 3), 1 + random(64, 3, seed=1), np.zeros(3)
    drift, losses = [], []
    for _ in range(100):
        y = (u + b - (u + b).mean(0)) / np.sqrt((u + b).var(0) + 1e-5)
        losses.append(np.mean((y - target) ** 2))
        b = b - batch_norm_backward_detached(2 * (y - target) / y.size, u + b)[0].sum(0)
        drift.append(np.abs(b).min())
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)
    assert drift[-1] > 9.9 * drift[9] > 1
    np.testing.assert_allclose(batch_norm_backward(random(64, 3, seed=2), u)[0].sum(0), 0, atol=1e-13)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("mean", [0, 1e4, 1e6])
def test_large_means_in_float32(function, mean):
    x = random(512, 3, dtype=np.float32) + np.float32(mean)
    dy = random(512, 3, dtype=np.float32, seed=1)
    for got, want in zip(function(dy, x), function(dy, x.astype(np.float64)), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("function", BOTH)
def test_inputs_are_left_alone(function):
    x, dy, weight = random(6, 3), random(6, 3, seed=1), random(3)
    before = x.copy(), dy.copy(), weight.copy()
    function(dy, x, weight)
    for now, then in zip((x, dy, weight), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("function", BOTH)
def test_errors(function):
    x = random(4, 3)
    with pytest.raises(ValueError, match=r"expected dy of the shape of x, \(4, 3\), got \(3, 4\)"):
        function(x.T, x)
    with pytest.raises(ValueError, match="expected more than 1 value per channel"):
        function(x[:1], x[:1])
    with pytest.raises(ValueError, match=r"expected at least 2 axes, \(N, C, ...\), got 1"):
        function(x[0], x[0])
    with pytest.raises(ValueError, match=r"expected weight of shape \(C,\) = \(3,\), got \(4,\)"):
        function(x, x, np.ones(4))
    with pytest.raises(ValueError, match="expected eps to be finite"):
        function(x, x, eps=-1)
    with pytest.raises(TypeError, match="expected dy to be a NumPy array"):
        function(None, x)
