"""The font of icons, cut down to the icons that the pages show: a thirtieth of its size."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import pydata_sphinx_theme
from fontTools import subset
from sphinx.application import Sphinx

_FONT = "vendor/fontawesome/*/webfonts/fa-solid-900.woff2"
_NAMES = "vendor/fontawesome/*/css/all.min.css"
_THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"


def used_icons(pages: Iterable[str], scripts: Iterable[str], styles: Iterable[str], names: str) -> set[int]:
    """Return the code points of the icons that are asked for by class in a page, or by number in a style.

    Args:
        pages: HTML of the pages.
        scripts: their scripts, which change icons.
        styles: their style sheets.
        names: the style sheet that says which number a class stands for.
    """
    code: dict[str, int] = {}
    for selectors, number in re.findall(r'([^{}]+)\{content:"\\([0-9a-f]+)"\}', names):
        code |= {name: int(number, 16) for name in re.findall(r"\.(fa-[a-z0-9-]+):{1,2}before", selectors)}
    classes = {name for text in [*pages, *scripts] for name in re.findall(r"\bfa-[a-z0-9-]+", text)}
    numbers = {int(n, 16) for text in styles for n in re.findall(r"\\(f[0-9a-f]{3})\b", text)}
    return {code[name] for name in classes & set(code)} | numbers


def cut_font(app: Sphinx, error: Exception | None) -> None:
    """Replace the built site's font of icons by one that holds only what is used."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    (names,) = out.glob(f"_static/{_NAMES}")
    styles = [path for path in out.glob("_static/**/*.css") if path != names]
    used = used_icons(
        (path.read_text(encoding="utf-8") for path in out.rglob("*.html")),
        (path.read_text(encoding="utf-8") for path in out.glob("_static/**/*.js")),
        (path.read_text(encoding="utf-8") for path in styles),
        names.read_text(encoding="utf-8"),
    )
    (whole,), (target,) = _THEME.glob(_FONT), out.glob(f"_static/{_FONT}")
    options = subset.Options(flavor="woff2")
    with subset.load_font(str(whole), options) as font:
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=used)
        cutter.subset(font)
        subset.save_font(font, str(target), options)


def connect(app: Sphinx) -> None:
    """Connect this part of the extension: after the files that nothing uses are gone."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    app.connect("build-finished", cut_font, priority=950)
