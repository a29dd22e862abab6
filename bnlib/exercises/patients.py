"""Six broken models, each with one fault.

They learned to tell apart stripes of four directions, in a second each. PyTorch is loaded when the first of
them is asked for.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["PATIENTS", "before_export", "images", "norms", "patient", "stripes"]

PATIENTS = "ABCDEF"


def stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw images of stripes in one of four directions, of any brightness.

    Returns:
        Images, float64 of shape (count, 1, 8, 8), and labels, shape (count,).
    """
    import torch

    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, count)
    row, column = np.mgrid[:8, :8]
    angle, phase, light, strength = (
        values[:, None, None]
        for values in (
            label * np.pi / 4,
            rng.uniform(0, 2 * np.pi, count),
            rng.uniform(0, 4, count),
            rng.uniform(0.5, 1, count),
        )
    )
    wave = np.sin(np.pi / 2 * (np.cos(angle) * row + np.sin(angle) * column) + phase)
    x = light + strength * wave + 0.4 * rng.standard_normal((count, 8, 8))
    return torch.from_numpy(x[:, None]), torch.from_numpy(label)


def images() -> Tensor:
    """Return 512 images of the training data, without labels; float64, shape (512, 1, 8, 8)."""
    return stripes(512, 1)[0]


@cache
def trained(kind: str) -> tuple[nn.Sequential, list[tuple[Tensor, Tensor]]]:
    """Train a network; return it in evaluation mode, with its running statistics after 20 steps.

    Args:
        kind: ``"batch"`` has two batch norms; ``"one"`` normalizes each image by itself, as training on
            batches of one image does; ``"late"`` has a batch norm after ReLU and pooling.
    """
    import torch
    from torch import nn

    def norm() -> nn.Module:
        if kind == "batch":
            return nn.BatchNorm2d(8)
        return nn.InstanceNorm2d(8, affine=True, track_running_stats=True)

    with torch.random.fork_rng(devices=[]):
        end = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        if kind == "late":
            layers = [nn.Conv2d(1, 16, 3), nn.ReLU(), *end, nn.BatchNorm1d(16, 0.01), nn.Linear(16, 4)]
        else:
            layers = [nn.Conv2d(1, 8, 3, padding=1), norm(), nn.ReLU()]
            layers += [nn.Conv2d(8, 8, 3, padding=1), norm(), nn.ReLU(), *end, nn.Linear(8, 4)]
        model = nn.Sequential(*layers).double()
    rng = np.random.default_rng(5)
    for layer in model:  # PyTorch's own initial weights differ in the last digit between processors
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            shape = tuple(layer.weight.shape)
            scale = (2 / np.prod(shape[1:])) ** 0.5
            weight = torch.from_numpy(scale * rng.standard_normal(shape))
            layer.load_state_dict({"weight": weight, "bias": torch.zeros(shape[0])})
    early = learn(model, steps=200 if kind == "batch" else 300)
    return model.eval(), early


def learn(model: nn.Sequential, steps: int, batch_size: int = 32) -> list[tuple[Tensor, Tensor]]:
    """Train a model on stripes; return its running statistics after 20 steps."""
    import torch
    from torch import nn

    x, y = stripes(steps * batch_size, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    early = []
    for step, batch in enumerate(zip(x.split(batch_size), y.split(batch_size), strict=True)):
        if step == 20:
            early = [(n.running_mean.clone(), n.running_var.clone()) for n in norms(model)]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for p in model.parameters():  # rounding errors would grow, and differ between processors
                p.copy_(p.round(decimals=6))
    return early


def norms(model: nn.Module) -> list[Any]:
    """Return the layers with running statistics, in their order."""
    return [layer for layer in model.modules() if getattr(layer, "running_mean", None) is not None]


def patient(name: str) -> nn.Sequential:
    """Make a patient.

    Args:
        name: ``"A"`` to ``"F"``. F is what was made of `before_export`.

    Returns:
        A model of its own, float64, that takes images (n, 1, 8, 8) and returns logits (n, 4).

    Raises:
        ValueError: there is no such patient.
    """
    if len(name) != 1 or name not in PATIENTS:
        raise ValueError(f"expected a patient A to F, got {name!r}")
    return {"A": frozen, "B": forgotten, "C": alone, "D": stale, "E": hasty, "F": exported}[name]()


def frozen() -> nn.Sequential:
    """Make a model whose statistics stopped after 20 steps."""
    model, early = copy.deepcopy(trained("batch"))
    for layer, (mean, var) in zip(norms(model), early, strict=True):
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
        layer.momentum = 0.0
    return model


def forgotten() -> nn.Sequential:
    """Make a model in training mode."""
    return copy.deepcopy(trained("batch")[0]).train()


def alone() -> nn.Sequential:
    """Make a model that was trained on batches of one image."""
    import torch
    from torch import nn

    model = copy.deepcopy(trained("one")[0])
    for i, layer in enumerate(model):
        if isinstance(layer, nn.InstanceNorm2d):
            batch_norm = nn.BatchNorm2d(8).double()
            batch_norm.load_state_dict(layer.state_dict())
            batch_norm.num_batches_tracked = torch.tensor(300 * 32)
            model[i] = batch_norm
    return model.eval()


def stale() -> nn.Sequential:
    """Make a model whose weights were converted, and whose buffers were not."""
    model = copy.deepcopy(trained("batch")[0])
    for layer in norms(model):
        layer.reset_running_stats()
    return model


def hasty() -> nn.Sequential:
    """Make a model with a momentum of 0.99, after a last batch of two bright images."""
    import torch

    model = copy.deepcopy(trained("batch")[0])
    for layer in norms(model):
        layer.momentum = 0.99
    with torch.no_grad():
        model.train()(images()[8:10])
    return model.eval()


def before_export() -> nn.Sequential:
    """Make the network that patient F was exported from: conv, ReLU, pooling, flatten, batch norm, linear."""
    return copy.deepcopy(trained("late")[0])


def exported() -> nn.Sequential:
    """Make patient F: the batch norm folded into the convolution, although a ReLU lies between."""
    from torch import nn

    layers: list[Any] = list(before_export())
    conv, relu, pool, flatten, norm, head = layers
    scale = norm.weight.data / (norm.running_var + norm.eps).sqrt()
    conv.weight.data *= scale[:, None, None, None]
    conv.bias.data = scale * (conv.bias.data - norm.running_mean) + norm.bias.data
    return nn.Sequential(conv, relu, pool, flatten, head).eval()
