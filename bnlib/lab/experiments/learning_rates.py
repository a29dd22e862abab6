"""Which learning rates train a network, with batch normalization and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from bnlib.lab.data import fashion_mnist
from bnlib.lab.models import CNN, MLP
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.train import train

RATES = [float(f"{10 ** (n / 2):.3g}") for n in range(-6, 5)]
"""Eleven rates from 0.001 to 100, two for each factor of 10."""

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "sigmoid MLP": {"model": "MLP", "widths": [196, 100, 100, 10], "activation": "sigmoid", "steps": 600},
    "ReLU MLP": {"model": "MLP", "widths": [196, 100, 100, 10], "activation": "relu", "steps": 600},
    "ReLU CNN": {"model": "CNN", "channels": [6, 12, 12], "activation": "relu", "steps": 300},
}
PARTS = {
    f"{name}, {word}": {**network, "norm": norm, "batch_size": 64, "lr": RATES}
    for name, network in NETWORKS.items()
    for word, norm in (("BN", "batch"), ("no BN", "none"))
}
BLOCKS = 10


@experiment("learning_rates", parts=PARTS, seeds=5)
def learning_rates(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Loss and accuracy after training at learning rates from 0.001 to 100, with and without BN.

    Plain SGD at a constant rate, PyTorch's initial weights, Fashion-MNIST at 14x14.

    Metrics, each of shape (S, K) for K rates:
        train_loss: mean over the last tenth of the steps; NaN where the loss or the weights overflowed.
        test_loss, test_accuracy: at the end, by running statistics; NaN likewise.
        diverged_at: the first step whose loss is not finite, else -1.
        loss_curve: mean training loss of each tenth of the steps, shape (S, K, 10).
    """
    steps, lr = settings["steps"], settings["lr"]
    runs = train(
        maker(settings),
        fashion_mnist(),
        steps=steps,
        batch_size=settings["batch_size"],
        seeds=seeds,
        settings=grid(lr=lr),
        description="learning_rates",
    )
    return {
        "train_loss": runs.final_loss(steps // BLOCKS).T,
        "test_loss": runs.loss["test", "running"][..., -1].T,
        "test_accuracy": runs.accuracy["test", "running"][..., -1].T,
        "diverged_at": runs.diverged_at.T,
        "loss_curve": np.moveaxis(runs.train_loss.reshape(len(lr), len(seeds), BLOCKS, -1).mean(-1), 0, 1),
    }


def maker(settings: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Return a function that makes the network of a part; ``init`` need not be set."""
    how = {name: settings[name] for name in ("norm", "activation", "init") if name in settings}
    if settings["model"] == "MLP":
        return partial(MLP, settings["widths"], **how)
    return partial(CNN, settings["channels"], **how)
