import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "LICENSE-TEXT.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHAPTERS = sorted(path.name for path in (ROOT / "chapters").glob("[0-9][0-9]-*.ipynb"))


class Block(NamedTuple):
    language: str
    text: str


def blocks(text):
    """Return the fenced blocks of a page in their order."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(language, body) for _, language, body in found]


def examples():
    """Return each Python block of the README with the text block that follows it: what it prints."""
    listed = blocks(README)
    follows = [*listed[1:], Block("", "")]
    return [
        (block.text, after)
        for block, after in zip(listed, follows, strict=True)
        if block.language == "python"
    ]


def test_the_readme_has_an_example():
    assert examples()


@pytest.mark.parametrize(("code", "after"), examples())
def test_an_example_prints_what_the_readme_says(code, after):
    assert after.language == "text", "expected a text block with the output after the example"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == after.text


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert targets or page != "README.md"
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_of_the_makefile(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:^ *|`)make ([a-z-]+)", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE))
    assert named <= targets


def test_every_command_of_the_makefile_is_in_the_readme():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE)) - {"install"}
    assert set(re.findall(r"^\| `make ([a-z-]+)", README, flags=re.MULTILINE)) == listed


def test_the_table_lists_the_written_chapters_and_no_others():
    rows = re.findall(
        r"^\| (\d+) \| \[.+\]\(chapters/(\S+)\) \| \[.+\]\((\S+)\) \|$", README, flags=re.MULTILINE
    )
    assert [name for _, name, _ in rows] == CHAPTERS
    for number, name, colab in rows:
        assert int(name[:2]) == int(number)
        assert re.fullmatch(
            r"https://colab\.research\.google\.com/github/[^/]+/[^/]+/blob/main/chapters/" + name, colab
        )
