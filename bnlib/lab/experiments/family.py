"""The normalizers side by side on the tasks of the book, each at the learning rate that suits it best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bnlib.lab import sweeps
from bnlib.lab.accuracy import accuracy
from bnlib.lab.attention import Attention
from bnlib.lab.data import FashionMNIST, fashion_mnist
from bnlib.lab.models import CNN, MLP, RNN
from bnlib.lab.registry import experiment
from bnlib.lab.runs import Runs, grid
from bnlib.lab.sgd import linear
from bnlib.lab.train import train
from bnlib.lab.weight_norm import weight_normalized

Array = NDArray[Any]

METHODS: Mapping[str, str] = {
    "BN": "batch",
    "none": "none",
    "LN": "layer",
    "IN": "instance",
    "GN": "group",
    "RMS": "rms",
    "WN": "weight",
}
"""The norm of each method, a name in ``layers.NORMS``, but "weight" for weight normalization."""

PER_FEATURE = ["BN", "none", "LN", "RMS", "WN"]
"""What makes sense where a sample is a vector: there is nothing for IN to average, and no order for GN."""

RATES = [0.01, 0.03, 0.1, 0.3]
TASKS: Mapping[str, Mapping[str, Any]] = {
    "MLP": {"model": "MLP", "sizes": [196, 100, 100, 10], "methods": PER_FEATURE},
    "MLP, batch 4": {
        "model": "MLP",
        "sizes": [196, 100, 100, 10],
        "methods": PER_FEATURE,
        "batch_size": 4,
        "steps": 1200,
        "lr": [0.001, 0.003, 0.01, 0.03],
    },
    "deep MLP": {
        "model": "MLP",
        "sizes": [196, *[48] * 20, 10],
        "methods": PER_FEATURE,
        "lr": [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1],
    },
    "CNN": {
        "model": "CNN",
        "sizes": [8, 16, 16],
        "methods": list(METHODS),
        "lr": [0.02, 0.06, 0.2, 0.6],
    },
    "CNN, batch 2": {
        "model": "CNN",
        "sizes": [8, 16, 16],
        "methods": list(METHODS),
        "batch_size": 2,
        "steps": 1200,
        "lr": [0.003, 0.01, 0.03, 0.1],
    },
    "RNN": {
        "model": "RNN",
        "sizes": 48,
        "methods": PER_FEATURE,
        "lr": [0.001, 0.003, 0.01, 0.03, 0.1],
    },
    "attention": {
        "model": "attention",
        "sizes": 32,
        "methods": PER_FEATURE,
        "lr": [0.02, 0.06, 0.2, 0.6],
    },
}
SHARED: Mapping[str, Any] = {
    "batch_size": 32,
    "steps": 500,
    "lr": RATES,
    "full": True,
    "validation": 2000,
    "contrast": 0.4,
    "brightness": 0.3,
}


def parts() -> dict[str, dict[str, Any]]:
    """Return the settings of all parts, each named "task, method"."""
    return {
        f"{task}, {method}": {
            **SHARED,
            **{name: value for name, value in settings.items() if name != "methods"},
            "norm": METHODS[method],
        }
        for task, settings in TASKS.items()
        for method in settings["methods"]
    }


@experiment("family", parts=parts(), seeds=5)
def family(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Test accuracy of networks with different normalizers, the learning rate chosen by validation.

    Fashion-MNIST, each 2x2 block of pixels averaged to give 14x14. The last 2000 training images validate,
    the others train, all 10,000 test images test. SGD with momentum 0.9 and a rate that falls to 0 along a
    line; He's initial weights, PyTorch's own in the RNN and with attention. Batch norm of the RNN has
    statistics of its own for each time. Accuracies are those of evaluation mode.

    Metrics:
        validation_accuracy: at the end, shape (S, K) for K rates; NaN where a run overflowed.
        rate: the one with the best mean validation accuracy over all seeds, shape (S,), the same for all.
        test_accuracy: at that rate, shape (S,).
        shifted_accuracy: the same on test images ``contrast * x + brightness``, which training never sees.
        shifted_validation_accuracy: that on validation images, shape (S,).
    """
    data = images(settings["full"])
    held, x, y = settings["validation"], data.x_train, data.y_train
    runs = train(
        maker(settings),
        (x[:-held], y[:-held], x[-held:], y[-held:]),
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seeds=seeds,
        settings=grid(lr=settings["lr"], momentum=0.9),
        schedule=linear,
        progress=False,
    )
    validation = runs.accuracy["test", "running"][..., -1]
    best = sweeps.best(validation.T)

    def shifted_accuracy(x: Array, y: Array) -> Array:
        return accuracies(runs, best, settings["contrast"] * x + settings["brightness"], y)

    return {
        "validation_accuracy": validation.T,
        "rate": np.full(len(seeds), settings["lr"][best]),
        "test_accuracy": accuracies(runs, best, data.x_test, data.y_test),
        "shifted_accuracy": shifted_accuracy(data.x_test, data.y_test),
        "shifted_validation_accuracy": shifted_accuracy(x[-held:], y[-held:]),
    }


@lru_cache(maxsize=1)
def images(full: bool) -> FashionMNIST:
    """Load all images at 14x14, each 2x2 block of pixels averaged, or the package's own subset of them."""
    data = fashion_mnist(full=full)
    if not full:
        return data
    halved = (x.reshape(-1, 14, 2, 14, 2).mean((2, 4)) for x in (data.x_train, data.x_test))
    return FashionMNIST(next(halved), data.y_train, next(halved), data.y_test)


def maker(settings: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Return a function that makes the network of a part."""
    weight = settings["norm"] == "weight"
    norm, sizes = "none" if weight else settings["norm"], settings["sizes"]
    makers: Mapping[str, Callable[[], nn.Module]] = {
        "MLP": partial(MLP, sizes, norm, init="he"),
        "CNN": partial(CNN, sizes, norm, init="he"),
        "RNN": partial(RNN, sizes, norm, steps=14 if norm == "batch" else None),
        "attention": partial(Attention, sizes, norm),
    }
    make = makers[settings["model"]]
    return (lambda: weight_normalized(make())) if weight else make


def accuracies(runs: Runs, rate: int, x: Array, y: Array) -> Array:
    """Return for each seed the share of images (N, H, W) that its network at a rate tells right, (S,)."""
    return np.array([accuracy(runs.model(rate, seed), x, y) for seed in range(len(runs.seeds))])
