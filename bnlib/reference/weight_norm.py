"""Weight normalization: the length of a weight vector apart from its direction. No data are involved."""

from __future__ import annotations

import numpy as np

from bnlib.reference.validate import Floating, check_array, check_like, check_ndim, check_parameter

__all__ = ["weight_norm", "weight_norm_backward"]


def weight_norm(v: Floating, g: Floating) -> Floating:
    """Give each weight vector the length ``g`` and the direction of ``v``.

    ``w = g * v / ||v||``, for each unit

    Args:
        v: shape (C, ...): the weights of unit c are ``v[c]``, of a linear map or a convolution.
        g: lengths, shape (C,), floating; a negative one turns the vector around.

    Returns:
        A new array of the shape and dtype of ``v``. NaN where all weights of a unit are 0.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``v`` has fewer than 2 axes; ``g`` is not of shape (C,).

    Source: Salimans & Kingma (2016), arXiv:1602.07868.
    """
    u, _, length = _directions(v, g)
    with np.errstate(invalid="ignore", over="ignore"):
        return (length * u).astype(v.dtype)


def weight_norm_backward(dw: Floating, v: Floating, g: Floating) -> tuple[Floating, Floating]:
    """Compute the gradients of ``sum(dw * weight_norm(v, g))``.

    ``dg = dw . u``, ``dv = (g / ||v||) * (dw - u * dg)``, with ``u = v / ||v||``

    Args:
        dw: gradient with respect to ``w``, of the shape of ``v``.
        v: shape (C, ...), floating.
        g: shape (C,), floating.

    Returns:
        ``dv``, of the shape and dtype of ``v``, orthogonal to ``v`` for each unit, and ``dg``, of shape (C,)
        and the dtype of ``g``.

    Raises:
        TypeError, ValueError: as ``weight_norm``; ``dw`` is not of the shape of ``v``.

    Source: Salimans & Kingma (2016), arXiv:1602.07868.
    """
    u, norm, length = _directions(v, g)
    check_like("dw", dw, v)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        dg = (dw * u).sum(axis=tuple(range(1, v.ndim)), keepdims=True)
        dv = length / norm * (dw - u * dg)
    return dv.astype(v.dtype), dg.reshape(-1).astype(g.dtype)


def _directions(v: Floating, g: Floating) -> tuple[Floating, Floating, Floating]:
    """Return ``v / ||v||``, ``||v||`` and ``g``, in float64 and of the rank of ``v``; raise on bad input."""
    check_array(v, "v")
    check_ndim(v.ndim, 2, "(C, ...)")
    length = check_parameter("g", g, (0,), v.shape).astype(np.float64)
    wide = v.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        norm = np.sqrt((wide**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
        return wide / norm, norm, length
