"""Batches for the tests of the kernels, and what float64 says about them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bnlib.torch import kernels
from bnlib.torch.kernels.launch import Launch, geometry_of
from bnlib.torch.kernels.plan import Plan

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TURNS = [(1, 1), (1, 2), (1, 5), (2, 1), (3, 2), (8, 5)]  # members and groups of programs
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = [(9, 1), (33, 20), (2, 8, 1, 1), (4, 3, 5, 7), (5, 8, 4, 4), (3, 5, 16), (2, 3, 3, 4, 5), (70, 40)]
# The rounding of the output and of sums of some 500 values of size 1; half the last digit of an output of 4
TOLERANCE = {torch.float32: 4e-6, torch.float16: 3e-3, torch.bfloat16: 2.5e-2}


def cases():
    """Return shapes, layouts and dtypes: all of them in float32, some in half precision."""
    every = [(shape, layout, torch.float32) for shape in SHAPES for layout in layouts(shape)]
    some = [((4, 3, 5, 7), "contiguous"), ((5, 8, 4, 4), "channels last"), ((33, 20), "contiguous")]
    return every + [(*case, dtype) for case in some for dtype in DTYPES[1:]]


class Batch(NamedTuple):
    """What goes into batch norm, fresh for each case, and the upstream gradient."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    added: Tensor
    dy: Tensor
    running_mean: Tensor
    running_var: Tensor


def layouts(shape):
    """Return the names of the layouts that differ for ``shape``."""
    return ["contiguous", "channels last"] if len(shape) > 3 else ["contiguous"]


def lay_out(x, layout):
    """Return ``x`` with its channels last, if asked to."""
    if layout == "contiguous":
        return x
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def draw(shape, layout="contiguous", dtype=torch.float32, mean=0.5, seed=0):
    """Draw a batch of standard deviation 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(size, generator=generator)

    x, added, dy = (lay_out(normal(*shape), layout).to(dtype).to(DEVICE) for _ in range(3))
    x += mean
    rows = [normal(shape[1]).to(DEVICE) for _ in range(4)]
    return Batch(x, rows[0], rows[1], added, dy, rows[2] * 0.1 + mean, rows[3].abs() + 0.5)


def exact(batch, training, act, momentum=0.1, eps=1e-5):
    """Return output, gradients for x, weight, bias and what is added, and running statistics in float64."""
    wide = [t.double() for t in batch]
    x, weight, bias, added = leaves = [t.requires_grad_() for t in wide[:4]]
    mean, var = wide[5].clone(), wide[6].clone()
    y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
    if act:
        y = torch.relu(y + added)
    gradients = torch.autograd.grad(y, leaves if act else leaves[:3], wide[4])
    return y.detach(), gradients, (mean, var)


def pieces(x, block_m, members, block_c=None, method="split", at_once=None, groups=None):
    """Return a launch that cuts ``x`` into small tiles."""
    geometry = geometry_of(x)
    block_c = (8 if geometry.channels_last else 1) if block_c is None else block_c
    blocks = -(-geometry.channels // block_c)
    if groups is None:
        groups = blocks if method in ("one", "group") else 0
    return Launch(geometry, Plan(method, block_m, block_c, members, groups, at_once or geometry.channels))


def held(x, block_m, groups):
    """Return a launch that holds ``x`` in programs of ``block_m`` values."""
    members = -(-geometry_of(x).values // block_m)
    return pieces(x, block_m, members, method="group", groups=groups)


def close(ours, exact, dtype=torch.float32, times=1.0):
    """Compare with float64, by the rounding of ``dtype`` of a value of the size of ``exact``."""
    tolerance = TOLERANCE[dtype] * times
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance, check_stride=False)


def compare(batch, act, training=True):
    """Compare what the operators give with float64; return the share of places where ReLU agrees."""
    leaves = [t.clone().requires_grad_() for t in batch[:4]]
    mean, var = batch.running_mean.clone(), batch.running_var.clone()
    y = kernels.batch_norm(
        leaves[0], mean, var, *leaves[1:3], training, 0.1, 1e-5, leaves[3] if act else None, relu=act
    )
    gradients = torch.autograd.grad(y, leaves if act else leaves[:3], batch.dy)
    expected, exact_gradients, running = exact(batch, training, act)
    # A value within rounding of 0 may be on here and off there: such places say nothing of the gradients.
    clear = expected.new_ones(()) if not act else (y > 0) == (expected > 0)
    dtype, values = batch.x.dtype, batch.x.numel() // batch.x.shape[1]
    share = (clear != 0).double().mean().item()
    assert share > 0.99
    close(y, expected, dtype)
    for k, (ours, theirs) in enumerate(zip(gradients, exact_gradients, strict=True)):
        if k in (0, 3):
            close(ours * clear, theirs * clear, dtype)
        else:
            close(ours, theirs, dtype if act else torch.float32, values**0.5)
    close(mean, running[0])
    close(var, running[1])
    return share
