"""What the runs on other arithmetic cover, and that a failure is not lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import portability
import pytest
import torch
from canonical import CHAPTERS
from rounding import ipython_folder


def test_the_choices_of_a_processor():
    assert portability.available("AVX512") == ["default", "avx2", "avx512"]
    assert portability.available("AVX2") == ["default", "avx2"]
    assert portability.available("DEFAULT") == portability.available("NEON") == ["default"]


def test_the_plan_has_every_choice_and_two_orders(monkeypatch):
    monkeypatch.setattr(portability, "available", lambda: ["default", "avx2"])
    runs = portability.plan(quick=False, seeds=[1, 2])
    choices = [(r.environment.get("ATEN_CPU_CAPABILITY"), r.environment["OMP_NUM_THREADS"]) for r in runs]
    assert choices == [
        ("default", "1"), ("default", "2"), ("avx2", "1"), ("avx2", "2"), *[(None, "1")] * 4,
    ]  # fmt: skip
    assert [run.rounding for run in runs] == [None] * 4 + [1, 2] + [None] * 2
    assert [run.arguments[2] for run in runs[6:]] == ["1", "2"]
    assert all("chapters" in run.arguments for run in runs[:6])


def test_the_reduced_plan_names_notebooks_that_exist():
    notebooks, rounded, units = portability.plan(quick=True, seeds=[1])
    assert notebooks.environment == {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"}
    assert rounded.arguments == notebooks.arguments
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
    assert portability.main(["--quick", "--cores", "4"]) == code
    assert [command[7:9] for command, _ in seen] == [["--numprocesses", n] for n in "244"]
    assert {environment["OMP_WAIT_POLICY"] for _, environment in seen} == {"PASSIVE"}
    assert ["IPYTHONDIR" in environment for _, environment in seen] == [False, True, False]
    printed = capsys.readouterr().out
    assert ("FAILED" in printed, "details" in printed) == (bool(code), bool(code))
    assert "(3 passed in 1.0s)" in printed


def drawn_weights(folder: Path) -> torch.Tensor:
    """Draw weights in a new IPython whose own folder is ``folder``."""
    lines = [
        "import json, torch",
        "torch.manual_seed(0)",
        "drawn = torch.nn.Linear(30, 20), torch.nn.RNN(9, 9)",
        "flat = torch.nn.utils.parameters_to_vector(p for layer in drawn for p in layer.parameters())",
        "print(json.dumps(flat.tolist()))",
    ]
    command = [sys.executable, "-m", "IPython", "-c", "; ".join(lines)]
    environment = os.environ | {"IPYTHONDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return torch.tensor(json.loads(done.stdout.splitlines()[-1]), dtype=torch.float64)


def test_a_kernel_starts_with_weights_off_by_a_rounding_error(tmp_path):
    plain = drawn_weights(tmp_path / "plain")
    folders = [ipython_folder(tmp_path / str(seed), seed) for seed in (1, 2)]
    first, second, again = (drawn_weights(folder) for folder in (*folders, folders[0]))
    assert torch.equal(first, again)
    for weights in (first, second):
        error = (weights / plain - 1).abs()
        assert 1e-8 < error.mean() < 1e-6
        assert error.max() < 2e-6
    assert not torch.equal(first, second)
