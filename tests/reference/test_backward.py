import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from batches import LAYOUTS, batches, batches_and_axes, lay_out
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import (
    batch_norm_backward,
    batch_norm_inference_backward,
    group_norm_backward,
    instance_norm_backward,
    layer_norm_backward,
    normalize,
    normalize_backward,
    rms_norm_backward,
)

EPS = st.sampled_from([1e-5, 1e-3, 0.1, 10.0])
EVERY = {
    "batch": batch_norm_backward,
    "layer": layer_norm_backward,
    "instance": instance_norm_backward,
    "group": lambda dy, x, *args, **kwargs: group_norm_backward(dy, x, 2, *args, **kwargs),
    "rms": rms_norm_backward,
    "any axes": lambda dy, x, **kwargs: (normalize_backward(dy, x, (-1, 0), **kwargs),),
}


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def upstream(x, seed=11):
    return random(*x.shape, dtype=x.dtype, seed=seed)


def exact_dx(dy, x, axes, weight=1.0, eps=1e-5):
    x, g = x.astype(np.float64), dy.astype(np.float64) * weight
    x_centered = x - x.mean(axes, keepdims=True)
    inv_std = 1 / np.sqrt((x_centered**2).mean(axes, keepdims=True) + eps)
    x_hat = x_centered * inv_std
    return inv_std * (g - g.mean(axes, keepdims=True) - x_hat * (g * x_hat).mean(axes, keepdims=True))


# The trusted framework


def autograd(f, dy, *inputs):
    tensors = [torch.from_numpy(np.ascontiguousarray(v)).requires_grad_() for v in inputs]
    return [g.numpy() for g in torch.autograd.grad(f(*tensors), tensors, torch.from_numpy(dy.copy()))]


def assert_agree(ours, theirs, tolerance=1e-9):
    assert len(ours) == len(theirs)
    for got, want in zip(ours, theirs, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        atol = tolerance * max(1.0, np.abs(want).max(initial=0))
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=atol)


def spread(x):
    """Keep samples apart, so that no variance is nearly 0 and every gradient has a moderate size."""
    return 2 * x + np.arange(x.size).reshape(x.shape) * 0.3


@given(batches(), EPS, st.integers(0, 99))
def test_pytorch_agrees_on_batch_norm(x, eps, seed):
    x, dy, c = spread(x), upstream(x, seed), x.shape[1]
    weight, bias, mean, var = (random(c, seed=s) for s in range(4))
    var = var**2 + 0.1
    assert_agree(
        batch_norm_backward(dy, x, weight, eps=eps),
        autograd(lambda x, w, b: F.batch_norm(x, None, None, w, b, True, eps=eps), dy, x, weight, bias),
    )
    running = torch.from_numpy(mean), torch.from_numpy(var)
    assert_agree(
        batch_norm_inference_backward(dy, x, mean, var, weight, eps=eps),
        autograd(lambda x, w, b: F.batch_norm(x, *running, w, b, False, eps=eps), dy, x, weight, bias),
    )


@given(batches(least_ndim=3), EPS, st.integers(0, 99))
def test_pytorch_agrees_on_instance_and_group_norm(x, eps, seed):
    x = spread(np.concatenate([x, -x], axis=1) if x.shape[2:] == (1,) * (x.ndim - 2) else x)
    c = x.shape[1]
    dy, weight, bias = upstream(x, seed), random(c, seed=1), random(c, seed=2)
    if np.prod(x.shape[2:]) > 1:
        assert_agree(
            instance_norm_backward(dy, x, weight, eps=eps),
            autograd(
                lambda x, w, b: F.instance_norm(x, None, None, w, b, True, eps=eps), dy, x, weight, bias
            ),
        )
    for groups in [g for g in range(1, c + 1) if c % g == 0]:
        assert_agree(
            group_norm_backward(dy, x, groups, weight, eps=eps),
            autograd(lambda x, w, b, g=groups: F.group_norm(x, g, w, b, eps), dy, x, weight, bias),
        )


@given(batches(), EPS, st.integers(0, 99), st.data())
def test_pytorch_agrees_on_layer_and_rms_norm(x, eps, seed, data):
    x, last = spread(x), data.draw(st.integers(1, x.ndim))
    features, axes = x.shape[-last:], tuple(range(-last, 0))
    dy, weight, bias = upstream(x, seed), random(*features, seed=1), random(*features, seed=2)
    assert_agree(
        layer_norm_backward(dy, x, weight, axes=axes, eps=eps),
        autograd(lambda x, w, b: F.layer_norm(x, features, w, b, eps), dy, x, weight, bias),
    )
    assert_agree(
        rms_norm_backward(dy, x, weight, axes=axes, eps=eps),
        autograd(lambda x, w: F.rms_norm(x, features, w, eps), dy, x, weight),
    )


@given(batches_and_axes(), EPS, st.booleans(), st.data())
def test_pytorch_agrees_over_any_axes(case, eps, center, data):
    x, axes = spread(case[0]), case[1]
    dy = upstream(x)
    weight = random(*(data.draw(st.sampled_from([1, n])) for n in x.shape), seed=1)

    def forward(x):
        x_centered = x - x.mean(axes, keepdim=True) if center else x
        return (
            torch.from_numpy(weight)
            * x_centered
            / (x_centered.square().mean(axes, keepdim=True) + eps).sqrt()
        )

    got = normalize_backward(dy, x, axes, weight=weight, eps=eps, center=center)
    assert_agree([got], autograd(forward, dy, x))


@pytest.mark.parametrize("name", EVERY)
def test_no_weight_is_a_weight_of_one(name):
    x = random(4, 6, 5)
    shape = {"layer": (6, 5), "rms": (6, 5), "any axes": (1, 1, 1)}.get(name, (6,))
    argument = {"weight": np.ones(shape)}
    for got, want in zip(EVERY[name](upstream(x), x), EVERY[name](upstream(x), x, **argument), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-15)


# What the gradient is orthogonal to, and how it scales


@given(batches_and_axes(), EPS)
def test_the_gradient_sums_to_zero(case, eps):
    x, axes = case
    dx = normalize_backward(upstream(x), x, axes, eps=eps)
    np.testing.assert_allclose(dx.sum(axes), 0, atol=1e-12 * max(1, np.abs(dx).max()))


@given(batches_and_axes(), st.booleans())
def test_the_gradient_is_orthogonal_to_the_output_without_eps(case, center):
    x, axes = case
    x_hat = normalize(x, axes, eps=0, center=center)
    dx = normalize_backward(upstream(x), x, axes, eps=0, center=center)
    np.testing.assert_allclose((dx * x_hat).sum(axes), 0, atol=1e-9 * max(1, np.abs(dx).max()))


@given(batches_and_axes(), EPS)
def test_along_the_output_only_eps_is_left(case, eps):
    x, axes = spread(case[0]), case[1]
    x_hat, var = normalize(x, axes, eps=eps), x.var(axes, keepdims=True)
    want = x_hat * eps / (var + eps) ** 1.5
    np.testing.assert_allclose(normalize_backward(x_hat, x, axes, eps=eps), want, rtol=1e-7, atol=1e-12)


@given(batches_and_axes(), EPS, st.floats(-5, 5), st.floats(-5, 5))
def test_the_gradient_is_linear_in_dy(case, eps, a, b):
    x, axes = case
    dy, other = upstream(x, 1), upstream(x, 2)
    want = a * normalize_backward(dy, x, axes, eps=eps) + b * normalize_backward(other, x, axes, eps=eps)
    got = normalize_backward(a * dy + b * other, x, axes, eps=eps)
    np.testing.assert_allclose(got, want, atol=1e-12 * max(1, np.abs(want).max()))


@given(batches_and_axes(), EPS)
def test_the_jacobian_is_symmetric(case, eps):
    x, axes = case
    v, w = upstream(x, 1), upstream(x, 2)
    left = np.sum(v * normalize_backward(w, x, axes, eps=eps))
    np.testing.assert_allclose(left, np.sum(w * normalize_backward(v, x, axes, eps=eps)), atol=1e-9)


@given(batches_and_axes(), EPS, st.floats(1e-3, 1e3))
def test_a_scale_divides_the_gradient(case, eps, a):
    x, axes = spread(case[0]), case[1]
    dx = normalize_backward(upstream(x), x, axes, eps=eps)
    np.testing.assert_allclose(
        normalize_backward(upstream(x), a * x, axes, eps=a**2 * eps) * a, dx, rtol=1e-7, atol=1e-9
    )


@given(batches_and_axes(dtype=np.float32, on_grid=True), st.sampled_from([-1e6, 0.5, 1e2, 1e4, 1e6]))
def test_a_shift_changes_nothing(case, shift):
    x, axes = case
    dx = normalize_backward(upstream(x), x, axes, eps=0.1)
    np.testing.assert_allclose(
        normalize_backward(upstream(x), x + np.float32(shift), axes, eps=0.1),
        dx,
        atol=1e-5 * np.abs(dx).max(),
    )


def test_two_samples_have_no_gradient_without_eps():
    dx, dweight, _ = batch_norm_backward(random(2, 3), np.array([[1.0, 5, 0], [3, -95, 7]]), eps=0)
    np.testing.assert_allclose(dx, 0, atol=1e-15)
    assert np.abs(dweight).min() > 0.01


@given(batches(), st.data())
def test_channels_do_not_meet(x, data):
    k = data.draw(st.integers(0, x.shape[1] - 1))
    dy, weight = upstream(x), random(x.shape[1], seed=8)
    part = np.s_[:, k : k + 1]
    alone = batch_norm_backward(dy[part], x[part], weight[k : k + 1])
    every = batch_norm_backward(dy, x, weight)
    np.testing.assert_allclose(every[0][part], alone[0], atol=1e-9)
    np.testing.assert_allclose([every[1][k], every[2][k]], [alone[1][0], alone[2][0]], atol=1e-12)


def test_samples_meet_in_training_and_not_in_inference():
    x, dy = random(5, 3), np.zeros((5, 3))
    dy[2] = random(3, seed=1)
    others = [0, 1, 3, 4]
    assert np.abs(batch_norm_backward(dy, x)[0][others]).min() > 1e-3
    inference = batch_norm_inference_backward(dy, x, np.zeros(3), np.ones(3))
    np.testing.assert_array_equal(inference[0][others], 0)


# Accuracy


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mean", [0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(8192, 8), (4097, 33), (16, 32, 14, 14)])
def test_float32_is_within_1e5th_of_float64(shape, mean, layout):
    x = lay_out(random(*shape, dtype=np.float32, seed=7) + np.float32(mean), layout)
    dy, weight = lay_out(upstream(x), layout), random(shape[1], dtype=np.float32, seed=8)
    axes = (0, *range(2, x.ndim))
    exact = x.astype(np.float64)
    gamma = weight.astype(np.float64).reshape(1, -1, *[1] * (x.ndim - 2))
    want = exact_dx(dy, x, axes, gamma)
    dx, dweight, dbias = batch_norm_backward(dy, x, weight)
    assert dx.dtype == dweight.dtype == dbias.dtype == np.float32
    np.testing.assert_allclose(dx, want, rtol=0, atol=1e-5 * np.abs(want).max())
    x_hat = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(exact.var(axes, keepdims=True) + 1e-5)
    size = np.sqrt(x[:, 0].size)
    np.testing.assert_allclose(dweight, (dy * x_hat).sum(axes), rtol=0, atol=1e-5 * size)
    np.testing.assert_allclose(dbias, dy.sum(axes, dtype=np.float64), rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_huge_and_tiny_inputs(size):
    x = random(64, 3, dtype=np.float32)
    dx, dweight, _ = batch_norm_backward(upstream(x), x, eps=0)
    scaled = batch_norm_backward(upstream(x), x * np.float32(size), eps=0)
    np.testing.assert_allclose(scaled[0] * np.float32(size), dx, atol=1e-5)
    np.testing.assert_allclose(scaled[1], dweight, atol=1e-5)


def test_float16_is_computed_in_float32():
    x = (random(3000, 4) * 3 + 200).astype(np.float16)
    dy, weight = upstream(x), np.array([1.0, -2.0, 0.5, 3.0], np.float16)
    dx, dweight, dbias = batch_norm_backward(dy, x, weight)
    assert (dx.dtype, dweight.dtype, dbias.dtype) == (np.float16, np.float32, np.float32)
    np.testing.assert_allclose(dx, exact_dx(dy, x, 0, weight.astype(float)), rtol=2**-11, atol=2e-6)


# What goes in and what comes out


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", EVERY)
def test_layout_dtype_and_input_are_kept(name, layout, dtype):
    x = lay_out(random(4, 6, 5, 3, dtype=dtype), layout)
    dy = lay_out(upstream(x), layout)
    before = x.copy(), dy.copy()
    dx = EVERY[name](dy, x)[0]
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
    assert not np.shares_memory(dx, x)
    assert not np.shares_memory(dx, dy)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(dy, before[1])
    np.testing.assert_allclose(dx, EVERY[name](*before[::-1])[0], atol=1e-2 if dtype == np.float16 else 2e-6)


@pytest.mark.parametrize("other", [np.float16, np.float32, np.float64])
def test_the_dtype_is_that_of_x_whatever_the_others(other):
    x, dy, weight = random(8, 3, dtype=np.float32), random(8, 3, dtype=other), random(3, dtype=other)
    statistics = np.zeros(3, other), np.ones(3, other)
    for got in (
        *batch_norm_backward(dy, x, weight),
        *batch_norm_inference_backward(dy, x, *statistics, weight),
        *layer_norm_backward(dy, x, weight),
    ):
        assert got.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "dy"])
@pytest.mark.parametrize(
    ("name", "spoiled"),
    [
        ("batch", np.s_[:, 1]),
        ("layer", np.s_[2]),
        ("instance", np.s_[2, 1]),
        ("group", np.s_[2, :2]),
        ("any axes", np.s_[:, 1, :, :]),
    ],
)
def test_a_bad_value_spoils_only_what_it_is_normalized_with(name, spoiled, where, bad):
    x = random(3, 4, 1, 5, dtype=np.float32)
    dy = upstream(x)
    want = EVERY[name](dy, x)[0]
    want[spoiled] = np.nan
    (x if where == "x" else dy)[2, 1, 0, 3] = bad
    got = EVERY[name](dy, x)[0]
    got[np.isinf(got)] = np.nan
    np.testing.assert_array_equal(got, want)


def test_a_bad_value_spoils_the_gradient_of_its_own_parameters():
    x = random(6, 3)
    dy = upstream(x)
    x[4, 1] = np.nan
    _, dweight, dbias = batch_norm_backward(dy, x)
    assert np.isnan(dweight).tolist() == [False, True, False]
    assert np.isfinite(dbias).all()


def test_a_constant_channel_passes_what_eps_lets_through():
    x, dy = random(50, 3), random(50, 3, seed=1)
    x[:, 1] = 3.3
    dx, dweight, _ = batch_norm_backward(dy, x, eps=0.01)
    np.testing.assert_allclose(dx[:, 1], 10 * (dy - dy.mean(0))[:, 1], rtol=1e-9)
    np.testing.assert_allclose(dweight[1], 0, atol=1e-12)
    assert np.isnan(batch_norm_backward(dy, x, eps=0)[0][:, 1]).all()


def test_no_samples_or_no_channels():
    def empty(*shape):
        return np.empty(shape), np.empty(shape)

    assert [g.shape for g in layer_norm_backward(*empty(0, 5))] == [(0, 5), (5,), (5,)]
    assert [g.shape for g in group_norm_backward(*empty(0, 4, 3), 2)] == [(0, 4, 3), (4,), (4,)]
    assert [g.shape for g in batch_norm_backward(*empty(4, 0, 3))] == [(4, 0, 3), (0,), (0,)]
    for shape in ((0, 2), (3, 2, 0)):
        inference = batch_norm_inference_backward(*empty(*shape), np.zeros(2), np.ones(2))
        np.testing.assert_array_equal(inference[1:], [[0, 0], [0, 0]])


# What is refused

X = random(4, 3, 5)
ONES = np.ones(3)


@pytest.mark.parametrize("name", [*EVERY, "inference"])
@pytest.mark.parametrize(
    ("dy", "x", "eps", "error", "message"),
    [
        (
            np.ones((2, 4, 3)),
            np.ones((2, 4, 3)),
            -1.0,
            ValueError,
            "eps to be finite and at least 0, got -1.0",
        ),
        (np.ones((2, 4, 3)), np.ones((2, 4, 3)), "1", TypeError, "expected eps to be a number, got str"),
        (
            np.ones((2, 4)),
            np.ones((2, 4, 3)),
            1e-5,
            ValueError,
            r"dy of the shape of x, \(2, 4, 3\), got \(2, 4\)",
        ),
        ([[1.0]], np.ones((2, 4, 3)), 1e-5, TypeError, "expected dy to be a NumPy array of .*, got list"),
        (
            np.ones((2, 4, 3)),
            np.ones((2, 4, 3), int),
            1e-5,
            TypeError,
            "expected x .*, got an array of int64",
        ),
    ],
)
def test_refused_arguments(name, dy, x, eps, error, message):
    statistics = np.ones(4), np.ones(4)
    function = EVERY.get(
        name, lambda dy, x, **kwargs: batch_norm_inference_backward(dy, x, *statistics, **kwargs)
    )
    with pytest.raises(error, match=message):
        function(dy, x, eps=eps)


REFUSED = [
    (lambda: batch_norm_backward(np.ones((1, 3)), np.ones((1, 3))), "more than 1 value per channel"),
    (lambda: batch_norm_backward(ONES, ONES), r"expected at least 2 axes, \(N, C, ...\), got 1"),
    (lambda: batch_norm_backward(X, X, np.ones(4)), r"expected weight of shape \(C,\) = \(3,\), got \(4,\)"),
    (lambda: batch_norm_inference_backward(X, X, np.ones(5), ONES), r"expected mean of shape .* got \(5,\)"),
    (lambda: batch_norm_inference_backward(X, X, ONES, np.ones(5)), r"expected var of shape .* got \(5,\)"),
    (
        lambda: batch_norm_inference_backward(ONES, ONES, ONES, ONES),
        r"expected at least 2 axes, \(N, C, ...\), got 1",
    ),
    (lambda: group_norm_backward(ONES, ONES, 1), r"expected at least 2 axes, \(N, C, ...\), got 1"),
    (
        lambda: layer_norm_backward(X, X, np.ones(5)),
        r"weight of shape \(3, 5\), the lengths of axes \(1, 2\), got \(5,\)",
    ),
    (lambda: layer_norm_backward(X, X, axes=3), "expected axes between -3 and 2"),
    (
        lambda: rms_norm_backward(X, X, ONES),
        r"weight of shape \(3, 5\), the lengths of axes \(1, 2\), got \(3,\)",
    ),
    (lambda: group_norm_backward(X, X, 2), "expected num_groups to divide the 3 channels, got 2"),
    (lambda: group_norm_backward(X, X, 3, np.ones(5)), r"weight of shape \(C,\) = \(3,\), got \(5,\)"),
    (
        lambda: instance_norm_backward(np.ones((2, 3)), np.ones((2, 3))),
        r"expected at least 3 axes, \(N, C, L, ...\), got 2",
    ),
    (lambda: instance_norm_backward(X[..., :1], X[..., :1]), "more than 1 value per sample and channel"),
    (lambda: normalize_backward(X, X, (0, 0)), "expected axes that differ from one another"),
    (
        lambda: normalize_backward(X, X, 0, weight=ONES),
        r"weight to have 3 axes and broadcast to .* got \(3,\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()
