"""First and second derivatives of batch normalization for one feature: a vector of m values.

``y = weight * x_hat``, ``x_hat = (x - mean(x)) / sqrt(var + eps)``; here ``weight`` is a number.
"""

from __future__ import annotations

import numpy as np

from bnlib.reference.backward import normalize_backward
from bnlib.reference.closed_form import standardize
from bnlib.reference.double_backward import normalize_double_backward
from bnlib.reference.validate import Floating, check_array, check_like, check_more_than_one, check_number


def _check_feature(x: Floating, weight: float = 1.0) -> None:
    """Raise unless ``x`` is a floating vector of 2 values or more, and ``weight`` a number."""
    check_array(x)
    check_number("weight", weight)
    if x.ndim != 1:
        raise ValueError(f"expected one feature of shape (m,), got {x.shape}")
    check_more_than_one(x.shape, (0,), "feature")


@np.errstate(invalid="ignore")
def _project(x: Floating, eps: float) -> tuple[Floating, Floating]:
    """Return ``I - 11'/m - x_hat x_hat'/m`` and ``inv_std``, in float64."""
    _check_feature(x)
    m, batch = len(x), standardize(x, (0,), eps, center=True)
    return np.eye(m) - (1 + np.outer(batch.x_hat, batch.x_hat)) / m, batch.inv_std


def projector(x: Floating) -> Floating:
    """Compute the matrix that removes from a vector its mean and its component along ``x_hat``.

    ``P = I - 1 1^T / m - x_hat x_hat^T / m``, with ``x_hat`` at ``eps = 0``

    ``P`` is symmetric, ``P @ P = P``, and its rank is m - 2: it keeps what is orthogonal to both the
    vector of ones and ``x_hat``. The Jacobian at ``eps = 0`` is ``weight / sigma`` times ``P``.

    Args:
        x: one feature, shape (m,), m at least 2; float16, float32 or float64.

    Returns:
        Shape (m, m), of the dtype of ``x``. NaN if all values of ``x`` are equal.

    Raises:
        TypeError: ``x`` is not a floating NumPy array.
        ValueError: ``x`` is not a vector of 2 values or more.
    """
    return _project(x, 0.0)[0].astype(x.dtype, copy=False)


def jacobian(x: Floating, *, weight: float = 1.0, eps: float = 1e-5) -> Floating:
    """Compute the matrix of all derivatives ``dy_i / dx_j`` of the batch normalization of one feature.

    ``J = weight / sqrt(var + eps) * (I - 1 1^T / m - x_hat x_hat^T / m)``

    ``J`` is symmetric. Its eigenvalues are 0 along the vector of ones,
    ``weight / sqrt(var + eps) * eps / (var + eps)`` along ``x_hat``, since ``x_hat^T x_hat / m`` is
    ``var / (var + eps)``, and ``weight / sqrt(var + eps)`` on all the rest.

    Args:
        x: one feature, shape (m,), m at least 2; float16, float32 or float64.
        weight: gamma, a number.
        eps: added to the variance, inside the root.

    Returns:
        Shape (m, m), of the dtype of ``x``.

    Raises:
        TypeError: ``x`` is not a floating NumPy array, or ``weight`` no number.
        ValueError: ``x`` is not a vector of 2 values or more; ``eps`` is negative or not finite.

    Source: the equations of Ioffe & Szegedy (2015), section 3, as one matrix.
    """
    _check_feature(x, weight)
    projection, inv_std = _project(x, eps)
    return (weight * inv_std * projection).astype(x.dtype, copy=False)


def vjp(x: Floating, dy: Floating, *, weight: float = 1.0, eps: float = 1e-5) -> Floating:
    """Multiply a row vector and the Jacobian, ``dy @ J``, without forming the matrix: the backward pass.

    Args:
        x: one feature, shape (m,), m at least 2; float16, float32 or float64.
        dy: shape (m,), floating.
        weight: gamma, a number.
        eps: added to the variance, inside the root.

    Returns:
        Shape (m,), of the dtype of ``x``.

    Raises:
        TypeError, ValueError: as ``jacobian``; ``dy`` is not of the shape of ``x``.
    """
    _check_feature(x, weight)
    return weight * normalize_backward(dy, x, 0, eps=eps)


def jvp(x: Floating, v: Floating, *, weight: float = 1.0, eps: float = 1e-5) -> Floating:
    """Multiply the Jacobian and a column vector, ``J @ v``: how the output moves when ``x`` moves along v.

    ``J`` is symmetric, so this is ``vjp``: the derivative forward is the derivative backward.

    Args:
        x: one feature, shape (m,), m at least 2; float16, float32 or float64.
        v: shape (m,), floating.
        weight: gamma, a number.
        eps: added to the variance, inside the root.

    Returns:
        Shape (m,), of the dtype of ``x``.

    Raises:
        TypeError, ValueError: as ``jacobian``; ``v`` is not of the shape of ``x``.
    """
    _check_feature(x)
    check_like("v", v, x)
    return vjp(x, v, weight=weight, eps=eps)


def hessian_vector_product(
    x: Floating, dy: Floating, v: Floating, *, weight: float = 1.0, eps: float = 1e-5
) -> Floating:
    """Multiply the Hessian of ``sum(dy * y)`` and a vector: how ``dx`` moves when ``x`` moves along ``v``.

    With ``g = weight * dy`` and ``J`` the Jacobian at weight 1, ``inv_std = 1 / sqrt(var + eps)``:

    ``H v = -inv_std * (mean(v * x_hat) * J g + mean(g * x_hat) * J v + mean(v * J g) * x_hat)``

    Args:
        x: one feature, shape (m,), m at least 2; float16, float32 or float64.
        dy: gradient with respect to ``y``, held fixed; shape (m,), floating.
        v: shape (m,), floating.
        weight: gamma, a number.
        eps: added to the variance, inside the root.

    Returns:
        Shape (m,), of the dtype of ``x``.

    Raises:
        TypeError, ValueError: as ``jacobian``; ``dy`` or ``v`` is not of the shape of ``x``.
    """
    _check_feature(x, weight)
    check_like("v", v, x)
    return weight * normalize_double_backward(v, dy, x, 0, eps=eps)[1]
