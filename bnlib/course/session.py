"""The state that every chapter starts from."""

import importlib.util
import os
import random

import numpy as np

from bnlib.course.figures import use_style


def setup(seed: int = 0) -> None:
    """Make a notebook session repeatable: seeds, printed digits, figure style, threads.

    Calling it again puts everything back to the same state. PyTorch is prepared where it is installed.
    The number of threads is ``OMP_NUM_THREADS`` where that is set, else one: results then do not depend
    on the number of cores.

    Args:
        seed: seed of Python's, NumPy's and PyTorch's global generators, at least 0.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what code without its own generator uses
    np.set_printoptions(
        precision=4,
        suppress=True,
        linewidth=88,
        edgeitems=3,
        threshold=1000,
        sign="-",
        floatmode="maxprec",
        formatter=None,
    )
    use_style()
    if importlib.util.find_spec("torch") is not None:
        _setup_torch(seed)


def _setup_torch(seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    torch.set_printoptions(profile="default", precision=4, sci_mode=False, linewidth=88)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
