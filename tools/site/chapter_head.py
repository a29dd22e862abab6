"""The lines under a notebook's title: part, reading time, what it builds on, and where to run or edit it."""

import html
import re
from pathlib import PurePosixPath

from docutils import nodes
from sphinx.application import Sphinx

_CHAPTER = re.compile(r"(\d\d)-")
# How fast the reading time assumes one reads; the exercises are not in it.
_WORDS_A_MINUTE = 200
_SECONDS_A_FORMULA = 20
_SECONDS_A_CELL = 20
_SECONDS_A_FIGURE = 30


def reading_minutes(words: int, formulas: int, cells: int, figures: int) -> int:
    """Return how long a chapter takes to read without its exercises, rounded up to 5 minutes.

    Args:
        words: words of prose.
        formulas: displayed formulas.
        cells: code cells whose code is shown.
        figures: figures, with or without sliders.
    """
    seconds = formulas * _SECONDS_A_FORMULA + cells * _SECONDS_A_CELL + figures * _SECONDS_A_FIGURE
    return max(5, 5 * -(-round(words * 60 / _WORDS_A_MINUTE + seconds) // 300))


def insert(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put the lines below the title of a notebook."""
    if PurePosixPath(app.env.doc2path(page)).suffix != ".ipynb":
        return
    title = next(iter(doctree.findall(nodes.title)))
    facts = _facts(app, doctree, page) if _CHAPTER.match(PurePosixPath(page).name) else []
    line = f'<p class="chapter-facts">{" <span>·</span> ".join(facts)}</p>' if facts else ""
    lines = nodes.raw("", f'<div class="chapter-head">{line}{_actions(app, page)}</div>', format="html")
    title.parent.insert(title.parent.index(title) + 1, lines)


def _facts(app: Sphinx, doctree: nodes.document, page: str) -> list[str]:
    cells = [c for c in doctree.findall(nodes.container) if "cell" in c.get("classes", [])]
    shown = [c for c in cells if not {"tag_hide-input", "tag_remove-input"} & set(c["classes"])]
    pictures = sum(1 for _ in doctree.findall(nodes.image))
    sliders = _raw(doctree).count("widget-view+json")
    words = sum(
        len(re.findall(r"[A-Za-z]{2,}", p.astext()))
        for p in doctree.findall(nodes.paragraph)
        if p not in cells
    )
    minutes = reading_minutes(
        words, sum(1 for _ in doctree.findall(nodes.math_block)), len(shown), pictures + sliders
    )
    exercises = len(re.findall(r'class="admonition exercise"', _raw(doctree)))
    facts = [_part(app, page), f"about {minutes} minutes to read"]
    facts += [
        _count(sliders, "figure with sliders", "figures with sliders"),
        _count(exercises, "exercise", "exercises"),
    ]
    return [fact for fact in [*facts, _builds_on(doctree)] if fact]


def _raw(doctree: nodes.document) -> str:
    return "\n".join(node.astext() for node in doctree.findall(nodes.raw))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}" if number else ""


def _part(app: Sphinx, page: str) -> str:
    """Return the caption of the part that holds the page."""
    site_map = app.env.__dict__["external_site_map"]
    for part in site_map.root.subtrees:
        if page in part.files():
            return html.escape(part.caption.split(". ")[0])
    return ""


def _builds_on(doctree: nodes.document) -> str:
    """Return links to the chapters named where the chapter says what one needs."""
    links: dict[str, str] = {}
    for paragraph in doctree.findall(nodes.paragraph):
        if paragraph.astext().startswith("You need"):
            for reference in paragraph.findall(nodes.reference):
                name = PurePosixPath(reference.get("refuri", "")).name
                if match := _CHAPTER.match(name):
                    links.setdefault(
                        match[1], f'<a href="{html.escape(reference["refuri"])}">{int(match[1])}</a>'
                    )
    if not links:
        return ""
    *others, last = [links[number] for number in sorted(links)]
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"builds on {'chapter' if len(links) == 1 else 'chapters'} {listed}"


def _actions(app: Sphinx, page: str) -> str:
    repository = app.config.html_theme_options["repository_url"].rstrip("/")
    branch = app.config.html_theme_options["repository_branch"]
    name = f"{page}.ipynb"
    colab = repository.replace("https://github.com", "https://colab.research.google.com/github")
    source = app.builder.get_relative_uri(page, "index").rsplit("index", 1)[0] + f"_sources/{name}"
    return (
        '<p class="chapter-actions">'
        f'<a href="{colab}/blob/{branch}/{name}">{_icon("play")}Open in Colab</a>'
        f'<a href="{source}" download>{_icon("download")}Download notebook</a>'
        f'<a href="{repository}/edit/{branch}/{name}">{_icon("pencil")}Edit</a>'
        "</p>"
    )


def _icon(name: str) -> str:
    return f'<i class="fas fa-{name}" aria-hidden="true"></i>'


def connect(app: Sphinx) -> None:
    """Connect this part of the extension."""
    app.connect("doctree-resolved", insert)
