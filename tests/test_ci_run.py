import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a copy of the script with a `make` that fails at the given target."""
    script = tmp_path / "clone" / ".ci" / "run"
    script.parent.mkdir(parents=True)
    shutil.copy(RUN, script)
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\necho "$PWD: make $*"\ncat\necho "made $*"\n[ "$*" != "$FAILING" ]\n')
    make.chmod(0o755)

    def call(failing=""):
        environment = os.environ | {"PATH": f"{make.parent}:{os.environ['PATH']}", "FAILING": failing}
        finished = subprocess.run(
            [script],
            cwd=tmp_path,
            env=environment,
            input="standard input\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        return finished, script.parents[1]

    return call


def test_it_runs_the_tests_last_in_the_root_of_the_clone_without_standard_input(run):
    finished, root = run()
    expected = "".join(f"{root}: make {target}\nmade {target}\n" for target in ("lint", "book", "test"))
    assert finished.stdout == expected
    assert finished.stderr == ""
    assert finished.returncode == 0


@pytest.mark.parametrize("failing", ["lint", "book", "test"])
def test_it_stops_and_fails_where_a_step_fails(run, failing):
    finished, _ = run(failing)
    assert finished.returncode != 0
    assert finished.stdout.endswith(f"made {failing}\n")
