"""What several seeds say together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
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
    x = _row(values, confidence)
    mean = float(x.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Compute the mean of independent measurements and its interval by the bootstrap.

    The bounds are bias-corrected and accelerated quantiles of the means of resamples. With few values they
    cover the true mean less often than they say; ``mean_interval`` is the better choice there, unless the
    values are far from normal.

    Args:
        values: shape (n,), one value for each seed, n at least 2.
        confidence: the share of such intervals that cover the true mean, between 0 and 1.
        resamples: how many to draw.
        seed: of the draws.

    Returns:
        The mean and the two bounds. All are NaN where a value is.

    Raises:
        ValueError: as ``mean_interval``.

    Source: Efron (1987), "Better bootstrap confidence intervals", doi:10.1080/01621459.1987.10478410.
    """
    x = _row(values, confidence)
    mean = float(x.mean())
    if not np.isfinite(x).all() or (x == x[0]).all():
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(seed)
    found = stats.bootstrap(
        (x,), np.mean, confidence_level=confidence, n_resamples=resamples, rng=rng
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95
) -> Interval:
    """Compute the mean of ``first - second`` over shared seeds, and its interval by Student's t.

    What a seed does to both runs cancels, so the interval is narrower than for runs of different seeds.

    Args:
        first: shape (n,), n at least 2.
        second: shape (n,), of the same seeds in the same order.
        confidence: as for ``mean_interval``.

    Raises:
        ValueError: the two differ in length, or as ``mean_interval``.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (first, second))
    if a.shape != b.shape:
        raise ValueError(f"expected as many values in both, got shapes {a.shape} and {b.shape}")
    return mean_interval(a - b, confidence=confidence)  # type: ignore[arg-type]


def paired_ratio(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Compute the geometric mean of ``first / second`` over shared seeds, and its interval by Student's t.

    ``exp`` of the mean and the bounds of ``log(first) - log(second)``. So the interval of the inverse
    ratio is the inverse of the interval.

    Args:
        first: shape (n,), n at least 2, positive.
        second: shape (n,), positive, of the same seeds in the same order.
        confidence: as for ``mean_interval``.

    Raises:
        ValueError: a value is 0 or negative, or as ``paired_difference``.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (first, second))
    if (a <= 0).any() or (b <= 0).any():
        raise ValueError(f"expected positive values, got {first} and {second}")
    logs = paired_difference(np.log(a), np.log(b), confidence=confidence)  # type: ignore[arg-type]
    return Interval(*map(float, np.exp(logs)))


def _row(values: Sequence[float], confidence: float) -> npt.NDArray[np.float64]:
    """Return the values as an array; raise ValueError unless they are two or more in one row."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"expected at least two values in one row, got shape {x.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    return x
