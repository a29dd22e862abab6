"""The closed form of the gradient of a normalization, over any axes, in one place.

``dx = inv_std * (g - mean(g) - x_hat * mean(g * x_hat))``, ``g = weight * dy``

``normalize_backward`` and its choices of axes check their arguments and come here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bnlib.reference.buffer import short_buffer
from bnlib.reference.moments import center_nearly, mean_square, variance
from bnlib.reference.sums import sum_product
from bnlib.reference.validate import Floating, check_eps, check_parameter

Gradients = tuple[Floating, Floating, Floating]


class Standardized(NamedTuple):
    """What of a batch the derivatives need: ``x_hat = (x_shifted - residual) * inv_std``.

    ``x_shifted`` has the shape of ``x`` and is float32 at least; the others are float64, with the reduced
    axes at length 1. The residual is what rounding left of the mean.
    """

    x_shifted: Floating
    residual: Floating | float
    inv_std: Floating

    @property
    @np.errstate(invalid="ignore", over="ignore")
    def x_hat(self) -> Floating:
        """The normalized values, of the dtype of ``x_shifted``."""
        dtype = self.x_shifted.dtype
        return np.multiply(self.x_shifted - np.asarray(self.residual, dtype), self.inv_std.astype(dtype))

    def sum_product(self, a: Floating, total: Floating, axes: tuple[int, ...]) -> Floating:
        """Sum ``a * x_hat`` over ``axes``, given the sum of ``a``; float64."""
        return self.inv_std * (sum_product(axes, a, self.x_shifted) - self.residual * total)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def standardize(x: Floating, axes: tuple[int, ...], eps: float, center: bool) -> Standardized:
    """Compute the statistics of ``x`` and subtract its mean, if ``center``."""
    check_eps(eps)
    if center:
        x_shifted, _, residual = center_nearly(x, axes)
        var = variance(x_shifted, residual, axes)
        return Standardized(x_shifted, residual, 1 / np.sqrt(var + eps))
    x_shifted = x.astype(np.result_type(x.dtype, np.float32))
    return Standardized(x_shifted, 0.0, 1 / np.sqrt(mean_square(x_shifted, axes) + eps))


@short_buffer
def project(
    g: Floating, factor: Floating | float, batch: Standardized, mean: Floating, mean_product: Floating
) -> Floating:
    """Return ``factor * inv_std * (g - mean - x_hat * mean_product)``: the closed form.

    Overwrites ``x_shifted``, with ``mean + x_hat * mean_product`` first and then with the result.
    """
    line, dtype = batch.x_shifted, batch.x_shifted.dtype
    slope = batch.inv_std * mean_product
    line *= slope.astype(dtype)
    line += (mean - batch.residual * slope).astype(dtype)
    np.subtract(g, line, out=line)
    line *= np.asarray(factor * batch.inv_std, dtype)
    return line


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def backward(
    dy: Floating,
    x: Floating,
    axes: tuple[int, ...],
    weight: Floating,
    eps: float,
    center: bool = True,
) -> Gradients:
    """Return dx, dweight and dbias, the latter two of the shape of ``weight``, which has the rank of ``x``.

    Along the axes that are reduced and where the parameters are shared, ``weight`` is a constant factor.
    So one pair of sums over those axes serves dx, which sums on over the other reduced axes, and the
    parameters, which sum on over the other shared axes.
    """
    batch = standardize(x, axes, eps, center)
    dtype = batch.x_shifted.dtype
    shared = tuple(a for a, n in enumerate(weight.shape) if n == 1)
    both = tuple(a for a in axes if a in shared)
    total = sum_product(both, dy)
    product = batch.sum_product(dy, total, both)
    m = math.prod(x.shape[a] for a in axes)
    factor: Floating | float
    inner: Floating | float
    if set(axes) <= set(shared):
        factor, inner, g = weight, 1.0, dy  # constant where dx is summed over: one pass over x less
    else:
        factor, inner, g = 1.0, weight, np.multiply(weight, dy, dtype=dtype)
    mean = center * (inner * total).sum(axes, keepdims=True) / m
    mean_product = (inner * product).sum(axes, keepdims=True) / m
    dx = project(g, factor, batch, mean, mean_product)
    dweight = product.sum(shared, keepdims=True).astype(dtype)
    dbias = total.sum(shared, keepdims=True).astype(dtype)
    return dx.astype(x.dtype, copy=False), dweight, dbias


def backward_by_parameter(
    dy: Floating,
    x: Floating,
    axes: tuple[int, ...],
    weight: Floating | None,
    parameter_axes: tuple[int, ...],
    eps: float,
    center: bool = True,
) -> Gradients:
    """Return dx, dweight and dbias for parameters whose shape is that of ``x`` along ``parameter_axes``."""
    shape = tuple(x.shape[a] for a in parameter_axes)
    one = np.ones(shape, np.result_type(x.dtype, np.float32))
    gamma = check_parameter("weight", one if weight is None else weight, parameter_axes, x.shape)
    dx, dweight, dbias = backward(dy, x, axes, gamma, eps, center)
    return dx, dweight.reshape(shape), dbias.reshape(shape)
