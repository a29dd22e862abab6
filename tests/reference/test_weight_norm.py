"""Weight normalization: lengths and directions, and gradients against finite differences."""

import numpy as np
import pytest

from bnlib.reference import batch_norm, central_difference, weight_norm, weight_norm_backward

RNG = np.random.default_rng(0)
SHAPES = [(3, 4), (1, 1), (2, 3, 3, 3), (5, 1, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_unit_has_its_length_and_its_direction(shape):
    v, g = RNG.normal(size=shape), RNG.normal(size=shape[0])
    rows, w = v.reshape(len(v), -1), weight_norm(v, g).reshape(len(v), -1)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), abs(g))
    np.testing.assert_allclose(w * np.linalg.norm(rows, axis=1)[:, None], rows * g[:, None])
    scales = np.arange(1.0, len(v) + 1).reshape(-1, *[1] * (v.ndim - 1))
    np.testing.assert_allclose(weight_norm(scales * v, g), weight_norm(v, g))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_finite_differences_and_orthogonal_to_v(shape):
    v, g = RNG.normal(size=shape), RNG.normal(size=shape[0])
    dw = RNG.normal(size=shape)
    dv, dg = weight_norm_backward(dw, v, g)
    by_v = central_difference(lambda v: weight_norm(v, g), v, dw)
    by_g = central_difference(lambda g: weight_norm(v, g), g, dw)
    np.testing.assert_allclose(dv, by_v, atol=1e-6)
    np.testing.assert_allclose(dg, by_g, atol=1e-6)
    np.testing.assert_allclose((dv * v).reshape(len(v), -1).sum(1), 0, atol=1e-12)


def test_white_inputs_make_it_batch_norm():
    x = RNG.normal(size=(40, 4))
    x -= x.mean(0)
    white = np.linalg.qr(x)[0] * np.sqrt(40)
    v = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(white @ weight_norm(v, np.ones(3)).T, batch_norm(white @ v.T, eps=0.0))
    assert not np.allclose(x @ weight_norm(v, np.ones(3)).T, batch_norm(x @ v.T, eps=0.0), atol=1e-2)


def test_dtype_and_zeros():
    v = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    w = weight_norm(v, np.array([10.0, 1.0], np.float32))
    assert w.dtype == np.float32
    np.testing.assert_array_equal(w[0], [6, 8])
    assert np.isnan(w[1]).all()


def test_gradients_have_the_dtypes_of_their_arrays():
    v, g = np.array([[3.0, 4.0]], np.float32), np.array([10.0], np.float16)
    dv, dg = weight_norm_backward(np.ones((1, 2), np.float32), v, g)
    assert (dv.dtype, dg.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(dv, [[0.32, -0.24]], rtol=1e-5)
    np.testing.assert_allclose(dg, [1.4], rtol=1e-3)


def test_what_is_too_large_becomes_infinite_without_a_warning():
    v, g = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32), np.array([1e300, np.inf])
    np.testing.assert_array_equal(weight_norm(v, g), [[np.inf, np.inf], [np.nan, np.inf]])
    dv, dg = weight_norm_backward(np.full((2, 2), 1.5e308), v.astype(np.float64), g)
    np.testing.assert_array_equal(dg, [np.inf, 1.5e308])
    assert not np.isfinite(dv).any()


def test_bad_input_is_refused():
    v = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"expected g of shape \(3,\), .*, got \(4,\)"):
        weight_norm(v, np.ones(4))
    with pytest.raises(TypeError, match=r"^expected v to be a NumPy array"):
        weight_norm(v.tolist(), np.ones(3))
    with pytest.raises(ValueError, match=r"expected at least 2 axes, \(C, ...\), got 1"):
        weight_norm(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=r"expected dw of the shape"):
        weight_norm_backward(np.ones((4, 3)), v, np.ones(3))
