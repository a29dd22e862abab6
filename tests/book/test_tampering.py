"""That the comparison of the chapters' outputs notices: a changed output, and a changed package.

nbval itself replays copies of all chapters, in each of which one stored output differs by a character; and
chapters as they are, with a copy of ``bnlib`` in which one formula is wrong.
"""

import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import nbformat
import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "chapters").glob("*.ipynb"))


Results: TypeAlias = dict[str, dict[int, str]]  # of a notebook's name and a cell, "PASSED" or "FAILED"


def replay(folder: Path, *options: str, package: Path = REPOSITORY) -> Results:
    """Run nbval on the notebooks in a folder, with the ``bnlib`` in the folder ``package``."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "-rpf", *options]
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, "--rootdir", str(folder), *sorted(folder.glob("*.ipynb"))],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    results: Results = {}
    summary = r"^(PASSED|FAILED|ERROR) (.*)\.ipynb::Cell (\d+)"
    for result, name, cell in re.findall(summary, done.stdout, re.MULTILINE):
        results.setdefault(name, {})[int(cell)] = result
    return results


def compared_text(cell: Any) -> Any | None:
    """Return the first output of a cell whose text nbval compares, or None."""
    if cell.cell_type != "code" or "nbval-ignore-output" in cell.metadata.get("tags", []):
        return None
    return next((o for o in cell.outputs if o.output_type in ("stream", "execute_result")), None)


def alter(text: str) -> str:
    """Change one character: the last digit, if there is one."""
    at = max((i for i, character in enumerate(text) if character.isdigit()), default=0)
    new = str((int(text[at]) + 1) % 10) if text[at].isdigit() else "#"
    return text[:at] + new + text[at + 1 :]


def tampered(notebook: Any) -> Any:
    """Return a notebook up to its first compared output, and that one altered."""
    at = next(i for i, cell in enumerate(notebook.cells) if compared_text(cell) is not None)
    # What follows is as it was, and needs no second replay.
    notebook.cells = notebook.cells[: at + 1]
    output = compared_text(notebook.cells[at])
    if output.output_type == "stream":
        output.text = alter(output.text)
    else:
        output.data["text/plain"] = alter(output.data["text/plain"])
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    """Return the cells that nbval runs."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Replay all tampered copies; one after the other in one notebook, since each start takes long."""
    folder = tmp_path_factory.mktemp("tampered")
    copies = {path.stem: tampered(nbformat.read(path, as_version=4)) for path in NOTEBOOKS}
    joined = nbformat.v4.new_notebook(metadata=copies[NOTEBOOKS[0].stem].metadata)
    for name, notebook in copies.items():
        for number, cell in enumerate(notebook.cells):
            cell.id = f"{name}-{number}"
        joined.cells += notebook.cells
    nbformat.write(joined, folder / "all.ipynb")
    found = replay(folder)["all"]
    results = (found[number] for number in sorted(found))
    return {name: list(islice(results, len(code_cells(notebook)))) for name, notebook in copies.items()}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_changed_output_is_noticed(path: Path, replayed: dict[str, list[str]]) -> None:
    last = len(code_cells(tampered(nbformat.read(path, as_version=4)))) - 1
    assert replayed[path.stem] == ["PASSED"] * last + ["FAILED"]


class Defect(NamedTuple):
    """A wrong formula: what stands instead of what in which file, and the chapter that teaches it."""

    file: str
    right: str
    wrong: str
    chapter: str


DEFECTS = {
    "epsilon outside the root": Defect(
        "reference/scale_shift.py",
        "1 / np.sqrt(var.astype(np.float64) + eps)",
        "1 / (np.sqrt(var.astype(np.float64)) + eps)",
        "02-forward-pass",
    ),
    "variance of n - 1": Defect(
        "reference/moments.py", "np.asarray(total / m)", "np.asarray(total / (m - 1))", "02-forward-pass"
    ),
    "wrong axis": Defect(
        "reference/moments.py",
        "return (0, *range(2, ndim))",
        "return tuple(range(1, ndim))",
        "02-forward-pass",
    ),
    "momentum reversed": Defect(
        "reference/running.py",
        'if convention == "new" else',
        'if convention == "old" else',
        "06-running-statistics",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_a_wrong_formula_is_noticed(defect: Defect, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "bnlib", tmp_path / "bnlib", ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "bnlib" / defect.file
    text = source.read_text()
    assert text.count(defect.right) == 1
    source.write_text(text.replace(defect.right, defect.wrong))
    shutil.copy(REPOSITORY / "chapters" / f"{defect.chapter}.ipynb", tmp_path)
    cells = replay(tmp_path, "--exitfirst", package=tmp_path)[defect.chapter]
    assert list(cells.values()).count("FAILED") == 1
    assert cells[0] == "PASSED", "the set-up failed, so nothing was compared"


def test_the_copy_of_the_package_is_the_one_in_use(tmp_path: Path) -> None:
    (tmp_path / "bnlib").mkdir()
    (tmp_path / "bnlib" / "__init__.py").write_text("raise SystemExit('the copy')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import bnlib"]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "the copy"
