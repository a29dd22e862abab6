"""Run the tests with the oldest versions that pyproject.toml admits, or with the newest there are."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RESOLUTION = {"oldest": "lowest-direct", "newest": "highest"}
BESIDE = {"oldest": ["pyparsing>=3.2,<3.3"], "newest": []}
"""What old versions of our dependencies need of theirs: later releases warn of what these call."""

TESTS = ["tests", "--ignore", "tests/site", "--ignore", "tests/book"]
"""All but what looks at the site and the notebooks, whose stored bytes belong to exact versions."""


def commands(which: str, folder: Path, workers: int) -> list[list[str]]:
    """Return what makes an environment in ``folder``, lists its versions, and runs the tests in it.

    Without the settings of uv in pyproject.toml, which keep some packages at exact versions. A warning is no
    error here: other releases warn of other things.
    """
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    uv = [sys.executable, "-m", "uv", "--no-config"]
    return [
        [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [*uv, "pip", "install", "--quiet", "--python", python, "--resolution", RESOLUTION[which],
         "--editable", ".[dev]", *BESIDE[which]],
        [*uv, "pip", "list", "--quiet", "--python", python],
        [python, "-m", "pytest", "--quiet", "--numprocesses", str(workers), "--dist", "loadfile",
         "--override-ini", "filterwarnings=default", *TESTS],
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command after the other; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=RESOLUTION)
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests (default: 2)")
    chosen = parser.parse_args(arguments)
    folder = REPOSITORY / ".tools" / chosen.which
    for command in commands(chosen.which, folder, chosen.workers):
        if subprocess.run(command, cwd=REPOSITORY).returncode:
            print(f"{chosen.which} versions: failed at {' '.join(command[:4])} ...", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
