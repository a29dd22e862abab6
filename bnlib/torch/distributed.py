"""Batch normalization over the batches of several processes, on whatever device their group communicates."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from bnlib.torch.collective import group_of_several, normalize_together
from bnlib.torch.functional import batch_norm, optional_by_channel
from bnlib.torch.modules import AnyRank
from bnlib.torch.validate import check_batch_norm

__all__ = ["SyncBatchNorm", "convert_sync_batchnorm", "sync_batch_norm"]


def sync_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    process_group: Any = None,
) -> Tensor:
    """Normalize each channel by the mean and variance of the batches of all processes of a group.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``

    In training every process of the group has to make this call, with as many channels; the batches may
    differ in size and be empty. Mean and *biased* variance, and the *unbiased* one that the running variance
    moves towards, are those of all values of all processes: the same bits everywhere. The gradient for
    ``input`` is that of the sum of the losses of all processes. Those for ``weight`` and ``bias`` are the
    share of this process; their sum over the processes is the whole, which ``DistributedDataParallel``
    averages.

    One collective forward, and one backward if ``input`` needs a gradient. In evaluation, without an
    initialized ``torch.distributed`` and in a group of one, this is ``batch_norm``, without any.

    Args:
        input: shape (N, C), (N, C, L), (N, C, H, W), ...; on a device that the group communicates on.
        running_mean: shape (C,); None in training tracks nothing.
        running_var: shape (C,).
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        training: whether to use the statistics of the batches.
        momentum: weight of the new batches, a number or a tensor of one number.
        eps: added to the variance, inside the root; 0 is allowed.
        process_group: a ``torch.distributed.ProcessGroup``; None is the default group.

    Returns:
        Tensor of the shape of ``input``. Where all batches are empty, the running statistics stay.

    Raises:
        TypeError, NotImplementedError, IndexError: as ``batch_norm``.
        RuntimeError: as ``batch_norm``; this process is not in the group; another process did not make the
            call within the time-out of the group, or ended (NCCL: see ``SyncBatchNorm``); a second
            derivative is asked for.
        ValueError: as ``batch_norm``, for a channel with a single value in all processes together.

    Source: Chan, Golub & LeVeque (1979) for the merging of moments; chapter 18 of this course.
    """
    group = group_of_several(process_group) if training else None
    if group is None:
        return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    given = running_mean, running_var, weight, bias
    check_batch_norm(input, *given, training, momentum, eps, alone=False)
    gamma, beta = optional_by_channel(input, weight), optional_by_channel(input, bias)
    y: Tensor = normalize_together(input, running_mean, running_var, gamma, beta, momentum, eps, group)
    return y


def convert_sync_batchnorm(module: nn.Module, process_group: Any = None) -> nn.Module:
    """Make the batch norms of a model share their statistics, as ``torch.nn.SyncBatchNorm``'s namesake does.

    The model is changed in place: each batch norm of ``torch.nn`` or ``bnlib.torch`` becomes a
    ``SyncBatchNorm`` and stays the same object, with its parameters, buffers and hooks, so that an optimizer
    goes on with what it holds. ``bnlib.torch.surgery.convert(model, "sync")`` is the same on a copy, with a
    list of the changes.

    Args:
        module: any module; it may be a batch norm itself.
        process_group: for all layers; None is the default group.

    Returns:
        ``module``.

    Raises:
        TypeError: ``module`` is not a ``torch.nn.Module``.

    Warns:
        RuntimeWarning: a batch norm is left alone, being of another type or lazy; says which, and why.
    """
    from bnlib.torch.surgery.convert import convert  # which imports this module

    done = convert(module, "sync", inplace=True, process_group=process_group)
    if done.skipped:
        warnings.warn(f"expected batch norms that can share statistics, got {done}", RuntimeWarning, 2)
    return module


class SyncBatchNorm(AnyRank):
    """Batch normalization of (N, C), (N, C, L), ... over all processes of a group, on the CPU too.

    State dicts are those of ``torch.nn.BatchNorm1d`` and its relatives, and of ``torch.nn.SyncBatchNorm``.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, with the mean and *biased* variance of the batches
    of all processes, in training; see ``sync_batch_norm``

    Evaluation communicates nothing; without running statistics it normalizes by the batch of this process.
    Where ``torch.distributed`` is not initialized, this is plain batch norm. In training all processes call
    the layer alike, with empty batches where they have no samples; one that does not ends the call of the
    others in an error after the time-out of the group. NCCL only starts a collective, and its watchdog ends
    the waiting process after the time-out, with a message of its own; for an error that Python can catch, set
    ``TORCH_NCCL_BLOCKING_WAIT=1``.

    Args:
        num_features: C.
        eps: added to the variance, inside the root.
        momentum: weight of the new batches in the running statistics; None averages all alike.
        affine: whether to learn weight and bias, of shape (C,); they start at 1 and 0.
        track_running_stats: whether to keep a running mean and *unbiased* variance for evaluation.
        process_group: a ``torch.distributed.ProcessGroup`` that this process is in; None is the default
            group.
        device: where to create parameters and running statistics.
        dtype: of parameters and running statistics.

    Raises:
        ValueError: the input has fewer than 2 axes, or all processes together have a single value per
            channel in training.
        RuntimeError: as ``sync_batch_norm``.

    Source: chapter 18 of this course.
    """

    process_group: Any

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.process_group = process_group

    convert_sync_batchnorm = staticmethod(convert_sync_batchnorm)

    def __deepcopy__(self, memo: dict[int, Any]) -> SyncBatchNorm:
        """Copy the layer; the copy communicates in the same group."""
        memo[id(self.process_group)] = self.process_group
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def normalize(self, input: Tensor, **arguments: Any) -> Tensor:
        """Normalize ``input`` by ``sync_batch_norm``; in evaluation by this process alone."""
        if not self.training:
            return super().normalize(input, **arguments)
        return sync_batch_norm(input, **arguments, process_group=self.process_group)
