"""Batch norm, the addition of a shortcut, and ReLU in one step, as at the end of a residual block.

On a GPU one kernel does all three and keeps a bit a value for the backward pass, where three operations would
read and write the tensor at each step, and keep it; see ``bnlib.torch.kernels``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnlib.torch import kernels
from bnlib.torch.functional import normalize_channels
from bnlib.torch.modules import AnyRank
from bnlib.torch.validate import check_batch_norm, check_residual

__all__ = ["BatchNormAct", "batch_norm_act"]


def batch_norm_act(
    input: Tensor,
    residual: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel, add ``residual``, and set what is negative to 0.

    ``y = max(0, batch_norm(x) + residual)``

    Args:
        input: shape (N, C), (N, C, L), (N, C, H, W), ...
        residual: of the shape, dtype and device of ``input``; None adds nothing.
        running_mean: shape (C,), as for ``batch_norm``.
        running_var: shape (C,).
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        training: whether to use the statistics of the batch.
        momentum: weight of the new batch, a number or a tensor of one number.
        eps: added to the variance, inside the root; 0 is allowed.

    Returns:
        Tensor of the shape of ``input``.

    Raises:
        TypeError, NotImplementedError, IndexError, RuntimeError, ValueError: as ``batch_norm``; TypeError if
            ``residual`` is no tensor, RuntimeError if it is of another shape, dtype or device.

    Source: He, Zhang, Ren & Sun (2016), the end of a block in figure 2.
    """
    given = running_mean, running_var, weight, bias
    check_batch_norm(input, *given, training, momentum, eps)
    check_residual(residual, input)
    known = training or (running_mean is not None and running_var is not None)
    if known and kernels.suits(input, *given, added=residual):
        return kernels.batch_norm(input, *given, training, momentum, eps, residual, relu=True)
    y = normalize_channels(input, *given, training, momentum, eps)
    return torch.relu(y if residual is None else y + residual)


class BatchNormAct(AnyRank):
    """Batch normalization of (N, C), (N, C, L), (N, C, H, W), ..., a shortcut added to it, and ReLU.

    Arguments and state dicts are those of ``torch.nn.BatchNorm1d`` and its relatives.

    ``y = max(0, weight * (x - mean) / sqrt(var + eps) + bias + residual)``

    Args:
        num_features: C.
        eps: added to the variance, inside the root.
        momentum: weight of the new batch in the running statistics; None averages all batches alike.
        affine: whether to learn weight and bias, of shape (C,); they start at 1 and 0.
        track_running_stats: whether to keep a running mean and *unbiased* variance for evaluation.
        device: where to create parameters and running statistics.
        dtype: of parameters and running statistics.

    Raises:
        ValueError: the input has fewer than 2 axes, or a channel has a single value in training.
    """

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalize ``input``, add ``residual``, of the same shape, if given, and apply ReLU.

        Returns:
            Tensor of the shape of ``input``.

        Raises:
            TypeError, NotImplementedError, RuntimeError, ValueError: as ``batch_norm_act``.
        """
        self._check_input_dim(input)
        return batch_norm_act(input, residual, **self.arguments(input))
