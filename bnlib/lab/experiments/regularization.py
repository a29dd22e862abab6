"""Whether the noise of batch statistics regularizes, and whether dropout still helps where it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnlib.lab import sweeps
from bnlib.lab.accuracy import accuracy
from bnlib.lab.data import PIXELS, FashionMNIST, fashion_mnist
from bnlib.lab.layers import Norm
from bnlib.lab.models import CNN, MLP
from bnlib.lab.records import Record
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.sgd import linear
from bnlib.lab.train import train
from bnlib.torch import GhostBatchNorm
from bnlib.torch.surgery import recompute_statistics

Array = NDArray[Any]

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "MLP": {"model": "MLP", "hidden": [100, 100], "steps": 800, "lr": [0.003, 0.01, 0.03, 0.1, 0.3]},
    "CNN": {"model": "CNN", "hidden": [8, 16, 16], "steps": 600, "lr": [0.2, 0.4, 0.8]},
}
SIZES = [64, 16, 4]
"""Samples that share their statistics; 64, the whole batch, is batch normalization itself."""

SHARED = {"full": True, "batch_size": 64, "train": 512, "validation": 2000}


def parts() -> dict[str, dict[str, Any]]:
    """Return the settings of all parts; ``m`` 0 is no normalization."""
    found: dict[str, dict[str, Any]] = {}
    for name, network in NETWORKS.items():
        dropouts = [0.0, 0.2, 0.5] if name == "MLP" else [0.0]
        chosen = [(m, p) for m in (0, SIZES[0]) for p in dropouts] + [(m, 0.0) for m in SIZES[1:]]
        for m, p in chosen:
            words = [name, f"BN {m}" if m else "no BN"] + ([f"dropout {p}"] if p else [])
            found[", ".join(words)] = {**network, **SHARED, "m": m, "dropout": p}
    return found


@experiment("regularization", parts=parts(), seeds=6, at_once=1)
def regularization(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Accuracy on seen and unseen images after training on few, by samples m per statistic and by dropout.

    Each seed draws its own 512 training and 2000 validation images from the training images of
    Fashion-MNIST; the test images are the same for all. SGD with batches of 64 whatever m is,
    momentum 0.9, He's initial weights, and a rate that falls to 0 along a line. Accuracies are those of
    evaluation mode, by running statistics.

    Metrics, each of shape (S, K) for K rates:
        train_accuracy, validation_accuracy, test_accuracy, test_loss: at the end.
        recomputed_accuracy: as test_accuracy, with the statistics averaged anew over the training images
            with dropout off; without BN the same as test_accuracy.
    """
    measured = [measure(settings, seed) for seed in seeds]
    return {name: np.stack([one[name] for one in measured]) for name in measured[0]}


def measure(settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train one seed at all rates; return the metrics, shape (K, ...) each."""
    data, validation = split(seed, settings["train"], settings["validation"], full=settings["full"])
    steps = settings["steps"]
    runs = train(
        maker(settings),
        data,
        steps=steps,
        batch_size=settings["batch_size"],
        seeds=[seed],
        settings=grid(lr=settings["lr"], momentum=0.9),
        schedule=linear,
        evaluate=[("train", "running"), ("test", "running")],
        progress=False,
    )
    found = {
        "train_accuracy": runs.accuracy["train", "running"][:, 0, -1],
        "test_accuracy": runs.accuracy["test", "running"][:, 0, -1],
        "test_loss": runs.loss["test", "running"][:, 0, -1],
    }
    for name in ("validation_accuracy", "recomputed_accuracy"):
        found[name] = np.full(len(runs.settings), np.nan)
    for k in np.flatnonzero(~runs.diverged[:, 0]).tolist():
        model = runs.model(k, 0)
        found["validation_accuracy"][k] = accuracy(model, *validation)
        if settings["m"]:
            recompute_statistics(
                model, torch.as_tensor(data.x_train).split(settings["batch_size"]), progress=False
            )
        found["recomputed_accuracy"][k] = accuracy(model, data.x_test, data.y_test)
    return found


def maker(settings: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Return a function that makes the network of a part."""
    m = settings["m"]
    norm: Norm = (lambda channels, positions: GhostBatchNorm(channels, m)) if m else "none"
    how = {"norm": norm, "dropout": settings["dropout"], "init": "he"}
    if settings["model"] == "MLP":
        return partial(MLP, [PIXELS[settings["full"]], *settings["hidden"], 10], **how)
    return partial(CNN, settings["hidden"], **how)


def split(
    seed: int, train: int, validation: int, *, full: bool = False
) -> tuple[FashionMNIST, tuple[Array, Array]]:
    """Draw training and validation images, no image in both, from all training images.

    Args:
        seed: of the draw.
        train: how many training images.
        validation: how many validation images.
        full: whether from all of Fashion-MNIST or from the subset that the package ships.

    Returns:
        The training images with all test images, and the validation images with their labels.
    """
    data = fashion_mnist(full=full)
    order = np.random.default_rng(seed).permutation(len(data.x_train))
    some, others = order[:train], order[train : train + validation]
    few = data._replace(x_train=data.x_train[some], y_train=data.y_train[some])
    return few, (data.x_train[others], data.y_train[others])


class Chosen(NamedTuple):
    """Hold the results of a part at one rate, in percent, one of each for S seeds.

    Attributes:
        lr: the rate.
        validation: mean accuracy on the validation images, a number.
        train, test: accuracy on the training and on the test images, shape (S,).
        recomputed: as ``test``, with recomputed statistics.
    """

    lr: float
    validation: float
    train: Array
    test: Array
    recomputed: Array

    @property
    def gap(self) -> Array:
        """Return training accuracy less test accuracy, shape (S,)."""
        return self.train - self.test


def at_best_rate(record: Record, part: str) -> Chosen:
    """Choose the rate of a part whose mean validation accuracy over all seeds is best; no run may overflow.

    Args:
        record: of this experiment.
        part: its name.

    Raises:
        ValueError: there is no such part, or some run overflows at every rate.
    """
    validation = record.metric(part, "validation_accuracy")
    best = sweeps.best(validation, f"run of {part!r}")
    names = ("train_accuracy", "test_accuracy", "recomputed_accuracy")
    results = (100 * record.metric(part, name)[:, best] for name in names)
    return Chosen(record.settings[part]["lr"][best], 100 * validation[:, best].mean(), *results)


def chosen_dropout(record: Record, norm: str) -> str:
    """Return the part of the MLP with the dropout that validation chooses beside ``norm``."""
    parts = [part for part in record.settings if part.startswith(f"MLP, {norm}, dropout")]
    return max(parts, key=lambda part: at_best_rate(record, part).validation)


def dropout_gains(record: Record) -> dict[str, Array]:
    """Return what dropout adds to the test accuracy of the MLP with and without BN, in points."""
    return {
        norm: at_best_rate(record, chosen_dropout(record, norm)).test
        - at_best_rate(record, f"MLP, {norm}").test
        for norm in ("no BN", "BN 64")
    }
