"""Which inputs the kernels take; all others are computed by plain operations."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from bnlib.torch.autograd import in_transforms
from bnlib.torch.kernels.launch import geometry_of

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LEAST_CAPABILITY = (8, 0)
# of a channel: its indices are int32, and all programs may step past it by a tile
MOST_VALUES = 2**31 - 2**22
MOST_CHANNELS = 65535  # the second axis of a grid


def runs_on(device: torch.device) -> bool:
    """Tell whether Triton is installed and compiles for ``device``."""
    if torch.compiler.is_compiling():  # which would warn of a cache
        return compiles_for(device)
    return known(device)


def compiles_for(device: torch.device) -> bool:
    """Find out what ``runs_on`` tells."""
    if device.type != "cuda" or torch.version.cuda is None or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


known = lru_cache(compiles_for)


def suits(x: Tensor, *others: Tensor | None, added: Tensor | None = None) -> bool:
    """Tell whether the kernels take ``x``, shape (N, C, ...), with parameters and statistics of shape (C,).

    ``x`` is not empty, on a GPU, in float16, bfloat16 or float32, and packed: contiguous, or with channels
    last. ``added`` lies in memory as ``x`` does. Transforms of ``torch.func`` and derivatives in forward mode
    are left to plain operations.
    """
    if not x.is_cuda or not runs_on(x.device) or x.dtype not in DTYPES or not x.numel():
        return False
    if not torch.compiler.is_compiling() and (in_transforms() or in_forward_mode()):
        return False
    return fits(x, *others, added=added)


def fits(x: Tensor, *others: Tensor | None, added: Tensor | None = None) -> bool:
    """Tell whether the kernels can address these tensors."""
    geometry = geometry_of(x)
    if geometry is None or geometry.values > MOST_VALUES or geometry.channels > MOST_CHANNELS:
        return False
    if added is not None and (added.dtype != x.dtype or added.stride() != x.stride()):
        return False
    return all(p is None or p.is_contiguous() for p in others)


def in_forward_mode() -> bool:
    """Tell whether a level of derivatives in forward mode is open."""
    return getattr(torch.autograd.forward_ad, "_current_level", 0) >= 0
