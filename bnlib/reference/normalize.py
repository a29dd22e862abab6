"""Normalize over any axes: batch, layer, instance, group and RMS norm are choices of axes.

Conventions are those of PyTorch: the variance is biased, ``eps`` is inside the root, and the statistics of
float16 input are computed in float32. NaN and infinity in the input make NaN of what they are normalized
with, and of nothing else. With ``eps=0``, a variance of 0 gives 0/0, which is NaN. No warning is raised.
"""

from __future__ import annotations

import numpy as np

from bnlib.reference.moments import batch_norm_axes, center_nearly, mean_square, variance
from bnlib.reference.scale_shift import scale_shift
from bnlib.reference.validate import (
    Axes,
    Floating,
    check_affine,
    check_array,
    check_axes,
    check_broadcast,
    check_eps,
    check_groups,
    check_more_than_one,
    check_ndim,
    check_parameter,
)


def normalize(
    x: Floating,
    axes: Axes,
    *,
    weight: Floating | None = None,
    bias: Floating | None = None,
    eps: float = 1e-5,
    center: bool = True,
) -> Floating:
    """Normalize ``x`` over ``axes`` to mean 0 and variance var / (var + eps), then scale and shift.

    ``x_hat = (x - mu) / sqrt(var + eps)``, ``y = weight * x_hat + bias``

    With ``center=False`` the mean is taken as 0, so ``var`` is the mean square: this is RMS norm.

    Args:
        x: array of any shape; float16, float32 or float64.
        axes: axis or axes over which the mean and the biased variance are taken.
        weight: floating array of the rank of ``x`` that broadcasts to it; None is 1.
        bias: the same; None is 0.
        eps: added to the variance, inside the root.
        center: subtract the mean.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``axes`` are out of range, repeated, or span no value; ``weight`` or ``bias`` does
            not broadcast to ``x``; ``eps`` is negative or not finite.

    Source: Wu & He (2018), equations 1, 2 and 6.
    """
    check_array(x)
    axes = check_axes(axes, x.shape)
    check_broadcast("weight", weight, x.shape)
    check_broadcast("bias", bias, x.shape)
    check_eps(eps)
    if center:
        x_centered, _, residual = center_nearly(x, axes)
        var = variance(x_centered, residual, axes)
    else:
        x_centered, residual = x.astype(np.result_type(x.dtype, np.float32)), None
        var = mean_square(x_centered, axes)
    return scale_shift(x_centered, var, weight, bias, eps, x.dtype, residual)


def batch_norm(
    x: Floating, weight: Floating | None = None, bias: Floating | None = None, *, eps: float = 1e-5
) -> Floating:
    """Normalize each channel by the mean and the biased variance of the batch, then scale and shift.

    ``y = weight * (x - mu) / sqrt(var + eps) + bias``, as in training

    Args:
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        weight: gamma, shape (C,), floating; None is 1.
        bias: beta, shape (C,), floating; None is 0.
        eps: added to the variance, inside the root.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``x`` has fewer than 2 axes or fewer than 2 values per channel; ``weight`` or ``bias``
            is not of shape (C,); ``eps`` is negative or not finite.

    Source: Ioffe & Szegedy (2015), Algorithm 1; for convolutions, section 3.2.
    """
    check_array(x)
    axes = batch_norm_axes(x.ndim)
    check_more_than_one(x.shape, axes, "channel")
    gamma, beta = check_affine(weight, bias, (1,), x.shape)
    return normalize(x, axes, weight=gamma, bias=beta, eps=eps)


def batch_norm_inference(
    x: Floating,
    mean: Floating,
    var: Floating,
    weight: Floating | None = None,
    bias: Floating | None = None,
    *,
    eps: float = 1e-5,
) -> Floating:
    """Normalize each channel by a given mean and variance, then scale and shift.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``

    Args:
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64. N may be 0 or 1.
        mean: shape (C,), floating; a float64 mean is used in full, whatever the dtype of ``x``.
        var: shape (C,), floating.
        weight: gamma, shape (C,), floating; None is 1.
        bias: beta, shape (C,), floating; None is 0.
        eps: added to the variance, inside the root.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``x`` has fewer than 2 axes; a statistic or parameter is not of shape (C,);
            ``eps`` is negative or not finite.

    Source: Ioffe & Szegedy (2015), Algorithm 2, line 11.
    """
    check_array(x)
    check_ndim(x.ndim, 2, "(N, C, ...)")
    mu = check_parameter("mean", mean, (1,), x.shape)
    sigma2 = check_parameter("var", var, (1,), x.shape)
    gamma, beta = check_affine(weight, bias, (1,), x.shape)
    check_eps(eps)
    with np.errstate(invalid="ignore", over="ignore"):
        x_centered = np.subtract(x, mu, dtype=np.result_type(x.dtype, mu.dtype, np.float32))
    return scale_shift(x_centered, sigma2, gamma, beta, eps, x.dtype)


def layer_norm(
    x: Floating,
    weight: Floating | None = None,
    bias: Floating | None = None,
    *,
    axes: Axes | None = None,
    eps: float = 1e-5,
) -> Floating:
    """Normalize each sample over its own features, then scale and shift feature by feature.

    ``y = weight * (x - mu) / sqrt(var + eps) + bias``, with one ``mu`` and ``var`` per sample

    Args:
        x: shape (N, ...); float16, float32 or float64.
        weight: gamma, floating, of the shape of the normalized axes in their order in ``x``; None is 1.
        bias: beta, the same; None is 0.
        axes: the normalized axes; None is all but the first. PyTorch's ``normalized_shape`` of
            d numbers is the last d axes.
        eps: added to the variance, inside the root.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``axes`` are out of range, repeated, or span no value; ``weight`` or ``bias`` does
            not have their shape; ``eps`` is negative or not finite.

    Source: Ba, Kiros & Hinton (2016), equations 3 and 4.
    """
    check_array(x)
    axes = check_axes(range(1, x.ndim) if axes is None else axes, x.shape)
    gamma, beta = check_affine(weight, bias, axes, x.shape)
    return normalize(x, axes, weight=gamma, bias=beta, eps=eps)


def rms_norm(
    x: Floating, weight: Floating | None = None, *, axes: Axes | None = None, eps: float = 1e-5
) -> Floating:
    """Divide each sample by the root mean square of its features, then scale feature by feature.

    ``y = weight * x / sqrt(mean(x**2) + eps)``

    Args:
        x: shape (N, ...); float16, float32 or float64.
        weight: gamma, floating, of the shape of the normalized axes in their order in ``x``; None is 1.
        axes: the normalized axes; None is all but the first.
        eps: added to the mean square, inside the root.

    Returns:
        A new array of the shape and dtype of ``x``. Features beside an infinite one are 0.

    Raises:
        TypeError, ValueError: as ``layer_norm``.

    Source: Zhang & Sennrich (2019), equation 4; ``eps`` is added as in PyTorch.
    """
    check_array(x)
    axes = check_axes(range(1, x.ndim) if axes is None else axes, x.shape)
    gamma, _ = check_affine(weight, None, axes, x.shape)
    return normalize(x, axes, weight=gamma, eps=eps, center=False)


def group_norm(
    x: Floating,
    num_groups: int,
    weight: Floating | None = None,
    bias: Floating | None = None,
    *,
    eps: float = 1e-5,
) -> Floating:
    """Normalize each sample over each group of neighbouring channels, then scale and shift by channel.

    ``y = weight * (x - mu) / sqrt(var + eps) + bias``, with one ``mu`` and ``var`` per sample and group

    Args:
        x: shape (N, C, ...); float16, float32 or float64.
        num_groups: number of groups, a divisor of C; a group may hold a single value.
        weight: gamma, shape (C,), floating; None is 1.
        bias: beta, shape (C,), floating; None is 0.
        eps: added to the variance, inside the root.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: as ``batch_norm``, or ``num_groups`` does not divide C.

    Source: Wu & He (2018), equation 7.
    """
    check_array(x)
    check_ndim(x.ndim, 2, "(N, C, ...)")
    check_groups(num_groups, x.shape[1])
    gamma, beta = check_affine(weight, bias, (1,), x.shape)

    def split(p: Floating) -> Floating:
        return p.reshape(p.shape[0], num_groups, p.shape[1] // num_groups, *p.shape[2:])

    gamma, beta = (None if p is None else split(p) for p in (gamma, beta))
    y = normalize(split(x), range(2, x.ndim + 1), weight=gamma, bias=beta, eps=eps)
    return y.reshape(x.shape)


def instance_norm(
    x: Floating, weight: Floating | None = None, bias: Floating | None = None, *, eps: float = 1e-5
) -> Floating:
    """Normalize each channel of each sample over its positions, then scale and shift by channel.

    ``y = weight * (x - mu) / sqrt(var + eps) + bias``, with one ``mu`` and ``var`` per sample and channel

    Args:
        x: shape (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        weight: gamma, shape (C,), floating; None is 1.
        bias: beta, shape (C,), floating; None is 0.
        eps: added to the variance, inside the root.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError, ValueError: as ``batch_norm``; ``x`` needs 3 axes and 2 positions.

    Source: Ulyanov, Vedaldi & Lempitsky (2016), equation 3.
    """
    check_array(x)
    check_ndim(x.ndim, 3, "(N, C, L, ...)")
    axes = tuple(range(2, x.ndim))
    check_more_than_one(x.shape, axes, "sample and channel")
    gamma, beta = check_affine(weight, bias, (1,), x.shape)
    return normalize(x, axes, weight=gamma, bias=beta, eps=eps)
