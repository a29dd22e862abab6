"""Scale and shift: the last step of every normalization, where training and inference meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bnlib.reference.buffer import short_buffer
from bnlib.reference.validate import Floating


@short_buffer
@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def scale_shift(
    x_centered: Floating,
    var: Floating,
    weight: Floating | None,
    bias: Floating | None,
    eps: float,
    dtype: DTypeLike,
    residual: Floating | None = None,
) -> Floating:
    """Turn ``x_centered``, in place, into ``weight * x_hat + bias``, as ``dtype``.

    ``x_hat = (x_centered - residual) / sqrt(var + eps)``

    The mean itself is subtracted before: folding a large one into ``bias`` would cancel. The residual, what
    rounding the mean left, is small (see ``center_nearly``).

    Args:
        x_centered: array of any shape, float32 or float64; overwritten.
        var: of the rank of ``x_centered``, with the reduced axes at length 1.
        weight: of that rank, broadcasts to ``x_centered``; None is 1.
        bias: the same; None is 0.
        eps: added to the variance, inside the root.
        dtype: of the result.
        residual: of the shape of ``var``; None is 0.

    Returns:
        ``x_centered``, or an array of ``dtype`` where that differs.
    """
    inv_std = 1 / np.sqrt(var.astype(np.float64) + eps)
    shift: Floating | float = 0.0 if residual is None else -residual * inv_std
    gamma: Floating | float = 1.0 if weight is None else weight
    beta: Floating | float = 0.0 if bias is None else bias
    steps = [(inv_std, shift), (gamma, beta)]
    if all(np.shape(p) in ((), var.shape) for p in (gamma, beta)):
        steps = [(gamma * inv_std, gamma * shift + beta)]  # one pass over x instead of two
    y = x_centered
    for factor, term in steps:
        y *= np.asarray(factor, y.dtype)
        term = np.asarray(term, y.dtype)
        if term.any():
            y += term
    return y.astype(dtype, copy=False)
