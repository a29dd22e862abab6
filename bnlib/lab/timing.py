"""Time calls side by side: they take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

Calls = Mapping[str, Callable[[], object]]


def median_times(calls: Calls, repeat: int) -> dict[str, float]:
    """Return the median time of each call in milliseconds, taken in turns; the first turn does not count.

    Args:
        calls: what to time, by name.
        repeat: number of turns that count, at least 1.

    Returns:
        Milliseconds by name.

    Raises:
        ValueError: ``repeat`` is less than 1.
    """
    if repeat < 1:
        raise ValueError(f"expected repeat of at least 1, got {repeat}")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeat + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(t) for name, t in times.items()}
