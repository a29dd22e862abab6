"""What several seeds say together."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Row = npt.NDArray[np.float64]
Values = Sequence[float] | npt.NDArray[np.floating[Any]]


class Interval(NamedTuple):
    """Hold a mean with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Format as ``mean [low, high]``, each number by ``spec``."""
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


@np.errstate(invalid="ignore", over="ignore")
def mean_interval(values: Values, *, confidence: float = 0.95) -> Interval:
    """Compute the mean of independent measurements and its confidence interval by Student's t.

    ``mean ± t * s / sqrt(n)``, with ``s`` the unbiased standard deviation and ``t`` the quantile of
    Student's distribution with n - 1 degrees of freedom.

    Args:
        values: shape (n,), one value for each seed, n at least 2.
        confidence: the share of such intervals that cover the true mean, between 0 and 1.

    Returns:
        The mean and the two bounds. All are NaN where a value is; the bounds are where one is infinite.

    Raises:
        TypeError: ``values`` are no real numbers.
        ValueError: fewer than two values, more than one axis, or ``confidence`` outside (0, 1).

    Source: Student (1908), "The probable error of a mean", doi:10.2307/2331554.
    """
    x = _row(values, confidence)
    mean = float(x.mean())
    half = float(stdtrit(len(x) - 1, (1 + confidence) / 2) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half)


@np.errstate(invalid="ignore", over="ignore")
def bootstrap_interval(
    values: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
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
        The mean and the two bounds. All are NaN where a value is; the bounds are where the correction fails,
        as for values so far apart that one alone decides.

    Raises:
        TypeError, ValueError: as ``mean_interval``.

    Source: Efron (1987), "Better bootstrap confidence intervals", doi:10.1080/01621459.1987.10478410.
    """
    from scipy import stats  # takes a second to load

    x = _row(values, confidence)
    mean = float(x.mean())
    if not np.isfinite(x).all() or (x == x[0]).all():
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (x,), np.mean, confidence_level=confidence, n_resamples=resamples, rng=rng
        ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


@np.errstate(invalid="ignore")
def paired_difference(first: Values, second: Values, *, confidence: float = 0.95) -> Interval:
    """Compute the mean of ``first - second`` over shared seeds, and its interval by Student's t.

    What a seed does to both runs cancels, so the interval is narrower than for runs of different seeds.

    Args:
        first: shape (n,), n at least 2.
        second: shape (n,), of the same seeds in the same order.
        confidence: as for ``mean_interval``.

    Raises:
        TypeError, ValueError: the two differ in length, or as ``mean_interval``.
    """
    a, b = _pair(first, second)
    return mean_interval(a - b, confidence=confidence)


@np.errstate(invalid="ignore", over="ignore")
def paired_ratio(first: Values, second: Values, *, confidence: float = 0.95) -> Interval:
    """Compute the geometric mean of ``first / second`` over shared seeds, and its interval.

    The exponential of ``paired_difference`` of the logarithms, so that a ratio and its inverse count alike.

    Args:
        first: shape (n,), n at least 2, above 0. A pair with a NaN, that of a run that diverged, is left out.
        second: shape (n,), of the same seeds in the same order, likewise.
        confidence: as for ``mean_interval``.

    Raises:
        TypeError: as ``mean_interval``.
        ValueError: a value is 0 or less, the two differ in length, or fewer than two pairs are left.
    """
    a, b = _pair(first, second)
    if (a <= 0).any() or (b <= 0).any():
        raise ValueError(f"expected values above 0, got {np.nanmin([a, b]):g}")
    complete = ~np.isnan(a) & ~np.isnan(b)
    logs = (np.log(v[complete]) for v in (a, b))
    return Interval(*np.exp(paired_difference(*logs, confidence=confidence)).tolist())


def _numbers(values: Values) -> Row:
    """Return the values as an array of float64; raise TypeError unless they are real numbers."""
    x = np.asarray(values)
    if x.dtype.kind not in "fiu":
        raise TypeError(f"expected a sequence of real numbers, got {type(values).__name__} of {x.dtype}")
    return x.astype(np.float64)


def _pair(first: Values, second: Values) -> tuple[Row, Row]:
    """Return both as arrays; raise ValueError unless they are of one shape."""
    a, b = _numbers(first), _numbers(second)
    if a.shape != b.shape:
        raise ValueError(f"expected as many values in both, got shapes {a.shape} and {b.shape}")
    return a, b


def _row(values: Values, confidence: float) -> Row:
    """Return the values as an array; raise ValueError unless they are two or more in one row."""
    x = _numbers(values)
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"expected at least two values in one row, got shape {x.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    return x
