"""Show the smallest case that an answer gets wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnlib.exercises.diagnose import is_right
from bnlib.exercises.exercise import Exercise
from bnlib.exercises.outputs import Array, close
from bnlib.exercises.run import Trial

__all__ = ["show_smallest_failure"]


def show_smallest_failure(exercise: Exercise, trials: Sequence[Trial]) -> str:
    """Lay out the inputs, the expected result, the result got, and the place where they differ most.

    Args:
        exercise: the cases, and what is expected.
        trials: one trial a case, of which at least one is wrong.

    Returns:
        Lines of text.
    """
    failing = [
        (exercise.cases[index].size, index)
        for index, trial in enumerate(trials)
        if trial.arrays is not None and not is_right(exercise, index, trial)
    ]
    index = min(failing)[1]
    lines = ["The smallest case that fails:"]
    lines += [_assign(name, np.asarray(value)) for name, value in exercise.cases[index].inputs.items()]
    for name, got, expected in zip(
        exercise.returns, trials[index].arrays or (), exercise.expected[index], strict=True
    ):
        if not close(got, expected, exercise.tolerance):
            which = "" if len(exercise.returns) == 1 else f" {name}"
            lines += [
                _assign(f"expected{which}", expected),
                _assign(f"got{which}", got),
                _where(got, expected),
            ]
    return "\n".join(line for line in lines if line)


def _assign(name: str, value: Array) -> str:
    if value.dtype.kind == "f":
        value = value + 0.0  # no "-0."
    with np.printoptions(legacy=False, floatmode="maxprec", sign="-", nanstr="nan", infstr="inf"):
        text = np.array2string(
            value, precision=4, suppress_small=True, threshold=60, edgeitems=2, max_line_width=88
        )
    shape = f" of shape {value.shape}" if value.size > 60 else ""
    return f"{name}{shape} =\n{text}" if value.ndim > 1 else f"{name}{shape} = {text}"


def _where(got: Array, expected: Array) -> str:
    if got.shape != expected.shape or got.ndim == 0 or got.size == 0:
        return ""
    difference = np.abs(got - expected)
    place = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), got.shape))
    values = f"expected {expected[place] + 0.0:.4g}, got {got[place] + 0.0:.4g}"
    return f"They differ most at {list(place)}: {values}."
