"""The buffer through which NumPy combines arrays of different shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def short_buffer() -> Iterator[None]:
    """Let NumPy buffer 1024 values at a time, in place of 8192.

    To combine (N, C) or (N, C, H, W) with one number for each channel, NumPy repeats these numbers until
    its buffer is full, again and again. That takes longer than the arithmetic. It repeats nothing if
    the buffer is no longer than a row: C values, or H W.
    """
    size = np.setbufsize(1024)
    try:
        yield
    finally:
        np.setbufsize(size)
