r"""Numbered equations that can be linked to: ``\tag{5.3}`` is an anchor, ``(5.3)`` in a text leads there."""

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
_CITED = re.compile(r"\((\d+\.\d+)\)")
# A number in these is not a reference: it is code, a heading, or a link already.
_LITERAL = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.reference, nodes.title)


def anchor(number: str) -> str:
    """Return the anchor of an equation: ``5.3`` has ``eq-5-3``."""
    return f"eq-{number.replace('.', '-')}"


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Give each numbered formula its anchor, and remember its page."""
    for formula in doctree.findall(nodes.math_block):
        for number in _TAG.findall(formula.astext()):
            formula["ids"].append(anchor(number))
            _pages(app.env)[number] = app.env.docname


def forget(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """Forget the equations of a page that is read again."""
    for number in [number for number, where in _pages(env).items() if where == page]:
        del _pages(env)[number]


def link(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Turn each number of an equation in a text into a link."""
    for text in list(doctree.findall(nodes.Text)):
        if not _within(text, _LITERAL) and _CITED.search(text):
            text.parent.replace(text, list(_split(app, text, page)))


def _pages(env: BuildEnvironment) -> dict[str, str]:
    pages: dict[str, str] = env.__dict__.setdefault("equation_pages", {})
    return pages


def _within(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def _split(app: Sphinx, text: str, page: str) -> Iterator[nodes.Node]:
    """Yield the parts of a text, a link for each number of an equation that exists."""
    end = 0
    for cited in _CITED.finditer(text):
        where = _pages(app.env).get(cited[1])
        if where is None:
            continue
        target = "" if where == page else app.builder.get_relative_uri(page, where)
        yield nodes.Text(text[end : cited.start()])
        yield nodes.reference(
            "", cited[0], refuri=f"{target}#{anchor(cited[1])}", internal=True, classes=["equation"]
        )
        end = cited.end()
    yield nodes.Text(text[end:])


def connect(app: Sphinx) -> None:
    """Connect this part of the extension."""
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", forget)
    app.connect("doctree-resolved", link)
