"""A network as a pure function of its weights, its buffers and a batch: what training and probes share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

__all__ = ["Loss", "Network", "State", "Tensors", "load", "seeded"]

Tensors = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


class State(NamedTuple):
    """The weights and the buffers of a network, by their names in the module."""

    params: Tensors
    buffers: Tensors


class Network:
    """A module and a loss, as functions without side effects.

    Args:
        model: the module; its own weights are not used, its mode (training or evaluation) is. No two of its
            modules may share a weight.
        loss: a function of the outputs (N, K) and the targets (N,), averaged over the batch.
    """

    def __init__(self, model: nn.Module, loss: Loss = cross_entropy) -> None:
        self.model, self.loss = model, loss

    def outputs(self, params: Tensors, buffers: Tensors, x: Tensor, *, update: bool = False) -> Tensor:
        """Return the outputs for the batch ``x``.

        Args:
            params: the weights by name.
            buffers: the buffers by name; running statistics change in place only if ``update``.
            x: shape (N, ...).
            update: whether running statistics may change.
        """
        if not update:
            buffers = {name: b.clone() for name, b in buffers.items()}
        y: Tensor = functional_call(self.model, (params, buffers), (x,), tie_weights=False)
        return y

    def batch_loss(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor, *, update: bool = False
    ) -> Tensor:
        """Return the loss of the batch, a number."""
        return self.loss(self.outputs(params, buffers, x, update=update), y)

    def gradient(self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> Tensors:
        """Return the gradient of the loss of the batch with respect to each weight."""
        gradient: Tensors = grad(self.batch_loss)(params, buffers, x, y)
        return gradient

    @contextmanager
    def normalizing_by(self, statistics: str) -> Iterator[None]:
        """Evaluate with the running statistics (``"running"``) or those of the batch (``"batch"``).

        Either way nothing is dropped and no noise is added. The modes are put back at the end.
        """
        if statistics not in ("running", "batch"):
            raise ValueError(f"expected statistics 'running' or 'batch', got {statistics!r}")
        before = {module: module.training for module in self.model.modules()}
        self.model.eval()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = statistics == "batch"
        try:
            yield
        finally:
            for module, training in before.items():
                module.training = training


def seeded(make_model: Callable[[], nn.Module], seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Make a model whose initial weights follow from ``seed``; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_model().to(dtype)


def load(model: nn.Module, state: State) -> nn.Module:
    """Return a copy of ``model`` that holds the given weights and buffers, in evaluation mode."""
    own = copy.deepcopy(model).to(next(iter(state.params.values())).dtype)
    with torch.no_grad():
        for name, p in own.named_parameters():
            p.copy_(state.params[name])
        for name, b in own.named_buffers():
            b.copy_(state.buffers[name])
    return own.eval()
