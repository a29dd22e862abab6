"""The balance of weight decay and gradient in weights whose scale does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnlib.lab import probes
from bnlib.lab.data import PIXELS, fashion_mnist
from bnlib.lab.models import MLP
from bnlib.lab.network import Network
from bnlib.lab.registry import experiment
from bnlib.lab.runs import Settings
from bnlib.lab.train import Moment, train
from bnlib.torch import BatchNorm1d

PRODUCTS = [3e-4, 1e-3, 3e-3, 1e-2]
"""Learning rate times weight decay."""

PARTS = {
    f"rate {lr}, eps {eps:g}": {
        "full": True,
        "hidden": [64, 64],
        "lr": lr,
        "eps": eps,
        "weight_decay": [float(f"{product / lr:.3g}") for product in PRODUCTS],
        "steps": 4000,
        "settled": 3000,
        "batch_size": 64,
    }
    for lr, eps in ((0.3, 1e-5), (0.1, 1e-5), (0.1, 1e-10))
}
"""The last part tells whether it is epsilon that disturbs the balance."""

NAMES = ["blocks.0.0.weight", "blocks.1.0.weight"]


@experiment("weight_norms", parts=PARTS, seeds=5)
def weight_norms(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Norm, gradient and turn per step of weights before BN, once weight decay has settled them.

    A ReLU MLP by plain SGD on all of Fashion-MNIST. Everything is taken over every tenth step from step
    ``settled`` on, for K strengths of weight decay and both hidden layers.

    Metrics, each of shape (S, K, 2):
        angle: root mean square of the angle that a step turns the weights by, in radians.
        norm: of the weights, the fourth root of the mean fourth power.
        gradient: root mean square of the norm of the gradient that weights of norm 1 would have.
    """
    steps, settled = settings["steps"], settings["settled"]
    widths = [PIXELS[settings["full"]], *settings["hidden"], 10]

    def make_norm(channels: int, positions: int) -> BatchNorm1d:
        return BatchNorm1d(channels, eps=settings["eps"])

    runs = train(
        partial(MLP, widths, norm=make_norm, bias=False),
        fashion_mnist(full=settings["full"]),
        steps=steps,
        batch_size=settings["batch_size"],
        seeds=seeds,
        settings=[Settings(settings["lr"], weight_decay=decay) for decay in settings["weight_decay"]],
        evaluate_at=[],
        probes={"sphere": partial(probes.steps_on_sphere, names=NAMES), "gradient": unit_gradients},
        probe_at=range(settled, steps, 10),
        description="weight_norms",
    )
    norm, _, angle = np.moveaxis(runs.probes["sphere"].astype(np.float64), -1, 0)
    gradient = runs.probes["gradient"].astype(np.float64)
    found = {
        "angle": np.square(angle).mean(2) ** 0.5,
        "norm": (norm**4).mean(2) ** 0.25,
        "gradient": np.square(gradient).mean(2) ** 0.5,
    }
    return {name: np.moveaxis(value, 0, 1) for name, value in found.items()}


def unit_gradients(network: Network, moment: Moment) -> Tensor:
    """Return for each hidden layer the norm of the gradient at weights of norm 1: ``||w|| ||g||``."""
    return torch.stack([moment.params[name].norm() * moment.gradient[name].norm() for name in NAMES])
