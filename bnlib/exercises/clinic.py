"""The clinic: instruments to examine models with batch norms, and the test of a treatment."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from bnlib.exercises.answers import choice
from bnlib.exercises.outputs import Array, UnusableError, name_type
from bnlib.exercises.patients import PATIENTS, images, norms, patient, stripes

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DIAGNOSES", "charts", "examine", "folding", "treatment"]

DIAGNOSES = (
    "eval mode forgotten",
    "momentum reversed",
    "frozen too early",
    "batch of one",
    "folded wrongly",
    "stale buffers",
)
WELL = 0.95
"""A patient with this accuracy is well."""


def accuracy(model: nn.Module, at_once: int) -> float:
    """Return the share of right answers on 128 new images, given so many at once, in the model's mode."""
    import torch

    x, y = stripes(128, 2)
    model = copy.deepcopy(model)
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in x.split(at_once)])
    return float((answers == y).double().mean())


def newest(model: nn.Module) -> float:
    """Return the weight of a new batch in the running mean of the first batch norm, NaN without one."""
    import torch

    model = copy.deepcopy(model).train()
    if not norms(model):
        return float("nan")
    layer, x = norms(model)[0], 100 + images()[:64]
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].mean((0, 2, 3))))
    before = layer.running_mean.clone()
    with torch.no_grad():
        model(x)
    return float(((layer.running_mean - before) / (seen[0] - before)).mean())


def examine(model: nn.Module) -> dict[str, str]:
    """Read all instruments, on a copy of the model.

    Returns:
        The readings by the name of the instrument: right answers as it is, all images at once and one by
        one, in training and in evaluation mode; how far running means and standard deviations are from those
        of training images in the worst layer; and the weight of a new batch.
    """
    import torch

    trains = any(layer.training for layer in model.modules())
    model = copy.deepcopy(model)
    readings = {
        "mode": "train" if trains else "eval",
        "as it is, 128 at once": f"{accuracy(model, 128):.0%}",
        "as it is, one by one": f"{accuracy(model, 1):.0%}",
        "batch statistics of 128": f"{accuracy(model.train(), 128):.0%}",
        "batch statistics of 1": f"{accuracy(model, 1):.0%}",
        "running statistics": f"{accuracy(model.eval(), 128):.0%}",
    }
    off: list[tuple[float, float]] = []

    def compare(layer: Any, args: tuple[Tensor]) -> None:
        var, mean = torch.var_mean(args[0], [axis for axis in range(args[0].ndim) if axis != 1])
        distance = ((layer.running_mean - mean).abs() / var.sqrt()).mean()
        off.append((float(distance), float((layer.running_var / var).sqrt().mean())))

    for layer in norms(model.train()):
        layer.register_forward_pre_hook(compare)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model(images())
    model.load_state_dict(before)
    readings["running mean is off by"] = ", ".join(f"{mean:.1f}" for mean, _ in off) or "-"
    readings["running spread is times"] = ", ".join(f"{spread:.1f}" for _, spread in off) or "-"
    readings["weight of a new batch"] = f"{newest(model):.2f}" if off else "-"
    readings["batches seen"] = str(int(norms(model)[0].num_batches_tracked)) if off else "-"
    return readings


def charts() -> str:
    """Examine all patients; return a table with a column for each."""
    columns = [examine(patient(name)) for name in PATIENTS]
    rows = [["", *PATIENTS], *([name, *(column[name] for column in columns)] for name in columns[0])]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0])
        + "".join("  " + text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def read_both(value: object) -> tuple[Array, nn.Module]:
    """Return the place of the diagnosis in ``DIAGNOSES`` and the model, or raise UnusableError."""
    from torch import nn

    if not isinstance(value, tuple) or len(value) != 2:
        got = "a model alone" if isinstance(value, nn.Module) else name_type(value)
        text = f"Expected two values, a diagnosis and a model, got {got}."
        raise UnusableError("wrong number of values", text)
    word, model = value
    place = choice(*DIAGNOSES)(word)
    if not isinstance(model, nn.Module):
        raise UnusableError("wrong type", f"Expected a model in second place, got {name_type(model)}.")
    return place, model


def treatment(value: object) -> Array:
    """Examine a treated patient A to E.

    Returns:
        The place of the diagnosis; 0 or 1 for right answers and for answers that do not depend on company;
        0, 1 or 2 for a new batch that counts too little, well or too much.
    """
    import torch

    place, model = read_both(value)
    x = stripes(64, 3)[0]
    work = copy.deepcopy(model)
    with torch.no_grad():
        together = work(x)
        apart = torch.cat([work(one) for one in x.split(1)])
    weight = newest(model)
    return np.array(
        [
            place,
            accuracy(model, 128) >= WELL,
            torch.allclose(together, apart, atol=1e-6),
            1 if np.isnan(weight) else (weight >= 1e-3) + (weight > 0.5),
        ]
    )


def folding(value: object) -> Array:
    """Examine a treated patient F: the diagnosis, whether a batch norm is left, and logits of 12 images."""
    import torch

    place, model = read_both(value)
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(stripes(12, 3)[0])
    return np.array([float(place), float(bool(norms(model))), *logits.flatten().double().tolist()])
