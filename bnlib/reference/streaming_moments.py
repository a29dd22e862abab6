"""Mean and variance of values that arrive in parts: one at a time (Welford) or batch by batch (Chan).

In all bounds u is the unit roundoff of the dtype (6e-8 in float32, 1.1e-16 in float64) and
``kappa = sqrt(1 + mean**2 / var)`` the condition number of the variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bnlib.reference.moments import center, mean_square
from bnlib.reference.validate import Axes, Floating, check_array, check_axes, check_type


class Moments(NamedTuple):
    """Number of values seen, their mean, and the sum of their squared distances from it.

    Attributes:
        count: m, the number of values; the same for every feature.
        mean: ``sum(x) / m``, any shape.
        m2: ``sum((x - mean)**2)``, the same shape. Sums add up where variances do not.
    """

    count: int  # type: ignore[assignment]  # hides tuple.count
    mean: Floating
    m2: Floating

    @classmethod
    def of_batch(cls, x: Floating, axes: Axes) -> Moments:
        """Take the moments of ``x`` over ``axes``, by the corrected two-pass algorithm of ``moments``.

        Args:
            x: array of any shape; float16, float32 or float64.
            axes: axis or axes to average over.

        Returns:
            Moments of the shape of ``x`` without ``axes``: float32 for float16 and float32 input, float64
            for float64 input.

        Raises:
            TypeError: ``x`` is not a floating NumPy array.
            ValueError: ``axes`` are out of range, repeated, or span no value.
        """
        check_array(x)
        axes = check_axes(axes, x.shape)
        m = math.prod(x.shape[a] for a in axes)
        x_centered, mean = center(x, axes)
        m2 = m * mean_square(x_centered, axes).squeeze(axes)
        with np.errstate(over="ignore"):
            return cls(m, mean.squeeze(axes), m2.astype(mean.dtype))

    @property
    def var(self) -> Floating:
        """The biased variance, ``m2 / m``, which normalizes. ValueError if there is no value."""
        return self._divide_by(self.count, "a variance", 1)

    @property
    def unbiased_var(self) -> Floating:
        """The unbiased variance, ``m2 / (m - 1)``. ValueError if there are fewer than 2 values."""
        return self._divide_by(self.count - 1, "an unbiased variance", 2)

    def _divide_by(self, divisor: int, name: str, least: int) -> Floating:
        if self.count < least:
            raise ValueError(f"expected a count of at least {least} for {name}, got {self.count}")
        return np.asarray(self.m2 / divisor, dtype=self.m2.dtype)


@np.errstate(invalid="ignore", over="ignore")
def welford(values: Floating, initial: Moments | None = None) -> Moments:
    """Update the moments with one value after another, along axis 0.

    ``delta = x - mean``, ``mean += delta / m``, ``m2 += delta * (x - mean)``, with the new mean

    Accuracy: ``m2`` is off by a small multiple of ``m u kappa``, relative to itself (Chan, Golub &
    LeVeque 1983): where one pass loses kappa squared, this loses kappa, and never gives a negative variance.

    Args:
        values: shape (m, ...); float16, float32 or float64. m may be 0.
        initial: moments of the values already seen, each of shape (...); None is none.

    Returns:
        Moments, each of shape (...): float32 for float16 and float32 input, float64 for float64 input.

    Raises:
        TypeError: ``values`` is not a floating NumPy array, or ``initial`` is not of type Moments.
        ValueError: ``values`` has no axis, or ``initial`` is of another shape.

    Source: Welford (1962), "Note on a method for calculating corrected sums of squares and products".
    """
    check_array(values, "values")
    if values.ndim < 1:
        raise ValueError("expected values of shape (m, ...), got ()")
    shape, dtype = values.shape[1:], np.result_type(values.dtype, np.float32)
    if initial is not None:
        check_type("initial", initial, Moments)
        if initial.mean.shape != shape:
            raise ValueError(f"expected initial moments of shape {shape}, got {initial.mean.shape}")
    count = 0 if initial is None else initial.count
    mean = np.zeros(shape, dtype) if initial is None else np.array(initial.mean, dtype)
    m2 = np.zeros(shape, dtype) if initial is None else np.array(initial.m2, dtype)
    for x in values:
        count += 1
        delta = x - mean
        mean += delta / count
        m2 += delta * (x - mean)
    return Moments(count, mean, m2)


@np.errstate(invalid="ignore", over="ignore")
def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of the values of ``a`` and ``b`` together.

    ``m = m_a + m_b``, ``delta = mean_b - mean_a``,
    ``mean = mean_a + delta * m_b / m``, ``m2 = m2_a + m2_b + delta**2 * m_a * m_b / m``

    The formula is exact: only rounding distinguishes the moments of parts from those of the whole.

    Accuracy: one merge loses a small multiple of ``u kappa``; merging m values in pairs, as
    ``merge_all`` does, loses a small multiple of ``u kappa log2(m)`` (Chan, Golub & LeVeque 1983).

    Args:
        a: moments of any shape and count; no value (count 0) changes nothing.
        b: moments of the same shape.

    Returns:
        Moments of the same shape.

    Raises:
        TypeError: one of the two is not of type Moments.
        ValueError: the shapes differ.

    Source: Chan, Golub & LeVeque (1979), "Updating formulae and a pairwise algorithm for computing
    sample variances".
    """
    check_type("a", a, Moments)
    check_type("b", b, Moments)
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"expected moments of one shape, got {a.mean.shape} and {b.mean.shape}")
    if not a.count or not b.count:
        return a if a.count else b
    m = a.count + b.count
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / m)
    m2 = a.m2 + b.m2 + np.square(delta) * (a.count * b.count / m)
    dtype = np.result_type(a.mean, b.mean)
    return Moments(m, np.asarray(mean, dtype), np.asarray(m2, dtype))


def merge_all(parts: Sequence[Moments]) -> Moments:
    """Merge in pairs, then the pairs in pairs, until one is left: a tree of depth ``log2(len(parts))``.

    Args:
        parts: moments of one shape, at least one of them.

    Returns:
        Moments of the same shape.

    Raises:
        TypeError: ``parts`` is no sequence of Moments.
        ValueError: there are no parts, or their shapes differ.
    """
    check_type("parts", parts, Sequence)
    if not parts:
        raise ValueError("expected at least one part to merge, got none")
    check_type("a part", parts[0], Moments)  # merging checks the others
    while len(parts) > 1:
        pairs = [merge(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + list(parts[len(parts) // 2 * 2 :])
    return parts[0]
