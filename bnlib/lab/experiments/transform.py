"""What the transform does to an array, and what training does to its scale and shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bnlib.lab.data import PIXELS, fashion_mnist
from bnlib.lab.models import CNN, MLP
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.train import train

Array = NDArray[np.float64]

EPS = 1e-5
SHARED: Mapping[str, Any] = {"full": True, "steps": 300, "batch_size": 64, "lr": 0.1}
PARTS: Mapping[str, Mapping[str, Any]] = {
    "(N, C), MLP": {"shape": [64, 20], "hidden": [100, 100], **SHARED},
    "(N, C, H, W), CNN": {"shape": [16, 8, 7, 7], "hidden": [6, 12, 12], **SHARED},
}


@experiment("transform", parts=PARTS, seeds=8)
def transform(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """What batch norm does to an array, and how far training moves its scale and shift.

    The array is normal, float64; every feature and every sample has a mean and a scale of its own. The
    network is trained by plain SGD on all of Fashion-MNIST.

    Metrics, each of shape (S,):
        difference: largest, between ``torch.nn.functional.batch_norm`` in training mode and the definition.
        undone: largest, between the input and batch norm with the standard deviation as gamma and the mean
            as beta.
        sharing: how many values of a sample have the same gamma and beta.
        sample_mean: of the normalized values over all features of a sample, root mean square over samples.
        sample_std: their standard deviation there less 1, likewise.
        layer_mean, layer_std: the same after layer norm instead.
        gamma, beta: root mean square of gamma - 1 and of beta, over all units, after training.
    """
    arrays = [on_array(tuple(settings["shape"]), seed) for seed in seeds]
    found = {name: np.array([one[name] for one in arrays]) for name in arrays[0]}
    return {**found, **trained(settings, seeds)}


def on_array(shape: tuple[int, ...], seed: int) -> dict[str, float]:
    """Return the metrics of one array of the given shape (N, C) or (N, C, H, W)."""
    rng = np.random.default_rng(seed)
    ones = (1,) * (len(shape) - 2)
    of_feature, of_sample = (1, shape[1], *ones), (shape[0], 1, *ones)
    x = rng.normal(size=shape)
    for size in (of_feature, of_sample):
        x = x * np.exp(rng.normal(size=size)) + rng.normal(size=size)
    axes = (0, *range(2, len(shape)))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    gamma, beta = rng.normal(size=(2, *of_feature))
    by_definition = gamma * (x - mean) / np.sqrt(var + EPS) + beta
    layer = functional.layer_norm(torch.from_numpy(x), shape[1:], eps=EPS).numpy()
    return {
        "difference": np.abs(normalized(x, gamma, beta) - by_definition).max(),
        "undone": np.abs(normalized(x, np.sqrt(var + EPS), mean) - x).max(),
        "sharing": np.prod(shape[2:]),
        **over_features(normalized(x, np.ones(of_feature), np.zeros(of_feature)), "sample"),
        **over_features(layer, "layer"),
    }


def normalized(x: Array, gamma: Array, beta: Array) -> Array:
    """Return what PyTorch's batch norm makes of ``x`` in training mode."""
    weight, bias = (torch.from_numpy(p.ravel()) for p in (gamma, beta))
    y: Array = functional.batch_norm(
        torch.from_numpy(x), None, None, weight, bias, training=True, eps=EPS
    ).numpy()
    return y


def over_features(y: Array, name: str) -> dict[str, float]:
    """Return how far the samples of ``y`` are from mean 0 and standard deviation 1, as root mean squares."""
    flat = y.reshape(len(y), -1)
    means, stds = flat.mean(1), flat.std(1)
    return {f"{name}_mean": np.sqrt((means**2).mean()), f"{name}_std": np.sqrt(((stds - 1) ** 2).mean())}


def trained(settings: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Array]:
    """Train the network of a part; return how far its gammas and betas are from 1 and 0, shape (S,) each."""
    flat = len(settings["shape"]) == 2
    widths = [PIXELS[settings["full"]], *settings["hidden"], 10]
    runs = train(
        partial(MLP, widths) if flat else partial(CNN, settings["hidden"]),
        fashion_mnist(full=settings["full"]),
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seeds=seeds,
        settings=grid(lr=settings["lr"]),
        evaluate_at=[],
        description="transform",
    )
    moved = {}
    for name, word, start in (("gamma", "weight", 1.0), ("beta", "bias", 0.0)):
        found = [p[0] for n, p in runs.state.params.items() if n.endswith(f".1.{word}") and "blocks" in n]
        every = torch.cat(found, dim=-1).double() - start
        moved[name] = every.square().mean(-1).sqrt().numpy()
    return moved
