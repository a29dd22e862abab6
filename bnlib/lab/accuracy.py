"""The share of images that a network tells right."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["accuracy"]

ROWS = 512
"""Images that go through a network at a time."""


@torch.no_grad()
def accuracy(model: nn.Module, x: NDArray[Any] | Tensor, y: NDArray[Any] | Tensor) -> float:
    """Return the share of images whose largest logit is that of their label.

    Args:
        model: in the mode that is asked about; it sees at most 512 images at a time.
        x: images, shape (N, H, W).
        y: their labels, shape (N,).
    """
    answers = torch.cat([model(part).argmax(1) for part in torch.as_tensor(x).split(ROWS)])
    return float((answers == torch.as_tensor(y)).double().mean())
