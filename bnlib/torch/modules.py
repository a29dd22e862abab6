"""Drop-in batch normalization layers: subclasses of those of ``torch.nn`` that compute with ``functional``.

Arguments, attributes and state dicts are those of ``torch.nn.BatchNorm1d`` and its relatives, and tools that
look for these find ours. ``num_batches_tracked`` counts the batches; with ``momentum=None`` the running
statistics are plain averages over all batches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnlib.torch.arithmetic import wide_dtype
from bnlib.torch.functional import batch_norm
from bnlib.torch.validate import check_input, check_least_ndim

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
]


class Forward(nn.modules.batchnorm._BatchNorm):
    """The forward pass that the layers share; their base classes hold parameters and running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel of ``input``: by the batch in training, else by the running statistics.

        Without running statistics, evaluation normalizes by the batch too.

        Args:
            input: tensor of as many axes as the layer takes, axis 1 of length ``num_features``.

        Returns:
            Tensor of the shape of ``input``.

        Raises:
            ValueError: ``input`` has another number of axes.
            TypeError, NotImplementedError, RuntimeError, ValueError: as ``functional.batch_norm``.
        """
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        return self.normalize(input, **self.arguments(input))

    def arguments(self, input: Tensor) -> dict[str, Any]:
        """Return what ``functional.batch_norm`` takes beside ``input``, by name, and count the batch."""
        keep = not self.training or self.track_running_stats
        return {
            "running_mean": self.running_mean if keep else None,
            "running_var": self.running_var if keep else None,
            "weight": self.weight,
            "bias": self.bias,
            "training": self.training or self.running_mean is None,
            "momentum": self.track(self.batches_in(input)),
            "eps": self.eps,
        }

    def batches_in(self, input: Tensor) -> int:
        """Return how many batches ``input`` counts as."""
        return 1

    def track(self, batches: int) -> float | Tensor:
        """Count ``batches`` more, if this is training, and return the momentum, of all or of each of them."""
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            if self.momentum is None:
                more = torch.arange(1, batches + 1, device=self.num_batches_tracked.device)
                momentum = 1 / (self.num_batches_tracked + more).to(wide_dtype(more))
            self.num_batches_tracked.add_(batches)
        return momentum

    def normalize(self, input: Tensor, **arguments: Any) -> Tensor:
        """Normalize ``input`` by the function for this layer, given ``arguments``."""
        return batch_norm(input, **arguments)


class AnyRank(Forward):
    """The layers that take (N, C), (N, C, L), (N, C, H, W), ... alike."""

    def _check_input_dim(self, input: Tensor) -> None:
        check_input(input)
        check_least_ndim(input, 2, "(N, C, ...)", ValueError)


class BatchNorm1d(Forward, nn.BatchNorm1d):
    """Batch normalization of (N, C) or (N, C, L); arguments and state dict of ``torch.nn.BatchNorm1d``.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``

    Args:
        num_features: C.
        eps: added to the variance, inside the root.
        momentum: weight of the new batch in the running statistics; None averages all batches alike.
        affine: whether to learn weight and bias, of shape (C,); they start at 1 and 0.
        track_running_stats: whether to keep a running mean and *unbiased* variance for evaluation.

    Raises:
        ValueError: the input has not 2 or 3 axes, or a channel has a single value in training.

    Source: Ioffe & Szegedy (2015), Algorithms 1 and 2.
    """


class BatchNorm2d(Forward, nn.BatchNorm2d):
    """Batch normalization of (N, C, H, W); arguments and state dict of ``torch.nn.BatchNorm2d``.

    As ``BatchNorm1d``, with mean and variance over N, H and W.

    Source: Ioffe & Szegedy (2015), section 3.2.
    """


class BatchNorm3d(Forward, nn.BatchNorm3d):
    """Batch normalization of (N, C, D, H, W); arguments and state dict of ``torch.nn.BatchNorm3d``.

    As ``BatchNorm1d``, with mean and variance over N, D, H and W.
    """


class LazyBatchNorm1d(Forward, nn.LazyBatchNorm1d):
    """``BatchNorm1d`` that takes ``num_features`` from its first input, and then becomes one."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(Forward, nn.LazyBatchNorm2d):
    """``BatchNorm2d`` that takes ``num_features`` from its first input, and then becomes one."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(Forward, nn.LazyBatchNorm3d):
    """``BatchNorm3d`` that takes ``num_features`` from its first input, and then becomes one."""

    cls_to_become = BatchNorm3d
