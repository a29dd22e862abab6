"""What the runs on other arithmetic cover, and that a failure is not lost."""

import subprocess

import portability
import pytest
from canonical import CHAPTERS


def test_the_choices_of_a_processor():
    assert portability.available("AVX512") == ["default", "avx2", "avx512"]
    assert portability.available("AVX2") == ["default", "avx2"]
    assert portability.available("DEFAULT") == portability.available("NEON") == ["default"]


def test_the_plan_has_every_choice_and_two_orders(monkeypatch):
    monkeypatch.setattr(portability, "available", lambda: ["default", "avx2"])
    runs = portability.plan(quick=False, seeds=[1, 2])
    choices = [(r.environment.get("ATEN_CPU_CAPABILITY"), r.environment["OMP_NUM_THREADS"]) for r in runs]
    assert choices == [
        ("default", "1"), ("default", "2"), ("avx2", "1"), ("avx2", "2"), (None, "1"), (None, "1"),
    ]  # fmt: skip
    assert [run.arguments[2] for run in runs[4:]] == ["1", "2"]
    assert all("chapters" in run.arguments for run in runs[:4])


def test_the_reduced_plan_names_notebooks_that_exist():
    notebooks, units = portability.plan(quick=True, seeds=[1])
    assert notebooks.environment == {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"}
    for path in notebooks.arguments[1:]:
        assert (portability.REPOSITORY / path).parent == CHAPTERS
        assert (portability.REPOSITORY / path).is_file()
    assert units.arguments[-1] == "tests/reference"


@pytest.mark.parametrize("code", [0, 1])
def test_a_failure_is_shown_and_returned(code, monkeypatch, capsys):
    seen = []

    def run(command, *, env, **how):
        seen.append((command, env))
        return subprocess.CompletedProcess(command, code, "details\n=== 3 passed in 1.0s ===\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert portability.main(["--quick", "--workers", "3"]) == code
    assert len(seen) == 2
    assert seen[0][0][7:9] == ["--numprocesses", "3"]
    printed = capsys.readouterr().out
    assert ("FAILED" in printed, "details" in printed) == (bool(code), bool(code))
    assert "(3 passed in 1.0s)" in printed
