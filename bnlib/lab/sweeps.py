"""Read a sweep of learning rates: where it is good enough, and where training is lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["band", "best", "limit"]


def best(accuracies: ArrayLike, what: str = "run") -> int:
    """Return the place of the learning rate with the best mean accuracy over all seeds.

    A rate at which a run overflowed cannot be it.

    Args:
        accuracies: of validation, shape (S, K) for S seeds and K rates, NaN where a run overflowed.
        what: whose runs they are, for the error.

    Returns:
        0 to K - 1.

    Raises:
        ValueError: some run overflows at every rate.
    """
    means = np.asarray(accuracies, dtype=np.float64).mean(axis=0)
    if np.isnan(means).all():
        raise ValueError(f"expected a rate at which no {what} overflows, got none")
    return int(np.nanargmax(means))


def band(rates: Sequence[float], losses: ArrayLike, tolerance: float) -> NDArray[np.float64]:
    """Find for each run the band of learning rates that end near its best loss.

    A rate is usable if its loss is at most the lowest of the run's plus ``tolerance``. The band holds the
    best rate and all usable ones that no unusable one separates from it.

    Args:
        rates: K of them, in increasing order.
        losses: at the end of training, shape (S, K), NaN where a run overflowed.
        tolerance: at least 0.

    Returns:
        The smallest and the largest rate of the band, shape (S, 2).

    Raises:
        ValueError: the rates do not increase, the shapes differ, or a row of losses has NaN alone.
    """
    rate, loss = _sweep(rates, losses)
    found = []
    for row in loss:
        best = int(np.nanargmin(row))
        usable = row <= row[best] + tolerance
        above = np.argmin([*usable[best:], False])
        below = np.argmin([*usable[best::-1], False])
        found.append((rate[best - below + 1], rate[best + above - 1]))
    return np.array(found)


def limit(rates: Sequence[float], losses: ArrayLike, guessing: float) -> NDArray[np.float64]:
    """Find for each run the largest learning rate before training diverges.

    Training diverges where the loss overflows or ends at or above ``guessing``. The limit is the last rate
    before the first such one above the best rate; the largest rate if there is none.

    Args:
        rates: K of them, in increasing order.
        losses: at the end of training, shape (S, K), NaN where a run overflowed.
        guessing: the loss of a network that knows nothing, ``log(10)`` for ten classes.

    Returns:
        Shape (S,); NaN for a run that every rate loses.

    Raises:
        ValueError: as ``band``.
    """
    rate, loss = _sweep(rates, losses)
    found = []
    for row in loss:
        best = int(np.nanargmin(row))
        trained = np.argmin([*(row[best:] < guessing), False])
        found.append(rate[best + trained - 1] if trained else np.nan)
    return np.array(found)


def _sweep(rates: Sequence[float], losses: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rates (K,) and losses (S, K), or raise ValueError."""
    rate, loss = np.asarray(rates, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if rate.ndim != 1 or not (np.diff(rate) > 0).all():
        raise ValueError(f"expected rates in increasing order, got {rates}")
    if loss.ndim != 2 or loss.shape[1:] != rate.shape:
        raise ValueError(f"expected losses of shape (S, {len(rate)}), got {loss.shape}")
    if np.isnan(loss).all(1).any():
        raise ValueError("expected a finite loss in each row, got NaN alone")
    return rate, loss
