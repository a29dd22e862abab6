"""The parts of the Sphinx extension that are functions of their arguments; the pages are tested apart."""

import base64
import importlib
import io
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

SITE = Path(__file__).parents[2] / "tools" / "site"


@pytest.fixture
def module(monkeypatch):
    """Return a function that imports a module of the extension."""
    monkeypatch.syspath_prepend(str(SITE))
    return importlib.import_module


def test_reading_time_counts_words_formulas_cells_and_figures(module):
    minutes = module("chapter_head").reading_minutes
    assert minutes(0, 0, 0, 0) == 5
    assert minutes(1000, 0, 0, 0) == 5
    assert minutes(1010, 0, 0, 0) == 10
    assert minutes(1000, 15, 0, 0) == 10
    assert minutes(1000, 0, 15, 0) == 10
    assert minutes(1000, 0, 0, 10) == 10
    assert minutes(1000, 15, 15, 10) == 20


def test_an_equation_has_an_anchor(module):
    assert module("equations").anchor("5.10") == "eq-5-10"


def test_icons_are_found_by_class_and_by_number(module):
    names = (
        '.fa-play:before{content:"\\f04b"}.fa-pen:before,.fa-pencil:before{content:"\\f303"}'
        '.fa-x:before{content:"\\58"}'
    )
    used = module("icons").used_icons(
        ['<i class="fas fa-play"></i>'], ["a.className = 'fa-x'"], ['b::after{content:"\\f0eb"}'], names
    )
    assert used == {0xF04B, 0x58, 0xF0EB}
    assert module("icons").used_icons(['<i class="fa-pencil">'], [], [], names) == {0xF303}


def test_the_first_frame_is_the_one_that_the_sliders_start_from(module):
    models = {
        "outer": {"state": {"children": ["IPY_MODEL_one", "IPY_MODEL_two"], "selected_index": 1}},
        "one": {"state": {"value": "<img 1>"}},
        "two": {"state": {"children": ["IPY_MODEL_three", "IPY_MODEL_four"], "selected_index": 0}},
        "three": {"state": {"value": "<img 3>"}},
        "four": {"state": {"value": "<img 4>"}},
    }
    box = {"children": ["IPY_MODEL_slider", "IPY_MODEL_outer"]}
    assert module("widget_pages").first_frame(box, models) == "<img 3>"


def test_the_size_of_a_picture_is_read_from_its_data(module):
    buffer = io.BytesIO()
    Image.new("P", (680, 321)).save(buffer, format="png")
    picture = f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    assert module("widget_pages")._size(picture) == (680, 321)


def test_a_sitemap_holds_each_address(module):
    addresses = ["https://a.example/b/c.html", "https://a.example/b/d.html?e&f"]
    root = ElementTree.fromstring(module("publishing").sitemap(addresses))
    assert [loc.text for loc in root.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")] == addresses


def test_the_preview_shows_the_title(module):
    draw = module("preview").draw_preview
    assert draw("One, two") == draw("One, two")
    assert draw("One, two") != draw("One, three") != draw("Two, three")


def teardown_module():
    for name in ("chapter_head", "equations", "icons", "widget_pages", "publishing", "preview"):
        sys.modules.pop(name, None)
