"""A Sphinx extension: leaves out of the pages what no page uses."""

from typing import Any

from sphinx.application import Sphinx

_UNUSED = ("thebe", "THEBE")


def drop_unused(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Remove from a page the scripts and styles of extensions that Jupyter Book always loads.

    Args:
        app: the running Sphinx.
        page: name of the page.
        template: name of its template.
        context: the template's variables; ``script_files`` and ``css_files`` are replaced.
        doctree: the page's document, if it has one.
    """
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if not _mentions(file, _UNUSED)]


def _mentions(file: Any, words: tuple[str, ...]) -> bool:
    text = f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', '')}"
    return any(word in text for word in words)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("html-page-context", drop_unused, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
