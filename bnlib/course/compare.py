"""The check that ends a derivation."""

from typing import Any

import numpy as np


def same(left: Any, right: Any, *, within: float) -> None:
    """Print that two results agree, or fail.

    Args:
        left: an array, a tensor on the CPU or a number.
        right: the same, of the same shape.
        within: the largest absolute difference allowed, greater than 0.

    Raises:
        AssertionError: the shapes differ, an entry differs by more than ``within``, or an entry is NaN.
    """
    a, b = np.asarray(left), np.asarray(right)
    if a.shape != b.shape:
        raise AssertionError(f"expected equal shapes, got {a.shape} and {b.shape}")
    # In float64 at least: small integers would wrap around, and booleans cannot be subtracted.
    difference = np.abs(np.subtract(a, b, dtype=np.result_type(a, b, np.float64))).max(initial=0.0)
    if not difference <= within:
        raise AssertionError(f"expected a largest difference of {within:g}, got {difference:.3g}")
    print(f"equal within {within:g}")
