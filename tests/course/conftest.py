import json
import os
import subprocess
import sys
from importlib import import_module

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def settings_put_back():
    """Leave the global settings of matplotlib and NumPy to other tests as they were."""
    with mpl.rc_context(), np.printoptions():
        yield
    plt.close("all")


@pytest.fixture
def displayed(monkeypatch):
    """Collect what is displayed, as pairs of data and metadata."""
    outputs = []

    def display(data, *, metadata=None, raw):
        assert raw
        outputs.append((data, metadata))

    for module in ("figures", "explore"):  # as text, `bnlib.course.explore` would mean the function
        monkeypatch.setattr(import_module(f"bnlib.course.{module}"), "display", display)
    return outputs


@pytest.fixture
def two_fresh_processes(tmp_path):
    """Run a program in two fresh processes that differ where they may, and return what each printed."""

    def run(program):
        started = []
        for hash_seed in "01":
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "MPLBACKEND": "agg"}
            environment["IPYTHONDIR"] = str(tmp_path / hash_seed)
            started.append(
                subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", program],
                    env=environment,
                    cwd=tmp_path,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        results = []
        for process in started:
            printed, errors = process.communicate()
            assert process.returncode == 0, errors
            results.append(json.loads(printed))
        return results

    return run
