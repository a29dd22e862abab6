"""What a function returns, as arrays that can be compared."""

from __future__ import annotations

import contextlib
import inspect
import reprlib
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALL_ENOUGH",
    "Array",
    "UnusableError",
    "close",
    "describe",
    "name_type",
    "to_array",
    "to_arrays",
]

Array = NDArray[Any]

HUGE = 1e12
"""Values beyond this stand for infinity: they come from a division by a rounding error."""

SMALL_ENOUGH = 1_000_000
"""Arrays of at most so many values are copied, so that a later call cannot change them."""


class UnusableError(Exception):
    """An answer that is not of the kind asked for.

    Args:
        finding: short name of what is wrong.
        message: what the learner is told.
    """

    def __init__(self, finding: str, message: str) -> None:
        super().__init__(message)
        self.finding = finding
        self.message = message


def name_type(value: object) -> str:
    """Name the type of a value in words: ``"None"``, ``"a list"``, ``"a torch tensor"``."""
    if value is None:
        return "None"
    if inspect.isgenerator(value):
        return "a generator"
    if inspect.iscoroutine(value):
        value.close()
        return "a coroutine"
    if callable(value):
        return "a function"
    kind = type(value)
    if kind.__module__.partition(".")[0] == "torch":
        return "a torch tensor"
    words = {
        "str": "a text",
        "bytes": "bytes",
        "ndarray": "an array",
        "int": "an integer",
        "float": "a number",
    }
    article = "an" if kind.__name__[0] in "aeiouAEIOU" else "a"
    return words.get(kind.__name__, f"{article} {kind.__name__}")


def describe(value: object) -> str:
    """Describe a value in words, and show it if it is a text or a number."""
    if isinstance(value, str | bytes | Number):
        with contextlib.suppress(ValueError):  # an integer of thousands of digits has no text
            plain = value.item() if isinstance(value, np.generic) else value
            return f"{name_type(value)}, `{reprlib.repr(plain)}`"
    return name_type(value)


def to_arrays(value: object, names: tuple[str, ...]) -> tuple[Array, ...]:
    """Convert what a function returned.

    Args:
        value: what it returned.
        names: names of the values that it should return, one or several.

    Returns:
        One array for each name.

    Raises:
        UnusableError: it is of another type, or of another count.
    """
    if value is None or inspect.isgenerator(value):
        return (to_array(value),)
    wrong_count = "wrong number of values"
    if len(names) == 1:
        if isinstance(value, tuple):
            text = f"It returns {len(value)} values, separated by commas; expected one, {names[0]}."
            raise UnusableError(wrong_count, text)
        return (to_array(value),)
    wanted = f"expected {len(names)} values, `{', '.join(names)}`"
    if not isinstance(value, tuple | list) and not (isinstance(value, np.ndarray) and value.ndim > 0):
        raise UnusableError(wrong_count, f"It returns {describe(value)}; {wanted}.")
    if len(value) != len(names):
        raise UnusableError(wrong_count, f"It returns {len(value)} value{'s' * (len(value) != 1)}; {wanted}.")
    return tuple(to_array(entry) for entry in value)


def to_array(value: object) -> Array:
    """Convert one returned value.

    Args:
        value: an array, a number, a list of numbers or a tensor.

    Returns:
        Its values; a copy, unless it is very large.

    Raises:
        UnusableError: it is of another type.
    """
    if value is None:
        raise UnusableError("returns None", "It returns None. Is a `return` missing at the end?")
    if inspect.isgenerator(value):
        text = "It returns a generator; expected an array. Did you mean `return`, not `yield`?"
        raise UnusableError("wrong type", text)
    kind = name_type(value)
    if kind == "a torch tensor" and hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    elif isinstance(value, str | bytes | dict | set | frozenset) or callable(value):
        raise UnusableError("wrong type", f"It returns {describe(value)}; expected an array or a number.")
    try:
        array = np.asarray(value)
    except ValueError:
        raise UnusableError("wrong type", f"It returns {kind} that is not rectangular.") from None
    if array.dtype.kind not in "fiubc":
        text = f"It returns {kind} of dtype {array.dtype}; expected an array or a number."
        raise UnusableError("wrong type", text)
    return array.copy() if array.size <= SMALL_ENOUGH else array


def close(got: Array, expected: Array, tolerance: float) -> bool:
    """Compare two arrays: no value is off by more than ``tolerance`` times the largest expected one.

    NaN equals NaN. Infinity equals infinity, and whatever is beyond 1e12.

    Args:
        got: array of any shape.
        expected: array of any shape; other shapes are not close.
        tolerance: largest relative error.
    """
    if got.shape != expected.shape:
        return False
    usual = np.abs(expected) < HUGE
    if not usual.all():
        if not np.array_equal(np.abs(got) < HUGE, usual):
            return False
        if not np.array_equal(np.isnan(got), np.isnan(expected)):
            return False
        got, expected = got[usual], expected[usual]
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return bool((np.abs(1.0 * got - expected) <= tolerance * scale).all())
