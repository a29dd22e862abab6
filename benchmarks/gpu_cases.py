"""What `benchmarks/gpu.py` times: kinds of tensors, functions that compute the same, and calls of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm as torch_batch_norm

import bnlib.torch
from bnlib.lab.gpu import PASSES, Row

RESNET50 = [
    (64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28),
    (256, 28), (256, 14), (1024, 14), (512, 14), (512, 7), (2048, 7),
]  # fmt: skip
OTHERS = [(4, 128, 1024, 1024), (20, 6, 65536), (136000, 16, 16)]
ROWS = [(n, c) for n in (128, 4096, 65536, 1 << 20) for c in (64, 512, 1024)]
SHAPES = [(n, c, s, s) for n in (32, 128, 256) for c, s in RESNET50] + OTHERS + ROWS
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MOST_BYTES = 40 << 30  # of all that one call holds, which are up to 8 tensors
MOST_INPUTS = 8192  # so many of the smallest tensors, of 16 KB, exceed the cache of any GPU

Function = Callable[..., Tensor]
Call = Callable[[], Any]


class Case(NamedTuple):
    """One kind of tensor."""

    shape: tuple[int, ...]
    layout: str
    dtype: str

    @property
    def bytes(self) -> int:
        """Of one tensor."""
        return torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize

    def inputs(self, l2_bytes: int) -> int:
        """Return how many inputs take turns: together twice the cache, so that each has left it in between.

        They hold no more than twice the cache and one tensor.
        """
        return min(MOST_INPUTS, -(-2 * l2_bytes // self.bytes))


def cases(shapes: Sequence[tuple[int, ...]] = SHAPES) -> Iterator[Case]:
    """Yield what is measured; channels last where there are images."""
    for dtype, shape in itertools.product(DTYPES, shapes):
        for layout in FORMATS if len(shape) == 4 and shape[0] >= 32 else ["contiguous"]:
            case = Case(shape, layout, dtype)
            if case.bytes * 8 <= MOST_BYTES:
                yield case


def plan(shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[tuple[Case, str]]:
    """Return all cases and directions in an order of which each beginning stands for the whole.

    What the goals tell apart (direction, order in memory, size) takes turns, at random within.
    """
    kinds: dict[tuple[str, str, str], list[tuple[Case, str]]] = {}
    for case, direction in itertools.product(cases(shapes), PASSES):
        row = Row(*case, direction, "", {}, "")
        kinds.setdefault((direction, row.order, row.size), []).append((case, direction))
    chance = random.Random(0)
    for kind in kinds.values():
        chance.shuffle(kind)
    return [one for turn in itertools.zip_longest(*kinds.values()) for one in turn if one is not None]


def ours(
    x: Tensor, added: Tensor | None, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, training: bool
) -> Tensor:
    """Normalize by `bnlib`; if there is something to add, add it and apply ReLU."""
    if added is None:
        return bnlib.torch.batch_norm(x, mean, var, w, b, training)
    return bnlib.torch.batch_norm_act(x, added, mean, var, w, b, training)


def theirs(
    x: Tensor, added: Tensor | None, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, training: bool
) -> Tensor:
    """Compute the same by PyTorch, which asks cuDNN if it may."""
    y = torch_batch_norm(x, mean, var, w, b, training)
    return y if added is None else nn.functional.relu(y + added)


def without_cudnn(function: Function) -> Function:
    """Return ``function`` with cuDNN switched off."""

    def called(*arguments: Any) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):
            return function(*arguments)

    return called


def peers(with_compile: bool) -> dict[str, Function]:
    """Return the functions that are compared, by name; see ``bnlib.lab.gpu.EAGER`` for two of them."""
    found: dict[str, Function] = {"bnlib": ours, "cuDNN": theirs, "native": without_cudnn(theirs)}
    if with_compile:
        torch._dynamo.reset()
        found["compiled"] = torch.compile(theirs, mode="max-autotune-no-cudagraphs", dynamic=False)
    return found


def prepare(function: Function, direction: str, case: Case, number: int, device: str) -> Call:
    """Return the call that is timed, in which ``number`` inputs take turns.

    All that a call reads takes turns: x, the shortcut that is added to it where it is fused, and dy. The
    forward pass of a backward pass is done here; the shortcut gets a gradient, as in a residual network.
    """

    def tensor() -> Tensor:
        x = torch.randn(case.shape, dtype=DTYPES[case.dtype], device=device)
        return x.contiguous(memory_format=FORMATS[case.layout])

    fused = direction.startswith("fused")
    w, b, mean, var = (torch.rand(case.shape[1], device=device) + 0.5 for _ in range(4))
    pairs = [(tensor(), tensor() if fused else None) for _ in range(number)]
    if not direction.endswith("backward"):
        inputs = itertools.cycle(pairs)
        return lambda: function(*next(inputs), w, b, mean, var, direction != "evaluation")

    def forward(x: Tensor, added: Tensor | None) -> tuple[Tensor, list[Tensor], Tensor]:
        leaves = [t.requires_grad_() for t in (x, added, w, b) if t is not None]
        return function(x, added, w, b, mean, var, True), leaves, tensor()

    made = itertools.cycle([forward(*pair) for pair in pairs])

    def backward() -> tuple[Tensor, ...]:
        y, leaves, dy = next(made)
        return torch.autograd.grad(y, leaves, dy, retain_graph=True)

    return backward
