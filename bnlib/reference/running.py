"""Running statistics: what inference uses in place of the statistics of its batch.

The variance that is tracked is unbiased and ``momentum`` weighs the new batch, as in PyTorch. TensorFlow and
Keras weigh the old value: their momentum is 1 minus that of PyTorch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from bnlib.reference.moments import batch_norm_axes, moments
from bnlib.reference.validate import Floating, check_array, check_momentum, check_more_than_one, check_shape

Convention = Literal["new", "old"]


@np.errstate(invalid="ignore", over="ignore")
def update_running(
    running: Floating, batch: Floating, momentum: float, convention: Convention = "new"
) -> Floating:
    """Move a running statistic towards that of a batch.

    ``(1 - momentum) * running + momentum * batch`` if momentum weighs the ``"new"`` (PyTorch),
    ``momentum * running + (1 - momentum) * batch`` if it weighs the ``"old"`` (TensorFlow, Keras)

    With weight w for the new, t batches of one value leave ``(1 - w)**t`` of the distance to it.

    Args:
        running: the statistic so far, any shape; floating.
        batch: that of the batch, the same shape; floating.
        momentum: between 0 and 1. 0.1 of the new is 0.9 of the old.
        convention: what ``momentum`` weighs, ``"new"`` or ``"old"``.

    Returns:
        A new array of the shape and dtype of ``running``.

    Raises:
        TypeError: an array is not a floating NumPy array, or ``momentum`` is no number.
        ValueError: the shapes differ; ``momentum`` is outside 0 to 1; ``convention`` is another word.

    Source: Ioffe & Szegedy (2015), section 3.1, tracks moving averages; the two conventions are those of
    ``torch.nn.BatchNorm1d`` and ``tf.keras.layers.BatchNormalization``.
    """
    check_array(running, "running")
    check_array(batch, "batch")
    check_momentum(momentum)
    if running.shape != batch.shape:
        raise ValueError(f"expected batch of shape {running.shape}, as running, got {batch.shape}")
    if convention not in ("new", "old"):
        raise ValueError(f"expected convention 'new' or 'old', got {convention!r}")
    new, old = (momentum, 1 - momentum) if convention == "new" else (1 - momentum, momentum)
    return np.asarray(old * running + new * batch, dtype=running.dtype)


class RunningStatistics(NamedTuple):
    """Running mean and variance of each channel, and the number of batches they have seen.

    Attributes:
        mean: shape (C,), floating.
        var: shape (C,), floating; unbiased unless updated otherwise.
        count: number of batches.
    """

    mean: Floating
    var: Floating
    count: int = 0  # type: ignore[assignment]  # hides tuple.count

    @classmethod
    def start(cls, num_features: int, dtype: DTypeLike = np.float32) -> RunningStatistics:
        """Return mean 0 and variance 1 for each of ``num_features`` channels, before any batch."""
        return cls(np.zeros(num_features, dtype), np.ones(num_features, dtype))

    def update(
        self,
        x: Floating,
        momentum: float | None = 0.1,
        *,
        convention: Convention = "new",
        unbiased: bool = True,
    ) -> RunningStatistics:
        """Return the statistics after one more batch, leaving these as they are.

        ``mean`` and ``var`` move by ``update_running`` towards the moments of ``x``. With ``momentum=None``
        the weight of batch t is 1/t, so that they are plain averages over all batches (cumulative).

        Args:
            x: shape (N, C, ...); float16, float32 or float64.
            momentum: between 0 and 1; None averages all batches alike.
            convention: what ``momentum`` weighs, the ``"new"`` (PyTorch) or the ``"old"`` (Keras).
            unbiased: divide the variance of the batch by m - 1, as PyTorch does; else by m.

        Returns:
            New statistics, of the dtype of these.

        Raises:
            TypeError: ``x`` is not a floating NumPy array, or ``momentum`` is no number.
            ValueError: ``x`` has fewer than 2 axes, another number of channels, or fewer than 2 values per
                channel; ``momentum`` is outside 0 to 1; ``convention`` is another word.
        """
        check_array(x)
        axes = batch_norm_axes(x.ndim)
        check_shape("running mean", self.mean.shape, (1,), x.shape)
        check_more_than_one(x.shape, axes, "channel")
        if momentum is None:
            momentum, convention = 1 / (self.count + 1), "new"
        mu, var = moments(x, axes, unbiased=unbiased)
        return RunningStatistics(
            update_running(self.mean, mu, momentum, convention),
            update_running(self.var, var, momentum, convention),
            self.count + 1,
        )
