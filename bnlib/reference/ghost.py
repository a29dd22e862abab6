"""Ghost batch normalization: a batch is cut into small ones, each normalized by its own statistics.

What is small about a small batch, the noise of its statistics, is kept while the batch grows. The definition
is a loop over the ghost batches; ``bnlib.torch`` has no loop and is compared with this one.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np

from bnlib.reference.backward import batch_norm_backward
from bnlib.reference.closed_form import Gradients
from bnlib.reference.moments import batch_norm_axes
from bnlib.reference.normalize import batch_norm
from bnlib.reference.running import RunningStatistics
from bnlib.reference.validate import (
    Floating,
    check_array,
    check_ghost_batch_size,
    check_integer,
    check_like,
    check_more_than_one,
    check_type,
)


def count_ghost_batches(num_samples: int, ghost_batch_size: int) -> int:
    """Return the number of ghost batches: as many as there can be of ``ghost_batch_size`` samples or more.

    ``k = max(1, N // ghost_batch_size)``

    Args:
        num_samples: N, the size of the batch.
        ghost_batch_size: the least number of samples in a ghost batch.

    Returns:
        k, which is 1 for a batch of fewer than ``2 * ghost_batch_size`` samples.

    Raises:
        TypeError: one of the two is not an integer.
        ValueError: ``num_samples`` is negative, or ``ghost_batch_size`` less than 1.
    """
    check_integer("num_samples", num_samples, 0)
    check_ghost_batch_size(ghost_batch_size)
    return max(1, num_samples // ghost_batch_size)


def ghost_batches(num_samples: int, ghost_batch_size: int) -> list[slice]:
    """Cut a batch into ghost batches: neighbouring samples, in parts as equal as possible.

    Of ``k`` ghost batches the first ``N % k`` have ``N // k + 1`` samples and the others ``N // k``, so none
    has fewer than ``ghost_batch_size`` unless the whole batch has.

    Args:
        num_samples: N, the size of the batch.
        ghost_batch_size: the least number of samples in a ghost batch.

    Returns:
        One slice of the samples for each ghost batch, in order.

    Raises:
        TypeError, ValueError: as ``count_ghost_batches``.
    """
    k = count_ghost_batches(num_samples, ghost_batch_size)
    n, longer = divmod(num_samples, k)
    sizes = [n + 1] * longer + [n] * (k - longer)
    return [slice(start, end) for start, end in pairwise(accumulate(sizes, initial=0))]


def checked_ghost_batches(x: Floating, ghost_batch_size: int) -> list[slice]:
    """Return ``ghost_batches``, or raise if ``x`` is no batch or a channel of one has a single value."""
    check_array(x)
    axes = batch_norm_axes(x.ndim)
    parts = ghost_batches(x.shape[0], ghost_batch_size)
    check_more_than_one(x[parts[-1]].shape, axes, "channel of a ghost batch")
    return parts


def ghost_batch_norm(
    x: Floating,
    ghost_batch_size: int,
    weight: Floating | None = None,
    bias: Floating | None = None,
    *,
    eps: float = 1e-5,
) -> Floating:
    """Normalize each channel of each ghost batch by its own mean and biased variance, then scale and shift.

    ``y = weight * (x - mu_i) / sqrt(var_i + eps) + bias`` for the samples of ghost batch i, as in training

    A batch of fewer than ``2 * ghost_batch_size`` samples is one ghost batch: this is batch norm. Ghost
    batches of one sample make it instance norm.

    Args:
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        ghost_batch_size: the least number of samples in a ghost batch; see ``ghost_batches``.
        weight: gamma, shape (C,), floating, shared by all ghost batches; None is 1.
        bias: beta, the same; None is 0.
        eps: added to the variance, inside the root.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError: an array is not a floating NumPy array; ``ghost_batch_size`` is not an integer.
        ValueError: ``x`` has fewer than 2 axes; a ghost batch has fewer than 2 values per channel;
            ``weight`` or ``bias`` is not of shape (C,); ``eps`` is negative or not finite;
            ``ghost_batch_size`` is less than 1.

    Source: Hoffer, Hubara & Soudry (2017), Algorithm 1.
    """
    parts = checked_ghost_batches(x, ghost_batch_size)
    return np.concatenate([batch_norm(x[part], weight, bias, eps=eps) for part in parts])


def ghost_batch_norm_backward(
    dy: Floating,
    x: Floating,
    ghost_batch_size: int,
    weight: Floating | None = None,
    *,
    eps: float = 1e-5,
) -> Gradients:
    """Compute the gradients of ``sum(dy * ghost_batch_norm(x, ghost_batch_size, weight, bias))``.

    ``dx`` of a ghost batch is that of batch norm, for that ghost batch alone; ``dweight`` and ``dbias`` are
    sums over all ghost batches, which share the parameters.

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        ghost_batch_size: the least number of samples in a ghost batch.
        weight: gamma, shape (C,), floating; None is 1.
        eps: added to the variance, inside the root.

    Returns:
        As ``batch_norm_backward``.

    Raises:
        TypeError, ValueError: as ``ghost_batch_norm``, or ``dy`` is not of the shape of ``x``.
    """
    check_like("dy", dy, x)
    parts = checked_ghost_batches(x, ghost_batch_size)
    gradients = [batch_norm_backward(dy[part], x[part], weight, eps=eps) for part in parts]
    dx, dweight, dbias = (list(each) for each in zip(*gradients, strict=True))
    return np.concatenate(dx), np.sum(dweight, axis=0), np.sum(dbias, axis=0)


def update_by_ghost_batches(
    running: RunningStatistics, x: Floating, ghost_batch_size: int, momentum: float | None = 0.1
) -> RunningStatistics:
    """Return running statistics after the ghost batches of one more batch, one after the other.

    Each ghost batch moves them as a batch moves those of batch norm: the mean and the *unbiased* variance by
    ``momentum``, which weighs the new. With ``momentum=None`` all ghost batches so far weigh alike.

    Args:
        running: the statistics so far; their count is that of ghost batches.
        x: shape (N, C, ...); float16, float32 or float64.
        ghost_batch_size: the least number of samples in a ghost batch.
        momentum: between 0 and 1; None averages all ghost batches alike.

    Returns:
        New statistics, of the dtype of these.

    Raises:
        TypeError, ValueError: ``running`` is of another type, or as ``RunningStatistics.update``, with
            ``ghost_batch_size`` as in ``ghost_batch_norm``.

    Source: Hoffer, Hubara & Soudry (2017), Algorithm 1; variance and momentum are those of PyTorch.
    """
    check_type("running", running, RunningStatistics)
    for part in checked_ghost_batches(x, ghost_batch_size):
        running = running.update(x[part], momentum)
    return running
