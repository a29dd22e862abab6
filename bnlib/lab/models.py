"""Small networks for the experiments: an MLP, a CNN, a residual network and an RNN.

Each takes images (N, H, W) as they come from ``bnlib.lab.data`` and returns logits (N, K). Its ``blocks``
are in order from input to output; the probes look at their outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from bnlib.lab import layers
from bnlib.lab.layers import Norm
from bnlib.lab.noise import Dropout
from bnlib.lab.recurrent import RNN

__all__ = ["CNN", "MLP", "RNN", "ResidualMLP"]


def dropouts(p: float) -> list[nn.Module]:
    """Make a list of one dropout layer, or of none where ``p`` is 0."""
    return [Dropout(p)] if p else []


class MLP(nn.Module):
    """A multilayer perceptron: blocks of Linear, norm, activation, dropout, and a last Linear.

    Args:
        widths: number of inputs, of units in each block, and of outputs.
        norm: a name in ``layers.NORMS``, or a function that makes the normalization.
        activation: a name in ``layers.ACTIVATIONS``.
        dropout: probability of a unit to be dropped; 0 for none.
        init: a name in ``layers.INITS``.
        bias: whether the linear maps of the blocks have a bias.

    Raises:
        ValueError: fewer than 2 widths, a width below 1, or an unknown name.
    """

    def __init__(
        self,
        widths: Sequence[int] = (196, 100, 100, 10),
        norm: Norm = "batch",
        activation: str = "relu",
        *,
        dropout: float = 0.0,
        init: str = "torch",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"expected 2 widths or more, each at least 1, got {tuple(widths)}")
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(inputs, outputs, bias=bias),
                *layers.norm(norm, outputs),
                layers.activation(activation),
                *dropouts(dropout),
            )
            for inputs, outputs in pairwise(widths[:-1])
        )
        self.head = nn.Linear(widths[-2], widths[-1])
        layers.initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for ``x`` of shape (N, ...)."""
        x = x.flatten(1)
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(x)
        return y


class CNN(nn.Module):
    """A small convolutional network: blocks of Conv 3x3, norm, activation, pooling; a mean; a last Linear.

    Args:
        channels: number of channels of each block. Each but the last block halves the image.
        norm, activation, init: as for ``MLP``.
        dropout: probability of a feature to be dropped before the last Linear; 0 for none.
        inputs: channels of the image; images of one channel may come as (N, H, W).
        outputs: number of classes.

    Raises:
        ValueError: no channels, or an unknown name.
    """

    def __init__(
        self,
        channels: Sequence[int] = (8, 16, 16),
        norm: Norm = "batch",
        activation: str = "relu",
        *,
        dropout: float = 0.0,
        init: str = "torch",
        inputs: int = 1,
        outputs: int = 10,
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"expected channels, each at least 1, got {tuple(channels)}")
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1),
                *layers.norm(norm, after, 2),
                layers.activation(activation),
                *([nn.AvgPool2d(2)] if i < len(channels) - 1 else []),
            )
            for i, (before, after) in enumerate(pairwise((inputs, *channels)))
        )
        self.head = nn.Sequential(*dropouts(dropout), nn.Linear(channels[-1], outputs))
        layers.initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, H, W) or (N, C, H, W)."""
        x = x.unsqueeze(1) if x.ndim == 3 else x
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


class Residual(nn.Module):
    """A residual block: ``x + branch(x)``, the branch being norm, activation, dropout, Linear."""

    def __init__(self, width: int, norm: Norm, activation: str, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *layers.norm(norm, width),
            layers.activation(activation),
            *dropouts(dropout),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + branch(x)``, shape (N, width)."""
        y: Tensor = x + self.branch(x)
        return y


class ResidualMLP(nn.Module):
    """A fully connected residual network: a stem, blocks ``x + branch(x)``, norm, activation, Linear.

    The stem is a Linear with a norm, so that the variance of a unit is 1 before the first block.

    Args:
        width: number of units.
        depth: number of blocks.
        norm, activation, dropout, init: as for ``MLP``.
        inputs: number of pixels.
        outputs: number of classes.

    Raises:
        ValueError: an unknown name.

    Source: the order within a branch is that of He et al. (2016), arXiv:1603.05027.
    """

    def __init__(
        self,
        width: int = 100,
        depth: int = 8,
        norm: Norm = "batch",
        activation: str = "relu",
        *,
        dropout: float = 0.0,
        init: str = "torch",
        inputs: int = 196,
        outputs: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(inputs, width), *layers.norm(norm, width))
        self.blocks = nn.ModuleList(Residual(width, norm, activation, dropout) for _ in range(depth))
        self.head = nn.Sequential(
            *layers.norm(norm, width), layers.activation(activation), nn.Linear(width, outputs)
        )
        layers.initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for ``x`` of shape (N, ...)."""
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(x)
        return y
