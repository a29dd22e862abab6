"""Gradients of every normalization, in closed form, over any axes.

``dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(var + eps)``, ``g = weight * dy``

``eps`` enters through ``x_hat`` and the root alone: the factor of ``x_hat`` is 1/m whatever ``eps`` is.
Conventions, dtypes and the treatment of NaN are those of ``normalize``: gradients of float16 input are
computed in float32, and a bad value spoils what it is normalized with, and nothing else.
"""

from __future__ import annotations

import numpy as np

from bnlib.reference.closed_form import (
    Gradients,
    backward,
    backward_by_parameter,
)
from bnlib.reference.moments import batch_norm_axes
from bnlib.reference.sums import sum_product
from bnlib.reference.validate import (
    Axes,
    Floating,
    check_affine,
    check_axes,
    check_broadcast,
    check_eps,
    check_groups,
    check_like,
    check_more_than_one,
    check_ndim,
    check_parameter,
)


def normalize_backward(
    dy: Floating,
    x: Floating,
    axes: Axes,
    *,
    weight: Floating | None = None,
    eps: float = 1e-5,
    center: bool = True,
) -> Floating:
    """Compute the gradient of ``sum(dy * normalize(x, axes, weight=weight))`` with respect to ``x``.

    ``dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(var + eps)``, ``g = weight * dy``

    The means are over ``axes``. With ``center=False``, RMS norm, ``mean(g)`` is absent.

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: array of any shape; float16, float32 or float64.
        axes: axis or axes that were normalized over.
        weight: floating array of the rank of ``x`` that broadcasts to it; None is 1.
        eps: added to the variance, inside the root.
        center: whether the mean was subtracted.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``dy`` is not of the shape of ``x``; ``axes`` are out of range, repeated, or span no
            value; ``weight`` does not broadcast to ``x``; ``eps`` is negative or not finite.

    Source: the equations of Ioffe & Szegedy (2015), section 3, with the sums over the batch carried out.
    """
    check_like("dy", dy, x)
    axes = check_axes(axes, x.shape)
    check_broadcast("weight", weight, x.shape)
    gamma = np.ones((1,) * x.ndim, x.dtype) if weight is None else weight
    return backward(dy, x, axes, gamma, eps, center)[0]


def batch_norm_backward(
    dy: Floating, x: Floating, weight: Floating | None = None, *, eps: float = 1e-5
) -> Gradients:
    """Compute the gradients of ``sum(dy * batch_norm(x, weight, bias))``.

    ``dx = weight / sqrt(var + eps) * (dy - mean(dy) - x_hat * mean(dy * x_hat))``,
    ``dweight = sum(dy * x_hat)``, ``dbias = sum(dy)``

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        weight: gamma, shape (C,), floating; None is 1.
        eps: added to the variance, inside the root.

    Returns:
        ``dx``, of the shape and dtype of ``x``, and ``dweight`` and ``dbias``, of shape (C,), float64 for
        float64 input, else float32.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``dy`` is not of the shape of ``x``; ``x`` has fewer than 2 axes or fewer than 2 values
            per channel; ``weight`` is not of shape (C,); ``eps`` is negative or not finite.

    Source: Ioffe & Szegedy (2015), section 3, the equations after Algorithm 1.
    """
    check_like("dy", dy, x)
    axes = batch_norm_axes(x.ndim)
    check_more_than_one(x.shape, axes, "channel")
    return backward_by_parameter(dy, x, axes, weight, (1,), eps)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def batch_norm_inference_backward(
    dy: Floating,
    x: Floating,
    mean: Floating,
    var: Floating,
    weight: Floating | None = None,
    *,
    eps: float = 1e-5,
) -> Gradients:
    """Compute the gradients of ``sum(dy * batch_norm_inference(x, mean, var, weight, bias))``.

    ``dx = weight * dy / sqrt(var + eps)``, ``dweight = sum(dy * x_hat)``, ``dbias = sum(dy)``,
    with ``x_hat = (x - mean) / sqrt(var + eps)``

    Nothing flows through the statistics, so no sample depends on another.

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        mean: shape (C,), floating.
        var: shape (C,), floating.
        weight: gamma, shape (C,), floating; None is 1.
        eps: added to the variance, inside the root.

    Returns:
        As ``batch_norm_backward``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``dy`` is not of the shape of ``x``; ``x`` has fewer than 2 axes; a statistic or
            ``weight`` is not of shape (C,); ``eps`` is negative or not finite.

    Source: the derivative of Ioffe & Szegedy (2015), Algorithm 2, line 11.
    """
    check_like("dy", dy, x)
    check_ndim(x.ndim, 2, "(N, C, ...)")
    mu = check_parameter("mean", mean, (1,), x.shape)
    sigma2 = check_parameter("var", var, (1,), x.shape)
    gamma, _ = check_affine(weight, None, (1,), x.shape)
    check_eps(eps)
    dtype = np.result_type(x.dtype, np.float32)
    axes = batch_norm_axes(x.ndim)
    inv_std = 1 / np.sqrt(sigma2.astype(np.float64) + eps)
    x_centered = np.subtract(x, mu, dtype=np.result_type(dtype, mu.dtype))
    dweight = (inv_std * sum_product(axes, dy, x_centered)).squeeze(axes).astype(dtype)
    dbias = sum_product(axes, dy).squeeze(axes).astype(dtype)
    scale = inv_std if gamma is None else gamma * inv_std
    return (dy * scale.astype(dtype)).astype(x.dtype, copy=False), dweight, dbias


def layer_norm_backward(
    dy: Floating,
    x: Floating,
    weight: Floating | None = None,
    *,
    axes: Axes | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Compute the gradients of ``sum(dy * layer_norm(x, weight, bias))``.

    ``dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(var + eps)``, ``g = weight * dy``: the weight
    differs along the normalized axes, so it stays inside the means.

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, ...); float16, float32 or float64.
        weight: gamma, floating, of the shape of the normalized axes in their order in ``x``; None is 1.
        axes: the normalized axes; None is all but the first.
        eps: added to the variance, inside the root.

    Returns:
        ``dx``, of the shape and dtype of ``x``, and ``dweight`` and ``dbias``, of the shape of the
        normalized axes: sums of ``dy * x_hat`` and ``dy`` over the others.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``dy`` is not of the shape of ``x``; ``axes`` are out of range, repeated, or span no
            value; ``weight`` does not have their shape; ``eps`` is negative or not finite.
    """
    check_like("dy", dy, x)
    axes = check_axes(range(1, x.ndim) if axes is None else axes, x.shape)
    return backward_by_parameter(dy, x, axes, weight, axes, eps)


def rms_norm_backward(
    dy: Floating,
    x: Floating,
    weight: Floating | None = None,
    *,
    axes: Axes | None = None,
    eps: float = 1e-5,
) -> tuple[Floating, Floating]:
    """Compute the gradients of ``sum(dy * rms_norm(x, weight))``.

    ``dx = (g - x_hat * mean(g * x_hat)) / sqrt(mean(x**2) + eps)``, ``g = weight * dy``

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, ...); float16, float32 or float64.
        weight: gamma, floating, of the shape of the normalized axes in their order in ``x``; None is 1.
        axes: the normalized axes; None is all but the first.
        eps: added to the mean square, inside the root.

    Returns:
        ``dx`` and ``dweight``, as ``layer_norm_backward``.

    Raises:
        TypeError, ValueError: as ``layer_norm_backward``.
    """
    check_like("dy", dy, x)
    axes = check_axes(range(1, x.ndim) if axes is None else axes, x.shape)
    return backward_by_parameter(dy, x, axes, weight, axes, eps, center=False)[:2]


def group_norm_backward(
    dy: Floating, x: Floating, num_groups: int, weight: Floating | None = None, *, eps: float = 1e-5
) -> Gradients:
    """Compute the gradients of ``sum(dy * group_norm(x, num_groups, weight, bias))``.

    ``dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(var + eps)``, ``g = weight * dy``, the means
    over the channels of a group and their positions

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, C, ...); float16, float32 or float64.
        num_groups: number of groups, a divisor of C.
        weight: gamma, shape (C,), floating; None is 1.
        eps: added to the variance, inside the root.

    Returns:
        As ``batch_norm_backward``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: as ``batch_norm_backward``, or ``num_groups`` does not divide C.
    """
    check_like("dy", dy, x)
    check_ndim(x.ndim, 2, "(N, C, ...)")
    check_groups(num_groups, x.shape[1])
    gamma, _ = check_affine(weight, None, (1,), x.shape)
    split = (x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])
    if gamma is not None:
        gamma = gamma.reshape(split[1:3])
    axes = tuple(range(2, len(split)))
    check_axes(axes, split)
    dx, dweight, dbias = backward_by_parameter(dy.reshape(split), x.reshape(split), axes, gamma, (1, 2), eps)
    return dx.reshape(x.shape), dweight.reshape(-1), dbias.reshape(-1)


def instance_norm_backward(
    dy: Floating, x: Floating, weight: Floating | None = None, *, eps: float = 1e-5
) -> Gradients:
    """Compute the gradients of ``sum(dy * instance_norm(x, weight, bias))``.

    ``dx = weight / sqrt(var + eps) * (dy - mean(dy) - x_hat * mean(dy * x_hat))``, the means over the
    positions of one channel of one sample

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        weight: gamma, shape (C,), floating; None is 1.
        eps: added to the variance, inside the root.

    Returns:
        As ``batch_norm_backward``.

    Raises:
        TypeError, ValueError: as ``batch_norm_backward``; ``x`` needs 3 axes and 2 positions.
    """
    check_like("dy", dy, x)
    check_ndim(x.ndim, 3, "(N, C, L, ...)")
    axes = tuple(range(2, x.ndim))
    check_more_than_one(x.shape, axes, "sample and channel")
    return backward_by_parameter(dy, x, axes, weight, (1,), eps)
