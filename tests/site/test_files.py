"""The files of the built site: links lead somewhere, nothing is missing, and nothing is there unused."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import BASEURL, CHAPTERS, NOTEBOOKS, PAGES, ROOT, SITE
from PIL import Image

TITLE = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
SOURCES = sorted((ROOT / "chapters").glob("*.ipynb"))
each_page = pytest.mark.parametrize("path", PAGES)


@cache
def parse(path: str) -> BeautifulSoup:
    return BeautifulSoup((SITE / path).read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: str) -> frozenset[str]:
    return frozenset(e["id"] for e in parse(path).find_all(id=True))


def links(path: str) -> Iterator[tuple[str, Path, str]]:
    """Yield each link of a page to the site itself, the file that it leads to, and its anchor."""
    prefix = urlparse(BASEURL).path
    for name, attribute in (("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")):
        for element in parse(path).find_all(name, attrs={attribute: True}):
            url = urlparse(element[attribute])
            if url.scheme or url.netloc:
                continue
            folder = SITE if url.path.startswith(prefix) else (SITE / path).parent
            target = folder / unquote(url.path.removeprefix(prefix)) if url.path else SITE / path
            yield element[attribute], target, unquote(url.fragment)


@each_page
def test_links_and_anchors_lead_somewhere(path: str) -> None:
    astray = []
    for link, target, anchor in links(path):
        exists = target.is_file()
        if exists and anchor and target.suffix == ".html":
            exists = anchor in anchors(target.resolve().relative_to(SITE).as_posix())
        if not exists:
            astray.append(link)
    assert astray == []


@pytest.mark.parametrize("path", [page for page in PAGES if page != "search.html"])  # the theme's own slip
def test_no_two_elements_share_an_anchor(path: str) -> None:
    found = [e["id"] for e in parse(path).find_all(id=True)]
    assert sorted(i for i in found if found.count(i) > 1) == []


@each_page
def test_asks_no_other_site_for_anything(path: str) -> None:
    for name, attribute in (("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src")):
        for element in parse(path).find_all(name, attrs={attribute: True}):
            if "canonical" not in element.get("rel", []):
                assert not re.match(r"(?:https?:)?//", element[attribute]), element


@each_page
def test_loads_only_scripts_that_it_uses(path: str) -> None:
    page = parse(path)
    scripts = [script["src"] for script in page.find_all("script", src=True)]
    assert not [s for s in scripts if re.search("thebe|togglebutton|design-tabs|fontawesome", s)]
    assert any("widgets/embed" in s for s in scripts) == bool(page.select(".slider-figure"))
    assert any("landing.js" in s for s in scripts) == bool(page.select("#landing-figure"))
    # The head holds no data of widgets: the text comes first.
    assert not page.head.find_all("script", type=re.compile("widget-state"))


def test_nothing_unused_is_published() -> None:
    names = [path.relative_to(SITE).as_posix() for path in SITE.rglob("*") if path.is_file()]
    assert not [
        name for name in names if re.search(r"thebe|fontawesome/.*/js|\.ttf$|locales|webpack-macros", name)
    ]


@each_page
def test_equations_are_linked(path: str) -> None:
    """A number in parentheses that some chapter gives to an equation is a link to it."""
    numbers = {i for page in CHAPTERS for i in anchors(page) if i.startswith("eq-")}
    for element in parse(path).select(".bd-article :is(p, li, dd)"):
        for text in element.find_all(string=re.compile(r"\(\d+\.\d+\)")):
            # The hints of the checker are its output, and stay as they are.
            if text.find_parent(["a", "code", "pre", "script"]) or text.find_parent(
                class_=["math", "cell_output"]
            ):
                continue
            cited = {f"eq-{n.replace('.', '-')}" for n in re.findall(r"\((\d+\.\d+)\)", text)}
            assert not cited & numbers, text


def test_every_notebook_is_a_page_and_can_be_downloaded_as_it_is() -> None:
    assert [Path(page).stem for page in NOTEBOOKS] == [path.stem for path in SOURCES], (
        "expected a page for each notebook in chapters/; add the notebook to _toc.yml"
    )
    for page, source in zip(NOTEBOOKS, SOURCES, strict=True):
        assert (SITE / "_sources" / page).with_suffix(".ipynb").read_bytes() == source.read_bytes()


def test_the_map_of_the_course_links_every_chapter() -> None:
    linked = {a["href"] for a in parse("chapters/index.html").select(".bd-article td a")}
    missing = [page for page in CHAPTERS if Path(page).name not in linked]
    assert missing == [], "expected a link to each chapter in the map in chapters/index.md"


def test_the_glossary_has_words_of_every_chapter() -> None:
    """A chapter that defines a word the reader may look up later says so there."""
    counts = {
        page: len(parse("chapters/glossary.html").select(f'dd a[href^="{Path(page).name}"]'))
        for page in CHAPTERS
    }
    missing = [page for page, count in counts.items() if count < 2]
    assert missing == [], "expected at least two entries in chapters/glossary.md that name these chapters"


def test_the_glossary_is_in_alphabetical_order_within_each_part() -> None:
    for part in parse("chapters/glossary.html").select("dl.glossary"):
        # An entry may have several names, one below the other; the first one counts.
        terms = [dt.text.rstrip("#").lower() for dt in part.select("dt:first-child, dd + dt")]
        assert len(terms) == len(part.find_all("dd"))
        assert terms == sorted(terms)


def test_the_sitemap_lists_every_page_at_its_public_address() -> None:
    listed = [loc.text for loc in ElementTree.parse(SITE / "sitemap.xml").iter() if loc.tag.endswith("loc")]
    expected = {f"{BASEURL}{page}" for page in PAGES} - {
        f"{BASEURL}{p}.html" for p in ("404", "genindex", "search")
    }
    assert set(listed) == expected
    assert len(listed) == len(expected)


@pytest.mark.parametrize("path", [*(page for page in PAGES if page.startswith("chapters/")), "index.html"])
def test_a_shared_link_has_a_preview(path: str) -> None:
    tags = {
        tag["property"]: tag["content"] for tag in parse(path).find_all("meta", property=re.compile("^og:"))
    }
    assert tags["og:title"]
    assert tags["og:site_name"] == TITLE
    assert len(tags["og:description"]) > 40
    assert tags["og:image"] == f"{BASEURL}_static/preview.png"
    assert tags["og:url"].startswith(BASEURL)
    assert tags["og:image:alt"]


def test_the_preview_has_the_size_that_networks_ask_for() -> None:
    with Image.open(SITE / "_static" / "preview.png") as picture:
        assert picture.size == (1200, 630)
        assert len(picture.getcolors(1 << 24)) > 100
    assert (SITE / "_static" / "preview.png").stat().st_size < 300_000


def test_the_offline_copy_holds_the_site_and_the_notebooks(tmp_path: Path) -> None:
    target = tmp_path / "course.zip"
    subprocess.run([sys.executable, ROOT / "tools" / "dist.py", target], check=True, capture_output=True)
    with zipfile.ZipFile(target) as archive:
        names = set(archive.namelist())
        first = archive.read("batch-normalization/README.txt").decode()
        for source in SOURCES:
            assert archive.read(f"batch-normalization/notebooks/{source.name}") == source.read_bytes()
    assert "site/index.html" in first
    pages = {f"batch-normalization/site/{page}" for page in [*PAGES, "index.html"]} - {
        "batch-normalization/site/404.html"
    }
    assert pages <= names
    assert not [name for name in names if name.endswith((".built", ".buildinfo"))]


def test_pages_bear_the_title_of_the_book() -> None:
    for path in ("index.html", "chapters/index.html", "chapters/glossary.html"):
        assert parse(path).title.text.endswith(TITLE)
