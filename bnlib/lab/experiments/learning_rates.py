"""Which learning rates train a network, and how fast, with batch normalization and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bnlib.lab.data import PIXELS, fashion_mnist
from bnlib.lab.models import CNN, MLP
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.train import train

RATES = [float(f"{10 ** (n / 3):.3g}") for n in range(-9, 7)]
"""Sixteen rates from 0.001 to 100, three for each factor of 10."""

LEVELS = [2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
"""Training losses that a run may reach."""

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "sigmoid MLP": {"model": "MLP", "hidden": [100, 100], "activation": "sigmoid", "steps": 600},
    "ReLU MLP": {"model": "MLP", "hidden": [100, 100], "activation": "relu", "steps": 600},
    "ReLU CNN": {"model": "CNN", "channels": [6, 12, 12], "activation": "relu", "steps": 300},
}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "BN": {"norm": "batch", "init": "torch"},
    "no BN": {"norm": "none", "init": "torch"},
    "no BN, He": {"norm": "none", "init": "he"},
}
"""With and without; and without, but from weights that He's rule sizes for ReLU."""

PARTS = {
    f"{name}, {word}": {**network, **kind, "full": True, "batch_size": 64, "lr": RATES, "levels": LEVELS}
    for name, network in NETWORKS.items()
    for word, kind in KINDS.items()
    if kind["init"] == "torch" or network["activation"] == "relu"
}
WINDOW = 20


@experiment("learning_rates", parts=PARTS, seeds=5)
def learning_rates(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Loss and speed of training at learning rates from 0.001 to 100, with and without BN.

    Plain SGD at a constant rate, all of Fashion-MNIST.

    Metrics, each of shape (S, K) for K rates:
        start_loss: of the first batch, before the first step.
        train_loss: mean over the last tenth of the steps; NaN where the loss or the weights overflowed.
        test_loss, test_accuracy: at the end, by running statistics; NaN likewise.
        diverged_at: the first step whose loss is not finite, else -1.
        steps_to: steps until the mean loss of the last 20 batches is at most each of V levels, shape
            (S, K, V); NaN where it never is.
    """
    steps = settings["steps"]
    runs = train(
        maker(settings),
        fashion_mnist(full=settings["full"]),
        steps=steps,
        batch_size=settings["batch_size"],
        seeds=seeds,
        settings=grid(lr=settings["lr"]),
        description="learning_rates",
    )
    return {
        "start_loss": runs.train_loss[..., 0].T,
        "train_loss": runs.final_loss(steps // 10).T,
        "test_loss": runs.loss["test", "running"][..., -1].T,
        "test_accuracy": runs.accuracy["test", "running"][..., -1].T,
        "diverged_at": runs.diverged_at.T,
        "steps_to": np.moveaxis(steps_to(runs.train_loss, settings["levels"]), 0, 1),
    }


def steps_to(losses: NDArray[np.floating[Any]], levels: Sequence[float]) -> NDArray[np.float64]:
    """Count the steps until the mean of the last ``WINDOW`` losses is at or below each level.

    Args:
        losses: of each step, shape (..., T), T at least ``WINDOW``.
        levels: V of them.

    Returns:
        Shape (..., V), NaN where a level is never reached.
    """
    means = np.lib.stride_tricks.sliding_window_view(losses, WINDOW, axis=-1).mean(-1, dtype=np.float64)
    reached = means[..., None, :] <= np.asarray(levels)[:, None]
    return np.where(reached.any(-1), reached.argmax(-1) + WINDOW, np.nan)


def maker(settings: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Return a function that makes the network of a part; ``init`` need not be set."""
    how = {name: settings[name] for name in ("norm", "activation", "init") if name in settings}
    if settings["model"] == "MLP":
        return partial(MLP, [PIXELS[settings["full"]], *settings["hidden"], 10], **how)
    return partial(CNN, settings["channels"], **how)
