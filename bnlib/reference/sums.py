"""Sums over any axes that keep their digits and take about one pass over memory."""

from __future__ import annotations

from functools import lru_cache
from string import ascii_letters

import numpy as np
from numpy.typing import DTypeLike

from bnlib.reference.validate import Floating


@lru_cache
def _split(shape: tuple[int, ...], axes: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """Split each axis in two; the second is 1 or a run to be summed, and all runs span up to ``longest``."""
    split: tuple[int, ...] = ()
    for axis, n in reversed(list(enumerate(shape))):
        divisors = (d for d in range(min(n, longest), 1, -1) if n % d == 0)
        run = next(divisors, 1) if axis in axes else 1
        longest //= run
        split = (n // run, run, *split)
    return split


def sum_product(axes: tuple[int, ...], *factors: Floating, dtype: DTypeLike = np.float32) -> Floating:
    """Sum the product of ``factors`` over ``axes``: in float64, but for short runs.

    A sum in float32 all the way would lose digits as it grows; one in float64 all the way is slow. So runs
    that take up to 32 steps are summed in the precision of ``factors``.

    Args:
        axes: the axes to sum over, in increasing order.
        factors: one array or two, of one shape.
        dtype: the least precision of a run.

    Returns:
        The sum, in float64, with the axes kept at length 1.
    """
    # Along memory, NumPy adds 16 values or 4 products in one step.
    along_memory = bool(axes) and all(f.strides[axes[-1]] == f.itemsize for f in factors)
    at_a_time = 1 if not along_memory else 16 if len(factors) == 1 else 4
    split = _split(factors[0].shape, axes, 32 * at_a_time)
    every = ascii_letters[: len(split)]
    terms = ",".join([every] * len(factors))
    precision = np.result_type(dtype, *factors)
    runs = np.einsum(f"{terms}->{every[::2]}", *(f.reshape(split) for f in factors), dtype=precision)
    return np.asarray(runs.sum(axes, dtype=np.float64, keepdims=True))
