"""Kernels are tested on the GPU if there is one, else in Triton's interpreter, which runs them on the CPU.

There, too, programs run at the same time; see ``together``.
"""

import importlib
import importlib.util
import os

import pytest
import torch

ON_GPU = torch.cuda.is_available()
INSTALLED = importlib.util.find_spec("triton") is not None
NEEDED = [
    "test_compiled.py",
    "test_fused.py",
    "test_kernel_backward.py",
    "test_kernel_forward.py",
    "test_together.py",
]
collect_ignore = [] if INSTALLED else NEEDED

if INSTALLED and not ON_GPU:  # Triton decides what it is when it is imported
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        # The first would be imported at the first launch, and ask whether all is interpreted.
        for name in (
            "triton.experimental.gluon",
            "bnlib.torch.kernels.forward",
            "bnlib.torch.kernels.backward",
        ):
            importlib.import_module(name)
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before


@pytest.fixture(autouse=True)
def _poisoned():
    """Fill whatever is allocated without a value by NaN, so that nothing passes that was not written."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(autouse=True)
def _together(monkeypatch):
    """Let the programs of a launch run at the same time, as on a GPU."""
    if INSTALLED and not ON_GPU:
        from together import run_together

        run_together(monkeypatch)
