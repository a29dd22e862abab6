import re
import subprocess
import sys
from pathlib import Path

import pytest

import bnlib

HEAVY = {"torch", "matplotlib", "ipywidgets", "triton", "pooch", "tqdm"}


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter loads for ``statement``."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing_heavy():
    assert not loaded_by("import bnlib") & (HEAVY | {"numpy"})


def test_the_reference_loads_numpy_and_the_standard_library_only():
    before = loaded_by("pass")
    new = loaded_by("import bnlib.reference") - before - set(sys.stdlib_module_names)
    assert {name for name in new if not name.startswith("_")} <= {"bnlib", "numpy", "cython_runtime"}
    assert "numpy" in new


@pytest.mark.parametrize("heavy", ["decimal", "json"])
def test_a_loaded_module_is_seen(heavy):
    assert heavy in loaded_by(f"import {heavy}")


def test_the_torch_backend_loads_neither_pages_nor_experiments():
    new = loaded_by("import bnlib.torch, bnlib.torch.surgery")
    assert "torch" in new
    assert not new & {"matplotlib", "ipywidgets", "pooch", "triton"}


@pytest.mark.parametrize("package", ["reference", "torch"])
def test_nothing_imports_upward(package):
    above = {"course", "exercises", "lab"} | ({"torch"} if package == "reference" else set())
    folder = Path(bnlib.__file__).parent / package
    for file in folder.rglob("*.py"):
        named = set(re.findall(r"^\s*(?:from|import) bnlib\.(\w+)", file.read_text("utf-8"), re.MULTILINE))
        assert not named & above, file
