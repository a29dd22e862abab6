"""Pages with sliders: their text comes before the data of the widgets, and a picture stands in for them."""

import base64
import json
import re
import struct
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_STATE = "application/vnd.jupyter.widget-state+json"
_VIEW = re.compile(
    r'<script type="application/vnd\.jupyter\.widget-view\+json">\s*(\{.*?\})\s*</script>', re.DOTALL
)
_SLIDER_HEIGHT = 36  # pixels
_PREFIX = "IPY_MODEL_"


def prepare(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Move the state of the widgets behind the text, and keep the place of each figure free.

    Without scripts, as in a reader that runs none, the first frame is shown.
    """
    states = [
        f for f in context.get("script_files", []) if getattr(f, "attributes", {}).get("type") == _STATE
    ]
    if not states:
        return
    context["script_files"] = [file for file in context["script_files"] if file not in states]
    (state,) = (file.attributes["body"] for file in states)
    models = json.loads(state)["state"]
    body = _VIEW.sub(lambda view: _with_picture(view, models), context["body"])
    context["body"] = f'{body}\n<script type="{_STATE}">{state}</script>'


def _with_picture(view: re.Match[str], models: dict[str, Any]) -> str:
    model = models[json.loads(view[1])["model_id"]]["state"]
    sliders = len(model["children"]) - 1
    picture = first_frame(model, models)
    width, height = _size(picture)
    style = f"--sliders: {sliders * _SLIDER_HEIGHT}px; --width: {width}; --height: {height}"
    return f'<div class="slider-figure" style="{style}">{view[0]}<noscript>{picture}</noscript></div>'


def first_frame(model: dict[str, Any], models: dict[str, Any]) -> str:
    """Return the ``img`` element that a figure with sliders starts with.

    Args:
        model: state of the figure's box: its sliders, then a stack, which may hold further stacks.
        models: state of all widgets of the page by their id.
    """
    shown = model["children"][-1]
    while True:
        model = models[shown.removeprefix(_PREFIX)]["state"]
        if "children" not in model:
            picture: str = model["value"]
            return picture
        shown = model["children"][model["selected_index"]]


def _size(picture: str) -> tuple[int, int]:
    """Return width and height in pixels, which a PNG holds at its byte 16."""
    png = base64.b64decode(picture.partition("base64,")[2][:64])
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def connect(app: Sphinx) -> None:
    """Connect this part of the extension."""
    app.connect("html-page-context", prepare, priority=850)
