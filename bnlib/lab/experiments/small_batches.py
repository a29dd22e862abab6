"""What small batches do to batch normalization and its relatives: in training, and in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnlib.lab import sweeps
from bnlib.lab.accuracy import accuracy
from bnlib.lab.batches import batch_order, order_by_class, sorted_in_batches
from bnlib.lab.data import FashionMNIST
from bnlib.lab.experiments.regularization import split
from bnlib.lab.layers import Norm
from bnlib.lab.models import CNN, MLP
from bnlib.lab.records import Record
from bnlib.lab.registry import experiment
from bnlib.lab.runs import Runs, grid
from bnlib.lab.sgd import linear
from bnlib.lab.train import train
from bnlib.torch import BatchRenorm, GhostBatchNorm, RenormSchedule
from bnlib.torch.surgery import recompute_statistics

Array = NDArray[Any]

MODELS: Mapping[str, Callable[..., nn.Module]] = {"MLP": MLP, "CNN": CNN}
WIDTHS: Mapping[str, Sequence[int]] = {"MLP": [196, 64, 64, 10], "CNN": [8, 16, 16]}
METHODS: Mapping[str, Sequence[str]] = {"MLP": ["BN", "GN", "LN", "renorm"], "CNN": ["BN", "GN", "renorm"]}
SIZES = [32, 16, 8, 4, 2]
"""Images in a batch. The first is what the others are compared with."""

RATES = [0.01, 0.03, 0.1, 0.3]
"""Learning rates for batches of 32; for n images they are multiplied by the root of n/32."""

SHARED: Mapping[str, Any] = {
    "samples": 4800,
    "train": 5000,
    "validation": 1000,
    "eps": 1e-5,
    "order": "shuffled",
}


def parts() -> dict[str, dict[str, Any]]:
    """Return the settings of all parts, by network, method and batch size.

    "ghost, m" is batch normalization of m images at a time in batches of 32, "sorted" with these batches
    sorted by class; "two classes" are batches that hold two classes, half of each; "eps" is another ``eps``.
    """
    found: dict[str, dict[str, Any]] = {}
    for model, methods in METHODS.items():
        shared = {"model": model, "widths": WIDTHS[model], **SHARED}
        for method in methods:
            for n in SIZES:
                found[f"{model}, {method}, {n}"] = {**shared, "method": method, **batch(n)}
        for m in SIZES[1:]:
            found[f"{model}, ghost, {m}"] = {**shared, "method": "BN", **batch(SIZES[0]), "m": m}
        found[f"{model}, ghost, 8, sorted"] = {**found[f"{model}, ghost, 8"], "order": "sorted"}
        for method in ("BN", "GN", "renorm"):
            part = found[f"{model}, {method}, 16"]
            found[f"{model}, {method}, 16, two classes"] = {**part, "order": "two classes"}
    for eps in (0.01, 0.1, 1.0):
        found[f"MLP, BN, 2, eps {eps:g}"] = {**found["MLP, BN, 2"], "eps": eps}
    return found


def batch(n: int) -> dict[str, Any]:
    """Return the settings of batches of n images: m of them share statistics."""
    return {"n": n, "m": n, "lr": [float(f"{rate * (n / SIZES[0]) ** 0.5:.3g}") for rate in RATES]}


@experiment("small_batches", parts=parts(), seeds=5)
def small_batches(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Accuracy after training on 4800 images in batches of 2 to 32, by method of normalization.

    Fashion-MNIST at 14x14: 5000 images to train, of which 4800 are seen once; 1000 others to choose the rate,
    2000 to test. SGD with momentum 0.9, a rate that falls to 0 along a line, He's initial weights. Every seed
    has its own weights and order of the images.

    Metrics, each of shape (S, K) for K rates; NaN where a run overflowed:
        train_loss: mean over the last tenth of the steps, by the statistics of training.
        validation_accuracy, test_accuracy: at the end, by running statistics.
        recomputed_accuracy: as test_accuracy, with statistics averaged anew over 2000 training images in
            batches of 500.
    """
    data, validation = split(0, settings["train"], settings["validation"])
    steps, labels = settings["samples"] // settings["n"], torch.as_tensor(data.y_train)
    orders = {"shuffled": batch_order, "sorted": sorted_in_batches(labels)}
    orders["two classes"] = order_by_class(labels, 2)
    runs = train(
        partial(MODELS[settings["model"]], settings["widths"], norm(settings, steps), init="he"),
        data,
        steps=steps,
        batch_size=settings["n"],
        seeds=seeds,
        settings=grid(lr=settings["lr"], momentum=0.9),
        schedule=linear,
        order=orders[settings["order"]],
        progress=False,
    )
    return {
        "train_loss": runs.final_loss(max(1, steps // 10)).T,
        "test_accuracy": runs.accuracy["test", "running"][..., -1].T,
        **after_training(runs, data, validation),
    }


def norm(settings: Mapping[str, Any], steps: int) -> Norm:
    """Return what makes the normalization of a part, for training in that many steps.

    Batch renormalization is batch normalization for the first tenth of the steps, and relaxes its bounds
    until half of them are done.
    """
    method, eps = settings["method"], settings["eps"]
    if method == "BN":
        return lambda channels, positions: GhostBatchNorm(channels, settings["m"], eps)
    if method == "renorm":
        schedule = RenormSchedule(start=steps // 10, r_end=steps // 2, d_end=steps // 2)
        return lambda channels, positions: BatchRenorm(channels, eps, schedule=schedule)
    return {"GN": "group", "LN": "layer"}[method]


def after_training(runs: Runs, data: FashionMNIST, validation: tuple[Array, Array]) -> dict[str, Array]:
    """Return accuracy on the validation images, and on the test images with recomputed statistics."""
    valid, recomputed = (np.full(runs.diverged.T.shape, np.nan) for _ in range(2))
    some = torch.as_tensor(data.x_train[:2000]).split(500)
    for k, s in np.argwhere(~runs.diverged).tolist():
        model = runs.model(k, s)
        valid[s, k] = accuracy(model, *validation)
        if any(name.endswith("running_mean") for name in runs.state.buffers):
            recompute_statistics(model, some, progress=False)
        recomputed[s, k] = accuracy(model, data.x_test, data.y_test)
    return {"validation_accuracy": valid, "recomputed_accuracy": recomputed}


def best_rate(record: Record, part: str) -> int:
    """Return the place of the rate with the best mean validation accuracy, among those without overflow.

    Raises:
        ValueError: there is no such part, or some run overflows at every rate.
    """
    return sweeps.best(record.metric(part, "validation_accuracy"), f"run of {part!r}")


def percent(record: Record, part: str, name: str = "test_accuracy") -> Array:
    """Return an accuracy at the best rate of a part, in percent, shape (S,)."""
    found: Array = 100 * record.metric(part, name)[:, best_rate(record, part)]
    return found
