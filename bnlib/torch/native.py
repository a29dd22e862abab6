"""PyTorch's own kernels of batch norm on the CPU, for the inputs on which they are accurate.

Two things make ``torch.nn.functional.batch_norm`` inaccurate: it adds up statistics of long columns one value
after the other, and it forms ``x * scale + term``, which cancels if a mean is large beside its standard
deviation. Short columns do not suffer from the first, so a matrix is read as a shorter and wider one, whose
statistics are then merged. Given good statistics, and where no mean exceeds its standard deviation, the
kernels for the output and for the gradient lose no more digits than any other, and are the fastest to be had.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnlib.torch.arithmetic import Axes, Parameters, Statistics, Sums

MOST_ROWS = 1 << 14
# Of one call for the statistics: a mebibyte of float32, which is read twice.
ROWS_IN_TURN, COLUMNS = 128, 2048
LEAST_VALUES = 1 << 20  # fewer gain nothing from it


def takes(x: Tensor, axes: Axes) -> bool:
    """Tell whether the kernels take ``x``, to be normalized over ``axes``."""
    batched = x.ndim > 1 and axes == (0, *range(2, x.ndim))
    return batched and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def suits(x: Tensor, parameters: Parameters, axes: Axes, statistics: Statistics) -> bool:
    """Tell whether the kernels take these arguments and are accurate on them."""
    return (
        statistics.shift is None
        and takes(x, axes)
        and is_packed(x)
        and not parameters.vary_along(axes)
        and all(p is None or p.dtype == x.dtype for p in parameters)
    )


def suits_backward(x: Tensor, parameters: Parameters, axes: Axes, statistics: Statistics) -> bool:
    """Tell whether the kernel of the gradient is accurate too: for (N, C) it adds up all N one by one."""
    few = x.ndim > 2 or x.shape[0] <= MOST_ROWS
    return few and suits(x, parameters, axes, statistics)


def suits_evaluation(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> bool:
    """Tell whether evaluation may be left to PyTorch: no mean exceeds its standard deviation."""
    if x.device.type != "cpu" or any(p is not None and p.dtype != x.dtype for p in (mean, var, weight, bias)):
        return False
    return bool((mean.detach().square() <= var.detach() + eps).all())


def is_packed(x: Tensor) -> bool:
    """Tell whether ``x`` is contiguous, or contiguous with the channels last."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def power_sums(x: Tensor, axes: Axes) -> tuple[Tensor, Tensor] | None:
    """Return the sums of each channel and of its squares, in float64, or None where the kernel is no gain.

    It is one where ``x`` lies in memory as a matrix with a column a channel. It adds up ``ROWS_IN_TURN``
    values one after the other; ``sum(x**2) = m * (var + mean**2)``.
    """
    if not takes(x, axes) or not x.movedim(1, -1).is_contiguous():
        return None
    channels = x.shape[1]
    rows = x.movedim(1, -1).reshape(-1, channels)
    whole = len(rows) // ROWS_IN_TURN * ROWS_IN_TURN
    blocks = rows[:whole].split(ROWS_IN_TURN * max(1, COLUMNS // channels)) if whole else []
    groups = [(len(rows) - whole, [rows[whole:]]), (ROWS_IN_TURN, [b.view(ROWS_IN_TURN, -1) for b in blocks])]
    total = square = rows.new_zeros(channels, dtype=torch.float64)
    for m, parts in groups:
        if m and parts:
            found = [torch.ops.aten.batch_norm_update_stats(part, None, None, 0.0) for part in parts]
            mean, var = (torch.cat(each).view(-1, channels) for each in zip(*found, strict=True))
            total = total + m * mean.sum(0, dtype=torch.float64)
            square = square + m * torch.addcmul(var, mean, mean).sum(0, dtype=torch.float64)
    shape = [1, channels] + [1] * (x.ndim - 2)
    return total.view(shape), square.view(shape)


def forward(x: Tensor, parameters: Parameters, statistics: Statistics, eps: float) -> Tensor:
    """Return the output, normalized by ``statistics``."""
    weight, bias = (None if p is None else p.flatten() for p in parameters)
    mean, var = (t.to(x.dtype).flatten() for t in (statistics.residual, statistics.var))
    return torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, statistics: Statistics, eps: float
) -> tuple[Tensor, Sums]:
    """Return dx and the sums over all axes but the channels that are dbias and dweight."""
    shape = statistics.var.shape
    mean, inv_std = (t.to(x.dtype).flatten() for t in (statistics.residual, statistics.inv_std(eps)))
    gamma = None if weight is None else weight.flatten()
    dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
        dy, x, gamma, None, None, mean, inv_std, True, eps, [True, True, True]
    )
    return dx, Sums(dbias.view(shape), dweight.view(shape))
