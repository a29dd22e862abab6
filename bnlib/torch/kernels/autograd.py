"""The kernels as a function that PyTorch differentiates.

It keeps the input, shift, residual and variance of each channel, and a bit a value where ReLU is fused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from bnlib.torch import blocks
from bnlib.torch.arithmetic import Statistics
from bnlib.torch.autograd import is_batched, shifted_statistics
from bnlib.torch.kernels import ops
from bnlib.torch.kernels.launch import packed_geometry_of


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | Tensor,
    eps: float,
    added: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Normalize each channel by the kernels, add ``added`` if given, and apply ReLU if asked to.

    Args:
        x: shape (N, C, ...), which ``suits`` accepts with all others.
        running_mean: shape (C,), moved in place in training; None tracks nothing.
        running_var: the same.
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        training: normalize by the batch, not by the running statistics.
        momentum: weight of the new batch, a number or a tensor of one number.
        eps: added to the variance, inside the root.
        added: of the shape, dtype and strides of ``x``.
        relu: whether to set what is negative in the end to 0.

    Returns:
        Tensor like ``x``.
    """
    if isinstance(momentum, Tensor):
        momentum = momentum.detach().to(x.device, torch.float32)
    y: Tensor = Kernels.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, added, running_mean, running_var, training, momentum, eps, relu
    )
    return y


class Kernels(Function):
    """``batch_norm`` as an autograd function."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Compute the output, and keep what the backward pass needs."""
        x, weight, bias, added, mean, var, training, momentum, eps, relu = inputs
        ctx.training, ctx.eps = training, eps
        ctx.bias = None if bias is None else (bias.shape, bias.dtype)
        if training:
            number, tensor = (0.0, momentum) if isinstance(momentum, Tensor) else (float(momentum), None)
            y, statistics, bits = ops.train(
                x, added, mean, var, weight, bias, number, tensor, float(eps), relu
            )
            ctx.save_for_backward(x, weight, bits, *statistics.unbind())
        else:
            y, bits = ops.evaluate(x, added, mean, var, weight, bias, float(eps), relu)
            ctx.save_for_backward(x, weight, bits, mean, None, var)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients for x, weight, bias and what was added."""
        x, weight, bits, shift, residual, var = ctx.saved_tensors
        adds = ctx.needs_input_grad[3]
        if torch.is_grad_enabled() or (not torch.compiler.is_compiling() and is_batched(dy)):
            g = torch.where(unpacked(bits, x), dy, 0) if bits.numel() else dy
            dx, dbias, dweight = plain_backward(g, x, weight, None if ctx.training else (shift, var), ctx.eps)
            dadded: Tensor | None = g
        else:
            dx, dadded, sums = ops.backward(
                dy,
                x,
                shift,
                residual,
                var,
                weight,
                bits,
                ctx.eps,
                ctx.training,
                adds and bits.numel() > 0,
            )
            dbias, dweight = sums.unbind()
            dadded = dadded if bits.numel() else dy
        return (
            dx,
            None if weight is None else reshaped(dweight, weight.shape, weight.dtype),
            None if ctx.bias is None else reshaped(dbias, *ctx.bias),
            dadded if adds else None,
            *[None] * 6,
        )


def reshaped(gradient: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the gradient of a parameter, in its shape: (C,), or with axes of length 1."""
    return gradient.to(dtype).view(shape)


def unpacked(bits: Tensor, x: Tensor) -> Tensor:
    """Return the truth values in ``bits``, of the shape of ``x``; ``store_bits`` has packed them."""
    geometry = packed_geometry_of(x)
    rows, row = geometry.channels, geometry.values
    if geometry.channels_last:
        rows, row = row, rows
    places = torch.arange(8, device=x.device)
    flags = (bits.view(rows, -1, 1) >> places & 1).view(rows, -1)[:, :row].bool()
    if geometry.channels_last:
        return flags.view(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1)
    return flags.view(x.shape[1], x.shape[0], *x.shape[2:]).movedim(0, 1)


def plain_backward(
    g: Tensor, x: Tensor, weight: Tensor | None, running: tuple[Tensor, Tensor] | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients for x, bias and weight by operations that can be differentiated again.

    ``running`` are the mean and the variance that normalized, None those of the batch.
    """
    axes = (0, *range(2, x.ndim))
    by_channel = (1, -1, *[1] * (x.ndim - 2))
    gamma = None if weight is None else weight.view(by_channel)
    if running is None:
        statistics = shifted_statistics(x, axes, center=True)[1]
        dx, sums = blocks.backward_whole(g, x, gamma, statistics, axes, axes, eps, True)
        return dx, sums.dy.view(-1), sums.dy_x_hat.view(-1)
    mean, var = (t.float().view(by_channel) for t in running)
    inv_std = Statistics(mean, torch.zeros_like(mean), var).inv_std(eps)
    factor = inv_std if gamma is None else inv_std * gamma
    g = g.float()
    return (g * factor).to(x.dtype), g.sum(axes), (g * (x.float() - mean) * inv_std).sum(axes)
