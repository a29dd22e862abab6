"""Checks of arguments: the messages of ``bnlib.reference``, the exception types of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnlib.reference import validate

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)


def as_runtime_error(check: Callable[..., None], *args: Any) -> None:
    """Call a check of the reference; raise RuntimeError, as PyTorch does, where it raises ValueError."""
    try:
        check(*args)
    except ValueError as error:
        raise RuntimeError(str(error)) from None


def check_input(x: object) -> None:
    """Raise TypeError unless ``x`` is a tensor, NotImplementedError unless it is a floating one."""
    if not isinstance(x, Tensor):
        raise TypeError(f"expected input to be a tensor, got {type(x).__name__}")
    if x.dtype not in FLOATING:
        raise NotImplementedError(
            f"expected input to be float16, bfloat16, float32 or float64, got a tensor of {x.dtype}"
        )


def check_least_ndim(x: Tensor, least: int, layout: str, error: type[Exception] = RuntimeError) -> None:
    """Raise ``error`` unless ``x`` has at least ``least`` axes, the number of those of ``layout``."""
    try:
        validate.check_ndim(x.ndim, least, layout)
    except ValueError as refused:
        raise error(str(refused)) from None


def check_tensor(name: str, p: object, x: Tensor) -> None:
    """Raise unless ``p`` is a tensor on the device of ``x`` and of its dtype, or float32 if that is half."""
    if not isinstance(p, Tensor):
        raise TypeError(f"expected {name} to be a tensor, got {type(p).__name__}")
    if p.device != x.device:
        raise RuntimeError(f"expected {name} on the device of input, {x.device}, got {p.device}")
    if p.dtype != x.dtype and not (x.dtype in HALF and p.dtype == torch.float32):
        allowed = f"{x.dtype} or torch.float32" if x.dtype in HALF else f"{x.dtype}"
        raise RuntimeError(f"expected {name} of dtype {allowed} for input of {x.dtype}, got {p.dtype}")


def check_channels(x: Tensor, **parameters: Tensor | None) -> None:
    """Raise unless each of ``parameters`` is None or has as many values as ``x`` has channels."""
    for name, p in parameters.items():
        if p is not None:
            check_tensor(name, p, x)
            if p.numel() != x.shape[1]:
                as_runtime_error(validate.check_shape, name, tuple(p.shape), (1,), tuple(x.shape))


def check_running(running_mean: Tensor | None, running_var: Tensor | None) -> None:
    """Raise ValueError if one of the two is given and the other is not."""
    if (running_mean is None) != (running_var is None):
        got = "running_mean alone" if running_var is None else "running_var alone"
        raise ValueError(f"expected both running_mean and running_var or neither, got {got}")


def check_given(running_mean: Tensor | None, running_var: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the two, or raise RuntimeError if one is None."""
    if running_mean is None or running_var is None:
        missing = "running_mean" if running_mean is None else "running_var"
        raise RuntimeError(f"expected {missing} to be a tensor, got None")
    return running_mean, running_var


def check_normalized_shape(
    x: Tensor, normalized_shape: object, **parameters: Tensor | None
) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple; raise unless it is the end of the shape of ``x``."""
    if not isinstance(normalized_shape, Sequence):
        raise TypeError(
            f"expected normalized_shape to be a sequence of integers, got {type(normalized_shape).__name__}"
        )
    if not all(isinstance(n, (int, np.integer, torch.SymInt)) for n in normalized_shape):
        raise TypeError(f"expected normalized_shape to be a sequence of integers, got {normalized_shape!r}")
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError("expected normalized_shape of at least one axis, got ()")
    if tuple(x.shape[-len(shape) :]) != shape:
        raise RuntimeError(
            f"expected input of shape (..., {', '.join(map(str, shape))}), got {tuple(x.shape)}"
        )
    for name, p in parameters.items():
        if p is not None:
            check_tensor(name, p, x)
            if tuple(p.shape) != shape:
                raise RuntimeError(
                    f"expected {name} of the shape normalized_shape = {shape}, got {tuple(p.shape)}"
                )
    return shape


def check_groups(num_groups: int, channels: int) -> None:
    """Raise RuntimeError unless ``num_groups`` is positive and divides ``channels``."""
    as_runtime_error(validate.check_groups, num_groups, channels)


def check_eps(eps: float) -> None:
    """Raise ValueError unless ``eps`` is finite and not negative, TypeError if it is no number."""
    validate.check_eps(eps)


def check_momentum(momentum: float | Tensor) -> None:
    """Raise TypeError unless ``momentum`` is a number or a tensor of one number."""
    if isinstance(momentum, Tensor) and momentum.numel() == 1:
        return
    if isinstance(momentum, bool) or not isinstance(momentum, (int, float)):
        raise TypeError(f"expected momentum to be a number, got {type(momentum).__name__}")


def check_momenta(momentum: float | Tensor, batches: int) -> None:
    """Raise ValueError or as ``check_momentum`` unless that passes or there are ``batches`` numbers."""
    if not isinstance(momentum, Tensor):
        check_momentum(momentum)
    elif momentum.numel() not in (1, batches):
        shape = tuple(momentum.shape)
        raise ValueError(f"expected momentum of 1 number or {batches}, one a ghost batch, got shape {shape}")


def check_renorm_bounds(r_max: float | Tensor, d_max: float | Tensor) -> None:
    """Raise ValueError if ``r_max`` is a number below 1 or ``d_max`` one below 0; let tensors pass."""
    validate.check_renorm_bounds(
        1.0 if isinstance(r_max, Tensor) else r_max, 0.0 if isinstance(d_max, Tensor) else d_max
    )


def check_more_than_one(x: Tensor, axes: tuple[int, ...], per: str) -> None:
    """Raise ValueError if a mean over ``axes`` averages a single value; an empty ``x`` passes."""
    if x.numel():
        validate.check_more_than_one(tuple(x.shape), axes, per)


def check_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | Tensor,
    eps: float,
    *,
    alone: bool = True,
) -> None:
    """Raise unless these are arguments of batch norm, as its docstring says.

    Unless ``x`` stands ``alone``, as the whole batch, a channel may have a single value in it.
    """
    check_input(x)
    check_least_ndim(x, 2, "(N, C, ...)", IndexError)
    check_channels(x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    check_eps(eps)
    check_momentum(momentum)
    if training:
        check_running(running_mean, running_var)
    if training and alone:
        check_more_than_one(x, (0, *range(2, x.ndim)), "channel")


def check_residual(residual: object, x: Tensor) -> None:
    """Raise unless ``residual`` is None or a tensor of the shape, dtype and device of ``x``."""
    if residual is None:
        return
    if not isinstance(residual, Tensor):
        raise TypeError(f"expected residual to be a tensor, got {type(residual).__name__}")
    if residual.shape != x.shape:
        raise RuntimeError(f"expected residual of shape {tuple(x.shape)}, got {tuple(residual.shape)}")
    if residual.dtype != x.dtype or residual.device != x.device:
        raise RuntimeError(
            f"expected residual of {x.dtype} on {x.device}, got {residual.dtype} on {residual.device}"
        )


def check_module(model: object) -> None:
    """Raise TypeError unless ``model`` is a module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected model to be a torch.nn.Module, got {type(model).__name__}")
