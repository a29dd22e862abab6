"""A recurrent network that reads an image row by row, and batch normalization for sequences of any length."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bnlib.lab import layers
from bnlib.lab.layers import Norm
from bnlib.torch import BatchNorm1d

__all__ = ["RNN", "MaskedBatchNorm1d"]

States = tuple[Tensor, Tensor]


class MaskedBatchNorm1d(BatchNorm1d):
    """Batch normalization of (N, C) that leaves some samples out of its statistics.

    ``n = sum(mask)``, ``mean = sum(mask * x) / n``, ``var = sum(mask * (x - mean)**2) / n``. Where fewer
    than 2 samples count, what counts becomes ``bias`` and the running statistics stay.

    Args:
        num_features: C; this and the other arguments as for ``BatchNorm1d``.
    """

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize ``input``, in training by those rows that ``mask`` marks.

        Args:
            input: shape (N, C).
            mask: booleans, shape (N,); None counts all rows.

        Returns:
            Shape (N, C). In training, rows that do not count are ``bias``.
        """
        if mask is None or not self.training:
            return super().forward(input)
        counts = mask.to(input.dtype).unsqueeze(1)
        n = counts.sum()
        mean = (counts * input).sum(0) / n.clamp(min=1)
        centred = counts * (input - mean)
        var = centred.square().sum(0) / n.clamp(min=1)
        self.remember(mean.detach(), var.detach() * n / (n - 1).clamp(min=1), n)
        y: Tensor = centred * torch.rsqrt(var + self.eps) * self.weight + self.bias
        return y

    def remember(self, mean: Tensor, var: Tensor, n: Tensor) -> None:
        """Move the running statistics towards those of a batch of ``n`` rows, if these are 2 or more."""
        momentum = self.track(1) * (n > 1).to(n)
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            assert running is not None
            running.add_(momentum * (new - running))


class RNN(nn.Module):
    """A recurrent network that reads an image row by row, from a state of 0, and a Linear on its last state.

    ``a_t = norm(W x_t + b + U h)``; a plain cell has ``h = act(a_t)``. An LSTM has four times as many
    ``a_t``, for its gates i, f, o and its candidate g: ``c = s(f) * c + s(i) * act(g)``,
    ``h = s(o) * act(norm(c))``, s the sigmoid.

    Args:
        hidden: number of units.
        norm, activation, init: as for ``bnlib.lab.models.MLP``. Batch norms leave out what has ended.
        place: ``"sum"`` normalizes ``W x_t + b + U h``, ``"input"`` only ``W x_t + b``, ``"both"`` each
            term by itself.
        steps: None for one normalization at all times, or T to have one for each of T steps; later steps
            then use the last.
        gamma: initial weight of the normalizations.
        cell: ``"plain"`` or ``"lstm"``, whose forget gate starts with a bias of 1.
        count_padding: whether batch statistics count what has ended, read as rows of zeros.
        inputs: length of a row.
        outputs: number of classes.

    Raises:
        ValueError: an unknown name.

    Source: "input" is the choice of Laurent et al. (2016); "both", the cell, a norm for each time and
    ``gamma=0.1`` are those of Cooijmans et al. (2017).
    """

    def __init__(
        self,
        hidden: int = 64,
        norm: Norm = "batch",
        activation: str = "tanh",
        *,
        place: Literal["sum", "input", "both"] = "sum",
        steps: int | None = None,
        gamma: float = 1.0,
        cell: Literal["plain", "lstm"] = "plain",
        count_padding: bool = False,
        init: str = "torch",
        inputs: int = 14,
        outputs: int = 10,
    ) -> None:
        super().__init__()
        layers.known(place, {"sum": None, "input": None, "both": None}, "place")
        layers.known(cell, {"plain": None, "lstm": None}, "cell")
        self.place, self.cell, self.count_padding = place, cell, count_padding
        width = 4 * hidden if cell == "lstm" else hidden
        self.input = nn.Linear(inputs, width)
        self.recurrent = nn.Linear(hidden, width, bias=False)
        self.norms, self.input_norms, self.cell_norms = (
            nn.ModuleList(make_norm(norm, channels, gamma) for _ in range(steps or 1) if wanted)
            for channels, wanted in ((width, True), (width, place == "both"), (hidden, cell == "lstm"))
        )
        self.activation = layers.activation(activation)
        self.head = nn.Linear(hidden, outputs)
        self.blocks = nn.ModuleList([self.activation])
        layers.initialize(self, init)
        if cell == "lstm":
            with torch.no_grad():
                self.input.bias[hidden : 2 * hidden] += 1

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, T, inputs).

        A sequence ends before its first row of NaN; all rows after it must be NaN too.
        """
        y: Tensor = self.head(self.states(x)[:, -1])
        return y

    def states(self, x: Tensor) -> Tensor:
        """Return the states ``h_1`` to ``h_T``, shape (N, T, hidden); an ended sequence keeps its last."""
        alive = ~x[..., 0].isnan()
        driven = self.input(x.nan_to_num())
        h = torch.zeros_like(self.recurrent.weight[0]).expand(len(x), -1)
        found, c = [], h
        for t in range(x.shape[1]):
            counts = None if self.count_padding else alive[:, t]
            new = self.advance(t, driven[:, t], (h, c), counts)
            h, c = (torch.where(alive[:, t, None], n, old) for n, old in zip(new, (h, c), strict=True))
            found.append(h)
        return torch.stack(found, 1)

    def advance(self, t: int, driven: Tensor, state: States, counts: Tensor | None) -> States:
        """Return state and cell after step ``t``; ``driven`` is ``W x_t + b``, shape (N, width)."""
        h, c = state
        a, fed_back = driven, self.recurrent(h)
        if self.place == "sum":
            a = self.normalize(self.norms, t, a + fed_back, counts)
        elif self.place == "input":
            a = self.normalize(self.norms, t, a, counts) + fed_back
        else:
            a = self.normalize(self.input_norms, t, a, counts)
            a = a + self.normalize(self.norms, t, fed_back, counts)
        if self.cell == "plain":
            return self.activation(a), c
        i, f, o, g = a.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * self.activation(g)
        return o.sigmoid() * self.activation(self.normalize(self.cell_norms, t, c, counts)), c

    def normalize(self, norms: nn.ModuleList, t: int, a: Tensor, counts: Tensor | None) -> Tensor:
        """Apply the normalization of step ``t``."""
        norm = norms[min(t, len(norms) - 1)]
        y: Tensor = norm(a, counts) if isinstance(norm, MaskedBatchNorm1d) else norm(a)
        return y


def make_norm(norm: Norm, channels: int, gamma: float) -> nn.Module:
    """Make a normalization whose weight, if it has one, starts at ``gamma``; ``"none"`` is the identity."""
    made = [MaskedBatchNorm1d(channels)] if norm == "batch" else layers.norm(norm, channels)
    for module in made:
        for name, p in module.named_parameters():
            if name.endswith("weight"):
                nn.init.constant_(p, gamma)
    return made[0] if made else nn.Identity()
