import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"
STEPS = ("lint", "book", "test-site", "test-portability QUICK=1", "test")


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
    chromium = make.with_name("chromium")
    chromium.write_text("#!/bin/sh\n")
    chromium.chmod(0o755)

    def call(failing="", path=os.environ["PATH"]):
        environment = os.environ | {"PATH": f"{make.parent}:{path}", "FAILING": failing}
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
    expected = "".join(f"{root}: make {target}\nmade {target}\n" for target in STEPS)
    assert finished.stdout == expected
    assert finished.stderr == ""
    assert finished.returncode == 0


@pytest.mark.parametrize("failing", STEPS)
def test_it_stops_and_fails_where_a_step_fails(run, failing):
    finished, _ = run(failing)
    assert finished.returncode != 0
    assert finished.stdout.endswith(f"made {failing}\n")


def test_it_installs_a_browser_where_there_is_none_and_goes_on_where_it_cannot(run, tmp_path):
    """`apt-get` fails here. Only the directories of the system's own tools stay on the path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "cat", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    for name, code in (("apt-get", 'echo "$*" >> calls; exit 1'), ("id", "echo 0")):
        (tools / name).write_text(f"#!/bin/sh\n{code}\n")
        (tools / name).chmod(0o755)
    (tmp_path / "bin" / "chromium").unlink()
    finished, root = run(path=str(tools))
    assert (root / "calls").read_text().startswith("update\n")
    assert finished.stderr == "Chromium could not be installed\n"
    assert finished.returncode == 0
    assert finished.stdout.endswith("made test\n")
