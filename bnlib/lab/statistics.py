"""What several seeds say together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """Hold a mean with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Format as ``mean [low, high]``, each number by ``spec``."""
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Compute the mean of independent measurements and its confidence interval by Student's t.

    ``mean ± t * s / sqrt(n)``, with ``s`` the unbiased standard deviation and ``t`` the quantile of
    Student's distribution with n - 1 degrees of freedom.

    Args:
        values: shape (n,), one value for each seed, n at least 2.
        confidence: the share of such intervals that cover the true mean, between 0 and 1.

    Returns:
        The mean and the two bounds. All are NaN where a value is.

    Raises:
        ValueError: fewer than two values, more than one axis, or ``confidence`` outside (0, 1).

    Source: Student (1908), "The probable error of a mean", doi:10.2307/2331554.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"expected at least two values in one row, got shape {x.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    mean = float(x.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half)
