import zipfile

import dist
import pytest


@pytest.fixture
def book(tmp_path):
    site, notebooks = tmp_path / "html", tmp_path / "chapters"
    (site / "_static").mkdir(parents=True)
    notebooks.mkdir()
    for name in ("index.html", "404.html", ".built", "_static/book.css"):
        (site / name).write_text(name)
    (notebooks / "01-why.ipynb").write_text("{}")
    (notebooks / "notation.md").write_text("# Notation")
    return site, notebooks


def test_the_archive_holds_site_notebooks_and_licences(book, tmp_path):
    target = tmp_path / "out" / "course.zip"
    count = dist.pack(target, *book, "https://github.com/owner/name")
    with zipfile.ZipFile(target) as archive:
        names = [name.removeprefix("batch-normalization/") for name in archive.namelist()]
        assert names == [
            "README.txt",
            *dist.LICENCES,
            "notebooks/01-why.ipynb",
            "site/_static/book.css",
            "site/index.html",
        ]
        assert count == len(names)
        assert "git+https://github.com/owner/name" in archive.read("batch-normalization/README.txt").decode()


def test_the_same_files_give_the_same_archive(book, tmp_path):
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    for target in (first, second):
        dist.pack(target, *book, "https://github.com/owner/name")
    assert first.read_bytes() == second.read_bytes()


def test_without_a_site_it_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run: make book"):
        dist.pack(tmp_path / "course.zip", tmp_path / "html", tmp_path, "https://github.com/owner/name")
