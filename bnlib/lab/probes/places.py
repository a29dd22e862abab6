"""Looking inside a network: the outputs of its modules, and the gradients with respect to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad

from bnlib.lab.network import Network, Tensors

__all__ = ["activation_gradients", "activations", "block_names", "weight_names"]

Hook = Callable[..., Any]


def block_names(network: Network) -> list[str]:
    """Return the names of the blocks of a model of the lab, from input to output."""
    return [f"blocks.{i}" for i in range(len(network.model.blocks))]  # type: ignore[arg-type]


def weight_names(network: Network) -> list[str]:
    """Return the names of the weights of all linear maps and convolutions, from input to output."""
    return [
        f"{name}.weight"
        for name, module in network.model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]


def activations(
    network: Network, params: Tensors, buffers: Tensors, x: Tensor, names: Sequence[str] | None = None
) -> Tensors:
    """Return what the named modules give out for the batch ``x``, in the mode of the network's model.

    Args:
        network: the network.
        params: its weights by name.
        buffers: its buffers by name; they stay as they are.
        x: shape (N, ...).
        names: of modules, as ``get_submodule`` takes them; None is all blocks. Of a module that is called
            several times, the last output counts.

    Returns:
        Outputs by name, in the order of ``names``.
    """
    found: Tensors = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = output

        return hook

    names = block_names(network) if names is None else names
    with hooked(network.model, names, keep):
        network.outputs(params, buffers, x)
    return {name: found[name] for name in names}  # the hooks fire in the order of the forward pass


def activation_gradients(
    network: Network,
    params: Tensors,
    buffers: Tensors,
    x: Tensor,
    y: Tensor,
    names: Sequence[str] | None = None,
) -> Tensors:
    """Return the gradient of the loss with respect to what the named modules give out.

    Args:
        network: the network.
        params: its weights by name.
        buffers: its buffers by name; they stay as they are.
        x: shape (N, ...).
        y: labels, shape (N,).
        names: of modules, each called once; None is all blocks.
    """
    names = block_names(network) if names is None else names
    zeros = {n: torch.zeros_like(a) for n, a in activations(network, params, buffers, x, names).items()}

    def loss(added: Tensors) -> Tensor:
        def add(name: str) -> Callable[..., Tensor]:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
                return output + added[name]

            return hook

        with hooked(network.model, names, add):
            return network.batch_loss(params, buffers, x, y)

    gradients: Tensors = grad(loss)(zeros)
    return gradients


@contextmanager
def hooked(
    model: nn.Module, names: Sequence[str], make: Callable[[str], Callable[..., Any]]
) -> Iterator[None]:
    """Hang a forward hook, made by ``make``, on each named module for the time of the block."""
    handles = [model.get_submodule(name).register_forward_hook(make(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
