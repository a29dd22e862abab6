"""What batch norm over several processes communicates, and normalization by statistics of all of them.

A rank contributes 2C + 1 numbers forward (how many values a channel has, their means, their sums of squared
deviations) and 2C backward (two sums a channel). The moments are merged on every rank in the order of the
ranks by ``bnlib.reference.merge_all``, so that all ranks normalize by the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from bnlib.reference.streaming_moments import Moments, merge_all
from bnlib.torch.arithmetic import (
    Axes,
    Parameters,
    Statistics,
    Sums,
    apply_maps,
    compute_dtype,
    count,
    normalization,
    projection,
    standardized_sums,
    subtract,
    upstream_sums,
    wide_dtype,
)
from bnlib.torch.autograd import Gradients, statistics_over, sum_to
from bnlib.torch.functional import by_channel, empty_output, update_running


def normalize_together(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    momentum: float | Tensor,
    eps: float,
    group: Any,
) -> Tensor:
    """Normalize ``x`` with the other processes of ``group``; the parameters have its rank."""
    axes = (0, *range(2, x.ndim))
    moments = gathered_moments(x.detach(), axes, group)
    if not moments.count or not x.shape[1]:
        return empty_output(x, gamma, beta)
    if moments.count < 2:
        raise ValueError("expected more than 1 value per channel in all processes together, got 1")
    statistics = statistics_from(moments, x)
    y: Tensor = SyncNormalize.apply(x, gamma, beta, statistics, moments.count, axes, eps, group)  # type: ignore[no-untyped-call]
    if running_mean is not None and running_var is not None:
        update_running(running_mean, running_var, statistics, moments.count, momentum)
    return y


# What is communicated


def group_of_several(process_group: Any) -> Any:
    """Return the group to communicate in, or None where this process is alone.

    Raises:
        RuntimeError: this process is not in the group.
    """
    if not dist.is_available() or not dist.is_initialized():
        return None
    group = dist.group.WORLD if process_group is None else process_group
    size = dist.get_world_size(group)
    if size < 1:
        raise RuntimeError(
            f"expected a process_group that this process is in, got one without rank {dist.get_rank()}"
        )
    return group if size > 1 else None


def gathered_moments(x: Tensor, axes: Axes, group: Any) -> Moments:
    """Return the moments of the values of all processes, float64, each of shape (C,): the one collective."""
    channels, m = x.shape[1], count(x, axes) if x.numel() else 0
    own = torch.zeros(2 * channels + 1, dtype=wide_dtype(x), device=x.device)
    if m:
        found = statistics_over(x, axes)
        own = torch.cat([own.new_full((1,), m), found.mean().flatten(), m * found.var.flatten()])
    rows = own.new_empty(dist.get_world_size(group), len(own))
    communicate(lambda: dist.all_gather(list(rows.unbind()), own, group=group), "moments", group)
    parts = [Moments(int(row[0]), row[1 : channels + 1], row[channels + 1 :]) for row in rows.cpu().numpy()]
    return merge_all(parts)


def summed(sums: Sums, group: Any) -> Sums:
    """Return the sums over all processes: the one collective of the backward pass."""
    both = torch.stack(tuple(sums))
    communicate(lambda: dist.all_reduce(both, group=group), "sums of gradients", group)
    return Sums(*both.unbind())


def communicate(collective: Callable[[], object], what: str, group: Any) -> None:
    """Run a collective; say what was expected of all processes if it fails."""
    try:
        collective()
    except RuntimeError as error:
        raise RuntimeError(
            f"expected all {dist.get_world_size(group)} processes of the group to exchange {what} in "
            f"SyncBatchNorm, got on rank {dist.get_rank()}: {error}. A process that does not arrive is "
            "waited for until the time-out of the group, which init_process_group and new_group set"
        ) from error


def statistics_from(moments: Moments, x: Tensor) -> Statistics:
    """Return mean and variance as tensors that broadcast to ``x``, the mean in two parts."""
    mean, var = (by_channel(x, torch.as_tensor(t)).to(x.device, wide_dtype(x)) for t in moments[1:])
    shift = mean.to(compute_dtype(x.dtype))
    return Statistics(shift, mean - shift, var / moments.count)


# The autograd functions


class SyncNormalize(Function):
    """Normalization by statistics of which the values of this process are a part."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        statistics: Statistics,
        m: int,
        axes: Axes,
        eps: float,
        group: Any,
    ) -> Tensor:
        """Return ``weight * (x - mean) / sqrt(var + eps) + bias``; nothing is communicated."""
        ctx.save_for_backward(x, weight, bias, *statistics)
        ctx.m, ctx.axes, ctx.eps, ctx.group = m, axes, eps, group
        z = subtract(x, statistics.shift)
        maps = normalization(statistics, Parameters(weight, bias), axes, eps, z.dtype)
        return apply_maps(z, maps).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Gradients:
        """Return the gradients for the input, the weight and the bias.

        ``dx = (g - sum(g) / m - x_hat * sum(g * x_hat) / m) / sqrt(var + eps)``, ``g = weight * dy``, with
        the sums over all m values of all processes; ``dweight`` and ``dbias`` are the sums over those of
        this process.
        """
        x, weight, bias, *found = ctx.saved_tensors
        statistics = Statistics(*found)
        with torch.no_grad():
            z = subtract(x, statistics.shift)
            g = dy.to(z.dtype)
            sums = standardized_sums(*upstream_sums(g, z, ctx.axes), statistics, ctx.eps)
            gradients: Gradients = (
                None,
                sum_to(sums.dy_x_hat, weight) if ctx.needs_input_grad[1] else None,
                sum_to(sums.dy, bias) if ctx.needs_input_grad[2] else None,
            )
            if ctx.needs_input_grad[0]:
                total = summed(sums, ctx.group)
                project = projection(statistics, total, weight, ctx.axes, ctx.eps, ctx.m, True, z.dtype)
                gradients = project.apply(g, z).to(x.dtype), *gradients[1:]
        if torch.is_grad_enabled():
            gradients = tuple(once_only(d, dy, x, weight) for d in gradients)
        return *gradients, None, None, None, None, None


def once_only(gradient: Tensor | None, *causes: Tensor | None) -> Tensor | None:
    """Return the gradient, as a tensor that raises when it is differentiated by one of its causes."""
    return None if gradient is None else FirstDerivative.apply(gradient, *causes)  # type: ignore[no-untyped-call]


class FirstDerivative(Function):
    """The identity of a first derivative, which knows what that depends on and has no derivative itself."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *causes: Tensor | None) -> Tensor:
        """Return the gradient."""
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """Refuse."""
        raise RuntimeError("expected first derivatives of SyncBatchNorm over several processes, got a second")
