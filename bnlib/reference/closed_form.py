"""The closed form of the gradient of a normalization, over any axes, in one place.

``dx = inv_std * (g - mean(g) - x_hat * mean(g * x_hat))``, ``g = weight * dy``

``normalize_backward`` and its choices of axes check their arguments and come here.
"""

from __future__ import annotations

import math
from string import ascii_letters

import numpy as np

from bnlib.reference.moments import center as subtract_mean
from bnlib.reference.moments import mean_square
from bnlib.reference.validate import Floating, check_array, check_eps, check_parameter

Gradients = tuple[Floating, Floating, Floating]


def check_like(name: str, value: Floating, x: Floating) -> None:
    """Raise unless ``x`` and ``value`` are floating NumPy arrays of one shape."""
    check_array(x)
    check_array(value, name)
    if value.shape != x.shape:
        raise ValueError(f"expected {name} of the shape of x, {x.shape}, got {value.shape}")


def sum_product(a: Floating, b: Floating, axes: tuple[int, ...]) -> Floating:
    """Sum ``a * b`` over ``axes``, in float64 and with the axes kept at length 1."""
    every = ascii_letters[: a.ndim]
    kept = "".join(c for i, c in enumerate(every) if i not in axes)
    return np.expand_dims(np.einsum(f"{every},{every}->{kept}", a, b, dtype=np.float64), axes)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def standardize(x: Floating, axes: tuple[int, ...], eps: float, center: bool) -> tuple[Floating, Floating]:
    """Return ``x_hat`` and ``inv_std = 1 / sqrt(var + eps)``, float32 at least, the axes kept at length 1."""
    x_hat = subtract_mean(x, axes)[0] if center else x.astype(np.result_type(x.dtype, np.float32))
    inv_std = (1 / np.sqrt(mean_square(x_hat, axes) + eps)).astype(x_hat.dtype)
    x_hat *= inv_std
    return x_hat, inv_std


def project(
    g: Floating, x_hat: Floating, inv_std: Floating, mean: Floating | float, mean_product: Floating
) -> Floating:
    """Return ``inv_std * (g - mean - x_hat * mean_product)``: the closed form, in this one place."""
    dx = np.subtract(g, mean, dtype=x_hat.dtype)
    dx -= x_hat * mean_product.astype(x_hat.dtype)
    dx *= inv_std
    return dx


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
    check_eps(eps)
    x_hat, inv_std = standardize(x, axes, eps, center)
    shared = tuple(a for a, n in enumerate(weight.shape) if n == 1)
    both = tuple(a for a in axes if a in shared)
    total = dy.sum(both, dtype=np.float64, keepdims=True)
    product = sum_product(dy, x_hat, both)
    m = math.prod(x.shape[a] for a in axes)
    mean = (weight * total).sum(axes, keepdims=True) / m
    mean_product = (weight * product).sum(axes, keepdims=True) / m
    g = np.multiply(weight, dy, dtype=x_hat.dtype)
    dx = project(g, x_hat, inv_std, mean.astype(x_hat.dtype) if center else 0.0, mean_product)
    dweight = product.sum(shared, keepdims=True).astype(x_hat.dtype)
    dbias = total.sum(shared, keepdims=True).astype(x_hat.dtype)
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
