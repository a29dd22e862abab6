"""Judge an answer: run it, compare, and put what was found into words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bnlib.exercises.diagnose import diagnose, is_right
from bnlib.exercises.exercise import Exercise
from bnlib.exercises.failing import show_smallest_failure
from bnlib.exercises.findings import Finding, about_groups, about_values, side_effects
from bnlib.exercises.outputs import name_type
from bnlib.exercises.result import Result
from bnlib.exercises.run import Failure, Trial, restore_numpy, run

__all__ = ["judge"]


def judge(exercise: Exercise, answer: object) -> Result:
    """Check an answer to an exercise, which need not be in the catalogue.

    Args:
        exercise: the exercise.
        answer: a function; where the exercise asks for a value, that value or a function that returns it.

    Returns:
        What came of it.
    """
    replaced = restore_numpy()
    result = _judge(exercise, answer)
    if not replaced:
        return result
    names = ", ".join(f"`{name}`" for name in replaced)
    message = (
        f"{result.message}\n\nBefore this check, {names} had been replaced. The original is back.".strip()
    )
    return replace(result, message=message, findings=(*result.findings, "NumPy replaced"))


def _judge(exercise: Exercise, answer: object) -> Result:
    if answer is ...:
        return _not_attempted(exercise)
    if not callable(answer) and exercise.read is None:
        text = f"Expected a function, got {name_type(answer)}. Hand over the function, without calling it."
        return Result(exercise.label, "wrong", text, findings=("not a function",))
    function: Callable[..., Any] = answer if callable(answer) else _constant(answer)
    mismatch = _signature_mismatch(exercise, function)
    if mismatch:
        return Result(exercise.label, "raised", mismatch, findings=("wrong arguments",))
    trials = run(exercise, function)
    if any(trial.stub for trial in trials):
        return _not_attempted(exercise)
    return _verdict(exercise, trials)


def _constant(value: object) -> Callable[[], object]:
    return lambda: value


def _not_attempted(exercise: Exercise) -> Result:
    text = "Replace the `...` and run this cell again."
    return Result(exercise.label, "not attempted", text, hints=exercise.hints)


def _signature_mismatch(exercise: Exercise, function: Callable[..., Any]) -> str:
    """Say that a function cannot take the arguments; empty if it can, or if it does not tell."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return ""
    try:
        signature.bind(*exercise.parameters)
    except TypeError:
        return f"It takes `{signature}`; it is called with `({', '.join(exercise.parameters)})`."
    return ""


@np.errstate(all="ignore")
def _verdict(exercise: Exercise, trials: Sequence[Trial]) -> Result:
    count = len(exercise.cases)
    repeated = trials[count] if len(trials) > count else None
    trials = trials[:count]
    complete = len(trials) == count
    effects = side_effects(trials, repeated, exercise.tolerance) if exercise.read is None else []
    failed = next((trial for trial in trials if trial.failure is not None), None)
    if failed is None and all(is_right(exercise, index, trial) for index, trial in enumerate(trials)):
        if not effects:
            return Result(exercise.label, "correct")
        return _wrong(exercise, "The values are right, but not all is well.", [], effects)
    names = diagnose(exercise, trials) if complete else ()
    told = [f"{exercise.mistakes[name].what} {exercise.mistakes[name].message}" for name in names]
    if len(told) > 1:
        told.insert(0, f"It has {len(told)} mistakes.")
    if failed is not None and failed.failure is not None:
        text = "\n\n".join([_tell(failed, failed.failure), *told, *(effect.message for effect in effects)])
        return Result(exercise.label, "raised", text, names, tuple(effect.name for effect in effects))
    if names:
        return _wrong(exercise, "\n\n".join(told), [], effects, names)
    return _unnamed(exercise, trials, effects)


def _wrong(
    exercise: Exercise,
    opening: str,
    found: Sequence[Finding],
    effects: Sequence[Finding],
    diagnosis: tuple[str, ...] = (),
    block: str = "",
) -> Result:
    """Put together a result: findings in one paragraph with the opening, each effect in its own."""
    first = " ".join([*(one.message for one in found), opening]).strip()
    text = "\n\n".join([first, *(effect.message for effect in effects)])
    names = tuple(one.name for one in (*found, *effects))
    return Result(exercise.label, "wrong", text, diagnosis, names, block)


def _unnamed(exercise: Exercise, trials: Sequence[Trial], effects: Sequence[Finding]) -> Result:
    """Report an answer that no known mistake explains."""
    unusable = next((trial.unusable for trial in trials if trial.unusable is not None), None)
    if unusable is not None:
        return _wrong(exercise, "", [Finding(unusable.finding, unusable.message)], effects)
    pointer = f'`hint("{exercise.id}")` gives a hint.'
    if exercise.read is not None:
        return _wrong(exercise, f"That is not the answer. {pointer}", [], [])
    steady = all(effect.name != "depends on a previous call" for effect in effects)
    looks = (about_groups(exercise, trials), about_values(exercise, trials)) if steady else ()
    found = [one for one in looks if one is not None]
    opening = pointer if found else f"Its values differ from those expected. {pointer}"
    return _wrong(exercise, opening, found, effects, block=show_smallest_failure(exercise, trials))


def _tell(trial: Trial, failure: Failure) -> str:
    shapes = [
        f"`{name}` of shape {np.shape(value)}" for name, value in trial.case.inputs.items() if np.ndim(value)
    ]
    given = f" with {', '.join(shapes)}" if shapes else ""
    if failure.kind == "TimeUpError":
        return f"Called{given}, it ran too long and was stopped. Is there a loop that never ends?"
    text = f": {failure.text.rstrip('.')}" if failure.text else ""
    where = f" This happened {failure.where}." if failure.where else ""
    return f"Called{given}, it raised {failure.kind}{text}.{where}"
