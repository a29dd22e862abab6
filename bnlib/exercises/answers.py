"""Readers of answers that are a value: a number, a set of axes, a word."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from numbers import Number

import numpy as np

from bnlib.exercises.outputs import Array, UnusableError, describe, name_type, to_array

__all__ = ["axes", "choice", "number"]


def number() -> Callable[[object], Array]:
    """Make the reader of an answer that is one number.

    Returns:
        A function that converts an answer to an array of shape (), or raises `UnusableError`.
    """

    def read(value: object) -> Array:
        usable = isinstance(value, Number | np.ndarray) or name_type(value) == "a torch tensor"
        if isinstance(value, bool | np.bool_) or not usable:
            raise UnusableError("wrong type", f"Expected a number, got {describe(value)}.")
        array = to_array(value)
        if array.size != 1 or array.dtype.kind == "c":
            raise UnusableError("wrong type", f"Expected one number, got {name_type(value)}.")
        if not np.isfinite(array).all():
            raise UnusableError("not finite", f"Expected a finite number, got `{array.item()}`.")
        return array.reshape(()).astype(float)

    return read


def axes(ndim: int) -> Callable[[object], Array]:
    """Make the reader of an answer that is a set of axes of an array with ``ndim`` axes.

    Any order, any sequence or set, a single integer, and negative axes are accepted.

    Returns:
        A function that converts an answer to an array of shape (ndim,), 1 for the axes named and 0 for the
        others, or raises `UnusableError`.
    """

    def read(value: object) -> Array:
        entries = [value] if isinstance(value, int | np.integer) else value
        if isinstance(entries, str | bytes | dict) or inspect.isgenerator(entries):
            entries = None
        if not isinstance(entries, Iterable):
            text = f"Expected a tuple of axes such as `(1,)`, got {describe(value)}."
            raise UnusableError("wrong type", text)
        positions = [_position(axis, ndim) for axis in entries]
        chosen = set(positions)
        if len(chosen) != len(positions):
            text = "An axis occurs twice. Counted from the end, the last axis is −1."
            raise UnusableError("repeated axis", text)
        return np.array([axis in chosen for axis in range(ndim)], dtype=float)

    return read


def _position(axis: object, ndim: int) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise UnusableError("wrong type", f"Expected integers as axes, got {describe(axis)} among them.")
    if not -ndim <= axis < ndim:
        text = f"An array with {ndim} axes has axes 0 to {ndim - 1}, got {describe(axis)}."
        raise UnusableError("no such axis", text)
    return int(axis) % ndim


def choice(*options: str) -> Callable[[object], Array]:
    """Make the reader of an answer that is one of several words, in upper or lower case.

    Returns:
        A function that converts an answer to the position of the word, from 1, as an array of shape (), or
        raises `UnusableError`.
    """
    known = ", ".join(map(repr, options))
    places = {option.casefold(): np.array(float(place)) for place, option in enumerate(options, start=1)}

    def read(value: object) -> Array:
        word = value.strip().casefold() if isinstance(value, str) else ""
        if word not in places:
            raise UnusableError("no such choice", f"Expected one of {known}, got {describe(value)}.")
        return places[word]

    return read
