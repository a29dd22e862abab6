"""Exercises whose answers are checked at once, and whose mistakes are named.

>>> from bnlib.exercises import check, hint, solution, progress
>>> check("2.2", (0, 1))  # doctest: +SKIP
"""

from bnlib.exercises.catalogue import EXERCISES
from bnlib.exercises.checker import check, hint, progress, solution
from bnlib.exercises.clinic import charts
from bnlib.exercises.exercise import Exercise, Mistake
from bnlib.exercises.result import Result

__all__ = ["EXERCISES", "Exercise", "Mistake", "Result", "charts", "check", "hint", "progress", "solution"]
