"""What a training is asked for, and what it returns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bnlib.lab.network import Network, State, load

__all__ = ["Runs", "Settings", "grid"]


@dataclass(frozen=True)
class Settings:
    """What may differ between runs that are trained at once.

    Attributes:
        lr: learning rate.
        momentum: of SGD, PyTorch's without dampening.
        weight_decay: factor of the weights that is added to the gradient.
        init_scale: factor of the initial weights, of all parameters with 2 axes or more.
    """

    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    init_scale: float = 1.0


def grid(**values: float | Sequence[float]) -> list[Settings]:
    """Combine all values of all settings: ``grid(lr=[0.1, 1.0], weight_decay=[0.0, 1e-4])`` gives four.

    Args:
        values: for each setting a number or several; the last one varies fastest.

    Raises:
        TypeError: a name is none of the fields of ``Settings``.
    """
    allowed = [field.name for field in fields(Settings)]
    for name in values:
        if name not in allowed:
            raise TypeError(f"expected settings {', '.join(allowed)}, got {name}")
    several = [np.atleast_1d(np.asarray(v, dtype=np.float64)).tolist() for v in values.values()]
    return [Settings(**dict(zip(values, each, strict=True))) for each in itertools.product(*several)]


Which = tuple[str, str]
"""Which images, ``"train"`` or ``"test"``, and which statistics, ``"running"`` or ``"batch"``."""


@dataclass(frozen=True)
class Runs:
    """The record of K settings times S seeds, trained for T steps. Arrays start with the axes (K, S).

    Attributes:
        settings: K of them.
        seeds: S of them.
        train_loss: loss of each step's batch before the step, shape (K, S, T).
        diverged_at: the first step whose loss is not finite, T if only the last step's weights are not, and
            -1 if all went well; shape (K, S), integers.
        evaluated_at: numbers of steps done when evaluated, shape (E,).
        loss: mean loss by images and statistics, as ``loss["test", "running"]``; shape (K, S, E).
        accuracy: share of images whose largest logit is right; the same. NaN where the loss is.
        probed_at: steps probed, shape (P,).
        probes: what the probes returned, by name; shape (K, S, P, ...).
        state: the weights and buffers at the end; tensors of shape (K, S, ...).
        network: the network that they are of.
    """

    settings: tuple[Settings, ...]
    seeds: tuple[int, ...]
    train_loss: NDArray[np.floating[Any]]
    diverged_at: NDArray[np.int64]
    evaluated_at: NDArray[np.int64]
    loss: Mapping[Which, NDArray[np.floating[Any]]]
    accuracy: Mapping[Which, NDArray[np.floating[Any]]]
    probed_at: NDArray[np.int64]
    probes: Mapping[str, NDArray[Any]]
    state: State
    network: Network

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Tell which runs met a loss or weights that are not finite; shape (K, S)."""
        return self.diverged_at >= 0

    def final_loss(self, steps: int = 50) -> NDArray[np.float64]:
        """Average the training loss over the last ``steps`` steps, shape (K, S); NaN for diverged runs."""
        mean = self.train_loss[..., -steps:].mean(-1, dtype=np.float64)
        return np.where(self.diverged, np.nan, mean)

    def run(self, setting: int, seed: int) -> State:
        """Return weights and buffers of one run, by its places in ``settings`` and ``seeds``."""

        def pick(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: t[setting, seed] for name, t in tensors.items()}

        return State(pick(self.state.params), pick(self.state.buffers))

    def model(self, setting: int, seed: int) -> nn.Module:
        """Return one run's network as a module of its own."""
        return load(self.network.model, self.run(setting, seed))
