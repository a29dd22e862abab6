"""A Sphinx extension: what the pages of the book get while they are built, so that each chapter has it.

Each module beside this one adds one thing; :func:`setup` connects them.
"""

import chapter_head
import equations
import icons
import page_weight
import publishing
import widget_pages
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    for part in (equations, chapter_head, widget_pages, page_weight, icons, publishing):
        part.connect(app)
    # The numbers of the equations are collected in one process.
    return {"parallel_read_safe": False, "parallel_write_safe": True}
