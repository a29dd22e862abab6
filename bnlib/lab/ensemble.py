"""The stacked state of many networks, and their evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap

from bnlib.lab.network import Loss, Network, Tensors, seeded
from bnlib.lab.runs import Settings, Which

__all__ = ["Data", "Ensemble", "as_tensors", "evaluation"]


class Data(NamedTuple):
    """Images and labels as tensors: shapes (N, ...) and (N,)."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def as_tensors(data: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Data:
    """Turn arrays or tensors x_train, y_train, x_test, y_test into tensors; floating ones get ``dtype``.

    Raises:
        ValueError: there are not four, or images and labels differ in number.
    """
    if len(data) != 4:
        raise ValueError(f"expected data (x_train, y_train, x_test, y_test), got {len(data)} arrays")
    tensors = [torch.as_tensor(d) for d in data]
    for x, y in (tensors[:2], tensors[2:]):
        if len(x) != len(y):
            raise ValueError(f"expected as many labels as images, {len(x)}, got {len(y)}")
    return Data(*(t.to(device, dtype if t.is_floating_point() else t.dtype) for t in tensors))


class Ensemble:
    """The stacked state of all runs; run ``k * S + s`` has setting k and seed s."""

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        settings: Sequence[Settings],
        seeds: Sequence[int],
        loss: Loss,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.settings, self.seeds, self.device = tuple(settings), tuple(seeds), device
        models = [seeded(make_model, seed, dtype) for seed in seeds]
        self.network = Network(models[0], loss)
        params, buffers = stack_module_state(models)
        self.buffers, self.params = (
            {n: t.detach().repeat(len(settings), *[1] * (t.ndim - 1)).to(device) for n, t in tensors.items()}
            for tensors in (buffers, params)
        )
        self.runs = [setting for setting in settings for _ in seeds]
        scale = torch.tensor([s.init_scale for s in self.runs], dtype=dtype, device=device)
        for p in self.params.values():
            if p.ndim > 2:
                p.mul_(scale.view(-1, *[1] * (p.ndim - 1)))
            p.requires_grad_()

    def by_run(self, t: Tensor) -> Tensor:
        """Split the first axis, of runs, into settings and seeds."""
        return t.detach().reshape(len(self.settings), len(self.seeds), *t.shape[1:])


@torch.no_grad()
def evaluation(ensemble: Ensemble, data: Data, which: Which, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return the mean loss and the accuracy of every run, shape (R,) each."""
    part, statistics = which
    x, y = (data.x_train, data.y_train) if part == "train" else (data.x_test, data.y_test)
    rows = batch_size if statistics == "batch" else 250
    count = len(x) // rows * rows if statistics == "batch" else len(x)
    network = ensemble.network
    total = torch.zeros(2, len(ensemble.runs), device=ensemble.device, dtype=torch.float64)

    def measure(params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = network.outputs(params, buffers, x)
        right = logits.argmax(1) == y if y.ndim == 1 else torch.full((), torch.nan)
        return network.loss(logits, y), right.double().mean()

    with network.normalizing_by(statistics):
        for start in range(0, count, rows):
            xs, ys = x[start : min(start + rows, count)], y[start : min(start + rows, count)]
            found = vmap(measure, (0, 0, None, None))(ensemble.params, ensemble.buffers, xs, ys)
            total += torch.stack([f.double() for f in found]) * (len(xs) / count)
    losses, accuracy = total
    return losses, accuracy.where(losses.isfinite(), torch.nan)
