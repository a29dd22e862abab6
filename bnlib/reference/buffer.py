"""The buffer through which NumPy combines arrays of different shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")


def short_buffer(function: Callable[P, T]) -> Callable[P, T]:
    """Let NumPy buffer 1024 values at a time within ``function``, in place of 8192.

    To combine (N, C) or (N, C, H, W) with one number for each channel, NumPy repeats these numbers until
    its buffer is full, again and again. That takes longer than the arithmetic. It repeats nothing if
    the buffer is no longer than a row: C values, or H W.
    """

    @wraps(function)
    def with_short_buffer(*args: P.args, **kwargs: P.kwargs) -> T:
        size = np.setbufsize(1024)
        try:
            return function(*args, **kwargs)
        finally:
            np.setbufsize(size)

    return with_short_buffer
