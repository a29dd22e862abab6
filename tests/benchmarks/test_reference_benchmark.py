import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "reference.py"
RUN = f"""
import runpy, sys
benchmark = runpy.run_path({str(BENCHMARK)!r})
benchmark["main"](sys.argv[1:], shapes=[(4, 3), (2, 3, 2, 2)])
"""


def run(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def benchmark(load):
    return load("reference")


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    file = tmp_path / "times.json"
    done = run("--repeat", "2", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "shape" in done.stderr  # progress stays out of the table
    lines = done.stdout.splitlines()
    assert [re.split(r"\s{2,}", line)[0] for line in lines[2:]] == ["(4, 3)"] * 2 + ["(2, 3, 2, 2)"] * 2
    record = json.loads(file.read_text())
    assert set(record["versions"]) == {"python", "numpy", "torch"}
    assert [r["direction"] for r in record["rows"]] == ["forward", "backward"] * 2
    assert all(t > 0 for r in record["rows"] for t in r["milliseconds"].values())


def test_a_bad_repeat_is_refused():
    done = run("--repeat", "0")
    assert done.returncode == 2
    assert "expected --repeat of at least 1, got 0" in done.stderr


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 2)])
def test_all_that_is_timed_computes_the_same(benchmark, shape):
    timed = benchmark.calls(shape)
    y = timed["forward"]["bnlib"]()
    for other in ("textbook", "torch"):
        np.testing.assert_allclose(y, np.asarray(timed["forward"][other]()), atol=1e-5)
    ours, theirs = timed["backward"]["bnlib"](), timed["backward"]["torch"]()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=2e-5)


def test_goals_are_judged_by_the_ratios(benchmark, monkeypatch):
    monkeypatch.setattr(
        benchmark, "median_times", lambda peers, repeat: {"textbook": 6.0, "bnlib": 3.0, "torch": 0.9}
    )
    forward, _ = benchmark.measure([(4, 3)])
    assert (forward["speedup"], forward["speedup_goal_met"]) == (2.0, True)
    assert not forward["torch_goal_met"]
    assert "2.00 met" in benchmark.table([forward])
    assert "3.33 not" in benchmark.table([forward])
