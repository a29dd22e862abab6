"""At which depths networks train, with batch normalization and without, and how their gradients grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnlib.lab.data import PIXELS, fashion_mnist
from bnlib.lab.models import MLP, ResidualMLP
from bnlib.lab.network import Network
from bnlib.lab.probes import gradient_norms
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.train import Moment, train

DEPTHS = [5, 10, 20, 40, 80]
RATES = [0.003, 0.01, 0.03, 0.1, 0.3]
SHARED: Mapping[str, Any] = {
    "full": True,
    "width": 32,
    "depths": DEPTHS,
    "lr": RATES,
    "batch_size": 64,
    "steps": 200,
}

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "sigmoid": {"model": "MLP", "activation": "sigmoid", "init": "lecun"},
    "ReLU": {"model": "MLP", "activation": "relu", "init": "he"},
    "residual ReLU": {"model": "ResidualMLP", "activation": "relu", "init": "he"},
}
PARTS = {
    f"{name}, {word}": {**network, "norm": norm, **SHARED}
    for name, network in NETWORKS.items()
    for word, norm in (("BN", "batch"), ("no BN", "none"))
}
PROBED = (0, 1, 10)


@experiment("depth", parts=PARTS, seeds=5)
def depth(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Accuracy after training, and growth of gradients, of networks of 5 to 80 layers, with and without BN.

    Plain SGD at a constant rate, all of Fashion-MNIST.

    Metrics, for D depths and K rates:
        train_loss: mean over the last tenth of the steps, shape (S, D, K); NaN where it overflowed.
        test_accuracy: at the end, by running statistics, shape (S, D, K); NaN likewise.
        test_accuracy_by_batch: the same by the statistics of test batches.
        growth: factor of the squared norm of the gradient a block, towards the input, from the last block to
            the first, shape (S, D, K, P): before the steps 0, 1 and 10, and before the last step.
    """
    steps, data = settings["steps"], fashion_mnist(full=settings["full"])
    rows = []
    for layers in settings["depths"]:
        runs = train(
            maker(settings, layers),
            data,
            steps=steps,
            batch_size=settings["batch_size"],
            seeds=seeds,
            settings=grid(lr=settings["lr"]),
            evaluate=[("test", "running"), ("test", "batch")],
            probes={"growth": growth},
            probe_at=[*PROBED, steps - 1],
            description=f"depth {layers}",
        )
        accuracy = [runs.accuracy["test", which][..., -1].T for which in ("running", "batch")]
        found = np.moveaxis(runs.probes["growth"], 0, 1)
        rows.append((runs.final_loss(steps // 10).T, *accuracy, found))
    names = ("train_loss", "test_accuracy", "test_accuracy_by_batch", "growth")
    return {name: np.stack(values, 1) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def maker(settings: Mapping[str, Any], layers: int) -> Callable[[], nn.Module]:
    """Return a function that makes the network of a part with that many blocks."""
    width, pixels = settings["width"], PIXELS[settings["full"]]
    how = {k: settings[k] for k in ("norm", "activation", "init")}
    if settings["model"] == "MLP":
        return partial(MLP, [pixels, *[width] * layers, 10], **how)
    return partial(ResidualMLP, width, layers, inputs=pixels, **how)


def growth(network: Network, moment: Moment) -> Tensor:
    """Return the factor a block by which the squared norm of the gradient grows towards the input.

    In double precision: the gradients of deep sigmoid networks are too small for single precision.
    """
    params, buffers = ({n: t.double() for n, t in tensors.items()} for tensors in moment[:2])
    double = moment._replace(params=params, buffers=buffers, x=moment.x.double())
    log = torch.log(gradient_norms(network, double))
    return torch.exp((log[0] - log[-1]) / (len(log) - 1))
