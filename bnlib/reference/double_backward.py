"""The second derivative of every normalization."""

from __future__ import annotations

import math

import numpy as np

from bnlib.reference.closed_form import project, standardize
from bnlib.reference.sums import sum_product
from bnlib.reference.validate import Axes, Floating, check_axes, check_broadcast, check_like


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def normalize_double_backward(
    ddx: Floating,
    dy: Floating,
    x: Floating,
    axes: Axes,
    *,
    weight: Floating | None = None,
    eps: float = 1e-5,
    center: bool = True,
) -> tuple[Floating, Floating]:
    """Compute the gradients of ``sum(ddx * normalize_backward(dy, x, axes))`` with respect to dy and x.

    With ``g = weight * dy``, ``v = ddx``, ``inv_std = 1 / sqrt(var + eps)`` and
    ``J(v) = inv_std * (v - mean(v) - x_hat * mean(v * x_hat))``, which is linear and symmetric:

    ``d_dy = weight * J(v)``,
    ``d_x = -inv_std * (mean(v * x_hat) * J(g) + mean(g * x_hat) * J(v) + mean(v * J(g)) * x_hat)``

    Args:
        ddx: gradient with respect to ``dx``, of the shape of ``x``; floating.
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: array of any shape; float16, float32 or float64.
        axes: axis or axes that were normalized over.
        weight: floating array of the rank of ``x`` that broadcasts to it; None is 1.
        eps: added to the variance, inside the root.
        center: whether the mean was subtracted; if not, ``mean(v)`` is absent from ``J``.

    Returns:
        ``d_dy`` and ``d_x``, of the shape and dtype of ``x``. ``d_x`` is the product of the Hessian of
        ``sum(dy * normalize(x))`` and ``ddx``.

    Raises:
        TypeError, ValueError: as ``normalize_backward``; ``ddx`` is not of the shape of ``x``.
    """
    check_like("ddx", ddx, x)
    check_like("dy", dy, x)
    axes = check_axes(axes, x.shape)
    check_broadcast("weight", weight, x.shape)
    batch = standardize(x, axes, eps, center)
    x_hat, inv_std = batch.x_hat, batch.inv_std.astype(batch.x_shifted.dtype)
    m = math.prod(x.shape[a] for a in axes)

    def mean_product(a: Floating, b: Floating) -> Floating:
        mean: Floating = (sum_product(axes, a, b) / m).astype(x_hat.dtype)
        return mean

    def times_jacobian(v: Floating, v_x_hat: Floating) -> Floating:
        mean = center * v.mean(axes, dtype=np.float64, keepdims=True)
        return project(v, 1.0, batch._replace(x_shifted=batch.x_shifted.copy()), mean, v_x_hat)

    one = np.ones((1,) * x.ndim, x_hat.dtype)
    gamma = one if weight is None else weight
    v, g = ddx.astype(x_hat.dtype), np.multiply(gamma, dy, dtype=x_hat.dtype)
    v_x_hat, g_x_hat = mean_product(v, x_hat), mean_product(g, x_hat)
    jv, jg = times_jacobian(v, v_x_hat), times_jacobian(g, g_x_hat)
    d_x = -inv_std * (v_x_hat * jg + g_x_hat * jv + mean_product(v, jg) * x_hat)
    return (gamma * jv).astype(x.dtype, copy=False), d_x.astype(x.dtype, copy=False)
