"""The kernels as operators of PyTorch, which ``torch.compile`` puts into its graph as they are.

A call of an operator takes longer than that of the function under it, which is called where nothing compiles.
The kernels themselves, and Triton with them, are imported at the first call.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from bnlib.torch.kernels.launch import Launch, keeping_tickets, packed_geometry_of

__all__ = ["backward", "evaluate", "train"]


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Return the context in which kernels are launched on the device of ``x``."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def bytes_of_bits(x: Tensor) -> int:
    """Return the number of bytes that hold a bit for each value of ``x``."""
    geometry = packed_geometry_of(x)
    if geometry.channels_last:
        return geometry.values * -(-geometry.channels // 8)
    return geometry.channels * -(-geometry.values // 8)


def room_for_bits(x: Tensor, relu: bool) -> Tensor:
    """Return the bytes for the bits of ReLU, none where it is not applied."""
    return x.new_empty(bytes_of_bits(x) if relu else 0, dtype=torch.uint8)


def training_pass(
    x: Tensor,
    added: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    momentum_tensor: Tensor | None,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the statistics (3, C) in float32: shift, residual, variance; and the bits of ReLU.

    ``momentum_tensor``, of one number, stands in for ``momentum`` where it is given.
    """
    from bnlib.torch.kernels import forward

    bits, launch = room_for_bits(x, relu), Launch.of(x, 1)
    running = running_mean, running_var, momentum_tensor
    with on_device(x):
        y, statistics = forward.train(
            x, added, bits if relu else None, running, weight, bias, momentum, eps, launch
        )
    return y, statistics, bits


training_operator = torch.library.custom_op(
    "bnlib::batch_norm_training", training_pass, mutates_args=("running_mean", "running_var")
)


@training_operator.register_fake
def _(x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    relu = others[-1]
    statistics = x.new_empty(3, x.shape[1], dtype=torch.float32)
    return torch.empty_like(x), statistics, room_for_bits(x, relu)


def evaluation_pass(
    x: Tensor,
    added: Tensor | None,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output and the bits of ReLU."""
    from bnlib.torch.kernels import forward

    bits, launch = room_for_bits(x, relu), Launch.of(x, 1)
    with on_device(x):
        y = forward.evaluate(x, added, bits if relu else None, mean, var, weight, bias, eps, launch)
    return y, bits


evaluation_operator = torch.library.custom_op(
    "bnlib::batch_norm_evaluation", evaluation_pass, mutates_args=()
)


@evaluation_operator.register_fake
def _(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    relu = others[-1]
    return torch.empty_like(x), room_for_bits(x, relu)


def backward_pass(
    dy: Tensor,
    x: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    var: Tensor,
    weight: Tensor | None,
    bits: Tensor,
    eps: float,
    training: bool,
    added: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients for the input and for what was added, and those for bias and weight as (2, C)."""
    from bnlib.torch.kernels import backward

    saved = backward.Saved(x, shift, residual, var, weight, bits if bits.numel() else None)
    dy = torch.empty_like(x).copy_(dy) if dy.stride() != x.stride() else dy
    with on_device(x):
        dx, dadded, sums = backward.differentiate(dy, saved, eps, training, added, Launch.of(x, 2))
    return dx, x.new_empty(0) if dadded is None else dadded, sums


backward_operator = torch.library.custom_op("bnlib::batch_norm_backward", backward_pass, mutates_args=())


@backward_operator.register_fake
def _(dy: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    added = others[-1]
    dadded = torch.empty_like(x) if added else x.new_empty(0)
    return torch.empty_like(x), dadded, x.new_empty(2, x.shape[1], dtype=torch.float32)


Results = tuple[Tensor, Tensor, Tensor]


def train(*arguments: Any) -> Results:
    """Do what ``training_pass`` does, in a graph or at once."""
    if torch.compiler.is_compiling():
        return cast(Results, training_operator(*arguments))
    torch.autograd.graph.increment_version([t for t in arguments[2:4] if t is not None])
    return keeping_tickets(training_pass, *arguments)


def evaluate(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Do what ``evaluation_pass`` does, in a graph or at once."""
    if torch.compiler.is_compiling():
        return cast(tuple[Tensor, Tensor], evaluation_operator(*arguments))
    return evaluation_pass(*arguments)


def backward(*arguments: Any) -> Results:
    """Do what ``backward_pass`` does, in a graph or at once."""
    if torch.compiler.is_compiling():
        return cast(Results, backward_operator(*arguments))
    return keeping_tickets(backward_pass, *arguments)
