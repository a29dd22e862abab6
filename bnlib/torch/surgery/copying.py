"""Copy a model, lazy batch norms included."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.parameter import UninitializedBuffer

M = TypeVar("M", bound=nn.Module)


def copy_model(model: M) -> M:
    """Return a deep copy of ``model``; ``copy.deepcopy`` alone fails on a buffer without a shape."""
    empty = [b for b in model.buffers() if isinstance(b, UninitializedBuffer)]
    memo = {id(b): UninitializedBuffer(False, b.device, b.dtype) for b in empty}  # type: ignore[arg-type]
    return copy.deepcopy(model, memo)
