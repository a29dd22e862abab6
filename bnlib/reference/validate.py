"""Checks of arguments and their error messages, each worded once.

The checks of shapes take shapes and not arrays, so that any backend can raise the same message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floating = NDArray[np.floating[Any]]
Axes = int | Sequence[int]

FLOATING = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


def check_array(x: object, name: str = "x") -> None:
    """Raise TypeError unless ``x`` is a NumPy array of float16, float32 or float64."""
    if isinstance(x, np.ndarray):
        if x.dtype in FLOATING:
            return
        got = f"an array of {x.dtype}"
    else:
        got = type(x).__name__
    raise TypeError(f"expected {name} to be a NumPy array of float16, float32 or float64, got {got}")


def check_like(name: str, value: Floating, x: Floating) -> None:
    """Raise unless ``x`` and ``value`` are floating NumPy arrays of one shape."""
    check_array(x)
    check_array(value, name)
    if value.shape != x.shape:
        raise ValueError(f"expected {name} of the shape of x, {x.shape}, got {value.shape}")


def check_type(name: str, value: object, expected: type) -> None:
    """Raise TypeError unless ``value`` is of the class ``expected``."""
    if not isinstance(value, expected):
        raise TypeError(f"expected {name} to be of type {expected.__name__}, got {type(value).__name__}")


def check_number(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a real number."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"expected {name} to be a number, got {type(value).__name__}")


def check_integer(name: str, value: object, least: int | None = None) -> None:
    """Raise ValueError unless ``value`` is at least ``least``, TypeError if it is no integer."""
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"expected {name} to be an integer, got {type(value).__name__}")
    if least is not None and value < least:
        raise ValueError(f"expected {name} to be at least {least}, got {value}")


def check_not_negative(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is finite and not negative, TypeError if it is no number."""
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"expected {name} to be finite and at least 0, got {value}")


def check_eps(eps: float) -> None:
    """Raise ValueError unless ``eps`` is finite and not negative, TypeError if it is no number."""
    check_not_negative("eps", eps)


def check_momentum(momentum: float) -> None:
    """Raise ValueError unless ``momentum`` is between 0 and 1, TypeError if it is no number."""
    check_number("momentum", momentum)
    if not 0 <= momentum <= 1:
        raise ValueError(f"expected momentum between 0 and 1, got {momentum}")


def check_axes(axes: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``axes`` as a sorted tuple of non-negative integers, or raise ValueError.

    The axes must lie in ``shape``, differ from one another, and span at least one value. Raise TypeError if
    one is no integer.
    """
    ndim = len(shape)
    try:
        given = tuple(index(a) for a in axes) if isinstance(axes, Sequence) else (index(axes),)
    except TypeError:
        raise TypeError(f"expected an axis or a sequence of axes, which are integers, got {axes!r}") from None
    if any(not -ndim <= a < ndim for a in given):
        raise ValueError(f"expected axes between {-ndim} and {ndim - 1} for shape {shape}, got {given}")
    found = tuple(sorted(a % ndim for a in given))
    if len(set(found)) < len(found):
        raise ValueError(f"expected axes that differ from one another, got {given} for shape {shape}")
    if not found:
        raise ValueError("expected at least one axis to average over, got ()")
    if 0 in (shape[a] for a in found):
        raise ValueError(f"expected at least 1 value to average over axes {found}, got shape {shape}")
    return found


def check_ndim(ndim: int, least: int, layout: str) -> None:
    """Raise ValueError unless ``ndim`` is at least ``least``, the number of axes of ``layout``."""
    if ndim < least:
        raise ValueError(f"expected at least {least} axes, {layout}, got {ndim}")


def check_more_than_one(shape: tuple[int, ...], axes: tuple[int, ...], per: str) -> None:
    """Raise ValueError unless each ``per`` has at least two values, those along ``axes``."""
    if math.prod([shape[a] for a in axes]) < 2:
        raise ValueError(f"expected more than 1 value per {per}, got input of shape {shape}")


def check_shape(name: str, got: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless ``got`` is what ``shape`` has along ``axes``."""
    expected = tuple(shape[a] for a in axes)
    if got != expected:
        shown = f"(C,) = {expected}" if axes == (1,) else f"{expected}, the lengths of axes {axes}"
        raise ValueError(f"expected {name} of shape {shown}, got {got}")


def check_parameter(name: str, p: Floating, axes: tuple[int, ...], shape: tuple[int, ...]) -> Floating:
    """Return ``p``, which must have the shape of ``axes``, with the rank of ``shape``, or raise."""
    check_array(p, name)
    check_shape(name, p.shape, axes, shape)
    return p.reshape([n if a in axes else 1 for a, n in enumerate(shape)])


def check_affine(
    weight: Floating | None, bias: Floating | None, axes: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Floating | None, Floating | None]:
    """Return ``weight`` and ``bias``, each None or checked as by ``check_parameter``."""
    gamma = None if weight is None else check_parameter("weight", weight, axes, shape)
    beta = None if bias is None else check_parameter("bias", bias, axes, shape)
    return gamma, beta


def check_broadcast(name: str, p: Floating | None, shape: tuple[int, ...]) -> None:
    """Raise unless ``p`` is None or an array of the rank of ``shape`` that broadcasts to it."""
    if p is None:
        return
    check_array(p, name)
    if p.ndim != len(shape) or any(n not in (1, full) for n, full in zip(p.shape, shape, strict=True)):
        raise ValueError(f"expected {name} to have {len(shape)} axes and broadcast to {shape}, got {p.shape}")


def check_groups(num_groups: int, channels: int) -> None:
    """Raise ValueError unless ``num_groups`` is positive and divides ``channels``, TypeError if no number."""
    check_integer("num_groups", num_groups)
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"expected num_groups to divide the {channels} channels, got {num_groups}")


def check_ghost_batch_size(ghost_batch_size: int) -> None:
    """Raise ValueError unless ``ghost_batch_size`` is at least 1, TypeError if it is no integer."""
    check_integer("ghost_batch_size", ghost_batch_size, 1)


def check_renorm_bounds(r_max: float, d_max: float) -> None:
    """Raise ValueError unless ``r_max`` is at least 1 and ``d_max`` at least 0, TypeError if no numbers."""
    check_number("r_max", r_max)
    check_number("d_max", d_max)
    if not r_max >= 1:
        raise ValueError(f"expected r_max to be at least 1, got {r_max}")
    if not d_max >= 0:
        raise ValueError(f"expected d_max to be at least 0, got {d_max}")
