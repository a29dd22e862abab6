import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from batches import batches, batches_and_axes
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import central_difference, normalize_backward, normalize_double_backward

EPS = st.sampled_from([1e-3, 0.1, 10.0])


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def double_autograd(forward, ddx, dy, x):
    x = torch.from_numpy(x.copy()).requires_grad_()
    dy = torch.from_numpy(dy).requires_grad_()
    (dx,) = torch.autograd.grad(forward(x), x, dy, create_graph=True)
    return [g.numpy() for g in torch.autograd.grad(dx, (dy, x), torch.from_numpy(ddx))]


def assert_agree(ours, theirs, tolerance=1e-9):
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1, np.abs(want).max()))


@given(batches_and_axes(), EPS, st.booleans(), st.data())
def test_pytorch_agrees_over_any_axes(case, eps, center, data):
    x, axes = case
    ddx, dy = random(*x.shape, seed=1), random(*x.shape, seed=2)
    weight = random(*(data.draw(st.sampled_from([1, n])) for n in x.shape), seed=3)

    def forward(x):
        x_centered = x - x.mean(axes, keepdim=True) if center else x
        return (
            torch.from_numpy(weight)
            * x_centered
            / (x_centered.square().mean(axes, keepdim=True) + eps).sqrt()
        )

    got = normalize_double_backward(ddx, dy, x, axes, weight=weight, eps=eps, center=center)
    assert_agree(got, double_autograd(forward, ddx, dy, x))


@given(batches(), EPS)
def test_pytorchs_own_batch_norm_agrees(x, eps):
    ddx, dy, weight = random(*x.shape, seed=1), random(*x.shape, seed=2), random(x.shape[1], seed=3)
    axes, gamma = (0, *range(2, x.ndim)), weight.reshape(1, -1, *[1] * (x.ndim - 2))
    theirs = double_autograd(
        lambda x: F.batch_norm(x, None, None, torch.from_numpy(weight), None, True, eps=eps), ddx, dy, x
    )
    assert_agree(normalize_double_backward(ddx, dy, x, axes, weight=gamma, eps=eps), theirs)


@pytest.mark.parametrize("center", [True, False])
def test_finite_differences_of_the_backward_pass_agree(center):
    x, dy, ddx = (random(5, 3, seed=s) for s in range(3))

    def by_dy(dy):
        return normalize_backward(dy, x, 0, eps=0.1, center=center)

    def by_x(x):
        return normalize_backward(dy, x, 0, eps=0.1, center=center)

    want = central_difference(by_dy, dy, ddx), central_difference(by_x, x, ddx)
    assert_agree(normalize_double_backward(ddx, dy, x, 0, eps=0.1, center=center), want, 1e-8)


@given(batches_and_axes(), EPS)
def test_the_second_derivative_is_symmetric_in_ddx_and_dy(case, eps):
    x, axes = case
    v, g = random(*x.shape, seed=1), random(*x.shape, seed=2)
    one, other = (normalize_double_backward(*pair, x, axes, eps=eps)[1] for pair in ((v, g), (g, v)))
    np.testing.assert_allclose(one, other, atol=1e-11 * max(1, np.abs(one).max()))


@given(batches_and_axes(), EPS)
def test_a_shift_of_ddx_or_x_changes_nothing(case, eps):
    x, axes = case
    v, g = random(*x.shape, seed=1), random(*x.shape, seed=2)
    want = normalize_double_backward(v, g, x, axes, eps=eps)
    assert_agree(normalize_double_backward(v + 3, g - 2, x + 1, axes, eps=eps), want)
    np.testing.assert_allclose(want[1].sum(axes), 0, atol=1e-10 * max(1, np.abs(want[1]).max()))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_lower_precision(dtype):
    x, dy, v = (random(64, 3, dtype=dtype, seed=s) for s in range(3))
    exact = normalize_double_backward(*(a.astype(np.float64) for a in (v, dy, x)), 0)
    for got, want in zip(normalize_double_backward(v, dy, x, 0), exact, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(
            got, want, atol={np.float16: 2e-3, np.float32: 1e-5}[dtype] * np.abs(want).max()
        )


def test_large_means_and_inputs_left_alone():
    x, dy, v = random(64, 3, dtype=np.float32) + np.float32(1e6), random(64, 3, seed=1), random(64, 3, seed=2)
    before = x.copy(), dy.copy(), v.copy()
    got = normalize_double_backward(v, dy, x, 0)
    assert_agree(got, normalize_double_backward(v, dy, x.astype(np.float64), 0), 1e-5)
    for now, then in zip((x, dy, v), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_errors():
    x = random(4, 3)
    with pytest.raises(ValueError, match=r"expected ddx of the shape of x, \(4, 3\), got \(3, 4\)"):
        normalize_double_backward(x.T, x, x, 0)
    with pytest.raises(ValueError, match=r"expected dy of the shape of x, \(4, 3\), got \(3, 4\)"):
        normalize_double_backward(x, x.T, x, 0)
    with pytest.raises(ValueError, match="expected axes between"):
        normalize_double_backward(x, x, x, 2)
    with pytest.raises(ValueError, match="expected weight to have 2 axes"):
        normalize_double_backward(x, x, x, 0, weight=np.ones(3))
    with pytest.raises(ValueError, match="expected eps to be finite"):
        normalize_double_backward(x, x, x, 0, eps=-1)
