"""Figures with sliders that move with a kernel and without one."""

import hashlib
import html
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from IPython.display import display
from matplotlib.figure import Figure

from bnlib.course.figures import describe, encode, render

MAX_FRAMES = 24
MAX_SLIDERS = 3

_GREEK = {
    "gamma": "γ",
    "beta": "β",
    "epsilon": "ε",
    "eps": "ε",
    "mu": "μ",
    "sigma": "σ",
    "eta": "η",
    "kappa": "κ",
}
_shown: Counter[str] = Counter()


def explore(
    draw: Callable[..., Figure],
    *,
    alt: str,
    start: Mapping[str, Any] | None = None,
    **values: Sequence[Any],
) -> None:
    """Display a figure with one slider for each keyword argument.

    Every frame is drawn ahead. Where ipywidgets has ``Stack`` (from 8.0), the frames lie in nested stacks
    that the sliders turn in the browser, so that they also move on a page without a kernel; before 8.0
    the kernel exchanges the frame.

    Args:
        draw: called with one value of each keyword; returns a matplotlib figure.
        alt: what the figure shows; ``{name}`` stands for the value of that slider.
        start: the values to start from; the first of each slider where not given.
        **values: the values of each slider, in order; one to three sliders, at most 24 frames in all.

    Raises:
        ValueError: no slider or more than three, a slider without values, more than 24 frames, a start
            that is not among the values, or braces in ``alt`` that name no slider.
        TypeError: ``draw`` returns something that is not a figure.
    """
    first = _validate(values, start or {})
    labels = {name: [_label(v) for v in choices] for name, choices in values.items()}
    key = hashlib.sha256(repr((alt, labels)).encode()).hexdigest()
    _shown[key] += 1
    make = _Maker(f"{key}-{_shown[key]}")

    words = _describe_frames(alt, labels)
    pictures = _draw_frames(draw, values)
    frames = {
        at: f'<img alt="{html.escape(words[at])}" style="max-width:100%"'
        f' src="data:image/png;base64,{encode(png)}">'
        for at, png in pictures.items()
    }

    sliders = [
        make(
            widgets.SelectionSlider,
            options=[(label, i) for i, label in enumerate(labels[name])],
            index=at,
            description=_GREEK.get(name, name.replace("_", " ")),
            layout={"width": "auto", "max_width": "460px"},
            style={"description_width": "initial"},
        )
        for name, at in zip(values, first, strict=True)
    ]
    if hasattr(widgets, "Stack"):
        box = make(widgets.VBox, children=[*sliders, _stack(make, frames, sliders, ())])
        picture = {"image/png": encode(pictures[first])}
    else:
        box = make(widgets.VBox, children=[*sliders, _swapped_by_kernel(make, frames, sliders)])
        picture = {}
    view = {"model_id": box.model_id, "version_major": 2, "version_minor": 0}
    # The picture is for viewers that know no widgets, such as a repository's preview of a notebook.
    display(
        {"application/vnd.jupyter.widget-view+json": view, **picture, "text/plain": words[first]},
        metadata={"image/png": {"alt": words[first]}} if picture else None,
        raw=True,
    )


def _validate(values: Mapping[str, Sequence[Any]], start: Mapping[str, Any]) -> tuple[int, ...]:
    """Check the sliders and return the index of each start value."""
    if not 1 <= len(values) <= MAX_SLIDERS:
        raise ValueError(f"expected one to {MAX_SLIDERS} sliders, got {len(values)}")
    for name, choices in values.items():
        if len(choices) < 2:
            raise ValueError(f"expected at least two values for {name}, got {len(choices)}")
    sizes = [len(choices) for choices in values.values()]
    if math.prod(sizes) > MAX_FRAMES:
        product = " x ".join(map(str, sizes))
        raise ValueError(
            f"expected at most {MAX_FRAMES} frames, got {product} = {math.prod(sizes)}; give fewer values"
        )
    if unknown := set(start) - set(values):
        raise ValueError(f"expected start values for {list(values)}, got {sorted(unknown)}")
    for name, value in start.items():
        if value not in list(values[name]):
            raise ValueError(f"expected a start for {name} among {list(values[name])}, got {value!r}")
    return tuple(list(v).index(start[n]) if n in start else 0 for n, v in values.items())


def _describe_frames(alt: str, labels: Mapping[str, list[str]]) -> dict[tuple[int, ...], str]:
    """Fill the labels of each frame into the alt text."""
    words = {}
    for at in itertools.product(*(range(len(names)) for names in labels.values())):
        try:
            filled = alt.format(**{name: labels[name][i] for name, i in zip(labels, at, strict=True)})
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"expected alt text whose braces name the sliders {list(labels)}, got {alt!r}; "
                "double the braces that are meant as such"
            ) from error
        words[at] = describe(filled)
    return words


def _draw_frames(
    draw: Callable[..., Figure], values: Mapping[str, Sequence[Any]]
) -> dict[tuple[int, ...], bytes]:
    """Draw one small picture for each combination of values."""
    return {
        at: render(draw(**{n: values[n][i] for n, i in zip(values, at, strict=True)}), dpi=100, colors=32)
        for at in itertools.product(*(range(len(choices)) for choices in values.values()))
    }


def _label(value: Any) -> str:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if numeric else str(value)


class _Maker:
    """Creates widgets whose model ids follow from a key, so that a page is the same each time it is made."""

    def __init__(self, key: str) -> None:
        self._ids = (hashlib.sha256(f"{key}-{n}".encode()).hexdigest()[:32] for n in itertools.count())
        self._shared: dict[tuple[Any, ...], Any] = {}

    def __call__(self, kind: type[widgets.Widget], **traits: Any) -> Any:
        # Layout and style are models too, and get a random id where none is given. Equal ones are shared.
        for name in ("layout", "style"):
            if trait := kind.class_traits().get(name):
                settings = traits.get(name, {})
                key = (trait.klass, *sorted(settings.items()))
                if key not in self._shared:
                    self._shared[key] = trait.klass(model_id=next(self._ids), **settings)
                traits[name] = self._shared[key]
        return kind(model_id=next(self._ids), **traits)


def _stack(
    make: _Maker, frames: Mapping[tuple[int, ...], str], sliders: list[Any], at: tuple[int, ...]
) -> Any:
    """Nest one stack for each slider; the innermost hold the frames."""
    depth = len(at)
    if depth == len(sliders):
        return make(widgets.HTML, value=frames[at])
    children = [_stack(make, frames, sliders, (*at, i)) for i in range(len(sliders[depth].options))]
    stack = make(widgets.Stack, children=children, selected_index=sliders[depth].index)
    make(widgets.widget_link.Link, source=(sliders[depth], "index"), target=(stack, "selected_index"))
    return stack


def _swapped_by_kernel(make: _Maker, frames: Mapping[tuple[int, ...], str], sliders: list[Any]) -> Any:
    """Return one frame that a callback in the kernel exchanges."""
    frame = make(widgets.HTML, value=frames[tuple(s.index for s in sliders)])

    def exchange(_change: object) -> None:
        frame.value = frames[tuple(s.index for s in sliders)]

    for slider in sliders:
        slider.observe(exchange, names="index")
    return frame
