"""All exercises, collected from the files ``chapter*.py`` beside this one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from bnlib.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


def _collect() -> list[Exercise]:
    names = sorted(path.stem for path in Path(__file__).parent.glob("chapter*.py"))
    modules = [import_module(f"bnlib.exercises.{name}") for name in names]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Exercise)]
    return sorted(found, key=lambda one: [int(part) for part in one.id.split(".")])


EXERCISES = MappingProxyType({one.id: one for one in _collect()})
"""Number of an exercise to the exercise, in order."""
