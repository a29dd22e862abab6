import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    for name in ("adopt", "canonical", "colab"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("colab")


def test_git_takes_the_public_repository_from_the_local_one(colab, tmp_path):
    local = tmp_path / "a folder"
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-C", str(local)]
    local.mkdir()
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    environment = {**os.environ, **colab.redirect("https://github.com/owner/name", local)}
    seen = subprocess.run(
        ["git", "ls-remote", "https://github.com/owner/name", "HEAD"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.split() == [head.strip(), "HEAD"]


def test_packages_that_were_there_must_stay(colab):
    before = {"torch": "2.13.0", "numpy": "2.4.6", "pip": "25.0"}
    assert colab.changed(before, {**before, "bnlib": "0.1.0"}) == []
    after = {"torch": "2.13.1", "numpy": "2.4.6", "bnlib": "0.1.0"}
    assert colab.changed(before, after) == [
        "torch: expected 2.13.0, got 2.13.1",
        "pip: expected 25.0, got nothing",
    ]


def test_chapters_are_found_by_number(colab, tmp_path, monkeypatch):
    for name in ("01-why.ipynb", "02-forward.ipynb", "solutions-1.ipynb", "notation.md"):
        (tmp_path / name).touch()
    monkeypatch.setattr(colab, "CHAPTERS", tmp_path)
    assert [p.stem for p in colab.find([])] == ["01-why", "02-forward"]
    assert [p.stem for p in colab.find(["02"])] == ["02-forward"]
    with pytest.raises(SystemExit) as raised:
        colab.find(["03"])
    assert raised.value.code == "expected one of 01, 02, got '03'"


GOOD = {"bnlib": "/env/lib/bnlib/__init__.py", "stack": False, "sliders": 2, "exchanged": 2, "linked": 0}


@pytest.mark.parametrize(
    ("widgets", "report", "wrong"),
    [
        ("7", {}, None),
        ("8", {"stack": True, "exchanged": 0, "linked": 2}, None),
        ("7", {"exchanged": 1, "linked": 2}, "1 figures: expected 2 sliders to move a frame, got 1"),
        ("8", {"stack": True, "linked": 1}, "1 figures: expected 2 sliders to move a frame, got 1"),
        ("7", {"sliders": 0, "exchanged": 0}, "1 figures: expected 0 sliders to move a frame, got 0"),
        ("7", {"stack": True}, "ipywidgets 7: expected no Stack"),
        ("8", {"linked": 2}, "ipywidgets 8: expected a Stack"),
        ("7", {"bnlib": "/here/bnlib.py"}, "expected bnlib below /env, got /here/bnlib.py"),
    ],
)
def test_what_a_reader_on_colab_would_miss_is_named(colab, widgets, report, wrong):
    view = new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}})
    notebook = new_notebook(cells=[new_code_cell("explore()", outputs=[view])])
    found = colab.examine(notebook, {**GOOD, **report}, widgets, Path("/env"))
    assert found == ([] if wrong is None else [wrong])


def test_a_chapter_without_a_figure_with_sliders_is_named(colab):
    found = colab.examine(new_notebook(), {**GOOD, "sliders": 0, "exchanged": 0}, "7", Path("/env"))
    assert found == ["expected a figure with sliders, got none"]


@pytest.mark.parametrize("newest", [False, True])
def test_the_tested_versions_are_asked_for_unless_the_newest_are(colab, tmp_path, monkeypatch, newest):
    commands = []
    monkeypatch.setattr(colab.subprocess, "run", lambda command, **_: commands.append(command))
    colab.create_environment(tmp_path, "7", newest)
    _, packages, widgets = commands
    assert ("--constraint" in packages) == (not newest)
    assert packages[-len(colab.BASE) :] == colab.BASE
    assert "ipywidgets==7.7.1" in widgets
