import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from batches import LAYOUTS, batches, batches_and_axes, lay_out
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import (
    batch_norm,
    batch_norm_axes,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    moments,
    normalize,
    rms_norm,
)

EPS = st.sampled_from([0.0, 1e-5, 1e-3, 0.1, 10.0])
EVERY = {
    "batch": batch_norm,
    "layer": layer_norm,
    "instance": instance_norm,
    "group": lambda x, *args, **kwargs: group_norm(x, 2, *args, **kwargs),
    "rms": rms_norm,
    "any axes": lambda x, **kwargs: normalize(x, (-1, 0), **kwargs),
}


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def affine(channels, dtype=np.float64):
    return random(channels, dtype=dtype, seed=8), random(channels, dtype=dtype, seed=9)


def exact_batch_norm(x, eps=1e-5):
    x = x.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    x_centered = x - x.mean(axes, keepdims=True)
    return x_centered / np.sqrt((x_centered**2).mean(axes, keepdims=True) + eps)


# What normalizing does, over any axes


@given(batches_and_axes(), EPS)
def test_mean_is_zero_and_variance_is_var_over_var_plus_eps(case, eps):
    x, axes = case
    x_hat = normalize(x, axes, eps=eps)
    var = x.var(axes)
    np.testing.assert_allclose(x_hat.mean(axes), 0, atol=1e-12)
    np.testing.assert_allclose(x_hat.var(axes), var / (var + eps), rtol=1e-12)


@given(batches_and_axes(), EPS)
def test_without_centering_the_mean_square_is_normalized(case, eps):
    x, axes = case
    mean_square = np.square(x).mean(axes)
    y = normalize(x, axes, eps=eps, center=False)
    np.testing.assert_allclose(np.square(y).mean(axes), mean_square / (mean_square + eps), rtol=1e-12)
    np.testing.assert_array_equal(np.sign(y), np.sign(x))


@given(batches_and_axes(dtype=np.float32, on_grid=True), st.sampled_from([-1e6, 0.5, 1e2, 1e4, 1e6]))
def test_a_shift_changes_nothing(case, shift):
    x, axes = case
    np.testing.assert_allclose(normalize(x + np.float32(shift), axes), normalize(x, axes), atol=1e-6)


@given(batches_and_axes(), st.floats(1e-3, 1e3))
def test_a_positive_scale_changes_nothing_without_eps(case, a):
    x, axes = case
    np.testing.assert_allclose(normalize(a * x, axes, eps=0), normalize(x, axes, eps=0), atol=1e-9)


@given(batches_and_axes(), st.floats(1e-3, 1e3), EPS)
def test_a_scale_rescales_eps(case, a, eps):
    x, axes = case
    np.testing.assert_allclose(normalize(a * x, axes, eps=a**2 * eps), normalize(x, axes, eps=eps), atol=1e-9)


@given(batches_and_axes(dtype=np.float32, on_grid=True), st.booleans())
def test_the_sign_flips_with_the_sign_of_the_input(case, center):
    x, axes = case
    np.testing.assert_array_equal(normalize(-x, axes, center=center), -normalize(x, axes, center=center))


@given(batches(), st.randoms(use_true_random=False))
def test_samples_keep_their_values_when_permuted(x, rng):
    order = rng.sample(range(len(x)), len(x))
    np.testing.assert_allclose(batch_norm(x[order]), batch_norm(x)[order], atol=1e-12)


@given(batches(), st.data())
def test_channels_do_not_meet(x, data):
    channel = data.draw(st.integers(0, x.shape[1] - 1))
    alone = batch_norm(x[:, channel : channel + 1])
    np.testing.assert_allclose(batch_norm(x)[:, channel : channel + 1], alone, atol=1e-12)


@given(batches_and_axes())
def test_twice_is_once_without_eps(case):
    x, axes = case
    once = normalize(x, axes, eps=0)
    np.testing.assert_allclose(normalize(once, axes, eps=0), once, atol=1e-9)


def test_two_samples_lose_their_distance():
    x = np.array([[1.0, 5.0], [3.0, -95.0]])
    np.testing.assert_allclose(batch_norm(x, eps=0), [[-1, 1], [1, -1]], rtol=1e-15)
    np.testing.assert_allclose(batch_norm(x, eps=3.0)[:, 0], [-0.5, 0.5], rtol=1e-15)


# One formula


@pytest.mark.parametrize(("ndim", "axes"), [(2, (0,)), (3, (0, 2)), (4, (0, 2, 3)), (5, (0, 2, 3, 4))])
def test_batch_norm_axes(ndim, axes):
    assert batch_norm_axes(ndim) == axes


@given(batches(), EPS)
def test_training_is_inference_with_the_moments_of_the_batch(x, eps):
    weight, bias = affine(x.shape[1])
    mean, var = moments(x, batch_norm_axes(x.ndim))
    inference = batch_norm_inference(x, mean, var, weight, bias, eps=eps)
    np.testing.assert_allclose(batch_norm(x, weight, bias, eps=eps), inference, rtol=1e-9, atol=1e-9)


def test_inference_uses_a_float64_mean_in_full():
    x = random(512, 3, dtype=np.float32) + np.float32(1e6)
    exact = x.astype(np.float64)
    y = batch_norm_inference(x, exact.mean(0), exact.var(0))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, batch_norm(x), atol=1e-6)


def test_inference_takes_one_sample_or_none():
    mean, var = np.array([1.0, 2.0]), np.array([4.0, 0.25])
    y = batch_norm_inference(np.array([[3.0, 3.0]]), mean, var, eps=0)
    np.testing.assert_array_equal(y, [[1, 2]])
    assert batch_norm_inference(np.empty((0, 2)), mean, var).shape == (0, 2)


@given(batches(least_ndim=3))
def test_instance_norm_is_group_norm_with_one_channel_a_group(x):
    if np.prod(x.shape[2:]) < 2:
        x = np.concatenate([x, 2 * x], axis=2)
    parameters = affine(x.shape[1])
    grouped = group_norm(x, x.shape[1], *parameters)
    np.testing.assert_allclose(instance_norm(x, *parameters), grouped, atol=1e-12)


@given(batches())
def test_layer_norm_is_group_norm_with_one_group(x):
    np.testing.assert_allclose(layer_norm(x), group_norm(x, 1), atol=1e-12)


@given(batches())
def test_batch_norm_of_the_transpose_is_layer_norm(x):
    x = x.reshape(x.shape[0], -1)
    weight, bias = affine(len(x))
    want = layer_norm(x) * weight[:, None] + bias[:, None]
    np.testing.assert_allclose(batch_norm(x.T, weight, bias).T if x.shape[1] > 1 else want, want, atol=1e-12)


@given(batches())
def test_layer_norm_of_centered_samples_is_rms_norm(x):
    x = x - x.mean(tuple(range(1, x.ndim)), keepdims=True)
    np.testing.assert_allclose(layer_norm(x), rms_norm(x), atol=1e-9)


@given(batches_and_axes())
def test_scale_and_shift_follow_normalizing(case):
    x, axes = case
    weight, bias = random(*x.shape, seed=5), random(*x.shape, seed=6)
    want = weight * normalize(x, axes) + bias
    np.testing.assert_allclose(normalize(x, axes, weight=weight, bias=bias), want, atol=1e-12)


def test_parameters_follow_the_axes_in_their_order_in_x():
    x, weight = random(2, 3, 5), random(3, 5)
    np.testing.assert_array_equal(layer_norm(x, weight, axes=(-1, 1)), layer_norm(x, weight, axes=(1, 2)))


# The trusted framework


SHAPES = [(2, 6), (9, 6), (5, 6, 7), (4, 6, 5, 3), (2, 6, 3, 2, 3)]


def assert_agree(ours, theirs):
    atol = {np.float32: 2e-6, np.float64: 1e-14}[ours.dtype.type]
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e3 * atol, atol=atol)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_pytorch_agrees_by_channel(shape, dtype, eps):
    x = 2 * random(*shape, dtype=dtype) + dtype(0.5)
    weight, bias = affine(6, dtype)
    mean, var = bias / 2, weight**2 + dtype(0.1)
    t, w, b, mu, sigma2 = (torch.from_numpy(v) for v in (x, weight, bias, mean, var))
    assert_agree(batch_norm(x, weight, bias, eps=eps), F.batch_norm(t, None, None, w, b, True, eps=eps))
    assert_agree(
        batch_norm_inference(x, mean, var, weight, bias, eps=eps),
        F.batch_norm(t, mu, sigma2, w, b, False, eps=eps),
    )
    assert_agree(group_norm(x, 3, weight, bias, eps=eps), F.group_norm(t, 3, w, b, eps))
    if x.ndim > 2:
        assert_agree(instance_norm(x, weight, bias, eps=eps), F.instance_norm(t, None, None, w, b, eps=eps))


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("shape", SHAPES[2:])
def test_pytorch_agrees_by_feature(shape, last, dtype, eps):
    x = 2 * random(*shape, dtype=dtype) + dtype(0.5)
    features, axes = shape[-last:], tuple(range(-last, 0))
    weight, bias = random(*features, dtype=dtype, seed=1), random(*features, dtype=dtype, seed=2)
    t, w, b = (torch.from_numpy(v) for v in (x, weight, bias))
    assert_agree(layer_norm(x, weight, bias, axes=axes, eps=eps), F.layer_norm(t, features, w, b, eps))
    assert_agree(rms_norm(x, weight, axes=axes, eps=eps), F.rms_norm(t, features, w, eps))


# Accuracy


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mean", [0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(65536, 8), (4096, 64), (32, 64, 14, 14)])
def test_float32_is_within_1e6th_of_float64(shape, mean, layout):
    x = lay_out(random(*shape, dtype=np.float32, seed=7) + np.float32(mean), layout)
    np.testing.assert_allclose(batch_norm(x), exact_batch_norm(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mean", [0, 1e6])
@pytest.mark.parametrize("axes", [1, (1, 2), (2,), (0, 1, 2), (0, -1)])
def test_float32_over_other_axes(axes, mean):
    x = random(40, 50, 60, dtype=np.float32) + np.float32(mean)
    np.testing.assert_allclose(normalize(x, axes), normalize(x.astype(np.float64), axes), rtol=0, atol=1e-6)


def test_float16_is_rounded_once():
    x = (random(3000, 4) * 3 + 200).astype(np.float16)
    y = batch_norm(x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, exact_batch_norm(x), rtol=2**-11, atol=1e-6)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_huge_and_tiny_inputs(size):
    x = random(64, 3, dtype=np.float32)
    np.testing.assert_allclose(batch_norm(x * np.float32(size), eps=0), batch_norm(x, eps=0), atol=2e-6)


# What goes in and what comes out


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", EVERY)
def test_layout_dtype_and_input_are_kept(name, layout, dtype):
    x = lay_out(random(4, 6, 5, 3, dtype=dtype), layout)
    before = x.copy()
    y = EVERY[name](x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(y, EVERY[name](before), atol=1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("other", [np.float16, np.float32, np.float64])
def test_the_dtype_is_that_of_x_whatever_the_parameters(other):
    x = random(8, 3, dtype=np.float32)
    weight, bias = affine(3, other)
    assert batch_norm(x, weight, bias).dtype == np.float32
    assert batch_norm_inference(x, bias, weight**2, weight, bias).dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
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
def test_a_bad_value_spoils_only_what_it_is_normalized_with(name, spoiled, bad):
    x = random(3, 4, 1, 5, dtype=np.float32)
    want = EVERY[name](x)
    want[spoiled] = np.nan
    x[2, 1, 0, 3] = bad
    np.testing.assert_array_equal(EVERY[name](x), want)


def test_rms_norm_with_nan_and_infinity():
    x = np.array([[1.0, np.nan], [1.0, np.inf], [1.0, 1.0]])
    want = [[np.nan, np.nan], [0, np.nan], [1, 1]]
    np.testing.assert_array_equal(rms_norm(x, eps=0), want)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inference_passes_a_bad_value_through_alone(bad):
    x = np.array([[1.0, bad], [bad, 2.0]])
    y = batch_norm_inference(x, np.zeros(2), np.ones(2), eps=0)
    np.testing.assert_array_equal(y, x)


def test_inference_with_an_infinite_mean_spoils_that_channel():
    y = batch_norm_inference(np.array([[np.inf, 2.0]]), np.array([np.inf, 1.0]), np.ones(2), eps=0)
    np.testing.assert_array_equal(y, [[np.nan, 1]])


def test_a_constant_channel_is_zero_with_eps_and_nan_without():
    x = random(50, 3, dtype=np.float32)
    x[:, 1] = 3.3
    np.testing.assert_array_equal(batch_norm(x)[:, 1], 0)
    y = batch_norm(x, eps=0)
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, [0, 2]]).all()


def test_a_float16_result_may_overflow_quietly():
    x = np.array([[-1], [1]], np.float16)
    weight = np.array([1e6], np.float32)
    np.testing.assert_array_equal(batch_norm(x, weight), [[-np.inf], [np.inf]])


def test_no_samples_or_no_channels():
    assert layer_norm(np.empty((0, 5))).shape == (0, 5)
    assert group_norm(np.empty((0, 4, 3)), 2).shape == (0, 4, 3)
    assert batch_norm(np.empty((4, 0, 3), np.float32)).shape == (4, 0, 3)


# What is refused

X = random(4, 3, 5)
ONES = np.ones(3)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("eps", "error", "message"),
    [
        (-1e-5, ValueError, "expected eps to be finite and at least 0, got -1e-05"),
        (float("nan"), ValueError, "expected eps to be finite and at least 0, got nan"),
        (float("inf"), ValueError, "expected eps to be finite and at least 0, got inf"),
        ("1e-5", TypeError, "expected eps to be a number, got str"),
        (None, TypeError, "expected eps to be a number, got NoneType"),
    ],
)
def test_refused_eps(name, eps, error, message):
    with pytest.raises(error, match=message):
        EVERY[name](random(2, 4, 3), eps=eps)
    with pytest.raises(error, match=message):
        batch_norm_inference(X, ONES, ONES, eps=eps)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("x", "got"),
    [([[1.0, 2.0]], "list"), (np.ones((2, 4, 3), np.int32), "an array of int32"), (None, "NoneType")],
)
def test_refused_types(name, x, got):
    message = f"expected x to be a NumPy array of float16, float32 or float64, got {got}"
    with pytest.raises(TypeError, match=message):
        EVERY[name](x)
    with pytest.raises(TypeError, match=message):
        batch_norm_inference(x, ONES, ONES)


REFUSED = [
    (lambda: batch_norm(np.ones((1, 3))), r"more than 1 value per channel, got input of shape \(1, 3\)"),
    (
        lambda: batch_norm(np.ones((1, 3, 1, 1))),
        r"more than 1 value per channel, got input of shape \(1, 3, 1, 1\)",
    ),
    (lambda: batch_norm(np.ones((0, 3))), r"more than 1 value per channel, got input of shape \(0, 3\)"),
    (lambda: batch_norm(np.ones(3)), r"expected at least 2 axes, \(N, C, ...\), got 1"),
    (lambda: batch_norm_axes(0), r"expected at least 2 axes, \(N, C, ...\), got 0"),
    (lambda: batch_norm_axes(1), r"expected at least 2 axes, \(N, C, ...\), got 1"),
    (lambda: batch_norm(X, np.ones(4)), r"expected weight of shape \(C,\) = \(3,\), got \(4,\)"),
    (lambda: batch_norm(X, ONES, np.ones((3, 1))), r"expected bias of shape \(C,\) = \(3,\), got \(3, 1\)"),
    (lambda: batch_norm_inference(np.ones(3), ONES, ONES), r"expected at least 2 axes, \(N, C, ...\), got 1"),
    (
        lambda: batch_norm_inference(X, np.ones(5), ONES),
        r"expected mean of shape \(C,\) = \(3,\), got \(5,\)",
    ),
    (lambda: batch_norm_inference(X, ONES, np.ones(1)), r"expected var of shape \(C,\) = \(3,\), got \(1,\)"),
    (
        lambda: batch_norm_inference(X, ONES, ONES, np.ones(4)),
        r"expected weight of shape \(C,\) = \(3,\), got",
    ),
    (
        lambda: layer_norm(X, np.ones(5)),
        r"weight of shape \(3, 5\), the lengths of axes \(1, 2\), got \(5,\)",
    ),
    (lambda: layer_norm(X, axes=3), r"expected axes between -3 and 2 for shape \(4, 3, 5\), got \(3,\)"),
    (lambda: layer_norm(np.ones(3)), "expected at least one axis"),
    (
        lambda: layer_norm(np.ones((3, 0))),
        r"at least 1 value to average over axes \(1,\), got shape \(3, 0\)",
    ),
    (lambda: rms_norm(X, np.ones(3)), r"weight of shape \(3, 5\), the lengths of axes \(1, 2\), got \(3,\)"),
    (lambda: group_norm(X, 2), "expected num_groups to divide the 3 channels, got 2"),
    (lambda: group_norm(X, 0), "expected num_groups to divide the 3 channels, got 0"),
    (lambda: group_norm(X, 3, np.ones(5)), r"expected weight of shape \(C,\) = \(3,\), got \(5,\)"),
    (lambda: group_norm(np.ones(3), 1), r"expected at least 2 axes, \(N, C, ...\), got 1"),
    (lambda: instance_norm(np.ones((2, 3))), r"expected at least 3 axes, \(N, C, L, ...\), got 2"),
    (
        lambda: instance_norm(np.ones((2, 3, 1))),
        r"more than 1 value per sample and channel, got input of shape",
    ),
    (lambda: normalize(X, (0, 0)), "expected axes that differ from one another"),
    (lambda: normalize(X, 0, weight=ONES), r"weight to have 3 axes and broadcast to \(4, 3, 5\), got \(3,\)"),
    (
        lambda: normalize(X, 0, bias=np.ones((1, 3, 2))),
        r"bias to have 3 axes and broadcast to .* got \(1, 3, 2\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_refused_parameter_types(name):
    for bad, got in (([1.0, 1.0, 1.0], "list"), (np.ones(3, int), "an array of int64")):
        with pytest.raises(TypeError, match=f"expected {name} to be a NumPy array of .*, got {got}"):
            batch_norm(X, **{name: bad})


def test_a_missing_statistic_is_refused():
    with pytest.raises(TypeError, match=r"expected var to be a NumPy array of .*, got NoneType"):
        batch_norm_inference(X, ONES, None)


def test_inference_of_half_precision_is_computed_in_float32():
    rng = np.random.default_rng(0)
    x, mean, var, weight = (rng.uniform(1, 100, (n, 5)).astype(np.float16) for n in (400, 1, 1, 1))
    y = batch_norm_inference(x, mean[0], var[0], weight[0], None, eps=0.0)
    exact = weight.astype(float) * (x.astype(float) - mean) / np.sqrt(var.astype(float))
    assert np.mean(y == exact.astype(np.float16)) > 0.99


def test_inference_is_computed_in_the_wider_of_the_dtypes_given():
    rng = np.random.default_rng(0)
    x, mean, var = rng.uniform(1, 2, (9, 5)), np.ones(5, np.float32), np.ones(5, np.float32)
    np.testing.assert_allclose(batch_norm_inference(x, mean, var, eps=0.0), x - 1, rtol=1e-12)
    wide = rng.uniform(1, 2, 5)
    y = batch_norm_inference(np.full((9, 5), 2, np.float32), wide, var, eps=0.0)
    np.testing.assert_allclose(y, np.tile(2 - wide, (9, 1)), rtol=1e-7)


def test_what_is_too_far_from_the_mean_is_infinite_without_a_warning():
    most = np.finfo(np.float32).max
    y = batch_norm_inference(np.full((2, 1), most), np.full(1, -most), np.ones(1, np.float32))
    assert np.isinf(y).all()


def test_rms_norm_of_half_precision_is_rounded_once():
    x = np.random.default_rng(0).uniform(1, 100, (50, 7)).astype(np.float16)
    exact = x / np.sqrt((x.astype(float) ** 2).mean(1, keepdims=True))
    assert np.mean(rms_norm(x, eps=0.0) == exact.astype(np.float16)) > 0.99


def test_a_weight_that_is_no_array_is_named():
    with pytest.raises(TypeError, match=r"^expected weight to be a NumPy array"):
        normalize(X, (0,), weight=[[1.0, 2.0]])
