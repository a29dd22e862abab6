"""Call an answer: in a thread of its own, with a time limit, on copies of the inputs, with NumPy guarded.

A thread works alike in scripts, notebooks and every operating system. What the answer raises, be it
``SystemExit`` or ``KeyboardInterrupt``, ends that thread only; an interrupt by the user arrives in the
main thread and passes through.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import dis
import linecache
import operator
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from bnlib.exercises.exercise import Case, Exercise
from bnlib.exercises.outputs import Array, UnusableError, name_type

__all__ = ["CASE_SECONDS", "TOTAL_SECONDS", "Failure", "Trial", "restore_numpy", "run"]

CASE_SECONDS = 10.0
TOTAL_SECONDS = 20.0
"""Far above what a right answer takes: the first use of ``torch.func`` alone takes seconds."""

_GUARDED: tuple[tuple[str, ModuleType], ...] = (
    ("np", np),
    ("np.linalg", np.linalg),
    ("np.random", np.random),
)
_ORIGINALS = {
    prefix: {name: value for name, value in vars(module).items() if not name.startswith("_")}
    for prefix, module in _GUARDED
}


class TimeUpError(BaseException):
    """Raised inside an answer that runs too long."""


@dataclass(frozen=True)
class Failure:
    """An exception raised by an answer.

    Args:
        kind: name of its type, or ``"TimeUpError"``.
        text: its message.
        where: the line of the answer that raised it, in words; may be empty.
    """

    kind: str
    text: str
    where: str = ""


@dataclass(frozen=True)
class Trial:
    """What came of one call of an answer.

    Args:
        case: what it was called on.
        arrays: what it returned, if that is usable.
        kinds: the types of the values that it returned, in words.
        unusable: why it is not usable.
        failure: what it raised.
        stub: it is the stub as given.
        changed: names of the inputs that it changed in place.
        patched: names of NumPy's functions that it replaced.
    """

    case: Case
    arrays: tuple[Array, ...] | None = None
    kinds: frozenset[str] = frozenset()
    unusable: UnusableError | None = None
    failure: Failure | None = None
    stub: bool = False
    changed: tuple[str, ...] = ()
    patched: tuple[str, ...] = ()


def restore_numpy() -> tuple[str, ...]:
    """Put back what was replaced in NumPy since this module was imported.

    Returns:
        The names of what was replaced, such as ``"np.mean"``.
    """
    replaced = []
    for prefix, module in _GUARDED:
        now, originals = vars(module), _ORIGINALS[prefix]
        if all(map(operator.is_, map(now.get, originals), originals.values())):
            continue  # as nearly always, and much quicker than the loop below
        for name, value in originals.items():
            if now.get(name) is not value:
                setattr(module, name, value)
                replaced.append(f"{prefix}.{name}")
    return tuple(replaced)


def run(exercise: Exercise, function: Callable[..., Any]) -> list[Trial]:
    """Call an answer on every case, and once more on the first; stop when time is up.

    Args:
        exercise: says which cases, and how to convert what is returned.
        function: the answer.

    Returns:
        One trial a case, and one more for the repeated call. Fewer if time is up or the answer is a stub.
    """
    trials: list[Trial] = []
    end = time.monotonic() + TOTAL_SECONDS
    again = exercise.cases[:1] if exercise.read is None else ()
    for case in (*exercise.cases, *again):
        limit = min(CASE_SECONDS, end - time.monotonic())
        trials.append(_try(exercise, function, case, max(limit, 0.01)))
        last = trials[-1]
        if last.stub or (last.failure is not None and last.failure.kind == "TimeUpError"):
            break
    return trials


def _try(exercise: Exercise, function: Callable[..., Any], case: Case, limit: float) -> Trial:
    arguments = case.arguments()
    outcome = _call_in_thread(lambda: _observe(exercise, function, case, arguments), function, limit)
    trial = Trial(case, failure=outcome) if isinstance(outcome, Failure) else outcome
    patched = (*trial.patched, *restore_numpy())
    changed = tuple(
        name
        for (name, original), argument in zip(case.inputs.items(), arguments, strict=True)
        if isinstance(original, np.ndarray) and not _unchanged(argument, original)
    )
    stub = trial.stub or _blames_ellipsis(trial.failure)
    return replace(trial, stub=stub, changed=changed, patched=patched)


def _unchanged(argument: Array, original: Array) -> bool:
    return argument.dtype == original.dtype and np.array_equal(argument, original, equal_nan=True)


def _observe(exercise: Exercise, function: Callable[..., Any], case: Case, arguments: Sequence[Any]) -> Trial:
    with np.errstate(all="ignore"):
        value = function(*arguments)
        patched = restore_numpy()
        if _is_stub(value, function):
            return Trial(case, stub=True)
        try:
            arrays = exercise.convert(value)
            kinds = frozenset(map(name_type, value if len(arrays) > 1 else (value,)))
            return Trial(case, arrays, kinds, patched=patched)
        except UnusableError as problem:
            return Trial(case, unusable=problem, patched=patched)


def _is_stub(value: object, function: Callable[..., Any]) -> bool:
    if value is ... or (isinstance(value, tuple) and any(entry is ... for entry in value)):
        return True
    return value is None and _is_empty(function)


def _is_empty(function: Callable[..., Any]) -> bool:
    def empty() -> None:
        pass

    code = getattr(function, "__code__", None)
    if code is None:
        return False
    return [step.opname for step in dis.get_instructions(code)] == [
        step.opname for step in dis.get_instructions(empty)
    ]


def _blames_ellipsis(failure: Failure | None) -> bool:
    if failure is None:
        return False
    return failure.kind == "NotImplementedError" or (
        failure.kind == "TypeError" and "ellipsis" in failure.text
    )


def _call_in_thread(call: Callable[[], Trial], function: Callable[..., Any], limit: float) -> Trial | Failure:
    """Call in a new thread; at the limit, raise `TimeUpError` inside it and go on without it."""
    outcome: list[Trial | Failure] = []

    def work() -> None:
        with contextlib.suppress(TimeUpError):
            try:
                outcome.append(call())
            except BaseException as error:  # even SystemExit belongs to the answer here
                outcome.append(_explain(error, function))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        thread.join(limit)
    finally:
        late = thread.is_alive()
        if late and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(TimeUpError)
            )
            thread.join(0.2)
    if late or not outcome:
        return Failure("TimeUpError", "")
    return outcome[0]


def _explain(error: BaseException, function: Callable[..., Any]) -> Failure:
    kind = type(error).__name__
    try:
        text = textwrap.shorten(str(error), 300, placeholder=" …")
    except Exception:
        text = ""
    code = getattr(function, "__code__", None)
    frames = [frame for frame in traceback.walk_tb(error.__traceback__) if code is not None]
    for frame, number in reversed(frames):
        if code is not None and frame.f_code.co_filename == code.co_filename:
            line = linecache.getline(code.co_filename, number).strip()
            name = frame.f_code.co_name
            place = f"in line {number - frame.f_code.co_firstlineno + 1} of `{name}`"
            return Failure(kind, text, f"{place}: `{line}`" if line else place)
    return Failure(kind, text)
