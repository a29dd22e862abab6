"""What a learner sees: short text in a terminal, HTML in a notebook. Both depend on the answer alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Literal

__all__ = ["Hint", "Outcome", "Progress", "Result", "Solution"]

Outcome = Literal["correct", "wrong", "not attempted", "raised"]

# The words say all; colours are readable on light and dark pages, and distinct to colour-blind eyes.
_MARKS: dict[Outcome, tuple[str, str]] = {
    "correct": ("✓", "#009e73"),
    "wrong": ("✗", "#d55e00"),
    "not attempted": ("…", "#808080"),
    "raised": ("!", "#cc79a7"),
}


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _paragraphs(text: str) -> str:
    return "".join(f'<p style="margin:0.4em 0">{_inline(part)}</p>' for part in text.split("\n\n") if part)


def _block(text: str) -> str:
    return f'<pre style="overflow-x:auto;margin:0.4em 0"><code>{escape(text)}</code></pre>'


def _box(color: str, *parts: str) -> str:
    style = f"border-left:4px solid {color};padding:0.2em 0.8em;margin:0.4em 0"
    return f'<div style="{style}">{"".join(parts)}</div>'


def _nested(hints: tuple[str, ...]) -> str:
    """Put each hint inside the one before, so that they open one by one."""
    html = ""
    for index in reversed(range(len(hints))):
        summary = f"<summary>Hint {index + 1} of {len(hints)}</summary>"
        html = f"<details>{summary}{_paragraphs(hints[index])}{html}</details>"
    return html


@dataclass(frozen=True)
class Result:
    """The answer to an answer.

    Args:
        label: number and title of the exercise.
        outcome: what came of it.
        message: what the learner is told, in paragraphs with code between backticks.
        diagnosis: names of the known mistakes that were recognized.
        findings: names of other things that were noticed.
        block: a failing case, preformatted; may be empty.
        hints: the exercise's hints, shown while it is not attempted.
    """

    label: str
    outcome: Outcome
    message: str = ""
    diagnosis: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    block: str = field(default="", compare=False)
    hints: tuple[str, ...] = field(default=(), compare=False)

    @property
    def passed(self) -> bool:
        """Whether the answer is correct."""
        return self.outcome == "correct"

    @property
    def _headline(self) -> str:
        words = {"raised": "an error stopped it", "not attempted": "not attempted yet"}
        return f"{self.label}: {words.get(self.outcome, self.outcome)}."

    def __repr__(self) -> str:
        if self.outcome == "not attempted":
            return f"{self._headline} {self.message}"
        return "\n".join(part for part in (self._headline, self.message, self.block) if part)

    def _repr_html_(self) -> str:
        mark, color = _MARKS[self.outcome]
        head = f"<strong>{mark} {escape(self._headline)}</strong>"
        if self.outcome == "not attempted":
            return _box(
                color, f'<p style="margin:0.4em 0">{head} {_inline(self.message)}</p>', _nested(self.hints)
            )
        block = _block(self.block) if self.block else ""
        return _box(color, f'<p style="margin:0.4em 0">{head}</p>', _paragraphs(self.message), block)


@dataclass(frozen=True)
class Hint:
    """One hint of several."""

    label: str
    number: int
    count: int
    text: str

    def __repr__(self) -> str:
        return f"{self.label}, hint {self.number} of {self.count}: {self.text}"

    def _repr_html_(self) -> str:
        head = f"<strong>{escape(self.label)}, hint {self.number} of {self.count}.</strong>"
        return _box("#0072b2", f'<p style="margin:0.4em 0">{head} {_inline(self.text)}</p>')


@dataclass(frozen=True)
class Solution:
    """The solution of an exercise, and why it is so."""

    label: str
    source: str
    explanation: str

    def __repr__(self) -> str:
        return f"{self.label}, solution:\n\n{self.source}\n{self.explanation}"

    def _repr_html_(self) -> str:
        head = f'<p style="margin:0.4em 0"><strong>{escape(self.label)}, solution.</strong></p>'
        return _box("#0072b2", head, _block(self.source), _paragraphs(self.explanation))


@dataclass(frozen=True)
class Progress:
    """Which exercises are solved.

    Args:
        rows: number, title, and whether it is solved.
        note: what went wrong with the file that keeps it; may be empty.
    """

    rows: tuple[tuple[str, str, bool], ...]
    note: str = ""

    @property
    def solved(self) -> tuple[str, ...]:
        """Numbers of the solved exercises."""
        return tuple(id for id, _, done in self.rows if done)

    @property
    def _headline(self) -> str:
        return f"{len(self.solved)} of {len(self.rows)} exercises solved"

    def __repr__(self) -> str:
        lines = [f"{'solved' if done else '-':<8}{id:<6}{title}" for id, title, done in self.rows]
        return "\n".join([self._headline, *lines, *filter(None, [self.note])])

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr>{_cells((id, title, '✓ solved' if done else '–'))}</tr>" for id, title, done in self.rows
        )
        head = '<tr><th scope="col">Exercise</th><th scope="col">Title</th><th scope="col">State</th></tr>'
        table = (
            f"<table><caption>{self._headline}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"
        )
        return _box("#0072b2", table, _paragraphs(self.note))


def _cells(texts: Iterable[str]) -> str:
    return "".join(f'<td style="text-align:left">{escape(text)}</td>' for text in texts)
