import importlib.util
import os
from pathlib import Path
from unittest import mock

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def load():
    """Return a function that loads a benchmark as a module; what it sets in the environment is undone."""

    def load_one(name):
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        with mock.patch.dict(os.environ):
            spec.loader.exec_module(module)
        return module

    return load_one
