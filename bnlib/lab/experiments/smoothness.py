"""How loss and gradient change along the gradient during training, with batch normalization and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from bnlib.lab.data import fashion_mnist
from bnlib.lab.experiments.learning_rates import maker
from bnlib.lab.network import Network
from bnlib.lab.probes import along_gradient, along_relative_gradient
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.train import Moment, train

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "2 hidden layers": {"model": "MLP", "hidden": [100, 100]},
    "6 hidden layers": {"model": "MLP", "hidden": [64] * 6},
    "CNN": {"model": "CNN", "channels": [6, 12, 12]},
}
PARTS = {
    f"{name}, {word}": {
        **network,
        "norm": norm,
        "activation": "relu",
        "init": "he",
        "full": True,
        "batch_size": 64,
        "steps": 400,
        "lr": [0.03, 0.1, 0.3],
        "probe_at": [0, 5, 15, 40, 80, 160, 280, 399],
        "multiples": [0.5, 1.0, 2.0, 4.0],
        "fractions": [0.003, 0.01, 0.03, 0.1, 0.3],
    }
    for name, network in NETWORKS.items()
    for word, norm in (("BN", "batch"), ("no BN", "none"))
}


@experiment("smoothness", parts=PARTS, seeds=10, at_once=5)
def smoothness(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """How loss and gradient change along the gradient in training, with and without BN.

    Plain SGD at a constant rate, He's initial weights, all of Fashion-MNIST. A probe looks at the step's
    batch, in training mode. A network with BN and one without start from the same weights at each seed.

    Metrics for K rates, P probed steps, F fractions:
        loss: of the batch at the step, shape (S, K, P).
        loss_range, gradient_change, smoothness: over the step sizes multiples * lr along the gradient, the
            range of the loss, the largest distance of the gradients and the largest effective smoothness;
            shape (S, K, P).
        relative_loss: loss after each relative step, shape (S, K, P, F).
        relative_change: distance of the gradient there from the one here, in units of the latter's norm;
            gradients with respect to relative weights; shape (S, K, P, F).
        relative_gradient: the norm of the one here, shape (S, K, P).
        train_loss: mean over the last tenth of the steps, NaN where the loss or the weights overflowed;
            shape (S, K).

    Source: the first group is after Santurkar et al. (2018), figure 4.
    """
    steps, fractions = settings["steps"], settings["fractions"]
    runs = train(
        maker(settings),
        fashion_mnist(full=settings["full"]),
        steps=steps,
        batch_size=settings["batch_size"],
        seeds=seeds,
        settings=grid(lr=settings["lr"]),
        evaluate_at=[],
        probes={
            "start": lambda network, moment: network.batch_loss(*moment[:4]),
            "absolute": partial(along_step, multiples=settings["multiples"]),
            "relative": partial(along_relative_gradient, fractions=fractions),
        },
        probe_at=settings["probe_at"],
        description="smoothness",
    )
    found = {name: np.moveaxis(values, 0, 1) for name, values in runs.probes.items()}
    loss, change, beta = np.moveaxis(found["absolute"], -1, 0)
    there, distance, relative = np.moveaxis(found["relative"], -1, 0)
    every = np.concatenate([found["start"][..., None], loss], axis=-1)
    return {
        "loss": found["start"],
        "loss_range": np.ptp(every, axis=-1),
        "gradient_change": change.max(-1),
        "smoothness": beta.max(-1),
        "relative_loss": there,
        "relative_change": relative,
        "relative_gradient": distance[..., -1] / relative[..., -1],
        "train_loss": runs.final_loss(max(steps // 10, 1)).T,
    }


def along_step(network: Network, moment: Moment, multiples: Sequence[float]) -> Tensor:
    """Measure ``along_gradient`` at multiples of the step that the run is about to do, shape (D, 3)."""
    return along_gradient(network, moment, [m * moment.lr for m in multiples])
