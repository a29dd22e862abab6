"""Tensors for the tests of the PyTorch backend, and the functions that are compared."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from batches import lay_out
from hypothesis import strategies as st

import bnlib.torch
from bnlib import reference

LAYOUTS = ("contiguous", "fortran", "channels last", "strided", "expanded")


def as_tensor(x, layout="contiguous"):
    """Return the values of the array ``x`` as a tensor with another arrangement in memory."""
    if layout == "expanded":  # one sample, repeated without a copy
        return torch.from_numpy(x[:1].copy()).expand(x.shape)
    return torch.from_numpy(lay_out(x, layout))


@st.composite
def tensors(draw, dtype=torch.float64, least_ndim=2, layouts=LAYOUTS, least_channels=1):
    """Draw a tensor (N, C, ...) with 2 samples or more."""
    rest = draw(st.lists(st.integers(1, 5), min_size=least_ndim - 2, max_size=3))
    shape = (draw(st.integers(2, 9)), draw(st.integers(least_channels, 6)), *rest)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return as_tensor(rng.standard_normal(shape), draw(st.sampled_from(layouts))).to(dtype)


class Norm(NamedTuple):
    """A normalization by its own statistics, in three implementations of one signature (x, weight, bias).

    ``ours`` and ``theirs`` take tensors; ``reference`` and ``backward`` take arrays, the latter dy before x.
    ``shape`` gives the shape of the parameters from that of ``x``.
    """

    ours: object
    theirs: object
    reference: object
    backward: object
    shape: object


def batch_of(module):
    """Return batch norm in training as a function of x, weight, bias."""
    return lambda x, w, b, eps=1e-5: module.batch_norm(x, None, None, w, b, training=True, eps=eps)


def instance_of(module):
    """Return instance norm as a function of x, weight, bias."""
    return lambda x, w, b, eps=1e-5: module.instance_norm(x, weight=w, bias=b, eps=eps)


def group_of(module, groups=2):
    """Return group norm as a function of x, weight, bias."""
    return lambda x, w, b, eps=1e-5: module.group_norm(x, groups, w, b, eps=eps)


def layer_of(module):
    """Return layer norm over all but the first axis as a function of x, weight, bias."""
    return lambda x, w, b, eps=1e-5: module.layer_norm(x, x.shape[1:], w, b, eps=eps)


def rms_of(module):
    """Return RMS norm over all but the first axis as a function of x, weight; the bias is added."""
    return lambda x, w, b, eps=1e-5: module.rms_norm(x, x.shape[1:], w, eps=eps) + b


def rms_reference(x, w, b, eps=1e-5):
    """Return the RMS norm of an array, with a bias added."""
    return reference.rms_norm(x, w, eps=eps) + b


def rms_backward(dy, x, w, eps=1e-5):
    """Return the gradients of ``rms_reference``."""
    return *reference.rms_norm_backward(dy, x, w, eps=eps), dy.sum(0)


def channels(shape):
    """Return the shape of parameters by channel."""
    return (shape[1],)


NORMS = {
    "batch": Norm(
        batch_of(bnlib.torch), batch_of(F), reference.batch_norm, reference.batch_norm_backward, channels
    ),
    "instance": Norm(
        instance_of(bnlib.torch),
        instance_of(F),
        reference.instance_norm,
        reference.instance_norm_backward,
        channels,
    ),
    "group": Norm(
        group_of(bnlib.torch),
        group_of(F),
        lambda x, w, b, eps=1e-5: reference.group_norm(x, 2, w, b, eps=eps),
        lambda dy, x, w, eps=1e-5: reference.group_norm_backward(dy, x, 2, w, eps=eps),
        channels,
    ),
    "layer": Norm(
        layer_of(bnlib.torch),
        layer_of(F),
        reference.layer_norm,
        reference.layer_norm_backward,
        lambda shape: shape[1:],
    ),
    "rms": Norm(rms_of(bnlib.torch), rms_of(F), rms_reference, rms_backward, lambda shape: shape[1:]),
}


def suits(name, shape):
    """Tell whether the norm called ``name`` takes an input of ``shape``."""
    if name == "instance":
        return len(shape) > 2 and np.prod(shape[2:]) > 1
    return name != "group" or shape[1] % 2 == 0


def parameters(norm, x, seed=0):
    """Draw a weight and a bias for ``x``."""
    rng = np.random.default_rng(seed)
    shape = norm.shape(tuple(x.shape))
    return tuple(torch.from_numpy(rng.standard_normal(shape)).to(x.dtype) for _ in range(2))


def random_like(x, seed=1):
    """Draw a tensor of the shape and dtype of ``x``."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(x.shape))).to(x.dtype)


def gradients(function, inputs, dy, **kwargs):
    """Return the output of ``function`` and the gradients of ``sum(dy * output)``."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    return y, torch.autograd.grad(y, leaves, dy, **kwargs)


close = partial(torch.testing.assert_close, check_stride=False)
