"""Leaves out of each page, and of the site, what no reader needs; scripts wait until the text is read."""

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# What Jupyter Book and its theme always load. Never used here: live code, a choice among versions.
_NEVER = ("thebe", "THEBE", "DOCUMENTATION_OPTIONS.pagename")
# Used by pages with certain classes only.
_ONLY_WITH = {
    "togglebutton": r'class="[^"]*\b(?:toggle|dropdown)\b',
    "toggleHint": r'class="[^"]*\b(?:toggle|dropdown)\b',
    "design-tabs": r'class="[^"]*\bsd-tab',
    "sphinx-design": r'class="[^"]*\bsd-',
    "landing": r'id="landing-figure"',
}
_UNUSED_FILES = (
    "sphinx-thebe.*",
    "locales",
    "vendor/fontawesome/*/js",
    "vendor/fontawesome/*/webfonts/*.ttf",
    "vendor/fontawesome/*/webfonts/fa-brands-*",
    "webpack-macros.html",
    "sbt-webpack-macros.html",
    "images/logo_*",
)


def lighten(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Drop the scripts and styles that a page does not use, and defer the scripts that remain."""
    body = context.get("body", "")
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context.get(kind, []) if _is_used(file, body)]
    for script in context["script_files"]:
        # All pages share these objects. The page of the search has further scripts, which need them at once.
        if page == "search":
            script.attributes.pop("defer", None)
        elif script.filename and "async" not in script.attributes:
            script.attributes["defer"] = "defer"
    # The button says what it does in its text; a second name would hide that from a screen reader.
    body = body.replace(' aria-label="Toggle hidden content"', "")
    # An empty corner of a table is not a heading.
    context["body"] = re.sub(r'<th class="head">(?:<p></p>)?</th>', "<td></td>", body)


def _is_used(file: Any, body: str) -> bool:
    text = f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', '')}"
    if any(word in text for word in _NEVER):
        return False
    return all(re.search(needed, body) for word, needed in _ONLY_WITH.items() if word in text)


def remove_unused_files(app: Sphinx, error: Exception | None) -> None:
    """Remove from the built site what no page asks for."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for pattern in _UNUSED_FILES:
        for path in static.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def connect(app: Sphinx) -> None:
    """Connect this part of the extension."""
    app.connect("html-page-context", lighten, priority=900)
    app.connect("build-finished", remove_unused_files, priority=900)
