"""What the runs with other versions install and test, and that a failure is not lost."""

import re
import subprocess
from pathlib import Path

import pytest
import versions


@pytest.mark.parametrize(("which", "resolution"), [("oldest", "lowest-direct"), ("newest", "highest")])
def test_the_package_is_installed_by_its_own_bounds(which, resolution):
    _, install, _, test = versions.commands(which, Path("environment"), 3)
    assert install[install.index("--resolution") + 1] == resolution
    assert "--no-config" in install
    assert "--constraint" not in install
    assert install[install.index("--editable") + 1] == ".[dev]"
    assert test[0].startswith("environment")
    assert test[test.index("--numprocesses") + 1] == "3"


def test_every_bound_below_is_a_version():
    text = (versions.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    project = text[text.index("dependencies =") : text.index("[tool.uv]")]
    names = re.findall(r'"([\w-]+)(?:\[[\w,]+\])?([^"]*)"', project.partition("[project.urls]")[0])
    names += re.findall(r'"([\w-]+)([^"\[]*)"', project.partition("[project.optional-dependencies]")[2])
    assert len(names) > 20
    without = {name for name, bounds in names if ">=" not in bounds and "<" not in bounds}
    assert not without, "the oldest version that is admitted is unknown"


@pytest.mark.parametrize("fails_at", [None, 1, 3])
def test_the_first_failure_ends_it(fails_at, monkeypatch, capsys):
    seen = []

    def run(command, **how):
        seen.append(command)
        return subprocess.CompletedProcess(command, int(len(seen) - 1 == fails_at))

    monkeypatch.setattr(subprocess, "run", run)
    assert versions.main(["oldest"]) == int(fails_at is not None)
    assert len(seen) == (4 if fails_at is None else fails_at + 1)
    assert ("failed at" in capsys.readouterr().err) == (fails_at is not None)
