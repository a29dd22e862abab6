import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

TOOLS = Path(__file__).parents[2] / "tools"

COURSE = """
import matplotlib.pyplot as plt
from bnlib.course import explore, quiz, setup, show
setup()

def draw(a):
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, a])
    return figure

show(draw(1), "A line.")
explore(draw, alt="A line up to {a}.", a=[1, 2])
quiz({"Which?": {"This.": "Yes.", "That.": "No."}})
"""


@pytest.fixture(autouse=True)
def locks_elsewhere(monkeypatch, tmp_path_factory):
    """Leave no lock in the system's folder of temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def refresh(monkeypatch, tmp_path):
    """Load the tool with an empty folder of chapters."""
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("refresh", TOOLS / "refresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CHAPTERS", tmp_path)
    return module


@pytest.fixture
def run(refresh, monkeypatch):
    def main(*chapters):
        monkeypatch.setattr(sys, "argv", ["refresh.py", *chapters])
        return refresh.main()

    return main


def store(folder, stem, *cells):
    """Write a chapter that was never executed and return its path."""
    path = folder / f"{stem}.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title"), *map(new_code_cell, cells)]), path)
    return path


def start(folder, *chapters):
    """Start the tool as a process of its own."""
    # A process that a script starts in the background ignores Ctrl-C unless told otherwise.
    program = f"""
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {str(TOOLS)!r})
import refresh
refresh.CHAPTERS = Path({str(folder)!r})
sys.exit(refresh.main())
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, *chapters],
        env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_executes_and_stores_and_the_second_time_changes_nothing(run, tmp_path, capfd):
    path = store(tmp_path, "01-why", COURSE, "import os; print('folder', os.listdir())", "6 * 7")
    assert run("01") == 0
    first, touched = path.read_bytes(), path.stat().st_mtime_ns
    assert run("01") == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (first, touched)
    printed = capfd.readouterr()
    assert printed.out == "01-why: stored\n01-why: unchanged\n"
    assert "WARNING" not in printed.err

    notebook = nbformat.read(path, as_version=4)
    _, course, folder, product = notebook.cells
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3]
    assert course.metadata == {"mystnb": {"image": {"alt": "A line up to 1."}}}
    assert notebook.metadata.language_info == {"name": "python"}
    assert [sorted(output.data)[0] for output in course.outputs] == [
        "image/png",
        "application/vnd.jupyter.widget-view+json",
        "text/html",
        "application/javascript",
    ]
    assert folder.outputs[0].text == "folder []\n"
    assert product.outputs[0].data == {"text/plain": "42"}
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert course.outputs[1].data["application/vnd.jupyter.widget-view+json"]["model_id"] in state
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_cell_that_fails_leaves_its_file_and_the_other_chapters_go_on(run, tmp_path, capfd):
    raises = store(tmp_path, "01-raises", "print(1)", "1 / 0")
    dies = store(tmp_path, "02-dies", "import os; os._exit(3)")
    fine = store(tmp_path, "03-fine", "print(1)")
    before = {path: path.read_bytes() for path in (raises, dies, fine)}
    assert run("all") == 1
    printed = capfd.readouterr()
    assert printed.out == "03-fine: stored\n"
    assert "01-raises: a cell failed; the file is left as it was" in printed.err
    assert "ZeroDivisionError" in printed.err
    assert "02-dies: a cell failed; the file is left as it was\nKernel died" in printed.err
    assert [path.read_bytes() == content for path, content in before.items()] == [True, True, False]


@pytest.mark.parametrize(
    "error",
    [CellExecutionError("text", "name", "value"), CellTimeoutError("text"), DeadKernelError("text")],
)
def test_every_way_to_fail_is_told_without_a_traceback(refresh, run, tmp_path, monkeypatch, capsys, error):
    def fail(path):
        raise error

    store(tmp_path, "01-why")
    monkeypatch.setattr(refresh, "refresh", fail)
    assert run("01") == 1
    assert capsys.readouterr().err == "01-why: a cell failed; the file is left as it was\ntext\n"


def test_a_cell_that_takes_too_long_is_an_error(refresh, tmp_path):
    path = store(tmp_path, "01-slow", "import time; time.sleep(60)")
    before = path.read_bytes()
    with pytest.raises(CellTimeoutError):
        refresh.refresh(path, timeout=1)
    assert path.read_bytes() == before


def test_ctrl_c_leaves_the_file_and_no_kernel(tmp_path):
    note = tmp_path / "pid"
    sleep = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(f'{{os.getpid()}} ')"
    path = store(tmp_path, "01-slow", f"{sleep}; time.sleep(60)")
    before = path.read_bytes()
    process = start(tmp_path, "01")
    wait_for(lambda: note.exists() and note.read_text().endswith(" "))
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=90)
    assert (process.returncode, printed) == (130, "")
    assert errors == "01-slow: interrupted; the file is left as it was\n"
    assert path.read_bytes() == before
    wait_for(lambda: gone(int(note.read_text())))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-slow.ipynb", "pid"]


def test_two_at_once_wait_for_each_other_and_both_succeed(tmp_path):
    claim, count = str(tmp_path / "claim"), tmp_path / "count"
    path = store(
        tmp_path,
        "01-why",
        f"import os, time; claim = os.open({claim!r}, os.O_CREAT | os.O_EXCL); time.sleep(1)",
        f"open({str(count)!r}, 'a').write('x'); os.remove({claim!r})",
        "print('whole')",
    )
    both = [start(tmp_path, "01") for _ in range(2)]
    told = [(*process.communicate(timeout=180), process.returncode) for process in both]
    assert sorted(told) == [("01-why: stored\n", "", 0), ("01-why: unchanged\n", "", 0)]
    assert count.read_text() == "xx"
    assert nbformat.read(path, as_version=4).cells[-1].outputs[0].text == "whole\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-why.ipynb", "count"]


@pytest.fixture
def shelf(tmp_path):
    stems = ["01-why", "02-forward", "10-smooth", "solutions-1", "solutions-10"]
    return {stem: store(tmp_path, stem) for stem in stems}


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["02"], ["02-forward"]),
        (["10"], ["10-smooth"]),
        (["solutions-1"], ["solutions-1"]),
        (["chapters/01-why.ipynb"], ["01-why"]),
        (["02", "01-why"], ["02-forward", "01-why"]),
        (["all"], ["01-why", "02-forward", "10-smooth", "solutions-1", "solutions-10"]),
    ],
)
def test_names_of_chapters(refresh, shelf, names, stems):
    assert refresh.find(names) == [shelf[stem] for stem in stems]


@pytest.mark.parametrize("name", ["03", "0", "solutions", "", "why"])
def test_unknown_and_ambiguous_names_are_refused(refresh, run, shelf, name):
    with pytest.raises(SystemExit) as raised:
        run("01", name)
    known = "01-why, 02-forward, 10-smooth, solutions-1, solutions-10"
    assert raised.value.code == f"expected the name of one chapter ({known}, or all), got {name!r}"
