"""Ways to spoil an argument, and what a function owes to each: to refuse it, to do as before, or either."""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Duty(Enum):
    """What a function does with a spoiled argument."""

    REFUSE = "refused"
    SAME = "the same result"
    EITHER = "refused or computed"


class Spoiled(NamedTuple):
    """A value to take the place of a good one."""

    what: str
    value: Any
    duty: Duty


def wrong_types(good: Any) -> Iterator[Spoiled]:
    """Yield values of types that no argument of the kind of ``good`` has."""
    for value in ("text", {}, object(), 1j):
        if not isinstance(value, type(good)):
            yield Spoiled(type(value).__name__, value, Duty.REFUSE)


def numbers(good: float) -> Iterator[Spoiled]:
    """Yield other numbers, and what looks like one."""
    yield from wrong_types(good)
    yield Spoiled("list", [good], Duty.EITHER)
    for value in (float("nan"), float("inf"), -1.0, 1e300, 0.0):
        yield Spoiled(f"{value:g}", value, Duty.EITHER)
    yield Spoiled("NumPy's number", np.float64(good), Duty.SAME)


def integers(good: int) -> Iterator[Spoiled]:
    """Yield other integers, and numbers that are none."""
    yield from wrong_types(good)
    yield Spoiled("0", 0, Duty.EITHER)
    for value in (-1, 1.5, float("nan"), [good]):
        yield Spoiled(str(value), value, Duty.REFUSE)
    yield Spoiled("huge", 2**62, Duty.EITHER)
    yield Spoiled("NumPy's integer", np.int64(good), Duty.SAME)


def tuples(good: tuple[int, ...]) -> Iterator[Spoiled]:
    """Yield other axes or lengths."""
    yield from wrong_types(good)
    yield Spoiled("list", list(good), Duty.EITHER)
    for value in ((), (0, 0), (99,), (-99,), (1.5,), ("0",), (None,)):
        yield Spoiled(str(value), value, Duty.REFUSE)


def arrays(good: np.ndarray) -> Iterator[Spoiled]:
    """Yield arrays that differ from a good one in dtype, shape, arrangement or values."""
    yield from wrong_types(good)
    yield Spoiled("list", good.tolist(), Duty.REFUSE)
    yield Spoiled("tensor", torch.from_numpy(good.copy()), Duty.REFUSE)
    if good.dtype.kind == "f":
        for dtype in (np.int64, np.bool_, np.complex128, object):
            yield Spoiled(np.dtype(dtype).name, good.astype(dtype), Duty.REFUSE)
        for dtype in (np.float16, np.float32, np.longdouble):
            yield Spoiled(np.dtype(dtype).name, good.astype(dtype), Duty.EITHER)
    backwards = np.ascontiguousarray(good[::-1])[::-1]
    for what, value in (("reversed in memory", backwards), ("Fortran order", np.asfortranarray(good))):
        yield Spoiled(what, value, Duty.SAME)
    fixed = good.copy()
    fixed.setflags(write=False)
    yield Spoiled("read-only", fixed, Duty.SAME)
    yield from shapes(good, np.float64)
    for bad in (np.nan, np.inf, -np.inf, 1e300, 5e-324):
        if good.dtype.kind == "f":
            spoiled = good.copy()
            spoiled.flat[0] = bad
            yield Spoiled(f"one {bad:g}", spoiled, Duty.EITHER)
            yield Spoiled(f"all {bad:g}", np.full_like(good, bad), Duty.EITHER)


def shapes(good: Any, scalar: Callable[[float], Any]) -> Iterator[Spoiled]:
    """Yield the values of an array or tensor in other shapes."""
    yield Spoiled("no axis", scalar(1.0), Duty.REFUSE)
    yield Spoiled("one axis more", good[None], Duty.EITHER)
    yield Spoiled("first of the first axis", good[0], Duty.EITHER)
    yield Spoiled("empty", good[:0], Duty.EITHER)
    yield Spoiled("last axis shorter", good[..., :-1], Duty.EITHER)
    if good.ndim > 1:
        yield Spoiled("no channels", good[:, :0], Duty.EITHER)
        yield Spoiled("a channel fewer", good[:, :-1], Duty.EITHER)


def tensors(good: Tensor) -> Iterator[Spoiled]:
    """Yield tensors that differ from a good one in dtype, device, shape, arrangement or values."""
    yield from wrong_types(good)
    yield Spoiled("list", good.tolist(), Duty.REFUSE)
    yield Spoiled("array", good.numpy(), Duty.REFUSE)
    for dtype in (torch.int64, torch.bool, torch.complex128, torch.float8_e5m2):
        yield Spoiled(str(dtype), good.to(dtype), Duty.REFUSE)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        yield Spoiled(str(dtype), good.to(dtype), Duty.EITHER)
    yield Spoiled("device meta", good.to("meta"), Duty.EITHER)
    yield Spoiled("reversed in memory", good.flip(0).clone().flip(0), Duty.SAME)
    yield Spoiled("transposed in memory", good.mT.contiguous().mT if good.ndim > 1 else good, Duty.SAME)
    yield from shapes(good, lambda v: torch.tensor(v, dtype=good.dtype))
    for bad in (torch.nan, torch.inf, -torch.inf, 1e300, 5e-324):
        spoiled = good.clone()
        spoiled.view(-1)[0] = bad
        yield Spoiled(f"one {bad:g}", spoiled, Duty.EITHER)
        yield Spoiled(f"all {bad:g}", torch.full_like(good, bad), Duty.EITHER)


def spoil(good: Any) -> list[Spoiled]:
    """Return what takes the place of a good value, by its kind; nothing for switches and models."""
    if isinstance(good, np.ndarray):
        return list(arrays(good))
    if isinstance(good, Tensor):
        return list(tensors(good))
    if isinstance(good, bool):
        return []
    if isinstance(good, int):
        return list(integers(good))
    if isinstance(good, float):
        return list(numbers(good))
    if isinstance(good, tuple) and good and all(isinstance(g, int) for g in good):
        return list(tuples(good))
    return list(wrong_types(good))
