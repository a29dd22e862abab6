"""An exercise: one solution, the edits that make it wrong, the cases it is tried on, and its texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from bnlib.exercises.outputs import Array, to_arrays
from bnlib.exercises.switches import Edit, combine, compile_function, read_source, spans

__all__ = ["Case", "Exercise", "Fresh", "Mistake", "Observation", "case", "exercise"]

Observation = tuple[Array, ...] | str
"""What one call gives: its arrays, or the name of the exception that it raises."""

AT_ONCE = 3
"""So many mistakes at once are looked for."""


@dataclass(frozen=True)
class Mistake:
    """A known mistake, made by editing the solution or, where the answer is a value, by its wrong value.

    Args:
        what: what is wrong, in one sentence that the learner sees.
        message: where to look; the learner sees it after ``what``.
        edits: ``"old code => new code"``, one or several; old code occurs once in the solution.
        gives: the wrong value; such a mistake is never combined with others.
        excludes: names of mistakes that hide this one, or that it makes no sense with.
    """

    what: str
    message: str
    edits: str | tuple[str, ...] = ()
    gives: object = None
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fresh:
    """An input that is made anew for each call, such as a model, which an answer may change.

    Args:
        make: makes it.
    """

    make: Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One set of arguments.

    Args:
        inputs: argument name to value, or to a `Fresh` one; arrays are made read-only.
        group: a word such as ``"training"``, for exercises that do two things.
    """

    inputs: Mapping[str, Any]
    group: str = ""

    def arguments(self) -> list[Any]:
        """Copy or make the values, so that whoever gets them cannot change the case."""

        def own(value: Any) -> Any:
            if isinstance(value, Fresh):
                return value.make()
            return value.copy() if isinstance(value, np.ndarray) else value

        return [own(value) for value in self.inputs.values()]

    @property
    def size(self) -> int:
        """Count the numbers in the inputs."""
        return sum(np.size(value) for value in self.inputs.values())


def case(group: str = "", /, **inputs: Any) -> Case:
    """Make a case from arguments by name, in the order of the solution's parameters."""
    for value in inputs.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return Case(inputs, group)


@dataclass(frozen=True, eq=False)
class Exercise:
    """An exercise and all that it takes to check an answer to it.

    Args:
        id: chapter and number, such as ``"2.1"``.
        title: a few words.
        solution: the reference solution. It takes no argument where the answer is a value.
        mistakes: name to mistake.
        hints: at least two, each saying more than the one before.
        explanation: why the solution is as it is.
        cases: what it is tried on.
        returns: names of what the solution returns.
        read: converts an answer that is a value; None where the answer is a function.
        tolerance: largest accepted error, relative to the largest value expected in an array.
    """

    id: str
    title: str
    solution: Callable[..., Any]
    mistakes: Mapping[str, Mistake]
    hints: tuple[str, ...]
    explanation: str
    cases: tuple[Case, ...]
    returns: tuple[str, ...]
    read: Callable[[object], Array] | None
    tolerance: float

    @property
    def label(self) -> str:
        """Number and title."""
        return f"Exercise {self.id} ({self.title})"

    @property
    def chapter(self) -> int:
        """Number of the chapter."""
        return int(self.id.partition(".")[0])

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the solution's parameters."""
        return tuple(inspect.signature(self.solution).parameters)

    @cached_property
    def source(self) -> str:
        """Source of the solution."""
        return read_source(self.solution)

    @cached_property
    def edits(self) -> dict[str, tuple[Edit, ...]]:
        """Places of the edits of each mistake that has some."""
        written = {
            name: (mistake.edits,) if isinstance(mistake.edits, str) else mistake.edits
            for name, mistake in self.mistakes.items()
        }
        return {name: spans(self.source, edits) for name, edits in written.items() if edits}

    @cached_property
    def expected(self) -> tuple[tuple[Array, ...], ...]:
        """What the solution returns, case by case."""
        return tuple(self.convert(self.solution(*one.arguments())) for one in self.cases)

    @cached_property
    def _observed(self) -> dict[tuple[str, ...], list[Observation]]:
        return {}

    @cached_property
    def _variants(self) -> dict[tuple[str, ...], Callable[..., Any]]:
        return {}

    def convert(self, value: object) -> tuple[Array, ...]:
        """Convert what the solution or an answer returned; see ``outputs.to_arrays``."""
        if self.read is not None:
            return (self.read(value),)
        return to_arrays(value, self.returns)

    @cached_property
    def combinations(self) -> tuple[tuple[str, ...], ...]:
        """The mistakes and their combinations, fewest first, without those that cannot occur together."""
        return tuple(
            names
            for count in range(1, AT_ONCE + 1)
            for names in combinations(self.mistakes, count)
            if count == 1 or self._combine(names) is not None
        )

    def _combine(self, names: Sequence[str]) -> str | None:
        chosen = [self.mistakes[name] for name in names]
        if any(mistake.gives is not None for mistake in chosen):
            return None
        if any(set(mistake.excludes).intersection(names) for mistake in chosen):
            return None
        return combine(self.source, [edit for name in names for edit in self.edits[name]])

    def variant(self, names: tuple[str, ...]) -> Callable[..., Any]:
        """Make the solution wrong in the ways named.

        Raises:
            ValueError: these mistakes cannot occur together.
        """
        if names not in self._variants:
            wrong_value = self.mistakes[names[0]].gives
            source = self._combine(names)
            if source is None and (wrong_value is None or len(names) > 1):
                raise ValueError(
                    f"expected mistakes that can occur together in exercise {self.id}, got {names}"
                )
            self._variants[names] = (
                (lambda: wrong_value) if source is None else compile_function(source, self.solution)
            )
        return self._variants[names]

    def observe(self, names: tuple[str, ...], index: int) -> Observation:
        """Call a wrong variant on a case, once: later calls return what was seen then."""
        seen = self._observed.setdefault(names, [])
        while len(seen) <= index:
            try:
                seen.append(self.convert(self.variant(names)(*self.cases[len(seen)].arguments())))
            except Exception as error:  # a mistake may well raise: that is what is observed
                seen.append(type(error).__name__)
        return seen[index]


def exercise(
    id: str,
    title: str,
    *,
    mistakes: Mapping[str, Mistake],
    hints: Sequence[str],
    explanation: str,
    cases: Sequence[Case] = (Case({}),),
    returns: tuple[str, ...] = ("the result",),
    read: Callable[[object], Array] | None = None,
    tolerance: float = 1e-5,
) -> Callable[[Callable[..., Any]], Exercise]:
    """Make an exercise of the solution below.

    The arguments are those of `Exercise`. The default tolerance lets a solution in float32 pass.

    Returns:
        A decorator that replaces the solution by the exercise.
    """

    def decorate(solution: Callable[..., Any]) -> Exercise:
        text = " ".join(explanation.split())
        return Exercise(
            id, title, solution, mistakes, tuple(hints), text, tuple(cases), returns, read, tolerance
        )

    return decorate
