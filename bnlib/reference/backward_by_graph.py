"""Backward through batch normalization node by node, and with its statistics taken for constants."""

from __future__ import annotations

import math

import numpy as np

from bnlib.reference.backward import batch_norm_inference_backward
from bnlib.reference.closed_form import Gradients
from bnlib.reference.moments import batch_norm_axes, center, moments
from bnlib.reference.validate import Floating, check_affine, check_eps, check_like, check_more_than_one


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def batch_norm_backward_by_graph(
    dy: Floating, x: Floating, weight: Floating | None = None, *, eps: float = 1e-5
) -> Gradients:
    """Compute the gradients of ``sum(dy * batch_norm(x, weight, bias))``, one node of the graph at a time.

    ``dx_hat = dy * weight``,
    ``dvar = sum(dx_hat * (x - mu)) * (-1/2) * (var + eps)**(-3/2)``,
    ``dmu = -sum(dx_hat) / sqrt(var + eps) - 2 * dvar * sum(x - mu) / m``,
    ``dx = dx_hat / sqrt(var + eps) + 2 * dvar * (x - mu) / m + dmu / m``

    Args, Returns, Raises:
        As ``batch_norm_backward``, which gives the same numbers.

    Source: Ioffe & Szegedy (2015), section 3, the six equations after Algorithm 1.
    """
    check_like("dy", dy, x)
    axes = batch_norm_axes(x.ndim)
    check_more_than_one(x.shape, axes, "channel")
    gamma, _ = check_affine(weight, None, (1,), x.shape)
    check_eps(eps)

    def total(a: Floating) -> Floating:
        summed: Floating = a.sum(axes, dtype=np.float64, keepdims=True)
        return summed

    m = math.prod(x.shape[a] for a in axes)
    dtype = np.result_type(x.dtype, np.float32)
    x_centered, _ = center(x, axes)
    var = total(x_centered.astype(np.float64) ** 2) / m
    inv_std = 1 / np.sqrt(var + eps)
    x_hat = x_centered * inv_std

    # y = gamma * x_hat + beta
    dbias, dweight = total(dy), total(dy * x_hat)
    dx_hat = dy.astype(np.float64) if gamma is None else dy * gamma.astype(np.float64)
    # x_hat = x_centered * inv_std
    dx_centered = dx_hat * inv_std
    dinv_std = total(dx_hat * x_centered)
    # inv_std = (var + eps) ** (-1/2)
    dvar = dinv_std * -0.5 * inv_std**3
    # var = sum(x_centered ** 2) / m
    dx_centered += dvar * 2 * x_centered / m
    # x_centered = x - mu
    dx, dmu = dx_centered, -total(dx_centered)
    # mu = sum(x) / m
    dx = dx + dmu / m
    return dx.astype(x.dtype), dweight.squeeze(axes).astype(dtype), dbias.squeeze(axes).astype(dtype)


def batch_norm_backward_detached(
    dy: Floating, x: Floating, weight: Floating | None = None, *, eps: float = 1e-5
) -> Gradients:
    """Compute what the gradients would be if the statistics of the batch were constants. They are not.

    ``dx = weight * dy / sqrt(var + eps)``, ``dweight = sum(dy * x_hat)``, ``dbias = sum(dy)``

    The gradients of weight and bias are right. That of ``x`` keeps two components that the true one has
    not: its mean, and its part along ``x_hat``. A step along them changes ``x``, and not the output.

    Args, Returns, Raises:
        As ``batch_norm_backward``.

    Source: Ioffe & Szegedy (2015), section 2, describe the mistake and its runaway bias.
    """
    check_like("dy", dy, x)
    axes = batch_norm_axes(x.ndim)
    check_more_than_one(x.shape, axes, "channel")
    mean, var = moments(x.astype(np.float64), axes)
    return batch_norm_inference_backward(dy, x, mean, var, weight, eps=eps)
