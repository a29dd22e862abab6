import base64
import itertools
from html.parser import HTMLParser
from importlib import import_module

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pytest

from bnlib.course import MAX_FRAMES, explore
from bnlib.course.figures import render

VIEW = "application/vnd.jupyter.widget-view+json"
MODELS = import_module("ipywidgets.widgets.widget")._instances

SLIDERS = {
    1: {"gamma": [-1.0, 0.5, 2.0]},
    2: {"gamma": [-1.0, 0.5, 2.0], "batch_size": [4, 8]},
    3: {"norm": ["batch", "layer"], "sample": [1, 2, 3], "epsilon": [1e-5, 0.5, 1.0, 2.0]},
}


def draw(**values):
    """Draw a small figure that looks different for every combination of values."""
    figure = plt.figure(figsize=(1, 1), layout="none")
    for i, (name, value) in enumerate(values.items()):
        height = (1 + SLIDERS[len(values)][name].index(value)) / 5
        figure.add_artist(plt.Rectangle((i / 3, 0), 0.3, height, transform=figure.transFigure))
    return figure


def words(values):
    return "the figure for " + ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def explore_sliders(count, **options):
    values = SLIDERS[count]
    explore(draw, alt="the figure for " + ", ".join(f"{n} {{{n}}}" for n in values), **options, **values)
    return values


@pytest.fixture(autouse=True)
def no_models_before():
    MODELS.clear()


class Image(HTMLParser):
    """Read the one image that a frame consists of."""

    def __init__(self, text):
        super().__init__()
        self.images = []
        self.feed(text)
        self.close()
        [image] = self.images
        self.alt = image["alt"]
        prefix, _, content = image["src"].partition(",")
        assert prefix == "data:image/png;base64"
        assert image["style"] == "max-width:100%"  # no wider than a narrow page
        self.png = base64.b64decode(content)

    def handle_starttag(self, tag, attributes):
        assert tag == "img"
        self.images.append(dict(attributes))

    def handle_data(self, data):
        pytest.fail(f"text outside the image: {data!r}")


def box_of(displayed):
    [(data, _)] = displayed
    assert data[VIEW]["version_major"] == 2
    return MODELS[data[VIEW]["model_id"]]


def turn(slider, place):
    """Move a slider and do what a browser without a kernel does then: follow the links."""
    slider.index = place
    for link in [model for model in MODELS.values() if isinstance(model, widgets.widget_link.Link)]:
        (source, source_name), (target, target_name) = link.source, link.target
        if source is slider:
            setattr(target, target_name, getattr(source, source_name))


def visible(widget):
    """Return the text of the frame that the stacks leave visible."""
    while isinstance(widget, getattr(widgets, "Stack", ())):
        widget = widget.children[widget.selected_index]
    assert isinstance(widget, widgets.HTML)
    return widget.value


def combinations(values):
    """Return every combination of the sliders' places, none next to the one before it, with its values."""
    places = list(itertools.product(*(range(len(choices)) for choices in values.values())))
    return [
        (place, {n: choices[i] for (n, choices), i in zip(values.items(), place, strict=True)})
        for place in places[::2] + places[::-2]
    ]


@pytest.mark.parametrize("count", SLIDERS)
def test_every_place_of_the_sliders_shows_its_own_frame(displayed, count):
    values = explore_sliders(count)
    *sliders, stack = box_of(displayed).children
    seen = set()
    for place, chosen in combinations(values):
        for slider, i in zip(sliders, place, strict=True):
            turn(slider, i)
        frame = Image(visible(stack))
        assert frame.alt == words(chosen)
        assert frame.png == render(draw(**chosen), dpi=100, colors=32)
        seen.add(frame.png)
    assert len(seen) == len({place for place, _ in combinations(values)})


@pytest.mark.parametrize("count", SLIDERS)
def test_before_stacks_the_kernel_exchanges_the_frame(displayed, monkeypatch, count):
    monkeypatch.delattr(widgets, "Stack")
    values = explore_sliders(count)
    *sliders, frame = box_of(displayed).children
    assert isinstance(frame, widgets.HTML)
    for place, chosen in combinations(values):
        for slider, i in zip(sliders, place, strict=True):
            slider.index = i
        assert Image(frame.value).alt == words(chosen)
        assert Image(frame.value).png == render(draw(**chosen), dpi=100, colors=32)
    assert not any(isinstance(model, widgets.widget_link.Link) for model in MODELS.values())


@pytest.mark.parametrize("count", SLIDERS)
def test_the_display_is_a_widget_a_picture_and_words(displayed, count):
    values = explore_sliders(count)
    [(data, metadata)] = displayed
    first = {name: choices[0] for name, choices in values.items()}
    assert set(data) == {VIEW, "image/png", "text/plain"}
    assert base64.b64decode(data["image/png"]) == render(draw(**first), dpi=100, colors=32)
    assert data["text/plain"] == words(first)
    assert metadata == {"image/png": {"alt": words(first)}}


def test_before_stacks_the_display_is_a_widget_and_words(displayed, monkeypatch):
    monkeypatch.delattr(widgets, "Stack")
    values = explore_sliders(1)
    [(data, metadata)] = displayed
    assert set(data) == {VIEW, "text/plain"}
    assert data["text/plain"] == words({"gamma": values["gamma"][0]})
    assert metadata is None


@pytest.mark.parametrize("stacks", [True, False])
def test_start_chooses_the_first_frame(displayed, monkeypatch, stacks):
    if not stacks:
        monkeypatch.delattr(widgets, "Stack")
    explore_sliders(3, start={"sample": 3, "epsilon": 1.0})
    chosen = {"norm": "batch", "sample": 3, "epsilon": 1.0}
    *sliders, shown = box_of(displayed).children
    assert [slider.index for slider in sliders] == [0, 2, 2]
    assert Image(visible(shown)).alt == words(chosen)
    [(data, _)] = displayed
    assert data["text/plain"] == words(chosen)
    if stacks:
        assert base64.b64decode(data["image/png"]) == render(draw(**chosen), dpi=100, colors=32)


def test_sliders_carry_the_names_and_values_that_a_reader_knows(displayed):
    explore(
        lambda **_: plt.figure(), alt="alt", gamma=[0.5, 1e-5], batch_size=[8, 16], training=[True, False]
    )
    *sliders, _ = box_of(displayed).children
    assert [slider.description for slider in sliders] == ["γ", "batch size", "training"]
    labels = [[label for label, _ in slider.options] for slider in sliders]
    assert labels == [["0.5", "1e-05"], ["8", "16"], ["True", "False"]]


def test_words_are_formatted_for_each_frame_and_escaped(displayed):
    explore(
        lambda **_: plt.figure(figsize=(1, 1)),
        alt="""a < b & "{kind}"
               isn't <b>""",
        kind=['"x"', "<y>"],
    )
    slider, stack = box_of(displayed).children
    texts = [visible(stack)]
    turn(slider, 1)
    texts.append(visible(stack))
    assert [Image(text).alt for text in texts] == ['a < b & ""x"" isn\'t <b>', 'a < b & "<y>" isn\'t <b>']
    assert all("<y>" not in text and "<b>" not in text for text in texts)
    assert displayed[0][0]["text/plain"] == 'a < b & ""x"" isn\'t <b>'


def test_draw_is_called_once_for_each_frame(displayed):
    calls = []

    def draw_anything(**values):
        calls.append(tuple(values.values()))
        return plt.figure(figsize=(1, 1))

    explore(draw_anything, alt="24 frames", a=list(range(4)), b=list(range(6)))
    assert calls == list(itertools.product(range(4), range(6)))
    assert len(calls) == MAX_FRAMES


@pytest.mark.parametrize("count", SLIDERS)
def test_no_figure_is_left_open(displayed, count):
    explore_sliders(count)
    assert plt.get_fignums() == []


def test_every_model_has_an_id_of_its_own(displayed):
    explore_sliders(3)
    explore_sliders(3)
    explore_sliders(2)
    boxes = [MODELS[data[VIEW]["model_id"]] for data, _ in displayed]
    assert len(set(boxes)) == 3
    found, waiting = [], [*boxes, *(m for m in MODELS.values() if isinstance(m, widgets.widget_link.Link))]
    while waiting:
        widget = waiting.pop()
        if all(widget is not other for other in found):
            found.append(widget)
            held = [getattr(widget, name) for name in widget.keys]
            waiting += [w for item in held for w in (item if isinstance(item, tuple) else (item,))]
            waiting = [w for w in waiting if isinstance(w, widgets.Widget)]
    ids = [widget.model_id for widget in found]
    assert len(set(ids)) == len(ids)
    assert set(ids) == set(MODELS)


PROGRAM = """
import json, random, sys
from importlib import import_module
import matplotlib.pyplot as plt
from bnlib.course import explore
module = import_module("bnlib.course.explore")
outputs = []
module.display = lambda data, metadata, raw: outputs.append([data, metadata])
random.seed()
def draw(**values):
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot(range(3), [int(v) for v in values.values()] * 3 if len(values) == 1 else range(3))
    return figure
explore(draw, alt="one slider at {a}", a=[1, 2])
explore(draw, alt="one slider at {a}", a=[1, 2])
explore(draw, alt="at {a}, {b}", a=[1, 2], b=[3, 4, 5], start={"b": 4})
models = import_module("ipywidgets.widgets.widget")._instances
states = {key: repr(model.get_state(drop_defaults=True)) for key, model in models.items()}
print(json.dumps([outputs, states]))
"""


def test_two_fresh_processes_display_the_same(two_fresh_processes):
    first, second = two_fresh_processes(PROGRAM)
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    ids = [data[VIEW]["model_id"] for data, _ in first[0]]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "expected one to 3 sliders, got 0"),
        ({name: [1, 2] for name in "abcd"}, "expected one to 3 sliders, got 4"),
        ({"a": [1, 2], "b": [1]}, "expected at least two values for b, got 1"),
        ({"a": []}, "expected at least two values for a, got 0"),
        ({"a": range(25)}, "expected at most 24 frames, got 25 = 25; give fewer values"),
        (
            {"a": range(5), "b": range(5)},
            "expected at most 24 frames, got 5 x 5 = 25; give fewer values",
        ),
        ({"start": {"c": 1}, "a": [1, 2]}, "expected start values for ['a'], got ['c']"),
        ({"start": {"a": 3}, "a": [1, 2]}, "expected a start for a among [1, 2], got 3"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_is_drawn(displayed, values, message):
    def draw_never(**_):
        pytest.fail("drawn")

    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message follows
        explore(draw_never, alt="alt", **values)
    assert str(raised.value) == message
    assert not displayed
    assert not MODELS


def test_draw_must_return_a_figure(displayed):
    with pytest.raises(TypeError, match=r"^expected a matplotlib Figure, got NoneType$"):
        explore(lambda a: None, alt="alt {a}", a=[1, 2])
    assert not displayed


@pytest.mark.parametrize("alt", ["x_{i} at {gamma}", "an open {gamma", "by place {}"])
def test_braces_that_name_no_slider_are_refused_before_anything_is_drawn(displayed, alt):
    with pytest.raises(ValueError, match=r"braces name the sliders \['gamma'\], got") as raised:
        explore(lambda gamma: pytest.fail("drawn"), alt=alt, gamma=[1, 2])
    assert repr(alt) in str(raised.value)
    assert not displayed


def test_empty_words_are_refused(displayed):
    with pytest.raises(ValueError, match="expected alt text that says what the figure shows, got an empty"):
        explore(lambda a: plt.figure(), alt=" ", a=[1, 2])
    assert not displayed
