"""A small network with attention: the rows of an image look at one another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnlib.lab import layers
from bnlib.lab.layers import Norm

__all__ = ["Attention"]


class Attention(nn.Module):
    """A transformer of one block with one head of attention; its tokens are the rows of an image.

    ``h = E x + p``, ``h += V softmax(Q K^T / sqrt(d))`` with Q, K and V linear in ``norm(h)``,
    ``h += MLP(norm(h))``; the mean of ``norm(h)`` over the tokens goes into a last Linear.

    The norms see tokens as samples, (N * rows, width): layer norm looks at one token, batch norm at one
    feature of all tokens of the batch.

    Args:
        width: d, features of a token.
        norm: a name in ``layers.NORMS``, or a function that makes the normalization.
        init: a name in ``layers.INITS``.
        rows, inputs: height and width of an image.
        outputs: number of classes.

    Raises:
        ValueError: an unknown name.

    Source: Vaswani et al. (2017), arXiv:1706.03762; the norm stands before each branch, as in Xiong et al.
    (2020), arXiv:2002.04745.
    """

    def __init__(
        self,
        width: int = 32,
        norm: Norm = "layer",
        *,
        init: str = "torch",
        rows: int = 14,
        inputs: int = 14,
        outputs: int = 10,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.place = nn.Parameter(0.1 * torch.randn(rows, width))
        self.norms = nn.ModuleList(nn.Sequential(*layers.norm(norm, width)) for _ in range(3))
        self.mix = nn.Linear(width, 3 * width)
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))]
        )
        self.head = nn.Linear(width, outputs)
        layers.initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, rows, inputs)."""
        h = self.embed(x) + self.place
        q, k, v = self.mix(self.normalize(0, h)).chunk(3, dim=-1)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        h = h + scores.softmax(-1) @ v
        h = h + self.blocks[0](self.normalize(1, h))
        y: Tensor = self.head(self.normalize(2, h).mean(-2))
        return y

    def normalize(self, i: int, h: Tensor) -> Tensor:
        """Apply norm ``i`` to tokens (N, rows, width), each a sample of its own."""
        y: Tensor = self.norms[i](h.flatten(0, 1))
        return y.view_as(h)
