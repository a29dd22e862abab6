"""Recognize known mistakes: find the wrong variants of the solution that give what the answer gave."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from bnlib.exercises.exercise import Exercise, Observation
from bnlib.exercises.outputs import close
from bnlib.exercises.run import Trial

__all__ = ["diagnose", "is_right"]


def is_right(exercise: Exercise, index: int, trial: Trial) -> bool:
    """Compare what an answer gave on a case with what the solution gives."""
    return _agree(_seen(trial), exercise.expected[index], exercise.tolerance)


def diagnose(exercise: Exercise, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Find the fewest mistakes, three at most, that together reproduce what an answer gave on all cases.

    A variant that raises an exception reproduces an answer that raises one of the same type there.

    Args:
        exercise: the mistakes.
        trials: what the answer gave, one trial a case.

    Returns:
        Names of mistakes; empty if no combination fits, or if the answer returned nothing usable.
    """
    seen = [_seen(trial) for trial in trials]
    if all(isinstance(one, str) for one in seen):
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for names in exercise.combinations:
            if all(
                _agree(one, exercise.observe(names, index), exercise.tolerance)
                for index, one in enumerate(seen)
            ):
                return names
    return ()


def _seen(trial: Trial) -> Observation:
    if trial.arrays is not None:
        return trial.arrays
    return trial.failure.kind if trial.failure is not None else "unusable"


def _agree(got: Observation, expected: Observation, tolerance: float) -> bool:
    if isinstance(got, str) or isinstance(expected, str):
        return isinstance(got, str) and isinstance(expected, str) and got == expected
    return len(got) == len(expected) and all(
        close(a, b, tolerance) for a, b in zip(got, expected, strict=True)
    )
