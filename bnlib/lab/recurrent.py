"""A recurrent network that reads an image row by row, and batch normalization for sequences of any length."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bnlib.lab import layers
from bnlib.lab.layers import Norm
from bnlib.torch import BatchNorm1d, batch_norm

__all__ = ["RNN", "StepBatchNorm1d"]

States = tuple[Tensor, Tensor]


class StepBatchNorm1d(BatchNorm1d):
    """Batch normalization of (N, C) at one of several steps, by statistics that some samples are left out of.

    All steps share weight and bias; each has its own statistics: ``n = sum(mask)``,
    ``mean = sum(mask * x) / n``, ``var = sum(mask * (x - mean)**2) / n``. Where fewer than 2 samples count,
    what counts becomes ``bias`` and the running statistics stay.

    Args:
        num_features: C.
        steps: T. ``running_mean`` and ``running_var`` have shape (T, C).

    Source: Cooijmans et al. (2017), arXiv:1603.09025.
    """

    def __init__(self, num_features: int, steps: int = 1) -> None:
        super().__init__(num_features)
        self.register_buffer("running_mean", torch.zeros(steps, num_features))
        self.register_buffer("running_var", torch.ones(steps, num_features))

    def forward(self, input: Tensor, step: int = 0, mask: Tensor | None = None) -> Tensor:
        """Normalize ``input``, in training by those rows that ``mask`` marks.

        Args:
            input: shape (N, C).
            step: from 0; those after the last use the statistics of the last.
            mask: booleans, shape (N,); None counts all rows.

        Returns:
            Shape (N, C). In training, rows that do not count are ``bias``.
        """
        running = self.running(step)
        if mask is None or not self.training:
            momentum = self.track(1)
            return batch_norm(input, *running, self.weight, self.bias, self.training, momentum, self.eps)
        counts = mask.to(input.dtype).unsqueeze(1)
        n = counts.sum()
        mean = (counts * input).sum(0) / n.clamp(min=1)
        centred = counts * (input - mean)
        var = centred.square().sum(0) / n.clamp(min=1)
        momentum = self.track(1) * (n > 1).to(n)
        unbiased = var * n / (n - 1).clamp(min=1)
        for old, new in zip(running, (mean, unbiased), strict=True):
            old.add_(momentum * (new.detach() - old))
        y: Tensor = centred * torch.rsqrt(var + self.eps) * self.weight + self.bias
        return y

    def running(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance for a step, views of shape (C,) each."""
        assert self.running_mean is not None
        assert self.running_var is not None
        at = min(step, len(self.running_mean) - 1)
        return self.running_mean[at], self.running_var[at]


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
        steps: for batch norm, the number of steps that have statistics of their own; later ones use those
            of the last. None shares one set of statistics. Weight and bias are always shared.
        gamma: initial weight of the normalizations.
        cell: ``"plain"`` or ``"lstm"``, whose forget gate starts with a bias of 1.
        count_padding: whether batch statistics count what has ended, read as rows of zeros.
        inputs: length of a row.
        outputs: number of classes.

    Raises:
        ValueError: an unknown name.

    Source: "input" is the choice of Laurent et al. (2016); "both", the cell, statistics for each step
    and ``gamma=0.1`` are those of Cooijmans et al. (2017).
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
        self.norm, self.input_norm, self.cell_norm = (
            make_norm(norm if wanted else "none", channels, steps or 1, gamma)
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
            a = normalized(self.norm, t, a + fed_back, counts)
        elif self.place == "input":
            a = normalized(self.norm, t, a, counts) + fed_back
        else:
            a = normalized(self.input_norm, t, a, counts)
            a = a + normalized(self.norm, t, fed_back, counts)
        if self.cell == "plain":
            return self.activation(a), c
        i, f, o, g = a.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * self.activation(g)
        return o.sigmoid() * self.activation(normalized(self.cell_norm, t, c, counts)), c


def normalized(norm: nn.Module, t: int, a: Tensor, counts: Tensor | None) -> Tensor:
    """Apply a normalization at step ``t``; batch norm counts the rows that ``counts`` marks."""
    y: Tensor = norm(a, t, counts) if isinstance(norm, StepBatchNorm1d) else norm(a)
    return y


def make_norm(norm: Norm, channels: int, steps: int, gamma: float) -> nn.Module:
    """Make a normalization whose weight, if it has one, starts at ``gamma``; ``"none"`` is the identity."""
    made = [StepBatchNorm1d(channels, steps)] if norm == "batch" else layers.norm(norm, channels)
    for module in made:
        for name, p in module.named_parameters():
            if name.endswith("weight"):
                nn.init.constant_(p, gamma)
    return made[0] if made else nn.Identity()
