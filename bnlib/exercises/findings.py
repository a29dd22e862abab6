"""Say what is wrong with values that no known mistake explains: shape, type, factor, offset and the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from bnlib.exercises.diagnose import is_right
from bnlib.exercises.exercise import Exercise
from bnlib.exercises.outputs import SMALL_ENOUGH, Array, close
from bnlib.exercises.run import Trial

__all__ = ["Finding", "about_groups", "about_values", "side_effects"]


class Finding(NamedTuple):
    """A short name of what was noticed, and what the learner is told."""

    name: str
    message: str


Pairs = Sequence[tuple[Array, Array]]
"""Got and expected, one pair a case."""


def side_effects(trials: Sequence[Trial], repeated: Trial | None, tolerance: float) -> list[Finding]:
    """Notice what an answer does besides returning values, and the type of what it returns.

    Args:
        trials: one trial a case.
        repeated: another call on the first case.
        tolerance: as of the exercise.

    Returns:
        One finding for each thing noticed.
    """
    found = []
    changed = sorted({name for trial in trials for name in trial.changed})
    if changed:
        names = ", ".join(f"`{name}`" for name in changed)
        text = f"It changes its input {names} in place. Work on a new array: write `x = x - …`, not `x -= …`."
        found.append(Finding("input changed in place", text))
    patched = sorted({name for trial in trials for name in trial.patched})
    if patched:
        names = ", ".join(f"`{name}`" for name in patched)
        found.append(Finding("NumPy replaced", f"It replaces {names}. The original is back in its place."))
    if repeated is not None and not _same_again(trials[0], repeated, tolerance):
        text = "Called twice on the same input, it gives two results: it keeps something between calls."
        found.append(Finding("depends on a previous call", text))
    strange = sorted({kind for trial in trials for kind in trial.kinds} & {"a torch tensor", "a list"})
    if strange:
        found.append(Finding("wrong type", f"It returns {strange[0]}; expected NumPy."))
    return found


def _same_again(first: Trial, second: Trial, tolerance: float) -> bool:
    if first.arrays is None or second.arrays is None:
        return (first.arrays is None) == (second.arrays is None)
    pairs = zip(first.arrays, second.arrays, strict=True)
    return all(a.size > SMALL_ENOUGH or close(a, b, tolerance) for a, b in pairs)


def about_groups(exercise: Exercise, trials: Sequence[Trial]) -> Finding | None:
    """Notice that an answer is right on all cases of some groups and wrong on all of the others."""
    right: dict[str, set[bool]] = {}
    for index, trial in enumerate(trials):
        right.setdefault(exercise.cases[index].group, set()).add(is_right(exercise, index, trial))
    if (
        len(right) < 2
        or any(len(seen) > 1 for seen in right.values())
        or set.union(*right.values()) != {True, False}
    ):
        return None
    good = " and ".join(group for group, seen in right.items() if True in seen)
    bad = " and ".join(group for group, seen in right.items() if False in seen)
    return Finding("right in some cases only", f"It is right for {good}, and wrong for {bad}.")


def about_values(exercise: Exercise, trials: Sequence[Trial]) -> Finding | None:
    """Say what relates the values of an answer to those expected.

    Args:
        exercise: says what is expected.
        trials: one trial a case, each with usable arrays.

    Returns:
        The first finding that holds on all cases; None if nothing does.
    """
    got = [trial.arrays for trial in trials if trial.arrays is not None]
    expected = exercise.expected
    count = len(exercise.returns)
    if (order := _order(got, expected, exercise.tolerance)) is not None:
        names = ", ".join(exercise.returns[index] for index in order)
        text = f"The returned values are right, but swapped: they come as `{names}`."
        return Finding("swapped return values", text)
    columns = [[(a[k], b[k]) for a, b in zip(got, expected, strict=True)] for k in range(count)]
    wrong = [k for k in range(count) if not all(close(a, b, exercise.tolerance) for a, b in columns[k])]
    name = exercise.returns[wrong[0]]
    subject = "The result" if count == 1 else f"`{name}`"
    others = [f"`{other}`" for k, other in enumerate(exercise.returns) if k not in wrong]
    verb = "is" if len(others) == 1 else "are"
    comfort = f"{' and '.join(others)} {verb} right. " if others else ""
    looks: tuple[Callable[[Pairs, float], Finding | None], ...] = (
        _shape,
        _not_finite,
        _dtype,
        _factor,
        _offset,
    )
    for look in looks:
        found = look(columns[wrong[0]], exercise.tolerance)
        if found is not None:
            return Finding(found.name, f"{comfort}{subject} {found.message}")
    return Finding("other values", f"{comfort}{subject} has other values than expected.") if comfort else None


def _order(
    got: Sequence[tuple[Array, ...]], expected: Sequence[tuple[Array, ...]], tolerance: float
) -> tuple[int, ...] | None:
    for order in permutations(range(len(expected[0]))):
        pairs = [(a[k], b[i]) for a, b in zip(got, expected, strict=True) for k, i in enumerate(order)]
        if all(close(a, b, tolerance) for a, b in pairs):
            return order
    return None


def _shape(pairs: Pairs, tolerance: float) -> Finding | None:
    if all(close(a.T, b, tolerance) for a, b in pairs):
        return Finding("transposed", "is transposed.")
    for got, expected in pairs:
        if got.shape != expected.shape:
            text = f"has shape {got.shape}; expected {expected.shape}. {_cause(got, expected)}"
            return Finding("wrong shape", text.rstrip())
    return None


def _cause(got: Array, expected: Array) -> str:
    if got.shape == expected.shape[::-1]:
        return "It looks transposed."
    alike = got.squeeze().shape == expected.squeeze().shape
    if alike and got.ndim > expected.ndim:
        return "Axes of length 1 remain: look for a `keepdims=True` or `None` too many."
    if alike and got.ndim < expected.ndim:
        return "Axes of length 1 are missing: look for a missing `keepdims=True`."
    if got.size > expected.size:
        return (
            "Two arrays were broadcast against each other: look for a missing `keepdims=True` or `reshape`."
        )
    if got.ndim < expected.ndim:
        return "An axis is summed or averaged away that should stay."
    return ""


def _not_finite(pairs: Pairs, tolerance: float) -> Finding | None:
    for got, expected in pairs:
        bad = ~np.isfinite(got) & np.isfinite(expected)
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            value = "NaN" if np.isnan(got[place]) else "infinity"
            where = f", first at {list(place)}" if place else ""
            text = f"is {value} in {int(bad.sum())} of {got.size} places{where}."
            return Finding(
                "not finite", f"{text} Look for a division by zero or the root of a negative number."
            )
    return None


def _dtype(pairs: Pairs, tolerance: float) -> Finding | None:
    dtypes = {got.dtype for got, _ in pairs}
    if any(dtype.kind == "c" for dtype in dtypes):
        return Finding("wrong dtype", "has complex values; expected real ones.")
    if all(dtype.kind in "iub" for dtype in dtypes):
        rounded = all(a.dtype.kind != "b" and (np.abs(a - b) <= 1).all() for a, b in pairs)
        kind = "truth values" if pairs[0][0].dtype.kind == "b" else "whole numbers"
        text = f"is rounded to {kind}" if rounded else f"holds {kind}"
        return Finding("wrong dtype", f"{text} (dtype {pairs[0][0].dtype}); expected floating point.")
    low = [dtype for dtype in dtypes if dtype.kind == "f" and dtype.itemsize < 8]
    if low and all(close(a.astype(float), b, 0.01) for a, b in pairs):
        return Finding(
            "wrong dtype", f"is right but for rounding errors: {low[0]} is not precise enough here."
        )
    return None


def _factor(pairs: Pairs, tolerance: float) -> Finding | None:
    pairs = [(got, expected) for got, expected in pairs if got.size]
    factors = []
    for got, expected in pairs:
        square = float((expected * expected).sum())
        factors.append(float((got * expected).sum()) / square if square else np.nan)
        if not close(got, factors[-1] * expected, tolerance):
            return None
    alike = _alike(factors, pairs)
    if alike is None:
        return None
    if not alike:
        shown = ", ".join(f"{factor:.4g}" for factor in factors)
        return Finding("constant factor", f"is off by a factor that changes from case to case: {shown}.")
    if abs(factors[0] + 1) < 1e-4:
        return Finding("constant factor", "has the wrong sign.")
    if factors[0] == 0:
        return Finding("constant factor", "is zero everywhere.")
    return Finding("constant factor", f"is {factors[0]:.4g} times what is expected{_in_all(pairs)}.")


def _offset(pairs: Pairs, tolerance: float) -> Finding | None:
    pairs = [(got, expected) for got, expected in pairs if got.size]
    offsets = [float((got - expected).mean()) for got, expected in pairs]
    if not all(close(a, b + c, tolerance) for (a, b), c in zip(pairs, offsets, strict=True)):
        return None
    alike = _alike(offsets, pairs)
    if alike is None:
        return None
    if not alike:
        shown = ", ".join(f"{offset:.4g}" for offset in offsets)
        return Finding("constant offset", f"is off by a constant that changes from case to case: {shown}.")
    return Finding("constant offset", f"is what is expected plus {offsets[0]:.4g}{_in_all(pairs)}.")


def _alike(found: Sequence[float], pairs: Pairs) -> bool | None:
    """Tell whether what was found in each case is the same in all; None if it can be chance."""
    alike = bool(np.ptp(found) <= 1e-4 * max(map(abs, found)))
    return alike if (alike and len(pairs) > 1) or all(got.size > 2 for got, _ in pairs) else None


def _in_all(pairs: Pairs) -> str:
    return ", in all cases" if len(pairs) > 1 else ""
