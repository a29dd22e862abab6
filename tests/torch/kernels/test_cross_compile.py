import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

PROGRAM = Path(__file__).with_name("cross_compile.py")
# name of the shape, layout, dtype, whether shortcut and ReLU are fused; together all kernels in all dtypes
CASES = [
    ("group", "contiguous", "float32", True),
    ("group", "contiguous", "float16", False),
    ("group", "contiguous", "bfloat16", True),
    ("split", "contiguous", "float32", False),
    ("split", "contiguous", "float16", True),
    ("split", "contiguous", "bfloat16", False),
    ("cache", "contiguous", "float32", True),
    ("cache", "contiguous", "float16", False),
    ("cache", "contiguous", "bfloat16", True),
    ("one", "channels last", "float16", True),
    ("long rows", "contiguous", "float32", True),
    ("long rows", "contiguous", "bfloat16", True),
    ("eight channels", "channels last", "float32", False),
    ("one", "contiguous", "float32", True),
    ("odd", "contiguous", "bfloat16", True),
]
SCATTERED = {("one", "contiguous"), ("odd", "contiguous")}  # whose runs of neighbours are 49 and 3969 long


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Compile all cases, and held tiles of timed shapes, in a process where Triton is no interpreter."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, PROGRAM, json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def compiled(found):
    return found["cases"]


def test_every_kernel_compiles_in_every_dtype(compiled):
    kernels = {"hold", "moments", "normalize", "hold_backward", "sums", "gradient"}
    kernels |= {"through_cache", "through_cache_backward"}
    made = {(row["kernel"], row["case"][2]) for row in compiled}
    assert made == {(k, dtype) for k in kernels for dtype in ("float32", "float16", "bfloat16")}
    assert {tuple(row["case"]) for row in compiled} == set(CASES)


def test_nothing_spills(compiled):
    assert not [row for row in compiled if row["spilled"]]


def test_with_too_few_registers_something_spills(found):
    assert len(found["starved"]) == 3
    assert all(row["spilled"] for row in found["starved"])


def test_no_held_tile_of_a_timed_shape_spills_its_shortcut(found):
    assert len(found["held"]) >= 15
    assert {row["kernel"] for row in found["held"]} == {"hold"}
    assert not [row for row in found["held"] if row["spilled"]]


def test_programs_with_a_barrier_fit_a_multiprocessor_two_at_a_time(found):
    waiting = ("hold", "through_cache")
    held = [row for row in found["cases"] if row["kernel"].startswith(waiting)] + found["held"]
    assert len(held) > len(found["held"])
    assert all(2 * row["registers"] * row["threads"] <= 65536 for row in held)


def test_tiles_are_moved_16_bytes_at_a_time_where_the_shape_allows(compiled):
    for row in compiled:
        name, layout, _, act = row["case"]
        if (name, layout) in SCATTERED:
            continue
        kernel, tile = row["kernel"], row["tile"]
        backward = kernel in ("hold_backward", "sums", "gradient", "through_cache_backward")
        loads = 2 if backward or (act and kernel in ("hold", "normalize")) else 1
        if kernel.startswith("through_cache"):
            loads = 4 if backward else 2 + act  # the first tile of the sums comes before their loop
        stores = {"moments": 0, "sums": 0}.get(kernel, 2 if backward and act else 1)
        assert row["loaded"] >= loads * tile, row
        assert row["stored"] >= stores * tile, row


def test_the_count_of_wide_loads_can_be_zero(compiled):
    assert {row["loaded"] for row in compiled if tuple(row["case"][:2]) in SCATTERED} == {0}
