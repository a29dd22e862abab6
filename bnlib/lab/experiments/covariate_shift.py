"""Whether batch normalization reduces internal covariate shift, and whether that is what helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bnlib.lab.data import PIXELS, fashion_mnist
from bnlib.lab.models import MLP
from bnlib.lab.probes import gradient_shift, shift_of_moments, unit_moments
from bnlib.lab.registry import experiment
from bnlib.lab.runs import grid
from bnlib.lab.train import train

RATES = [0.03, 0.1, 0.3, 1.0, 3.0]
STEPS = 600
PROBED = [5, 20, 60, 150, 300, 590]
"""Shifts are those from each of these steps to the next."""

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "ReLU MLP": {"hidden": [100, 100, 100], "activation": "relu"},
    "sigmoid MLP": {"hidden": [100, 100], "activation": "sigmoid"},
}
METHODS = {"BN": "batch", "no BN": "none", "noisy BN": "noisy", "noise, no BN": "noise"}
PARTS = {
    f"{name}, {word}": {
        **network, "norm": norm, "full": True, "steps": STEPS, "probed": PROBED, "batch_size": 64, "lr": RATES
    }
    for name, network in NETWORKS.items()
    for word, norm in METHODS.items()
}  # fmt: skip


@experiment("covariate_shift", parts=PARTS, seeds=8)
def covariate_shift(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Shift of moments and of gradients in training: with BN, without, and with noise after either.

    Plain SGD at a constant rate, PyTorch's initial weights, all of Fashion-MNIST. A shift of moments is the
    way from one step to the next, each with its own noise, on the first images of the training set. A shift
    of gradients is that of Santurkar et al. (2018), under the noise of the step.

    Metrics, for S seeds, K rates and P steps:
        train_loss: at the end, over all training images, by batch statistics and without noise; (S, K).
        test_accuracy: at the end, by running statistics; (S, K).
        input_shift: of the outputs of the blocks, which the next layers take in, averaged over the blocks:
            of the mean, in standard deviations, and of the log of the standard deviation; (S, K, P, 2).
        linear_shift: the same of the outputs of the linear maps, before a normalization.
        gradient_shift: ``||G - G'||``, the same over ``||G||``, and the cosine; from the second linear map
            on, the first two as geometric means, the cosine as a plain mean; (S, K, P, 3).
    """
    lr, probed, size = settings["lr"], settings["probed"], settings["batch_size"]
    data = fashion_mnist(full=settings["full"])
    widths = [PIXELS[settings["full"]], *settings["hidden"], 10]
    blocks = [f"blocks.{i}" for i in range(len(settings["hidden"]))]
    x = torch.from_numpy(data.x_train[:size])
    runs = train(
        partial(MLP, widths, settings["norm"], settings["activation"]),
        data,
        steps=settings["steps"],
        batch_size=size,
        seeds=seeds,
        settings=grid(lr=lr),
        evaluate=[("train", "batch"), ("test", "running")],
        probes={
            "moments": partial(unit_moments, x=x, names=[*blocks, *(f"{block}.0" for block in blocks)]),
            "gradients": gradient_shift,
        },
        probe_at=sorted({step + later for step in probed for later in (0, 1)}),
        description="covariate_shift",
    )
    here, there = (np.searchsorted(runs.probed_at, np.add(probed, later)) for later in (0, 1))
    moments = torch.from_numpy(np.swapaxes(runs.probes["moments"], 0, 1))
    shifts = shift_of_moments(moments[:, :, here], moments[:, :, there]).numpy()
    return {
        "train_loss": runs.loss["train", "batch"][..., -1].T,
        "test_accuracy": runs.accuracy["test", "running"][..., -1].T,
        "input_shift": shifts[..., : len(blocks), :].mean(-2),
        "linear_shift": shifts[..., len(blocks) :, :].mean(-2),
        "gradient_shift": over_layers(np.swapaxes(runs.probes["gradients"][:, :, here], 0, 1)),
    }


def over_layers(found: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Average ``gradient_shift`` of (..., L, 3) over all layers but the first: distance, change, cosine."""
    distance, norm, cosine = np.moveaxis(found[..., 1:, :], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(distance), np.log(distance / norm)]
    return np.stack([*(np.exp(log.mean(-1)) for log in logs), cosine.mean(-1)], -1)
