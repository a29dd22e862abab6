"""Batch renormalization for PyTorch: batch norm, corrected so that training computes what evaluation will.

Its definition, and what it is compared with, is ``bnlib.reference.renorm``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from bnlib.reference.renorm import RenormSchedule
from bnlib.torch.arithmetic import Statistics, wide_dtype
from bnlib.torch.autograd import normalize_over, statistics_over
from bnlib.torch.functional import (
    batch_norm,
    by_channel,
    empty_output,
    moved,
    normalize_by_running,
    optional_by_channel,
)
from bnlib.torch.modules import AnyRank
from bnlib.torch.validate import (
    check_channels,
    check_eps,
    check_given,
    check_input,
    check_least_ndim,
    check_momentum,
    check_more_than_one,
    check_renorm_bounds,
)

__all__ = ["BatchRenorm", "RenormSchedule", "batch_renorm"]


def batch_renorm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    r_max: float | Tensor = 3.0,
    d_max: float | Tensor = 5.0,
) -> Tensor:
    """Normalize each channel by the batch and correct it towards the running statistics.

    ``y = weight * ((x - mean) / sigma * r + d) + bias``, ``sigma = sqrt(var + eps)``

    ``r = clip(sigma / running_sigma, 1 / r_max, r_max)``,
    ``d = clip((mean - running_mean) / running_sigma, -d_max, d_max)``

    In training, mean and *biased* variance are those of the batch, ``r`` and ``d`` are constants to the
    gradient, and then the running statistics move in place: the mean, and not the variance but the standard
    deviation, ``running_sigma += momentum * (sigma - running_sigma)``. ``running_var`` holds
    ``running_sigma**2 - eps``, so that evaluation is that of ``batch_norm``. Where nothing is clipped,
    training output is the evaluation output. With ``r_max=1`` and ``d_max=0`` it is that of ``batch_norm``.

    Args:
        input: shape (N, C), (N, C, L), (N, C, H, W), ...
        running_mean: shape (C,).
        running_var: shape (C,).
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        training: whether to use the statistics of the batch.
        momentum: weight of the new batch, a number or a tensor of one number.
        eps: added to the variances, inside the roots; 0 is allowed.
        r_max: bound of the factor, at least 1; a number or a tensor of one number.
        d_max: bound of the term, at least 0; the same. The values of tensors are not checked.

    Returns:
        Tensor of the shape of ``input``. Empty input leaves the running statistics as they are.

    Raises:
        TypeError: an argument is of the wrong type.
        NotImplementedError: ``input`` is not floating.
        IndexError: ``input`` has fewer than 2 axes.
        RuntimeError: a tensor has the wrong number of values, dtype or device; a running statistic is None.
        ValueError: in training, a channel has a single value; ``eps`` or ``d_max`` is negative; ``r_max`` is
            less than 1.

    Source: Ioffe (2017), Algorithm 1.
    """
    check_input(input)
    check_least_ndim(input, 2, "(N, C, ...)", IndexError)
    check_given(running_mean, running_var)
    check_channels(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    check_eps(eps)
    check_momentum(momentum)
    check_renorm_bounds(r_max, d_max)
    if not training:
        return normalize_by_running(input, running_mean, running_var, weight, bias, eps)
    axes = (0, *range(2, input.ndim))
    check_more_than_one(input, axes, "channel")
    gamma, beta = optional_by_channel(input, weight), optional_by_channel(input, bias)
    if not input.numel():
        return empty_output(input, gamma, beta)
    statistics = statistics_over(input, axes)
    r, d = correction(
        statistics, by_channel(input, running_mean), by_channel(input, running_var), eps, r_max, d_max
    )
    factor, term = (r, d) if gamma is None else (gamma * r, gamma * d)
    y, _ = normalize_over(input, factor, term if beta is None else term + beta, axes, eps)
    update_running(running_mean, running_var, statistics, momentum, eps)
    return y


def standard_deviation(var: Tensor, eps: float) -> Tensor:
    """Return ``sqrt(var + eps)`` in the dtype of statistics."""
    return torch.sqrt(var.to(wide_dtype(var)) + eps)


def correction(
    statistics: Statistics,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float,
    r_max: float | Tensor,
    d_max: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the factor ``r`` and the term ``d``, constants of the shape of the statistics."""
    sigma = standard_deviation(running_var.detach(), eps)
    r = standard_deviation(statistics.var, eps) / sigma
    d = (statistics.mean() - running_mean.detach()) / sigma
    return clip(r, 1 / r_max, r_max), clip(d, -d_max, d_max)


def clip(value: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Return ``value`` between two bounds, both numbers or both tensors."""
    return torch.clamp(value, low, high)  # type: ignore[arg-type]


@torch.no_grad()
def update_running(
    running_mean: Tensor, running_var: Tensor, statistics: Statistics, momentum: float | Tensor, eps: float
) -> None:
    """Move in place the mean and, through ``running_var = sigma**2 - eps``, the standard deviation."""
    sigma = moved(standard_deviation(running_var, eps), standard_deviation(statistics.var, eps), momentum)
    running_mean.copy_(moved(running_mean, statistics.mean(), momentum))
    running_var.copy_((sigma.square() - eps).clamp_min(0))


class BatchRenorm(AnyRank):
    """Batch renormalization of (N, C), (N, C, L), (N, C, H, W), ...

    State dicts are those of ``torch.nn.BatchNorm1d`` and its relatives.

    ``y = weight * ((x - mean) / sigma * r + d) + bias``, with ``r`` and ``d`` as in ``batch_renorm``, in
    training

    Evaluation is that of batch norm, with ``running_var = running_sigma**2 - eps``. ``num_batches_tracked``
    is the step of the schedule, so the state of a trained batch norm goes on where its training ended.

    Args:
        num_features: C.
        eps: added to the variances, inside the roots.
        momentum: weight of the new batch in the running statistics; None averages all batches alike.
        affine: whether to learn weight and bias, of shape (C,); they start at 1 and 0.
        schedule: the bounds ``r_max`` and ``d_max`` as a function of the number of batches seen before this
            one, a tensor; None is ``RenormSchedule()``, which is batch norm for 5000 steps.
        device: where to create parameters and running statistics.
        dtype: of parameters and running statistics.

    Raises:
        ValueError: the input has fewer than 2 axes, or a channel has a single value in training.

    Source: Ioffe (2017), Algorithm 1; the schedule is that of section 4.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        schedule: Callable[[Tensor], tuple[float | Tensor, float | Tensor]] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, device=device, dtype=dtype)
        self.schedule = RenormSchedule() if schedule is None else schedule

    def normalize(self, input: Tensor, **arguments: Any) -> Tensor:
        """Normalize ``input`` by ``batch_renorm``; in evaluation and where nothing is tracked, plainly."""
        if arguments["running_mean"] is None or not arguments["training"]:
            return batch_norm(input, **arguments)
        r_max, d_max = self.bounds()
        return batch_renorm(input, **arguments, r_max=r_max, d_max=d_max)

    def bounds(self) -> tuple[float | Tensor, float | Tensor]:
        """Return ``r_max`` and ``d_max`` for the batch that was counted last."""
        counted = cast(Tensor, self.num_batches_tracked)
        return self.schedule((counted - 1).to(wide_dtype(counted)))

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"{super().extra_repr()}, schedule={self.schedule}"  # type: ignore[no-untyped-call]
