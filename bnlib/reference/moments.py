"""Mean and variance of a batch, over any axes.

The variance is biased (divided by m) unless asked otherwise: batch normalization divides by the
biased one and keeps the unbiased one for inference.
"""

from __future__ import annotations

import math

import numpy as np

from bnlib.reference.buffer import short_buffer
from bnlib.reference.sums import sum_product
from bnlib.reference.validate import (
    Axes,
    Floating,
    check_array,
    check_axes,
    check_integer,
    check_ndim,
    check_parameter,
)


def batch_norm_axes(ndim: int) -> tuple[int, ...]:
    """Return the axes that batch normalization reduces: all but the channels, axis 1.

    ``(0,)`` for (N, C), ``(0, 2)`` for (N, C, L), ``(0, 2, 3)`` for (N, C, H, W).

    Args:
        ndim: number of axes of the input.

    Returns:
        The reduced axes, in increasing order.

    Raises:
        TypeError: ``ndim`` is not an integer.
        ValueError: ``ndim`` is less than 2.
    """
    check_integer("ndim", ndim, 0)
    check_ndim(ndim, 2, "(N, C, ...)")
    return (0, *range(2, ndim))


@short_buffer
@np.errstate(invalid="ignore", over="ignore")
def center_nearly(x: Floating, axes: tuple[int, ...]) -> tuple[Floating, Floating, Floating]:
    """Subtract from ``x`` its mean over ``axes``, rounded to one number of the precision of ``x``.

    Returns:
        ``x - mean``; the rounded ``mean``; and ``residual``, in float64, what is left to subtract. The axes
        are kept at length 1. ``x - mean`` is exact for values near the mean, and the residual is below
        the spacing of numbers there.
    """
    dtype = np.result_type(x.dtype, np.float32)
    exact = x.mean(axes, dtype=np.float64, keepdims=True)
    mean = exact.astype(dtype)
    x_shifted = np.subtract(x, mean, dtype=dtype)
    if dtype == np.float64:
        return x_shifted, mean, x_shifted.mean(axes, keepdims=True)
    return x_shifted, mean, exact - mean


@np.errstate(invalid="ignore", over="ignore")
def center(x: Floating, axes: Axes) -> tuple[Floating, Floating]:
    """Subtract from ``x`` its mean over ``axes``.

    ``mu = sum(x) / m``, ``x_centered = x - mu``

    A large mean does not fit in one number of the precision of ``x``: at 1e6, float32 rounds it by up to
    0.03. So the rounded mean is subtracted first, which is exact for values near it, and then
    what remains of the mean.

    Args:
        x: array of any shape; float16, float32 or float64.
        axes: axis or axes to average over.

    Returns:
        ``x_centered``, of the shape of ``x``, and the mean, with the axes kept at length 1.
        Both are float32 for float16 and float32 input, float64 for float64 input.

    Raises:
        TypeError: ``x`` is not a floating NumPy array.
        ValueError: ``axes`` are out of range, repeated, or span no value.

    Source: the corrected two-pass algorithm of Chan, Golub & LeVeque (1983), "Algorithms for computing
    the sample variance: analysis and recommendations".
    """
    check_array(x)
    x_centered, mean, residual = center_nearly(x, check_axes(axes, x.shape))
    x_centered -= residual.astype(mean.dtype)
    return x_centered, (mean + residual).astype(mean.dtype)


@np.errstate(invalid="ignore", over="ignore")
def mean_square(x: Floating, axes: tuple[int, ...]) -> Floating:
    """Average the squares of ``x`` over ``axes``, in float64 and with the axes kept at length 1.

    ``sum(x**2) / m``: the biased variance, if ``x`` is centered. For float32 input it is off by less than
    ``36 u = 2.2e-6``, relative to itself, and typically by 1e-8 to 1e-7.
    """
    m = math.prod(x.shape[a] for a in axes)
    total = sum_product(axes, x, x)
    in_range = (total > 1e-30) & (total < 1e30)
    if not in_range.all():
        # Elsewhere squares may have left float32, which ends at 1e-38 and 3e38.
        total = np.where(in_range, total, sum_product(axes, x, x, dtype=np.float64))
    return np.asarray(total / m)


@np.errstate(invalid="ignore", over="ignore")
def variance(x_shifted: Floating, residual: Floating, axes: tuple[int, ...]) -> Floating:
    """Compute the biased variance from what ``center_nearly`` returns, in float64, the axes kept at length 1.

    ``var = sum(x_shifted**2) / m - residual**2``. Nothing cancels: the residual is a rounding error.
    """
    return mean_square(x_shifted, axes) - np.square(residual)


@np.errstate(over="ignore")
def moments(x: Floating, axes: Axes, *, unbiased: bool = False) -> tuple[Floating, Floating]:
    """Compute the mean and the variance of ``x`` over ``axes``.

    ``mu = sum(x) / m``, ``var = sum((x - mu)**2) / m``, or ``/ (m - 1)`` if ``unbiased``

    Args:
        x: array of any shape; float16, float32 or float64.
        axes: axis or axes to average over; ``m`` is the number of values that they span.
        unbiased: divide by m - 1, as for the running variance. The default divides by m.

    Returns:
        Mean and variance, of the shape of ``x`` without ``axes``. Both are float32 for float16 and
        float32 input, float64 for float64 input.

    Raises:
        TypeError: ``x`` is not a floating NumPy array.
        ValueError: ``axes`` are out of range, repeated, or span no value; or one value with ``unbiased``.

    Source: Ioffe & Szegedy (2015), Algorithm 1, lines 1 and 2; the unbiased variance is in Algorithm 2.
    """
    check_array(x)
    axes = check_axes(axes, x.shape)
    m = math.prod(x.shape[a] for a in axes)
    if unbiased and m < 2:
        raise ValueError(f"expected more than 1 value for an unbiased variance, got {m} in shape {x.shape}")
    x_shifted, mean, residual = center_nearly(x, axes)
    var = variance(x_shifted, residual, axes)
    if unbiased:
        var = var * (m / (m - 1))
    return (mean + residual).squeeze(axes).astype(mean.dtype), var.squeeze(axes).astype(mean.dtype)


@np.errstate(invalid="ignore", over="ignore")
def two_pass_moments(x: Floating, axes: Axes) -> tuple[Floating, Floating]:
    """Compute the mean, then the mean of the squared distances from it, in the precision of ``x``.

    ``mu = sum(x) / m``, ``var = sum((x - mu)**2) / m``, as the definition reads

    Accuracy: with unit roundoff u and sums taken one after another, ``var`` is off by
    ``(m + 3) u + O(u**2)``, relative to itself, whatever the mean (Higham 2002, problem 1.10). The second
    order is the square of the error of ``mu``, at most ``(m u kappa)**2`` with
    ``kappa = sqrt(1 + mu**2 / var)`` (Chan, Golub & LeVeque 1983). In float32, where u is 6e-8, it takes over
    once the mean is thousands of times the standard deviation; ``moments`` corrects it. NumPy sums in
    pairs along contiguous axes, where ``log2(m)`` stands in for most of m.

    Args, Returns, Raises:
        As ``one_pass_moments``.

    Source: Higham (2002), "Accuracy and Stability of Numerical Algorithms", section 1.9.
    """
    check_array(x)
    axes = check_axes(axes, x.shape)
    mu = x.mean(axes, dtype=x.dtype, keepdims=True)
    var = np.square(x - mu).mean(axes, dtype=x.dtype, keepdims=True)
    return mu.squeeze(axes), var.squeeze(axes)


def one_pass_moments(x: Floating, axes: Axes) -> tuple[Floating, Floating]:
    """Compute the mean and the mean of the squares in one pass, in the precision of ``x``.

    ``mu = sum(x) / m``, ``var = sum(x**2) / m - mu**2``

    For teaching: when the mean is large, ``var`` is the difference of two large numbers that nearly
    agree, and rounding decides what is left. It may be far too large, 0, or negative. Use ``moments``.

    Accuracy: with unit roundoff u, ``var`` is off by a small multiple of ``m u kappa**2``, relative to
    itself, where ``kappa**2 = 1 + mu**2 / var``; ``log2(m)`` stands in for m if sums are taken in pairs
    (Chan, Golub & LeVeque 1983).

    Args:
        x: array of any shape; float16, float32 or float64.
        axes: axis or axes to average over; ``m`` is the number of values that they span.

    Returns:
        Mean and biased variance, of the shape of ``x`` without ``axes`` and of the dtype of ``x``. Float16
        squares overflow from 256 on: the variance is then infinite or NaN.

    Raises:
        TypeError: ``x`` is not a floating NumPy array.
        ValueError: ``axes`` are out of range, repeated, or span no value.

    Source: the textbook algorithm of Chan, Golub & LeVeque (1983).
    """
    return shifted_one_pass_moments(x, axes, shift=0.0)


@np.errstate(invalid="ignore", over="ignore")
def shifted_one_pass_moments(
    x: Floating, axes: Axes, shift: Floating | float | None = None
) -> tuple[Floating, Floating]:
    """Compute the moments in one pass after subtracting a guess of the mean, in the precision of ``x``.

    ``d = x - shift``, ``mu = shift + sum(d) / m``, ``var = sum(d**2) / m - (sum(d) / m)**2``

    Accuracy: that of ``one_pass_moments`` for ``d``: ``kappa**2 = 1 + (mu - shift)**2 / var``. A shift within
    one standard deviation of the mean leaves ``kappa**2 <= 2``; one value of the data is usually near enough.

    Args:
        x: array of any shape; float16, float32 or float64.
        axes: axis or axes to average over; ``m`` is the number of values that they span.
        shift: number, or floating array of the shape of ``x`` without ``axes``. None takes the first value
            along ``axes``.

    Returns:
        Mean and biased variance, of the shape of ``x`` without ``axes`` and of the dtype of ``x``.

    Raises:
        TypeError: ``x`` or ``shift`` is not a floating NumPy array.
        ValueError: ``axes`` are out of range, repeated, or span no value; ``shift`` has another shape.

    Source: "shifted data" in Chan, Golub & LeVeque (1983).
    """
    check_array(x)
    axes = check_axes(axes, x.shape)
    if shift is None:
        c = x[tuple(slice(1) if a in axes else slice(None) for a in range(x.ndim))]
    elif isinstance(shift, (int, float, np.integer, np.floating)):
        c = np.full((1,) * x.ndim, shift, x.dtype)
    else:
        kept = tuple(a for a in range(x.ndim) if a not in axes)
        c = check_parameter("shift", shift, kept, x.shape).astype(x.dtype)
    d = x - c
    mu = d.mean(axes, dtype=x.dtype, keepdims=True)
    var = np.square(d).mean(axes, dtype=x.dtype, keepdims=True) - np.square(mu)
    return (c + mu).squeeze(axes), var.squeeze(axes)
