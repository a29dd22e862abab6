import os
import subprocess

import adopt
import pytest

START = adopt.PLACEHOLDER
COURSE = adopt.Address("acme-lab", "course.notes")
OTHER = adopt.Address("b", "bn")
# A repository whose site is served from the root of its host.
USER_SITE = adopt.Address("Ada", "ada" + ".github.io")

NOTEBOOK = b"""{"cells": [{"source": ["%%pip install -q \\"bnlib[course] @ git+%s\\""],
"outputs": [{"data": {"image/png": ["iVBOR+b/bn+x/b/bn=AA\\n", "b/bn+A\\n", "b/bn=="]}}]}],
"metadata": {"b": 1,  "a": "\\u00e9"}}"""


def write_project(root, address, newline=b"\n"):
    texts = {
        "_config.yml": f"""# keep this comment
repository:
  url: {address.repository}  # and this one
sphinx:
  config:
    html_baseurl: {address.pages}
""",
        "README.md": f"""Read {address.pages} or {address.pages}chapters/index.html ({address.site}).
git clone {address.repository}.git
[Colab](https://colab.research.google.com/github/{address.slug}/blob/main/chapters/01-why.ipynb)
![tests](https://img.shields.io/github/license/{address.slug}) The slug is {address.slug}.
The data: https://github.com/zalandoresearch/fashion-mnist
""",
        "CITATION.cff": f"repository-code: {address.repository}\nurl: '{address.pages}'\n",
        "CONTRIBUTING.md": f"Open an issue at {address.repository}/issues.\n",
        "pyproject.toml": f'[project.urls]\nRepository = "{address.repository}"\nSite = "{address.pages}"\n',
        "chapters/01-why.ipynb": (NOTEBOOK % address.repository.encode()).decode(),
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(text.encode().replace(b"\n", newline))
    (root / "picture.png").write_bytes(b"\x89PNG\0" + address.repository.encode())
    return root


def contents(root):
    paths = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = tmp_path / "project"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return write_project(root, START)


def run(root, *arguments):
    return adopt.main(list(arguments), root=root)


@pytest.mark.parametrize("ending", ["", "/", ".git", ".git/"])
def test_an_address_is_read_with_or_without_its_ending(ending):
    assert adopt.parse_address(COURSE.repository + ending) == COURSE


@pytest.mark.parametrize(
    "url",
    [
        "",
        COURSE.slug,
        f"http://github.com/{COURSE.slug}",
        f"https://gitlab.com/{COURSE.slug}",
        f"git@github.com:{COURSE.slug}.git",
        "https://github.com/acme",
        "https://github.com/acme/",
        "https://github.com/acme/course/tree/main",
        "https://github.com/-acme/course",
        "https://github.com/acme-/course",
        "https://github.com/ac--me/course",
        "https://github.com/" + "a" * 40 + "/course",
        "https://github.com/acme/a course",
        "https://github.com/acme/..",
        "https://github.com/acme/.git",
        f" https://github.com/{COURSE.slug}",
        f"https://github.com/{COURSE.slug}\n",
    ],
)
def test_a_malformed_address_changes_nothing_and_is_named(project, capsys, url):
    before = contents(project)
    assert run(project, url) == 2
    assert f"expected https://github.com/owner/name, got {url!r}" in capsys.readouterr().err
    assert contents(project) == before


def test_a_user_site_is_served_from_the_root():
    assert USER_SITE.pages == f"https://{USER_SITE.owner}.github.io/"
    assert COURSE.pages == f"https://{COURSE.owner}.github.io/{COURSE.name}/"


@pytest.mark.parametrize("new", [COURSE, OTHER, USER_SITE])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_adopting_changes_the_address_and_no_other_byte(project, tmp_path, capsys, new, newline):
    write_project(project, START, newline)
    expected = tmp_path / "expected"
    expected.mkdir()
    write_project(expected, new, newline)
    (expected / "picture.png").write_bytes((project / "picture.png").read_bytes())

    assert run(project, new.repository + "/") == 0
    assert contents(project) == contents(expected)
    printed = capsys.readouterr().out
    assert all(f"changed {name}\n" in printed for name in contents(expected) if name != "picture.png")
    assert "picture.png" not in printed


def test_adopting_is_idempotent_and_can_be_repeated_there_and_back(project, capsys):
    before = contents(project)
    for address in (COURSE, USER_SITE, OTHER, START):
        assert run(project, address.repository) == 0
        once = contents(project)
        capsys.readouterr()
        assert run(project, address.repository) == 0
        assert capsys.readouterr().out.startswith("0 files changed")
        assert contents(project) == once
    assert once == before


def test_an_address_that_contains_the_old_one_is_written_once(project):
    longer = adopt.Address(START.owner, START.name + "-2")
    assert run(project, longer.repository) == 0
    assert longer.name + "-2" not in (project / "README.md").read_text()
    assert run(project, START.repository) == 0
    assert contents(project) == contents(write_project(project, START))


def test_names_that_only_begin_or_end_alike_are_left_alone(project):
    alike = [
        f"https://github.com/{START.slug}-2",
        f"https://github.com/{START.slug}.old",
        f"https://github.com/my{START.slug}",
        f"https://{START.owner}.github.io/{START.name}2/",
        f"https://my{START.site}/",
        f"a/path/{START.slug}",
    ]
    path = project / "alike.txt"
    path.write_text("\n".join(alike))
    assert run(project, COURSE.repository) == 0
    assert path.read_text().split("\n") == alike


def test_it_works_outside_a_git_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    root = write_project(tmp_path, START)
    assert run(root, COURSE.repository) == 0
    assert START.slug.encode() not in b"".join(
        text for name, text in contents(root).items() if name != "picture.png"
    )


def test_ignored_files_are_left_alone(project):
    (project / ".gitignore").write_text("built/\n")
    (project / "built").mkdir()
    (project / "built/page.html").write_text(START.repository)
    assert run(project, COURSE.repository) == 0
    assert (project / "built/page.html").read_text() == START.repository


def test_nothing_is_written_when_the_present_address_is_malformed(project, capsys):
    config = project / "_config.yml"
    config.write_text(config.read_text().replace("github.com", "example.org"))
    before = contents(project)
    assert run(project, COURSE.repository) == 2
    assert "_config.yml: repository: url: expected" in capsys.readouterr().err
    assert contents(project) == before


def test_an_interrupted_run_leaves_whole_files_and_is_finished_by_the_next(project, monkeypatch):
    replace = os.replace

    def fail_at_the_readme(path, target):
        if target.name == "README.md":
            raise KeyboardInterrupt
        return replace(path, target)

    before = contents(project)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail_at_the_readme)
        with pytest.raises(KeyboardInterrupt):
            run(project, COURSE.repository)
    assert contents(project).keys() == before.keys()
    assert contents(project)["README.md"] == before["README.md"]
    assert contents(project)["_config.yml"] == before["_config.yml"]
    assert run(project, COURSE.repository) == 0


def test_the_mode_of_a_file_is_kept(project):
    (project / "README.md").chmod(0o640)
    run(project, COURSE.repository)
    assert (project / "README.md").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("address", [START, COURSE, USER_SITE])
def test_check_accepts_a_project_that_agrees(project, capsys, address):
    before = contents(write_project(project, address))
    assert run(project, "--check") == 0
    assert capsys.readouterr().err == ""
    assert contents(project) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("_config.yml", START.pages, OTHER.pages),
        ("_config.yml", START.pages, "https://example.org/"),
        ("README.md", f"clone {START.repository}", f"clone {OTHER.repository}"),
        ("README.md", f"github/{START.slug}/blob", f"github/{OTHER.slug}/blob"),
        ("README.md", START.pages, OTHER.pages),
        ("CITATION.cff", START.repository, OTHER.repository),
        ("CITATION.cff", START.pages, OTHER.pages),
        ("pyproject.toml", START.repository, OTHER.repository),
        ("pyproject.toml", START.pages, OTHER.pages),
        ("chapters/01-why.ipynb", START.repository, OTHER.repository),
        ("chapters/01-why.ipynb", START.repository, "https://example.org/bnlib"),
    ],
)
def test_check_names_the_file_that_disagrees(project, capsys, name, old, new):
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))
    assert run(project, "--check") == 1
    assert f"adopt: {name}: expected " in capsys.readouterr().err


def test_check_finds_a_placeholder_that_was_left(project, capsys):
    assert run(project, COURSE.repository) == 0
    (project / "notes.txt").write_text(f"see {START.repository}\n")
    assert run(project, "--check") == 1
    assert f"notes.txt: expected {COURSE.slug}, got the placeholder" in capsys.readouterr().err


def test_check_says_that_the_configuration_is_missing(project, capsys):
    (project / "_config.yml").unlink()
    assert run(project, "--check") == 2
    assert "expected _config.yml" in capsys.readouterr().err
