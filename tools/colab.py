"""Run chapters as on Google Colab: ``python tools/colab.py 01 02``, all chapters where none is named.

Each notebook lies alone in an empty folder. Its environment holds what Colab brings and no ``bnlib``; the
setup cell installs that from the repository's public address, which git is told to take from a copy of
this working tree. Then every cell runs, and the sliders are moved as a reader would move them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from adopt import list_files, read_config
from canonical import CHAPTERS, REPOSITORY
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError

# Google publishes what Colab holds: https://github.com/googlecolab/backend-info.
BASE = ["torch", "numpy", "matplotlib"]
WIDGETS = {
    "7": ["ipywidgets==7.7.1", "ipykernel<7", "ipython==7.34.0"],
    "8": ["ipywidgets==8.*", "ipykernel"],
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# Runs in the notebook's kernel after its last cell. Every slider is moved to each of its places and back.
PROBE = """
import json as _json
import ipywidgets as _widgets
import bnlib as _bnlib
from ipywidgets.widgets import widget as _module

_models = list((_module._instances if hasattr(_module, "_instances") else _widgets.Widget.widgets).values())
_report = {
    "bnlib": _bnlib.__file__,
    "stack": hasattr(_widgets, "Stack"),
    "sliders": 0,
    "exchanged": 0,
    "linked": 0,
}
for _box in _models:
    if not isinstance(_box, _widgets.VBox):
        continue
    *_sliders, _shown = _box.children
    for _slider in _sliders:
        _report["sliders"] += 1
        _report["linked"] += sum(
            type(m).__name__ == "Link" and m.source == (_slider, "index") for m in _models
        ) > 0
        if isinstance(_shown, _widgets.HTML):
            _start, _frames = _slider.index, []
            for _slider.index in range(len(_slider.options)):
                _frames.append(_shown.value)
            _before = _frames[_start]
            _slider.index = _start
            _report["exchanged"] += len(set(_frames)) == len(_frames) and _shown.value == _before
print(_json.dumps(_report))
"""


def find(names: list[str]) -> list[Path]:
    """Return the notebooks of the chapters ``01``, ``02``, ..., or of all.

    Raises:
        SystemExit: a name fits no chapter.
    """
    chapters = sorted(CHAPTERS.glob("[0-9][0-9]-*.ipynb"))
    found = []
    for name in names:
        fits = [path for path in chapters if path.stem[:2] == name]
        if not fits:
            sys.exit(f"expected one of {', '.join(p.stem[:2] for p in chapters)}, got {name!r}")
        found += fits
    return found or chapters


def redirect(public: str, local: Path) -> dict[str, str]:
    """Return the environment that makes git take the repository at a public address from a local one."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{local.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": public,
    }


def copy_working_tree(target: Path) -> None:
    """Commit a copy of every file that git does not ignore, changed or not, to a new repository."""
    for name in list_files(REPOSITORY):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target / name)
    settings = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*settings, "commit", "--quiet", "--message", "The working tree"],
    ):
        subprocess.run(["git", *command], cwd=target, env=clean_environment(), check=True)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would lead Python or git elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "PYTHON", "JUPYTER", "IPYTHON", "MPL")) and name != "VIRTUAL_ENV"
    }


def create_environment(folder: Path, widgets: str, newest: bool) -> None:
    """Create a virtual environment with what Colab brings, in the tested versions or in the newest."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = [] if newest else ["--constraint", str(REPOSITORY / "constraints.txt")]
    subprocess.run([*pip, *constraints, *BASE], env=clean_environment(), check=True)
    subprocess.run([*pip, *WIDGETS[widgets]], env=clean_environment(), check=True)


def installed(python: Path) -> dict[str, str]:
    """Return the version of each package, and the file that ``import torch`` would load."""
    code = (
        "import importlib.metadata as m, importlib.util as u, json;"
        "print(json.dumps({d.name.lower(): d.version for d in m.distributions()}"
        " | {'torch file': u.find_spec('torch').origin}))"
    )
    output = subprocess.run(
        [str(python), "-c", code], env=clean_environment(), capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = json.loads(output.stdout)
    return versions


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Name each package that was there and is there no more, or in another version."""
    return [
        f"{name}: expected {version}, got {after.get(name, 'nothing')}"
        for name, version in before.items()
        if after.get(name) != version
    ]


def execute(notebook: Any, python: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Execute a notebook in a folder with another environment's Python."""
    with tempfile.TemporaryDirectory() as specs:
        spec = Path(specs) / "colab" / "kernel.json"
        spec.parent.mkdir()
        argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
        manager = AsyncKernelManager(
            kernel_name="colab",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[specs], ensure_native_kernel=False),
        )
        client = NotebookClient(
            notebook, km=manager, timeout=900, resources={"metadata": {"path": str(folder)}}
        )
        client.execute(cleanup_kc=True, env=dict(environment))


def examine(notebook: Any, report: Mapping[str, Any], widgets: str, environment: Path) -> list[str]:
    """Name what is not as a reader on Colab needs it."""
    figures = sum(
        WIDGET_VIEW in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    )
    moved = report["exchanged"] if widgets == "7" else report["linked"]
    wrong = []
    if not figures:
        wrong.append("expected a figure with sliders, got none")
    if report["sliders"] < figures or moved != report["sliders"]:
        wrong.append(f"{figures} figures: expected {report['sliders']} sliders to move a frame, got {moved}")
    if report["stack"] != (widgets == "8"):
        wrong.append(f"ipywidgets {widgets}: expected {'a' if widgets == '8' else 'no'} Stack")
    if not Path(report["bnlib"]).is_relative_to(environment):
        wrong.append(f"expected bnlib below {environment}, got {report['bnlib']}")
    return wrong


def run_chapter(chapter: Path, environment: Path, repository: Path, widgets: str) -> list[str]:
    """Run one chapter in an environment, which is then put back, and name what went wrong."""
    python = environment / "bin" / "python"
    address, _ = read_config((REPOSITORY / "_config.yml").read_bytes())
    variables = {
        **clean_environment(),
        **redirect(address.repository, repository),
        "COLAB_RELEASE_TAG": "release-test",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }
    before = installed(python)
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
    try:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy2(chapter, folder)
            execute(notebook, python, Path(folder), variables)
        report = json.loads(notebook.cells.pop().outputs[-1].text)
        after = installed(python)
        print(
            f"  bnlib {after.get('bnlib')}, {report['sliders']} sliders, new packages: "
            + ", ".join(sorted(set(after) - set(before)))
        )
        return changed(before, after) + examine(notebook, report, widgets, environment)
    except (CellExecutionError, CellControlSignal, DeadKernelError) as error:
        return [str(error)]
    finally:
        if new := sorted(set(installed(python)) - set(before)):
            command = [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *new]
            subprocess.run(command, env=clean_environment(), check=True)


def main() -> int:
    """Run the chapters named on the command line."""
    parser = argparse.ArgumentParser(description="Run chapters as on Google Colab.")
    parser.add_argument("chapter", nargs="*", help="such as 01; all where none is given")
    parser.add_argument(
        "--ipywidgets", choices=WIDGETS, default="7", help="7 is what Colab has (%(default)s)"
    )
    parser.add_argument("--newest", action="store_true", help="newest releases, not the tested versions")
    parser.add_argument("--environment", type=Path, help="create it here, or use the one that is here")
    arguments = parser.parse_args()
    chapters = find(arguments.chapter)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        environment = (arguments.environment or Path(folder) / "environment").resolve()
        if not environment.exists():
            print(f"creating an environment with ipywidgets {arguments.ipywidgets}", flush=True)
            create_environment(environment, arguments.ipywidgets, arguments.newest)
        repository = Path(folder) / "repository"
        copy_working_tree(repository)
        for chapter in chapters:
            print(f"{chapter.stem}: running", flush=True)
            start = time.monotonic()
            wrong = run_chapter(chapter, environment, repository, arguments.ipywidgets)
            failed += bool(wrong)
            print(f"{chapter.stem}: {'failed' if wrong else 'passed'} in {time.monotonic() - start:.0f} s")
            for line in wrong:
                print(f"  {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
