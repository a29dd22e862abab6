"""What a reader does: move sliders, answer quizzes, open hints, search, print, read without a server."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import CHAPTERS, NARROW, NOTEBOOKS, ROOT, SITE, WIDE, look, settle

each_path = pytest.mark.parametrize("path", CHAPTERS)
each_chapter = pytest.mark.parametrize("page", CHAPTERS, indirect=True, scope="module")
each_notebook = pytest.mark.parametrize("page", NOTEBOOKS, indirect=True, scope="module")
SHOWN = "(figure) => [...figure.querySelectorAll('img')].filter((i) => i.checkVisibility()).map((i) => i.src)"


@pytest.fixture(scope="module")
def page(request: Any, open_context: Any, site: str) -> Any:
    """The page at the path that is the parameter, opened once for tests which do not disturb each other."""
    context = open_context()
    page = look(context, site + request.param).page
    settle(page)
    yield page
    context.close()


def test_there_are_chapters() -> None:
    assert [Path(page).stem for page in CHAPTERS] == sorted(
        path.stem for path in (ROOT / "chapters").glob("[0-9][0-9]-*.ipynb")
    )


@each_chapter
def test_each_slider_changes_its_figure_by_keyboard(page: Any) -> None:
    figures = page.locator(".slider-figure").all()
    assert figures
    for figure in figures:
        handles = figure.get_by_role("slider").all()
        assert handles
        for handle in handles:
            assert handle.get_attribute("aria-label")
            before, said = figure.evaluate(SHOWN), handle.get_attribute("aria-valuetext")
            assert len(before) == 1
            at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            handle.focus()
            page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
            page.wait_for_timeout(50)
            after = figure.evaluate(SHOWN)
            assert len(after) == 1
            assert after != before
            assert handle.get_attribute("aria-valuetext") != said


@each_chapter
def test_each_quiz_answers(page: Any) -> None:
    questions = page.locator(".Quiz").all()
    assert questions
    for i, question in enumerate(questions):
        answers = question.locator(".MCButton")
        assert answers.count() >= 2
        feedback = question.get_by_role("status")
        assert feedback.inner_text() == ""
        answer = answers.nth(i % answers.count())
        answer.locator("input").focus()
        page.keyboard.press("Space")
        assert answer.get_attribute("data-feedback") in feedback.inner_text()
        kind = "correct" if answer.get_attribute("data-correct") == "true" else "incorrect"
        assert kind in feedback.get_attribute("class").split()


@each_chapter
def test_hints_open_by_keyboard(page: Any) -> None:
    hints = page.locator("details:has(> summary:text-matches('^Hint 1'))").all()
    assert hints
    for hint in hints:
        hidden = hint.locator("> p").first
        assert not hidden.is_visible()
        hint.locator("> summary").focus()
        page.keyboard.press("Enter")
        assert hidden.is_visible()


@each_notebook
def test_a_notebook_can_be_run_downloaded_and_edited(page: Any) -> None:
    source = ROOT / "chapters" / Path(page.url).with_suffix(".ipynb").name
    name = f"chapters/{source.name}"
    colab = page.get_by_role("link", name="Open in Colab").get_attribute("href")
    assert re.fullmatch(rf"https://colab\.research\.google\.com/github/[^/]+/[^/]+/blob/main/{name}", colab)
    edit = page.locator(".chapter-actions").get_by_role("link", name="Edit").get_attribute("href")
    assert re.fullmatch(rf"https://github\.com/[^/]+/[^/]+/edit/main/{name}", edit)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download notebook").click()
    assert download.value.suggested_filename == source.name
    # What is tested is what a reader gets: the tests execute this very file, alone in an empty folder.
    assert Path(download.value.path()).read_bytes() == source.read_bytes()


@each_chapter
def test_a_chapter_says_how_long_it_is_and_what_it_builds_on(page: Any) -> None:
    facts = page.locator(".chapter-facts").inner_text()
    assert re.match(r"Part [IVX]+ +· +about \d+ minutes to read +· +\d+ figures? with sliders? ?", facts)
    assert re.search(r"\d+ exercises", facts)
    needed = page.locator("p:has(> strong:text-is('You need')) a[href*='-']").count()
    linked = page.locator(".chapter-facts a").count()
    assert bool(linked) == bool(needed)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Jacobian", "05-geometry-of-the-jacobian"),
        ("Welford", "03-computing"),
        ("condition number", "01-why"),
    ],
)
def test_search_finds_formulas_by_name(words: str, expected: str, visit: Any, site: str) -> None:
    page = visit("chapters/index.html").page
    page.keyboard.press("Control+k")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function(
        "/finished|found/.test(document.querySelector('#search-results .search-summary').textContent)"
    )
    # What is shown of a page has no formulas in the notation that they are typed in.
    assert not re.search(r"\\[(\[a-z]", page.locator("#search-results").inner_text())
    found = page.locator("#search-results li > a").evaluate_all("(links) => links.map((a) => a.href)")
    assert any(expected in link for link in found)
    assert any("glossary" in link for link in found)


def test_the_first_figure_moves_unless_the_reader_prefers_none(visit: Any) -> None:
    still = visit("chapters/index.html").page
    moving = visit("chapters/index.html", reduced_motion="no-preference").page
    place = "() => document.querySelector('#landing-figure circle').getAttribute('cx')"
    for page, moves in [(still, False), (moving, True)]:
        before = page.evaluate(place)
        page.wait_for_timeout(300)
        assert (page.evaluate(place) != before) == moves
    moving.get_by_role("button", name="Pause").click()
    before = moving.evaluate(place)
    moving.wait_for_timeout(300)
    assert moving.evaluate(place) == before


def test_the_first_figure_normalizes(visit: Any) -> None:
    page = visit("chapters/index.html").page
    labels = page.locator("#landing-figure text")
    before = labels.all_text_contents()
    page.get_by_role("slider", name="shift of the input").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("slider", name="spread of the input").focus()
    page.keyboard.press("ArrowRight")
    after = labels.all_text_contents()
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    assert after[1].endswith("mean 0.00, standard deviation 1.00")
    page.get_by_role("slider", name="scale γ").focus()
    page.keyboard.press("Home")
    assert labels.all_text_contents()[2].endswith("standard deviation 0.00")


@each_path
def test_a_page_without_scripts_shows_its_figures(path: str, visit: Any) -> None:
    page = visit(path, java_script_enabled=False).page
    for figure in page.locator(".slider-figure").all():
        assert figure.locator("img").is_visible()


@each_chapter
def test_prints_as_a_text_without_what_surrounds_it(page: Any, tmp_path: Path) -> None:
    page.emulate_media(media="print")
    around = (
        ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .chapter-actions, .prev-next-footer"
    )
    assert page.locator(around).filter(visible=True).count() == 0
    assert page.locator("h1:visible").count() == 1
    printed = page.pdf(path=tmp_path / "chapter.pdf", format="A4")
    assert len(printed) > 100_000
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 5
    page.emulate_media(media="screen")


@each_path
def test_opens_from_a_folder_without_a_server(path: str, visit: Any) -> None:
    seen = visit((SITE / path).as_uri())
    page = seen.page
    assert [url for url in seen.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.locator(".math mjx-container").count() == page.locator(".bd-article .math").count() > 0
    figure = page.locator(".slider-figure").first
    before = figure.evaluate(SHOWN)
    figure.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft") if figure.evaluate(SHOWN) == before else None
    page.wait_for_timeout(50)
    assert figure.evaluate(SHOWN) != before
    assert seen.complaints == []


def test_search_works_from_a_folder(visit: Any) -> None:
    page = visit(f"{(SITE / 'search.html').as_uri()}?q=Jacobian").page
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li > a[href*='05-geometry']").count() > 0


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_widgets_script_is_loaded_where_there_are_widgets(width: int, visit: Any) -> None:
    assert not [url for url in visit("chapters/index.html", width=width).requests if "/widgets/" in url]
    assert [url for url in visit(CHAPTERS[0], width=width).requests if "/widgets/" in url]
