import base64
import inspect
import io
import struct

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from bnlib.course import COLORS, show
from bnlib.course.figures import encode, render, use_style


def draw():
    """Draw about as much as a figure of the book holds."""
    use_style()
    figure, axes = plt.subplots()
    rng = np.random.default_rng(0)
    for method, color in COLORS.items():
        axes.plot(rng.normal(size=200).cumsum(), color=color, label=method)
    axes.fill_between(np.arange(200), -5, 5, color=COLORS["bn"], alpha=0.2)
    axes.set(xlabel=r"step $t$", ylabel=r"$\|\nabla L\|^2$", title="seven walks")
    axes.legend()
    return figure


def chunks(png):
    """Return the names of a PNG's chunks."""
    names, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        names.append(png[at + 4 : at + 8].decode())
        at += length + 12
    return names


def test_the_same_figure_gives_the_same_bytes_in_two_processes(two_fresh_processes):
    program = f"""
import json
import matplotlib.pyplot as plt
import numpy as np
from bnlib.course import figures
from bnlib.course.figures import COLORS, use_style

{inspect.getsource(draw)}
outputs = []
figures.display = lambda data, metadata, raw: outputs.append([data, metadata])
figures.show(draw(), "seven walks")
print(json.dumps(outputs))
"""
    first, second = two_fresh_processes(program)
    assert first == second
    assert base64.b64decode(first[0][0]["image/png"]) == render(draw())


def test_a_figure_is_small_and_keeps_its_size_in_pixels():
    png = render(draw())
    assert len(png) < 60_000
    assert Image.open(io.BytesIO(png)).size == (952, 448)
    assert Image.open(io.BytesIO(render(draw(), dpi=100))).size == (680, 320)


def test_the_picture_holds_no_time_and_no_software():
    assert set(chunks(render(draw()))) == {"IHDR", "PLTE", "IDAT", "IEND"}


@pytest.mark.parametrize("colors", [96, 32])
def test_the_palette_keeps_the_colour_of_every_method(colors):
    picture = Image.open(io.BytesIO(render(draw(), colors=colors))).convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3).astype(int)
    for method, color in COLORS.items():
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        near = np.abs(pixels - wanted).max(axis=1) <= 6
        assert near.sum() > 1000, method


def test_render_closes_the_figure():
    figure = draw()
    assert plt.get_fignums() == [figure.number]
    render(figure)
    assert plt.get_fignums() == []


def test_show_gives_the_picture_and_its_words(displayed):
    show(draw(), "  Seven walks,\n   one for each method. ")
    [(data, metadata)] = displayed
    alt = "Seven walks, one for each method."
    assert data == {"image/png": encode(render(draw())), "text/plain": alt}
    assert metadata == {"image/png": {"alt": alt}}
    assert plt.get_fignums() == []


@pytest.mark.parametrize("alt", ["", " \n "])
def test_show_refuses_an_empty_text(displayed, alt):
    with pytest.raises(ValueError, match="expected alt text that says what the figure shows, got an empty"):
        show(draw(), alt)
    assert not displayed


def test_what_is_not_a_figure_is_refused(displayed):
    with pytest.raises(TypeError, match=r"^expected a matplotlib Figure, got Axes$"):
        show(draw().axes[0], "axes")
    with pytest.raises(TypeError, match=r"^expected a matplotlib Figure, got NoneType$"):
        render(None)
    assert not displayed
