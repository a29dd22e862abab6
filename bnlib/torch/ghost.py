"""Ghost batch normalization for PyTorch: the batch cut into small ones, by a reshape instead of a loop.

Its definition, and what it is compared with, is ``bnlib.reference.ghost``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnlib.reference.ghost import count_ghost_batches
from bnlib.reference.validate import check_ghost_batch_size
from bnlib.torch.arithmetic import Statistics, count
from bnlib.torch.autograd import normalize_over
from bnlib.torch.functional import batch_norm, empty_output, optional_by_channel
from bnlib.torch.modules import AnyRank
from bnlib.torch.validate import (
    check_channels,
    check_eps,
    check_input,
    check_least_ndim,
    check_momenta,
    check_more_than_one,
    check_running,
)

__all__ = ["GhostBatchNorm", "ghost_batch_norm"]


def ghost_batch_norm(
    input: Tensor,
    ghost_batch_size: int,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each ghost batch by its own statistics; in evaluation, as ``batch_norm``.

    ``y = weight * (x - mean_i) / sqrt(var_i + eps) + bias`` for the samples of ghost batch i

    The batch of N samples is cut into ``k = max(1, N // ghost_batch_size)`` ghost batches of neighbours. The
    first ``N % k`` have ``N // k + 1`` samples, the others ``N // k``. The variance is *biased*. The running
    statistics move in place as if the ghost batches came one after the other: towards the mean and the
    *unbiased* variance of each, ``running += momentum * (ghost batch - running)``. With ``k = 1`` this is
    ``batch_norm``.

    Args:
        input: shape (N, C), (N, C, L), (N, C, H, W), ...
        ghost_batch_size: the least number of samples in a ghost batch.
        running_mean: shape (C,); None in training tracks nothing.
        running_var: shape (C,).
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        training: whether to use the statistics of the ghost batches.
        momentum: weight of a new ghost batch, a number or a tensor of one number, or of k.
        eps: added to the variance, inside the root; 0 is allowed.

    Returns:
        Tensor of the shape of ``input``. Empty input leaves the running statistics as they are.

    Raises:
        TypeError, NotImplementedError, IndexError, RuntimeError: as ``batch_norm``, and TypeError if
            ``ghost_batch_size`` is not an integer.
        ValueError: as ``batch_norm``, in training for a channel of a ghost batch; ``ghost_batch_size`` is
            less than 1; ``momentum`` has neither one number nor k.

    Source: Hoffer, Hubara & Soudry (2017), Algorithm 1; variance and momentum are those of PyTorch.
    """
    check_input(input)
    check_least_ndim(input, 2, "(N, C, ...)", IndexError)
    k = count_ghost_batches(input.shape[0], ghost_batch_size)
    if k == 1 or not training:
        return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    check_channels(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    check_eps(eps)
    check_momenta(momentum, k)
    check_running(running_mean, running_var)
    parts = cut(input, k)
    check_more_than_one(parts[-1][0], (0, *range(2, input.ndim)), "channel of a ghost batch")
    gamma, beta = optional_by_channel(input, weight), optional_by_channel(input, bias)
    if not input.numel():
        return empty_output(input, gamma, beta)
    gamma, beta = (None if p is None else p[None] for p in (gamma, beta))
    axes = (1, *range(3, input.ndim + 1))
    ys, every = zip(*(normalize_over(part, gamma, beta, axes, eps) for part in parts), strict=True)
    if running_mean is not None and running_var is not None:
        numbers = [count(part, axes) for part in parts]
        update_running(running_mean, running_var, every, numbers, momentum)
    flat = [y.flatten(0, 1) for y in ys]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def cut(x: Tensor, k: int) -> list[Tensor]:
    """Return the k ghost batches of ``x``, (k, n, C, ...): first those of one sample more, if any."""
    n, longer = x.shape[0] // k, x.shape[0] % k  # not divmod, which symbolic sizes lack
    if not longer:
        return [x.unflatten(0, (k, n))]
    first, rest = x.split([longer * (n + 1), (k - longer) * n])
    return [first.unflatten(0, (longer, n + 1)), rest.unflatten(0, (k - longer, n))]


@torch.no_grad()
def update_running(
    running_mean: Tensor,
    running_var: Tensor,
    every: tuple[Statistics, ...],
    numbers: list[int],
    momentum: float | Tensor,
) -> None:
    """Move the running statistics in place towards those of every ghost batch, one after the other.

    Args:
        running_mean: shape (C,).
        running_var: shape (C,).
        every: the statistics of the ghost batches of one size, then those of the other.
        numbers: how many values a channel of a ghost batch has, for each of the two sizes.
        momentum: weight of a new ghost batch: one number, or one for each of them.
    """
    means = [s.mean().detach() for s in every]
    unbiased = [s.var.detach() * (m / (m - 1)) for s, m in zip(every, numbers, strict=True)]
    for running, batches in ((running_mean, means), (running_var, unbiased)):
        new = torch.cat([b.flatten(1) for b in batches])
        kept, weights = weights_in_a_row(momentum, new)
        running.copy_(kept * running.to(new.dtype) + weights @ new)


def weights_in_a_row(momentum: float | Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Return what updates by each row of ``new`` leave of the old value, and what they take of each row.

    ``kept = prod(1 - m_j)`` over all j, ``weights_i = m_i * prod(1 - m_j)`` over the j after i
    """
    given = momentum if isinstance(momentum, Tensor) else new.new_full((1,), momentum)
    m = given.to(new.dtype).reshape(-1).expand(new.shape[0])
    left = torch.cat([1 - m, m.new_ones(1)]).flip(0).cumprod(0).flip(0)
    return left[0], m * left[1:]


class GhostBatchNorm(AnyRank):
    """Ghost batch normalization of (N, C), (N, C, L), (N, C, H, W), ...

    State dicts are those of ``torch.nn.BatchNorm1d`` and its relatives.

    ``y = weight * (x - mean_i) / sqrt(var_i + eps) + bias`` for the samples of ghost batch i, in training

    The batch is cut into ghost batches of at least ``ghost_batch_size`` samples, as equal as possible; see
    ``ghost_batch_norm``. The running statistics, and ``num_batches_tracked``, see the ghost batches one after
    the other. Evaluation is that of batch norm, and so is training on fewer than ``2 * ghost_batch_size``
    samples. Without running statistics, evaluation does what training does.

    Args:
        num_features: C.
        ghost_batch_size: the least number of samples in a ghost batch.
        eps: added to the variance, inside the root.
        momentum: weight of a new ghost batch in the running statistics; None averages all alike.
        affine: whether to learn weight and bias, of shape (C,); they start at 1 and 0.
        track_running_stats: whether to keep a running mean and *unbiased* variance for evaluation.
        device: where to create parameters and running statistics.
        dtype: of parameters and running statistics.

    Raises:
        TypeError: ``ghost_batch_size`` is not an integer.
        ValueError: ``ghost_batch_size`` is less than 1; the input has fewer than 2 axes, or a channel of a
            ghost batch has a single value in training.

    Source: Hoffer, Hubara & Soudry (2017), Algorithm 1.
    """

    def __init__(
        self,
        num_features: int,
        ghost_batch_size: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_ghost_batch_size(ghost_batch_size)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.ghost_batch_size = ghost_batch_size

    def batches_in(self, input: Tensor) -> int:
        """Return the number of ghost batches of ``input``."""
        return count_ghost_batches(input.shape[0], self.ghost_batch_size)

    def normalize(self, input: Tensor, **arguments: Any) -> Tensor:
        """Normalize ``input`` by ``ghost_batch_norm``."""
        return ghost_batch_norm(input, self.ghost_batch_size, **arguments)

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"{super().extra_repr()}, ghost_batch_size={self.ghost_batch_size}"  # type: ignore[no-untyped-call]
