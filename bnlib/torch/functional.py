"""Drop-in versions of the normalizations of ``torch.nn.functional``: one core, and a choice of axes for each.

They take the arguments of their namesakes and mean the same by them. They differ in accuracy: float32 output
is within 1e-6 of a float64 computation for means up to 1e6 times the standard deviation.

Common to all: the input is float16, bfloat16, float32 or float64, in any layout of memory. Parameters and
running statistics have its dtype, or float32 where it is half precision; half-precision input is computed in
float32. The output has the shape, dtype and layout of the input. They differentiate in either mode and to
any order, and work under ``torch.func``, ``torch.compile``, ``torch.export`` and autocast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bnlib.torch import kernels, native
from bnlib.torch.arithmetic import Statistics, compute_dtype, count, wide_dtype
from bnlib.torch.autograd import in_transforms, normalize_over, scale_shift
from bnlib.torch.validate import (
    check_batch_norm,
    check_channels,
    check_eps,
    check_groups,
    check_input,
    check_least_ndim,
    check_momentum,
    check_more_than_one,
    check_normalized_shape,
    check_running,
)

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel, as ``torch.nn.functional.batch_norm`` does.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``

    In training, mean and *biased* variance are those of the batch, and the running statistics, if given, move
    in place towards the mean and the *unbiased* variance: ``running += momentum * (batch - running)``, so
    that ``momentum`` weighs the new batch. In evaluation the running statistics normalize. No gradient flows
    through them.

    Args:
        input: shape (N, C), (N, C, L), (N, C, H, W), ...
        running_mean: shape (C,); None in training tracks nothing.
        running_var: shape (C,).
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        training: whether to use the statistics of the batch.
        momentum: weight of the new batch, a number or a tensor of one number.
        eps: added to the variance, inside the root; 0 is allowed.

    Returns:
        Tensor of the shape of ``input``. Empty input leaves the running statistics as they are.

    Raises:
        TypeError: an argument is of the wrong type.
        NotImplementedError: ``input`` is not floating.
        IndexError: ``input`` has fewer than 2 axes.
        RuntimeError: a tensor has the wrong number of values, dtype or device; in evaluation, running
            statistics are missing.
        ValueError: in training, a channel has a single value, or one running statistic is given without the
            other; ``eps`` is negative.

    Source: Ioffe & Szegedy (2015), Algorithms 1 and 2.
    """
    check_batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return normalize_channels(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each sample alone, as ``torch.nn.functional.instance_norm`` does.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, with one mean and biased variance per sample and
    channel, or with the running statistics if ``use_input_stats`` is false

    Args:
        input: shape (N, C, L), (N, C, H, W), ...
        running_mean: shape (C,); moves in place towards the average over the samples of their means.
        running_var: shape (C,); the same for their unbiased variances.
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        use_input_stats: whether to use the statistics of the input.
        momentum: weight of the new batch, a number or a tensor of one number.
        eps: added to the variance, inside the root; 0 is allowed.

    Returns:
        Tensor of the shape of ``input``.

    Raises:
        TypeError, NotImplementedError, RuntimeError: as ``batch_norm``.
        ValueError: as ``batch_norm``, or there are fewer than 2 positions.

    Source: Ulyanov, Vedaldi & Lempitsky (2016), equation 3.
    """
    check_input(input)
    check_least_ndim(input, 3 if use_input_stats else 2, "(N, C, L, ...)", ValueError)
    check_channels(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    check_eps(eps)
    check_momentum(momentum)
    if not use_input_stats:
        return normalize_by_running(input, running_mean, running_var, weight, bias, eps)
    check_running(running_mean, running_var)
    axes = tuple(range(2, input.ndim))
    check_more_than_one(input, axes, "sample and channel")
    gamma, beta = optional_by_channel(input, weight), optional_by_channel(input, bias)
    if not input.numel():
        return empty_output(input, gamma, beta)
    y, statistics = normalize_over(input, gamma, beta, axes, eps)
    if running_mean is not None and running_var is not None:
        mean, var = (t.mean(0) for t in (statistics.mean(), statistics.var))
        update_running(running_mean, running_var, Statistics(None, mean, var), count(input, axes), momentum)
    return y


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize over the last axes, as ``torch.nn.functional.layer_norm`` does.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, the biased variance and the mean over the last axes

    Args:
        input: shape ``(..., *normalized_shape)``.
        normalized_shape: the lengths of the axes to normalize over.
        weight: gamma, shape ``normalized_shape``; None is 1.
        bias: beta, shape ``normalized_shape``; None is 0.
        eps: added to the variance, inside the root; 0 is allowed.

    Returns:
        Tensor of the shape of ``input``.

    Raises:
        TypeError: an argument is of the wrong type.
        NotImplementedError: ``input`` is not floating.
        RuntimeError: ``normalized_shape`` is empty or not the end of the shape of ``input``; a parameter has
            another shape, dtype or device.
        ValueError: ``eps`` is negative.

    Source: Ba, Kiros & Hinton (2016), equations 3 and 4.
    """
    return normalize_last(input, normalized_shape, weight, bias, eps, center=True)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divide by the root mean square over the last axes, as ``torch.nn.functional.rms_norm`` does.

    ``y = weight * x / sqrt(mean(x**2) + eps)``

    Args:
        input: shape ``(..., *normalized_shape)``.
        normalized_shape: the lengths of the axes to normalize over.
        weight: gamma, shape ``normalized_shape``; None is 1.
        eps: added to the mean square, inside the root; None is the machine epsilon of the dtype that is
            computed in, 1.2e-7 for float32 and less.

    Returns:
        Tensor of the shape of ``input``.

    Raises:
        TypeError, NotImplementedError, RuntimeError, ValueError: as ``layer_norm``.

    Source: Zhang & Sennrich (2019), equation 4; ``eps`` is added as in PyTorch.
    """
    check_input(input)
    if eps is None:
        eps = torch.finfo(compute_dtype(input.dtype)).eps
    return normalize_last(input, normalized_shape, weight, None, eps, center=False)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each sample over groups of neighbouring channels, as ``torch.nn.functional.group_norm`` does.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``, one mean and biased variance per sample and group

    Args:
        input: shape (N, C, ...).
        num_groups: number of groups, a divisor of C.
        weight: gamma, shape (C,); None is 1.
        bias: beta, shape (C,); None is 0.
        eps: added to the variance, inside the root; 0 is allowed.

    Returns:
        Tensor of the shape of ``input``.

    Raises:
        TypeError: an argument is of the wrong type.
        NotImplementedError: ``input`` is not floating.
        RuntimeError: ``input`` has fewer than 2 axes; ``num_groups`` does not divide C; a parameter has the
            wrong number of values, dtype or device.
        ValueError: the input is a single value per group; ``eps`` is negative.

    Source: Wu & He (2018), equation 7.
    """
    check_input(input)
    check_least_ndim(input, 2, "(N, C, ...)")
    check_groups(num_groups, input.shape[1])
    check_channels(input, weight=weight, bias=bias)
    check_eps(eps)
    if input.numel() == num_groups:
        check_more_than_one(input.view(num_groups, 1), (1,), "group")
    gamma, beta = optional_by_channel(input, weight), optional_by_channel(input, bias)
    if not input.numel():
        return empty_output(input, gamma, beta)
    x = input.unflatten(1, (num_groups, -1))
    gamma, beta = (None if p is None else p.unflatten(1, (num_groups, -1)) for p in (gamma, beta))
    y, _ = normalize_over(x, gamma, beta, tuple(range(2, x.ndim)), eps)
    return y.flatten(1, 2)


def normalize_last(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    center: bool,
) -> Tensor:
    """Normalize over the last axes, those of ``normalized_shape``."""
    check_input(x)
    shape = check_normalized_shape(x, normalized_shape, weight=weight, bias=bias)
    check_eps(eps)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    lead = (1,) * (x.ndim - len(shape))
    gamma, beta = (None if p is None else p.view(*lead, *shape) for p in (weight, bias))
    if not x.numel():
        return empty_output(x, gamma, beta)
    return normalize_over(x, gamma, beta, axes, eps, center)[0]


def by_channel(x: Tensor, p: Tensor) -> Tensor:
    """Return ``p`` with the rank of ``x``, its values along axis 1."""
    return p.reshape(1, -1, *[1] * (x.ndim - 2))


def optional_by_channel(x: Tensor, p: Tensor | None) -> Tensor | None:
    """Return ``by_channel(x, p)``, or None for None."""
    return None if p is None else by_channel(x, p)


def empty_output(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return a tensor like ``x``, which is empty, through which gradients of 0 flow to all three."""
    y = x.clone()
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(x.dtype)


def normalize_channels(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """Do what ``batch_norm`` does, for arguments that ``check_batch_norm`` has let pass."""
    if not training:
        return normalize_by_running(x, running_mean, running_var, weight, bias, eps)
    if kernels.suits(x, running_mean, running_var, weight, bias):
        return kernels.batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps)
    axes = (0, *range(2, x.ndim))
    gamma, beta = optional_by_channel(x, weight), optional_by_channel(x, bias)
    if not x.numel():
        return empty_output(x, gamma, beta)
    y, statistics = normalize_over(x, gamma, beta, axes, eps)
    if running_mean is not None and running_var is not None:
        update_running(running_mean, running_var, statistics, count(x, axes), momentum)
    return y


def normalize_by_running(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Normalize each channel by given statistics, which are constants: batch norm in evaluation."""
    if running_mean is None or running_var is None:
        missing = "running_mean" if running_mean is None else "running_var"
        raise RuntimeError(f"expected {missing} in evaluation, got None")
    if not x.numel():
        return empty_output(x, optional_by_channel(x, weight), optional_by_channel(x, bias))
    if kernels.suits(x, running_mean, running_var, weight, bias):
        return kernels.batch_norm(x, running_mean, running_var, weight, bias, False, 0.0, eps)
    plain = not torch.compiler.is_compiling() and not in_transforms()
    if plain and native.suits_evaluation(x, running_mean, running_var, weight, bias, eps):
        return torch.batch_norm(x, weight, bias, running_mean, running_var, False, 0.0, eps, False)
    dtype = compute_dtype(x.dtype)
    scale = torch.rsqrt(running_var.detach().to(wide_dtype(x)) + eps)
    if weight is not None:
        scale = scale * weight
    mean = by_channel(x, running_mean.detach().to(dtype))
    term = None if bias is None else by_channel(x, bias.to(dtype))
    return scale_shift(x, mean, by_channel(x, scale.to(dtype)), term)


def update_running(
    running_mean: Tensor,
    running_var: Tensor,
    statistics: Statistics,
    m: int,
    momentum: float | Tensor,
) -> None:
    """Move the running statistics in place towards those of a batch, the variance towards the unbiased one.

    Source: Ioffe & Szegedy (2015), section 3.1 and Algorithm 2, line 10.
    """
    with torch.no_grad():
        unbiased = statistics.var.detach() * (m / (m - 1))
        for running, batch in ((running_mean, statistics.mean().detach()), (running_var, unbiased)):
            running.copy_(moved(running, batch, momentum))


def moved(running: Tensor, batch: Tensor, momentum: float | Tensor) -> Tensor:
    """Return ``running + momentum * (batch - running)``, in the dtype of ``batch``."""
    weight = momentum.to(batch.dtype) if isinstance(momentum, Tensor) else momentum
    return torch.lerp(running.to(batch.dtype), batch.reshape(running.shape), weight)
