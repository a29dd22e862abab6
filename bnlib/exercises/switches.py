"""Turn a clean solution into a wrong one: a mistake is a small edit of the solution's source.

The solution that a learner is shown is then the code that runs, and every mistake differs from it by
exactly what the edit says. Edits that touch different characters combine.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

__all__ = ["Edit", "combine", "compile_function", "read_source", "spans"]

ARROW = " => "

Edit = tuple[int, int, str]
"""Start and end in the source, and the text to put there."""


def read_source(function: Callable[..., Any]) -> str:
    """Read the source of a function without its decorators, from the left margin.

    Args:
        function: a function defined in a file.

    Returns:
        Its source, which ends with a newline.
    """
    source = textwrap.dedent(inspect.getsource(function))
    first = ast.parse(source).body[0].lineno - 1
    return "".join(source.splitlines(keepends=True)[first:]).rstrip() + "\n"


def spans(source: str, edits: Sequence[str]) -> tuple[Edit, ...]:
    """Locate edits, each written ``"old code => new code"``, in a source.

    What old and new code share at both ends makes the place unique, and is not part of the edit.

    Args:
        source: source of a function.
        edits: one edit a string.

    Returns:
        The edits with their places, in the order given.

    Raises:
        ValueError: an edit has no arrow, changes nothing, or its old code does not occur exactly once.
    """
    return tuple(_span(source, edit) for edit in edits)


def _span(source: str, edit: str) -> Edit:
    old, arrow, new = edit.partition(ARROW)
    if not arrow or old == new:
        raise ValueError(f"expected an edit 'old code{ARROW}new code', got {edit!r}")
    if source.count(old) != 1:
        raise ValueError(
            f"expected {old!r} once, got it {source.count(old)} times in the solution:\n{source}"
        )
    before = _shared(_words(old), _words(new))
    after = _shared(_words(old[before:])[::-1], _words(new[before:])[::-1])
    start = source.index(old)
    return start + before, start + len(old) - after, new[before : len(new) - after]


def _words(code: str) -> list[str]:
    return re.findall(r"\w+|\W", code)


def _shared(left: Sequence[str], right: Sequence[str]) -> int:
    """Count the characters of the words with which both begin."""
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return sum(len(word) for word, _ in alike)


def combine(source: str, edits: Sequence[Edit]) -> str | None:
    """Apply several edits at once.

    Args:
        source: the text that the places of the edits refer to.
        edits: places and new texts, in any order.

    Returns:
        The edited source; None if two edits overlap or insert at the same place.
    """
    result, position, previous = "", 0, (-1, -1)
    for start, end, text in sorted(edits):
        if start < position or (start, end) == previous:
            return None
        result += source[position:start] + text
        position, previous = end, (start, end)
    return result + source[position:]


def compile_function(source: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Compile the source of a function as if it stood in the place of another.

    Args:
        source: source of one function.
        original: function whose name and global names it takes over.

    Returns:
        The new function.
    """
    names: dict[str, Any] = {}
    code = compile(source, f"<{original.__name__}>", "exec", dont_inherit=True)
    exec(code, dict(original.__globals__), names)
    function: Callable[..., Any] = names[original.__name__]
    return function
