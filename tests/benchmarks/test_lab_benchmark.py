import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnlib.lab.data import fashion_mnist
from bnlib.lab.runs import grid

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "lab.py"


def run(*arguments):
    return subprocess.run([sys.executable, BENCHMARK, *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def benchmark(load):
    return load("lab")


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    file = tmp_path / "times.json"
    done = run("--steps", "10", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 threads")
    record = json.loads(file.read_text())
    assert [r["runs"] for r in record["rows"]] == [40, 40]
    for row in record["rows"]:
        assert row["network"] in done.stdout
        assert row["speedup"] == pytest.approx(
            40 * row["milliseconds"]["one run"] / row["milliseconds"]["all at once"]
        )


def test_bad_steps_are_refused():
    done = run("--steps", "0")
    assert done.returncode == 2
    assert "expected --steps of at least 1, got 0" in done.stderr


@pytest.mark.parametrize("norm", [True, False])
def test_both_ways_train_the_same_networks(benchmark, norm):
    data = fashion_mnist()
    together = benchmark.all_runs(norm, data, 8, grid(lr=[0.1, 1.0]))
    for k, rate in enumerate([0.1, 1.0]):
        alone = benchmark.one_run(norm, data, 8, rate, seed=3)
        np.testing.assert_allclose(together[k, 3], alone, rtol=1e-3)
