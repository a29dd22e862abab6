"""That the comparison of the chapters' outputs notices: a changed output, and a changed package.

nbval itself replays a copy of a chapter, in which one stored output differs by a character; and chapters as
they are, with a copy of ``bnlib`` in which one formula is wrong.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "chapters").glob("*.ipynb"))


def replay(notebook: Path, *options: str, package: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run nbval on a notebook with the ``bnlib`` in the folder ``package``."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "-rf", *options]
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        [*command, "--rootdir", str(notebook.parent), str(notebook)],
        env=environment, cwd=notebook.parent, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_changed_output_is_noticed(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    at = next(i for i, cell in enumerate(notebook.cells) if compared_text(cell) is not None)
    # What follows is as it was, and needs no second replay.
    notebook.cells = notebook.cells[: at + 1]
    copy = tmp_path / path.name
    output = compared_text(notebook.cells[at])
    if output.output_type == "stream":
        output.text = alter(output.text)
    else:
        output.data["text/plain"] = alter(output.data["text/plain"])
    codes = sum(cell.cell_type == "code" for cell in notebook.cells)
    nbformat.write(notebook, copy)
    result = replay(copy)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout
    expected = f"1 failed, {codes - 1} passed" if codes > 1 else "1 failed"
    assert expected in result.stdout, result.stdout


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
    chapter = shutil.copy(REPOSITORY / "chapters" / f"{defect.chapter}.ipynb", tmp_path)
    result = replay(Path(chapter), "--exitfirst", package=tmp_path)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout
    assert "1 failed" in result.stdout
    assert "Cell 0 " not in result.stdout, "the set-up failed, so nothing was compared"


def test_the_copy_of_the_package_is_the_one_in_use(tmp_path: Path) -> None:
    (tmp_path / "bnlib").mkdir()
    (tmp_path / "bnlib" / "__init__.py").write_text("raise SystemExit('the copy')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import bnlib"]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "the copy"
