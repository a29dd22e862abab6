import itertools

import numpy as np
import pytest

from bnlib.reference import batch_norm, layer_norm
from bnlib.reference.scale_shift import scale_shift


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("parameters", [(1, 3), (4, 1), (1, 1), (4, 3)])
@pytest.mark.parametrize("given", [*itertools.product([False, True], repeat=3)])
def test_the_formula_with_any_parameters(parameters, given):
    x, var = random(4, 3), random(1, 3, seed=1) ** 2
    weight, bias, residual = random(*parameters, seed=2), random(*parameters, seed=3), random(1, 3, seed=4)
    want = (x - (residual if given[2] else 0)) / np.sqrt(var + 0.1)
    want = want * (weight if given[0] else 1) + (bias if given[1] else 0)
    weight, bias, residual = (
        p if keep else None for p, keep in zip((weight, bias, residual), given, strict=True)
    )
    got = scale_shift(x.copy(), var, weight, bias, 0.1, np.float64, residual)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_the_input_is_overwritten_and_the_parameters_are_not():
    x, var, weight, bias = random(4, 3), np.ones((1, 3)), random(1, 3, seed=2), random(1, 3, seed=3)
    before = weight.copy(), bias.copy(), var.copy()
    y = scale_shift(x, var, weight, bias, 0.0, np.float64)
    assert y is x
    for p, old in zip((weight, bias, var), before, strict=True):
        np.testing.assert_array_equal(p, old)
    assert scale_shift(x, var, weight, bias, 0.0, np.float16).dtype == np.float16


@pytest.mark.parametrize("mean", [0, 1e4, 1e6])
@pytest.mark.parametrize("norm", [batch_norm, layer_norm])
def test_large_means_with_weight_and_bias(norm, mean):
    # For batch norm the weight joins the scale; for layer norm it differs along the reduced axis.
    x = random(256, 64, dtype=np.float32) + np.float32(mean)
    weight, bias = random(64, dtype=np.float32, seed=2), random(64, dtype=np.float32, seed=3)
    want = norm(x.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64))
    np.testing.assert_allclose(norm(x, weight, bias), want, rtol=0, atol=2.5e-6)
    largest = max(1.0, np.abs(weight).max())
    np.testing.assert_allclose(norm(x, weight, bias) / largest, want / largest, rtol=0, atol=1e-6)
