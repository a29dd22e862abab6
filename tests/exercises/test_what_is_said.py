"""What the checker says to wrong answers, word for word: a list to read, in which no word changes unseen.

``python tests/exercises/test_what_is_said.py`` writes the list anew.
"""

import functools
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import test_checker as of_checker
import test_malformed_answers as malformed
from test_mistakes_by_hand import BY_HAND
from torch import nn

from bnlib.exercises import EXERCISES, charts, check, checker, hint, progress, solution, store
from bnlib.exercises.exercise import case, exercise
from bnlib.exercises.verdict import judge

SAID = Path(__file__).with_name("what_is_said.txt")
solve, solve_pair = of_checker.solve, of_checker.solve_pair


def parameters(test: Any) -> list[Any]:
    """Return what a test is run with."""
    return list(test.pytestmark[0].args[1])


class SilentError(Exception):
    """An error that cannot say what it is."""

    def __str__(self):
        raise RuntimeError("nothing to say")


class SilentTypeError(SilentError, TypeError):
    """The same as a TypeError."""


SilentTypeError.__name__ = "TypeError"


def patches(*all):
    """Replace two functions of NumPy."""
    np.mean, np.std = max, min
    return solve(*all)


def patches_and_raises(*all):
    """Replace a function of NumPy, and fail."""
    np.mean = max
    raise ValueError("in vain")


def patches_and_speaks(*all):
    """Replace a function of NumPy, and return a text."""
    np.mean = max
    return "a text"


def changes_two(x, gamma, beta, eps):
    """Change two inputs in place."""
    y = solve(x, gamma, beta, eps)
    x += 1
    gamma += 1
    return y


def yields(*all):
    """Return a generator."""
    yield 1


def raises(error: BaseException) -> Any:
    """Return an answer that raises in some cases."""

    def answer(*all):
        if len(all[0]) > 3:
            raise error
        return solve(*all)

    return answer


def arrays(f: Any, *others: Any) -> Any:
    """Make an exercise of one function and cases with an array each."""
    cases = [case(x=x) for x in others] or [case(x=np.linspace(-3, 4, 12).reshape(4, 3) ** 2)]
    return exercise("0.9", "A function", cases=cases, hints=["", ""], explanation="", mistakes={})(f)


def itself(x):
    """Return x."""
    y = x
    return y


def triple(x):
    """Return three values."""
    a, b, c = x, 2 * x, 3 * x
    return a, b, c


def by_group(x, group):
    """Return x."""
    y = x
    return y


def mean(x):
    """Return a number."""
    y = x.mean()
    return y


plain = {"hints": ["", ""], "explanation": "", "mistakes": {}}
three = exercise(
    "0.9", "Three values", cases=[case(x=np.arange(6.0).reshape(2, 3) ** 2)], returns="abc", **plain
)(triple)
groups = exercise(
    "0.9",
    "Groups",
    cases=[case("abcd"[k % 4], x=np.arange(k, k + 4.0), group=k % 4) for k in (0, 1, 2, 3, 7)],
    **plain,
)(by_group)
number = exercise("0.9", "A number", cases=[case(x=np.arange(4.0)), case(x=np.arange(5.0))], **plain)(mean)


def answers() -> Iterator[tuple[str, Any]]:
    """Yield what is asked and what comes back."""
    for answer, *_ in parameters(of_checker.test_generic_findings):
        yield "2.1, generic", check("2.1", answer)
    for test, id in (
        (malformed.test_a_stub_prints_one_stable_line, "2.1"),
        (malformed.test_not_a_function, "2.1"),
        (malformed.test_wrong_arity, "2.1"),
    ):
        for answer in parameters(test):
            yield f"{id}, {test.__name__}", check(id, answer)
    for value in parameters(malformed.test_values_of_other_types):
        yield "2.1, other types", check("2.1", lambda *all, value=value: value)
    for value in parameters(of_checker.test_wrong_number_of_values):
        yield "2.4, number of values", check("2.4", lambda x, eps, value=value: value)
    for error in parameters(malformed.test_exceptions):
        yield f"2.1, {error!r} in some cases", check("2.1", raises(error))
    for answer, _ in parameters(malformed.test_malformed_numbers):
        yield "1.4, no number", check("1.4", answer)
    for answer, _ in parameters(malformed.test_malformed_axes):
        yield "2.2, no axes", check("2.2", answer)
    for answer in (-1, 4, 3, (-5,), (0, 4), (1, 2, 3), 1.5):
        yield f"2.2, {answer}", check("2.2", answer)
    yield "2.2, an enormous axis", check("2.2", (0, 10**5000))
    for answer in (" GROWS ", "shrinks", "stays", "jumps", 3, ..., ""):
        yield f"a choice, {answer!r}", judge(of_checker.toy_choice, answer)
    yield "2.1, random", check("2.1", lambda x, *_: np.random.default_rng(len(x)).normal(size=x.shape))
    yield "2.1, changes x", check("2.1", lambda x, *_: x.sort(axis=0) or x)
    yield "2.1, one value", check("2.1", lambda *all: float(solve(*all)[0, 0]))
    for names in [("n - 1",), ("n - 1", "gamma ignored"), ("n - 1", "gamma ignored", "beta ignored")]:
        yield f"2.1, {names}", check("2.1", EXERCISES["2.1"].variant(names))
    for value in (None, np.array(3.0), np.array([1.0, 2.0]), np.ones((2, 2)), np.ones(3)):
        yield f"2.4, {value!r}", check("2.4", lambda x, eps, value=value: value)
    yield "2.4, a generator", check("2.4", yields)
    yield "2.1, a generator", check("2.1", yields)
    yield "2.1, patches", check("2.1", patches)
    yield "2.1, patches and raises", check("2.1", patches_and_raises)
    yield "2.1, patches and speaks", check("2.1", patches_and_speaks)
    np.mean, np.std = max, min
    yield "2.1, patched before", check("2.1", solve)
    yield "2.1, changes two inputs", check("2.1", changes_two)
    fractions = arrays(itself, np.array([0.25, 0.5, 0.75]))
    yield "fractions, truth", judge(fractions, lambda x: x > 0.3)
    yield "minus zeros", judge(arrays(itself, -np.zeros(3)), lambda x: x + 1)
    deep = arrays(itself, np.arange(6.0).reshape(3, 1, 2))
    yield "axes exchanged", judge(deep, lambda x: x.swapaxes(0, 1))
    for factors in [(3, 1), (1, -1), (2, 2), (1, 0)]:
        pair = lambda x, eps, f=factors: tuple(a * b for a, b in zip(f, solve_pair(x, eps), strict=True))  # noqa: E731
        yield f"2.4, times {factors}", check("2.4", pair)
    yield "2.4, transposed", check("2.4", lambda x, eps: tuple(a[None] for a in solve_pair(x, eps)))
    yield "2.4, swapped", check("2.4", lambda x, eps: solve_pair(x, eps)[::-1])
    yield (
        "2.4, one value off",
        check("2.4", lambda x, eps: (solve_pair(x, eps)[0] ** 3, solve_pair(x, eps)[1])),
    )
    yield (
        "2.4, the other off",
        check("2.4", lambda x, eps: (solve_pair(x, eps)[0], solve_pair(x, eps)[1] ** 3)),
    )
    for k in range(3):
        answer = lambda x, k=k: tuple(v + x**2 * (j == k) for j, v in enumerate(three.solution(x)))  # noqa: E731
        yield f"one of three off, {k}", judge(three, answer)
    yield "two of three off", judge(three, lambda x: (x, x**3, x - 7 * x**2))
    for k in range(1, 16):
        answer = lambda x, group, k=k: x + (k >> group & 1)  # noqa: E731
        yield f"wrong in groups {k:04b}", judge(groups, answer)
    yield "wrong in a part of a group", judge(groups, lambda x, group: x + (x[0] > 5))
    yield "a number, NaN", judge(number, lambda x: np.nan)
    yield "a number, infinity", judge(number, lambda x: np.float64(np.inf))
    yield "right in training", judge(of_checker.toy, lambda x, training: x - x.mean(axis=0))
    yield "right in evaluation", judge(of_checker.toy, lambda x, training: x)
    yield "right in all cases", judge(of_checker.toy, of_checker.toy.solution)
    large = arrays(
        itself, np.arange(60.0).reshape(6, 10), np.arange(61.0) - 1e-9, np.arange(80.0).reshape(8, 10)
    )
    changes = {
        "nan": lambda x: np.where(x == 7, np.nan, x),
        "inf": lambda x: np.where(x == 7, -np.inf, x),
        "all nan": lambda x: x * np.nan,
        "minus zero": lambda x: -0.0 * x,
        "small": lambda x: x * 1.23456789e-7,
        "off by 1e-4": lambda x: x + 1e-4,
        "twice": lambda x: 2 * x,
        "a scalar": lambda x: x.sum(),
        "nothing": lambda x: x[:0],
        "rounded up": np.ceil,
        "integers": lambda x: x.astype(np.int32),
        "single": lambda x: x.astype(np.float32) * np.float32(1.001),
        "text": lambda x: x.astype(str),
        "reversed": lambda x: x[::-1],
        "an axis more": lambda x: x[..., None],
        "flat": lambda x: x.ravel(),
        "shape of one": lambda x: x[:1],
        "transposed and doubled": lambda x: 2 * x.T,
        "one more": lambda x: x + 1,
        "truth": lambda x: x > 3,
        "whole numbers": lambda x: x.astype(int) + 1,
        "other whole numbers": lambda x: x.astype(int) + 2,
        "single and wrong": lambda x: x.astype(np.float32) ** 2,
        "single and half more": lambda x: x.astype(np.float32) * np.float32(1.5),
    }
    for one, name in (
        (large, "large"),
        (arrays(itself), "small"),
        (arrays(itself, np.array([1.5]), np.array([2.5, 3])), "tiny"),
    ):
        for what, change in changes.items():
            yield f"{name}, {what}", judge(one, change)
    for one, name in (
        (arrays(itself, np.array([1.5, 7])), "one tiny case"),
        (arrays(itself, np.empty(0), np.array([1.5, 2.5, 7])), "partly empty"),
        (arrays(itself, np.zeros(3), np.array([1.5, 2.5, 7])), "partly zero"),
    ):
        for what in ("twice", "one more", "minus zero", "whole numbers"):
            yield f"{name}, {what}", judge(one, changes[what])
    constants = {"about ten": (9.9994, 9.9996), "about a hundred": (100.0, 100.005), "two": (1.0, 3.0)}
    for what, (first, second) in constants.items():
        for sizes in [(2, 2), (3, 2), (3, 3), (3, 0)]:
            one = arrays(itself, *(np.arange(1.0, n + 1) for n in sizes))
            count = itertools.count()
            add = lambda x, c=count, both=(first, second): x + both[next(c) % 2]  # noqa: E731
            yield f"{what} more, {sizes}", judge(one, add)
    later = arrays(itself, np.arange(60.0).reshape(6, 10) / 7, np.arange(70.0).reshape(7, 10) / 7)
    yield "the larger case", judge(later, lambda x: x + (len(x) > 6) * (x > 9))
    for error in (
        ValueError("It ends with a dot."),
        ValueError("matrix X"),
        ValueError("word " * 100),
        ValueError(),
        SilentError(),
        SilentTypeError(),
    ):
        yield "2.1, an error", check("2.1", raises(error))
    names: dict[str, Any] = {}
    exec("def of_no_file(x, gamma, beta, eps):\n    return x / []", names)
    yield "2.1, an error in no file", check("2.1", names["of_no_file"])
    yield "2.1, nothing from what has no code", check("2.1", functools.partial(lambda *all: None))
    for first in (None, ..., "a text", 3.0):
        count = itertools.count()
        once = lambda *all, first=first, c=count: solve(*all) if next(c) else first  # noqa: E731
        yield f"2.1, {first} once", check("2.1", once)
        count = itertools.count()
        last = lambda *all, first=first, c=count: first if next(c) == 3 else solve(*all)  # noqa: E731
        yield f"2.1, {first} in the end", check("2.1", last)
    yield "2.1, an error of a library", check("2.1", lambda *all: np.linalg.inv(all[0]))
    yield "13.1, an error without arrays", check("13.1", lambda m: 1 / 0)
    yield "2.1, a function of a library", check("2.1", max)
    for value in (None, nn.ReLU(), ("stale buffers", 3), (3, nn.ReLU()), ("no such", nn.ReLU()), (1, 2, 3)):
        yield f"15.5, {type(value).__name__}", check("15.5", lambda model, images, value=value: value)
    for k, (id, answer, _) in enumerate(BY_HAND):
        yield f"{id}, by hand {k}", check(id, answer)


def displays() -> Iterator[tuple[str, Any]]:
    """Yield what is shown in other ways."""
    for answer in (*of_checker.ANSWERS, EXERCISES["2.1"].variant(("n - 1", "gamma ignored"))):
        yield "HTML", check("2.1", answer)._repr_html_()
    for _ in range(3):
        given = hint("1.1")
        yield "hint", f"{given!r}\n{given._repr_html_()}"
    yield "charts", charts()
    shown = solution("1.2")
    yield "solution", f"{shown!r}\n{shown._repr_html_()}"
    check("2.2", (0, 2, 3))
    store._notes["read"], store._notes["write"] = "One note.", "Two notes."
    yield "progress", f"{progress()!r}\n{progress()._repr_html_()}"
    for id in ("2.10", "2,1", "2.9.9", "7", "", None, 3.5, "x" * 100):
        yield f"{id!r}", check(id, solve)


def names(answer: Any) -> str:
    """Return the names of mistakes and findings, as a line."""
    found = (*getattr(answer, "diagnosis", ()), *getattr(answer, "findings", ()))
    return f"({', '.join(found)})\n" if found else ""


def said() -> Iterator[str]:
    """Yield all that is said, in paragraphs, with the names of what was found."""
    gap = ""
    for asked, answer in itertools.chain(answers(), displays()):
        yield re.sub(r" at 0x[0-9a-f]+", "", f"{gap}== {asked}\n{names(answer)}{answer!s}\n")
        gap = "\n"


def test_print_options_in_force_do_not_matter():
    wrong = lambda x: np.array([np.nan, -np.inf, 0.25])  # noqa: E731
    one = arrays(itself, np.array([1.0, -2.5, 1e-3]))
    usual = str(judge(one, wrong))
    assert "x = [ 1.    -2.5    0.001]\n" in usual
    others = {"floatmode": "fixed", "sign": "+", "nanstr": "N", "infstr": "I"}
    for more in ({}, {"legacy": "1.13"}, {"formatter": {"float": "{:e}".format}}):
        with np.printoptions(**others, **more):
            assert str(judge(one, wrong)) == usual


def test_the_checker_says_what_is_listed(monkeypatch):
    monkeypatch.setattr(checker, "_hints_given", {})
    listed, at = SAID.read_text(encoding="utf-8"), 0
    for paragraph in said():
        assert paragraph == listed[at : at + len(paragraph)]
        at += len(paragraph)
    assert at == len(listed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BNLIB_DATA"] = folder
        SAID.write_text("".join(said()), encoding="utf-8")
