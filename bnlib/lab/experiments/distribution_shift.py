"""How running, re-estimated and batch statistics do on images unlike those of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnlib.lab.accuracy import accuracy
from bnlib.lab.adaptation import adapt, disagreement
from bnlib.lab.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from bnlib.lab.data import FashionMNIST, fashion_mnist
from bnlib.lab.models import CNN
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.sgd import linear
from bnlib.lab.train import train

Array = NDArray[Any]

METHODS = ("running", "re-estimated", "batch")
CASES = (("none", 0), ("contrast", 3), ("noise", 3))
"""The shifts for which the number of images and the labels of a batch are varied."""

SHARED = {
    "full": True,
    "channels": [8, 16, 16],
    "steps": 1000,
    "lr": 0.1,
    "batch_size": 64,
    "pool": 512,
    "evaluated": 1024,
    "counts": [1, 2, 4, 8, 16, 64, 256],
    "priors": [0, 4, 16],
    "draws": 3,
    "shares": [0.0, 0.25, 0.5, 0.75, 1.0],
}


class Sets(NamedTuple):
    """Images without labels to re-estimate from, and images with labels to evaluate on; none in both."""

    pool: Tensor
    x: Tensor
    y: Tensor


@experiment(
    "distribution_shift",
    parts={"BN": {"norm": "batch", **SHARED}, "GN": {"norm": "group", **SHARED}},
    seeds=5,
    at_once=1,
)
def distribution_shift(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Accuracy under eight corruptions at five severities, by where the statistics come from.

    A CNN learns Fashion-MNIST, uncorrupted, by SGD with momentum 0.9 and a rate that falls to 0. Then each
    seed draws test images to re-estimate from, without labels, and others to evaluate on. "Batch" takes the
    statistics of batches of the evaluated images.

    Metrics, the last axis of the first two being METHODS, or the first of them without batch norm:
        clean: accuracy without corruption, shape (S, 3).
        accuracy: with it, shape (S, 8, 5, 3) for CORRUPTIONS and severities.
        clean_disagreement, disagreement: of running statistics with those of the pool, in units of the
            running standard deviation and as a logarithm, averaged over channels and layers; shapes (S, 2)
            and (S, 8, 5, 2). Batch norm only, as all that follows.
        by_count: accuracy for CASES, counts of images and priors, over some draws; shape (S, 3, 7, 3).
        by_share: accuracy with batch statistics and with running ones on batches of which a share is of one
            class; shape (S, 3, 5, 2).
    """
    measured = [measure(settings, seed) for seed in seeds]
    return {name: np.stack([one[name] for one in measured]) for name in measured[0]}


def measure(settings: Mapping[str, Any], seed: int) -> dict[str, Array]:
    """Train one network and return its metrics."""
    data = fashion_mnist(full=settings["full"])
    model = trained(settings, data, seed)
    normalized = settings["norm"] == "batch"
    batch = settings["batch_size"]
    sets = partial(corrupted, settings, data, seed)
    found = {
        "clean": accuracies(model, sets("none", 0), batch, normalized),
        "accuracy": np.array(
            [
                [accuracies(model, sets(name, severity), batch, normalized) for severity in SEVERITIES]
                for name in CORRUPTIONS
            ]
        ),
    }
    if normalized:
        found["clean_disagreement"] = gap(model, sets("none", 0))
        found["disagreement"] = np.array(
            [[gap(model, sets(name, severity)) for severity in SEVERITIES] for name in CORRUPTIONS]
        )
        cases = [sets(name, severity) for name, severity in CASES]
        found["by_count"] = np.array([by_count(model, case, settings, seed) for case in cases])
        found["by_share"] = np.array([by_share(model, case, settings, seed) for case in cases])
    return found


def trained(settings: Mapping[str, Any], data: FashionMNIST, seed: int) -> nn.Module:
    """Train a network on uncorrupted images; return it in evaluation mode."""
    runs = train(
        partial(CNN, settings["channels"], settings["norm"], init="he"),
        data,
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seeds=[seed],
        settings=grid(lr=settings["lr"], momentum=0.9),
        schedule=linear,
        evaluate_at=[],
        progress=False,
    )
    return runs.model(0, 0)


def corrupted(settings: Mapping[str, Any], data: FashionMNIST, seed: int, name: str, severity: int) -> Sets:
    """Draw the seed's test images and corrupt them; severity 0 leaves them as they are."""
    pool = settings["pool"]
    order = np.random.default_rng(seed).permutation(len(data.x_test))[: pool + settings["evaluated"]]
    x = data.x_test[order]
    images = torch.as_tensor(corrupt(x, name, severity, seed) if severity else x)
    return Sets(images[:pool], images[pool:], torch.as_tensor(data.y_test[order])[pool:])


def by_batches(model: nn.Module, x: Tensor, y: Tensor, size: int) -> float:
    """Return the accuracy with the statistics of batches; the last, if it is smaller, counts less."""
    pairs = zip(x.split(size), y.split(size), strict=True)
    return sum(accuracy(adapt(model, part), part, labels) * len(part) for part, labels in pairs) / len(x)


def accuracies(model: nn.Module, sets: Sets, batch: int, normalized: bool) -> Array:
    """Return the accuracy by each of ``METHODS``, or by the first one without batch norm."""
    found = [accuracy(model, sets.x, sets.y)]
    if normalized:
        found.append(accuracy(adapt(model, sets.pool), sets.x, sets.y))
        found.append(by_batches(model, sets.x, sets.y, batch))
    return np.array(found)


def gap(model: nn.Module, sets: Sets) -> Array:
    """Return the disagreement of running statistics with those of the pool, averaged over layers; (2,)."""
    mean: Array = disagreement(model, sets.pool).mean(0).double().numpy()
    return mean


def by_count(model: nn.Module, sets: Sets, settings: Mapping[str, Any], seed: int) -> Array:
    """Return the accuracy after adapting to n images with a prior N; shape (counts, priors)."""
    rng = np.random.default_rng(seed)
    x, y = sets.x[:512], sets.y[:512]
    rows = []
    for n in settings["counts"]:
        draws = [rng.permutation(len(sets.pool))[:n] for _ in range(settings["draws"])]
        images = [sets.pool[draw] for draw in draws]
        rows.append(
            [np.mean([accuracy(adapt(model, some, N), x, y) for some in images]) for N in settings["priors"]]
        )
    return np.array(rows)


def by_share(model: nn.Module, sets: Sets, settings: Mapping[str, Any], seed: int) -> Array:
    """Return the accuracy with batch and with running statistics by the share of one class; (shares, 2)."""
    rng = np.random.default_rng(seed)
    size = settings["batch_size"]
    rows = []
    for share in settings["shares"]:
        alike = round(share * size)
        scores = []
        for label in range(10):
            own = rng.choice(np.flatnonzero(sets.y.numpy() == label), alike)
            index = np.concatenate([own, rng.choice(len(sets.y), size - alike)])
            x, y = sets.x[index], sets.y[index]
            scores.append([accuracy(adapt(model, x), x, y), accuracy(model, x, y)])
        rows.append(np.mean(scores, axis=0))
    return np.array(rows)
