"""Growth of gradients through depth: against random layers, limits and bounds."""

from itertools import pairwise

import numpy as np
import pytest

from bnlib.reference import linear_growth, normalize, normalize_backward, relu_growth


def one_layer(m, phi, slope, seed):
    """Measure the growth through one layer from random weights and a random gradient."""
    rng, units = np.random.default_rng(seed), 2_000_000 // m
    centred = np.eye(m) - 1 / m
    x_hat = rng.normal(size=(units, m)) @ centred
    x_hat *= np.sqrt(m) / np.linalg.norm(x_hat, axis=1, keepdims=True)
    h = phi(x_hat)
    kernel = centred @ (h.T @ h) @ centred / units
    variance = np.trace(kernel) / (m - 1)
    z = np.sqrt(variance) * rng.normal(size=(units, m)) @ centred
    dh = rng.normal(size=(units, m)) @ centred
    back = normalize_backward(slope(normalize(z, 1, eps=0.0)) * dh, z, 1, eps=0.0)
    return (back**2).sum() / (dh**2).sum()


@pytest.mark.parametrize("batch_size", [7, 12, 40])
def test_growth_is_that_of_random_layers(batch_size):
    relu = one_layer(batch_size, lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, 0)
    linear = one_layer(batch_size, lambda x: x, np.ones_like, 1)
    assert relu_growth(batch_size) == pytest.approx(relu, rel=0.01)
    assert linear_growth(batch_size) == pytest.approx(linear, rel=0.01)


def by_quadrature(m):
    """Compute the growth through a ReLU layer from integrals over the angle between two samples."""
    angle = np.arccos(-1 / (m - 1))
    phi = np.linspace(angle - np.pi / 2, np.pi / 2, 100_001)
    values = np.cos(phi) * np.cos(phi - angle)
    product = (values[1:] + values[:-1]).sum() * (phi[1] - phi[0]) / 2 / np.pi
    both = (np.pi - angle) / (2 * np.pi)
    passed = ((m - 1) ** 2 / 2 + (m - 1) * (both + product) - m / 2 + 1 / 2) / m
    return m * passed / ((0.5 - product) * (m - 1) * (m - 3))


@pytest.mark.parametrize("batch_size", [4, 5, 7, 40])
def test_growth_is_that_of_two_correlated_normal_values(batch_size):
    assert relu_growth(batch_size) == pytest.approx(by_quadrature(batch_size), rel=1e-8)


def test_large_batches():
    assert relu_growth(10**6) == pytest.approx(np.pi / (np.pi - 1), abs=1e-5)
    assert linear_growth(10**6) == pytest.approx(1, abs=2e-6)


def test_growth_falls_with_the_batch_and_stays_above_1():
    for growth in (relu_growth, linear_growth):
        values = [growth(m) for m in range(4, 200)]
        assert all(a > b > 1 for a, b in pairwise(values))
    assert linear_growth(4) == 2
    assert linear_growth(np.int64(8)) == 1.2


@pytest.mark.parametrize("growth", [relu_growth, linear_growth])
def test_batches_that_are_too_small_or_no_numbers(growth):
    with pytest.raises(ValueError, match="at least 4, got 3"):
        growth(3)
    with pytest.raises(TypeError, match=r"integer, got float"):
        growth(8.0)
