"""The experiments by name: what each one varies, for which seeds, and the function that measures."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Experiment", "Measure", "experiment", "experiments", "find"]

Measure = Callable[[Mapping[str, Any], Sequence[int]], Mapping[str, Any]]
"""Given the settings of a part and S seeds, returns arrays by name, each of shape (S, ...)."""

_registered: dict[str, Experiment] = {}


@dataclass(frozen=True)
class Experiment:
    """A named measurement.

    Attributes:
        name: a word that can name a file.
        parts: the settings of each part, by the name of the part; numbers, texts, lists and dicts of these.
        seeds: how many seeds are recorded, from 0 on.
        at_once: how many seeds are measured in one call; an interrupt loses one call at most.
        measure: the function.
    """

    name: str
    parts: Mapping[str, Mapping[str, Any]]
    seeds: int
    at_once: int
    measure: Measure

    @property
    def about(self) -> str:
        """Return the first sentence of the function's docstring."""
        return (inspect.getdoc(self.measure) or "").partition("\n")[0]


def experiment(
    name: str, *, parts: Mapping[str, Mapping[str, Any]], seeds: int = 5, at_once: int | None = None
) -> Callable[[Measure], Measure]:
    """Register the decorated function as an experiment.

    Args:
        name: of the experiment and its record.
        parts: settings by the name of the part.
        seeds: how many are recorded, at least 2.
        at_once: how many seeds go into one call; None is all.

    Raises:
        ValueError: the name is taken or is no identifier, there are no parts, or fewer than 2 seeds.
    """
    if not name.isidentifier():
        raise ValueError(f"expected a name of letters, digits and underscores, got {name!r}")
    if name in _registered:
        raise ValueError(f"expected a name that is not taken, got {name!r}")
    if not parts or seeds < 2:
        raise ValueError(f"expected at least 1 part and 2 seeds, got {len(parts)} and {seeds}")

    def register(measure: Measure) -> Measure:
        _registered[name] = Experiment(name, parts, seeds, at_once or seeds, measure)
        return measure

    return register


def experiments() -> dict[str, Experiment]:
    """Return all experiments of ``bnlib.lab.experiments``, by name."""
    package = importlib.import_module("bnlib.lab.experiments")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_registered.items()))


def find(name: str) -> Experiment:
    """Return the experiment of that name; ``ValueError`` if there is none."""
    known = experiments()
    if name not in known:
        raise ValueError(f"expected an experiment {', '.join(known)}, got {name!r}")
    return known[name]
