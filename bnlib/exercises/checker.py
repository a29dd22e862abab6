"""Check answers, and give hints, solutions and an overview."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from bnlib.exercises import store
from bnlib.exercises.catalogue import EXERCISES
from bnlib.exercises.exercise import Exercise
from bnlib.exercises.result import Hint, Progress, Result, Solution
from bnlib.exercises.verdict import judge

__all__ = ["UnknownExerciseError", "check", "hint", "progress", "solution"]

_hints_given: dict[str, int] = {}
_solutions_shown: set[str] = set()


class UnknownExerciseError(KeyError):
    """There is no exercise of this number."""

    def __str__(self) -> str:
        return str(self.args[0])


def check(id: str, answer: object) -> Result:
    """Check an answer to an exercise, and remember the exercise as solved if it is correct.

    Once `solution` has shown the answer, a correct one is no longer remembered in that session.

    Args:
        id: number of the exercise, such as ``"2.1"``.
        answer: a function; where the exercise asks for a value, that value or a function that returns it.

    Returns:
        What came of it. No exception is raised, whatever the answer does; only an interrupt by the user
        passes through.
    """
    try:
        exercise = _find(id)
    except UnknownExerciseError as error:
        return Result("Unknown exercise", "raised", str(error))
    try:
        result = judge(exercise, answer)
        if result.passed and answer is not exercise.solution and id not in _solutions_shown:
            store.record(exercise.id)
    except Exception as error:  # a fault of the checker must not stop the learner's notebook
        return Result(exercise.label, "raised", f"The checker itself failed on this answer: {error!r}.")
    return result


def hint(id: str) -> Hint:
    """Give the next hint for an exercise; after the last one, the last one again.

    Args:
        id: number of the exercise.

    Returns:
        The hint, and which of how many it is.

    Raises:
        UnknownExerciseError: there is no such exercise; a ``KeyError``.
    """
    exercise = _find(id)
    number = min(_hints_given.get(id, 0) + 1, len(exercise.hints))
    _hints_given[id] = number
    return Hint(exercise.label, number, len(exercise.hints), exercise.hints[number - 1])


def solution(id: str) -> Solution:
    """Show the solution of an exercise, with its explanation.

    Args:
        id: number of the exercise.

    Returns:
        The source of the code that answers are compared with, and why it is so.

    Raises:
        UnknownExerciseError: there is no such exercise; a ``KeyError``.
    """
    exercise = _find(id)
    _solutions_shown.add(id)
    return Solution(exercise.label, exercise.source, exercise.explanation)


def progress() -> Progress:
    """Show which exercises are solved.

    Returns:
        A table, with a note if the file that keeps it is in trouble.
    """
    done = store.solved()
    rows = tuple((one.id, one.title, one.id in done) for one in EXERCISES.values())
    return Progress(rows, store.note())


def _find(id: object) -> Exercise:
    if isinstance(id, str) and id in EXERCISES:
        return EXERCISES[id]
    wrong = id[:20] if isinstance(id, str) else type(id).__name__
    chapter = [one for one in EXERCISES if one.partition(".")[0] == wrong.partition(".")[0]]
    near = difflib.get_close_matches(wrong, chapter or list(EXERCISES), n=3, cutoff=0.5) or chapter
    first, *_, last = EXERCISES
    hint = f"Did you mean {_any_of(near)}?" if near else f'The first is "{first}", the last "{last}".'
    raise UnknownExerciseError(f"There is no exercise {wrong!r}. {hint}")


def _any_of(ids: Sequence[str]) -> str:
    quoted = [f'"{id}"' for id in ids]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
