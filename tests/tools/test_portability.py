"""What the runs on other arithmetic cover, and that a failure is not lost."""

import os
import subprocess
import sys

import portability
import pytest
import rounding
import torch
from canonical import CHAPTERS
from torch.nn import init


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
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert portability.main(["--quick", "--cores", "4"]) == code
    assert [command[7:9] for command, _ in seen] == [["--numprocesses", n] for n in "244"]
    assert {environment["OMP_WAIT_POLICY"] for _, environment in seen} == {"PASSIVE"}
    assert ["IPYTHONDIR" in environment for _, environment in seen] == [False, True, False]
    printed = capsys.readouterr().out
    assert ("FAILED" in printed, "details" in printed) == (bool(code), bool(code))
    assert "(3 passed in 1.0s)" in printed


def drawn_weights() -> torch.Tensor:
    torch.manual_seed(0)
    layers = torch.nn.Linear(30, 20), torch.nn.RNN(9, 9)
    return torch.cat([p.detach().flatten() for layer in layers for p in layer.parameters()]).double()


def test_weights_are_drawn_off_by_a_rounding_error(monkeypatch):
    plain = drawn_weights()
    changed = []
    for seed in (1, 2, 1):
        with monkeypatch.context() as context:
            for name in rounding.DRAWS:  # so that they are put back
                context.setattr(init, name, getattr(init, name))
            rounding.disturb(seed)
            changed.append(drawn_weights())
    first, second, again = changed
    assert torch.equal(first, again)
    for weights in (first, second):
        error = (weights / plain - 1).abs()
        assert 1e-8 < error.mean() < 1e-6
        assert error.max() < 2e-6
    assert not torch.equal(first, second)


def test_a_kernel_starts_with_them(tmp_path):
    folder = rounding.ipython_folder(tmp_path, 1)
    command = [
        sys.executable,
        "-m",
        "IPython",
        "-c",
        "from torch.nn import init; print(hasattr(init.normal_, '__wrapped__'))",
    ]
    environment = os.environ | {"IPYTHONDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "True"
    assert not hasattr(init.normal_, "__wrapped__")
