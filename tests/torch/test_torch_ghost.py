import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tensors import NORMS, close, gradients, parameters, random_like, tensors
from torch import nn

import bnlib.torch
from bnlib.reference import (
    RunningStatistics,
    count_ghost_batches,
    ghost_batch_norm,
    ghost_batch_norm_backward,
    update_by_ghost_batches,
    update_running,
)
from bnlib.torch import GhostBatchNorm, blocks, ghost

TIGHT = {"rtol": 1e-9, "atol": 1e-9}
SIZES = st.integers(1, 5)
MOMENTA = st.sampled_from([0.1, 0.0, 1.0, 0.37, None])
DIMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@pytest.fixture(params=["one block", "many blocks"])
def cut(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(blocks, "BYTES_PER_THREAD", 64)


def arrays(*values):
    return [v.detach().numpy() for v in values]


def layer(x, size, **kwargs):
    """Return a layer for ``x`` with random parameters."""
    made = GhostBatchNorm(x.shape[1], size, dtype=x.dtype, **kwargs)
    for p, value in zip(made.parameters(), parameters(NORMS["batch"], x), strict=False):
        p.data = value
    return made


def has_values(x, size):
    return x.shape[0] // count_ghost_batches(len(x), size) * np.prod(x.shape[2:]) >= 2


# The definition


@pytest.mark.usefixtures("cut")
@given(x=tensors(), size=SIZES, momentum=MOMENTA, eps=st.sampled_from([1e-5, 0.1]), data=st.data())
def test_training_is_that_of_the_reference(x, size, momentum, eps, data):
    assume(has_values(x, size))
    x = x + data.draw(st.sampled_from([0.0, 100.0]))
    ours = layer(x, size, momentum=momentum, eps=eps)
    weight, bias = arrays(*ours.parameters())
    dy = random_like(x)
    y, found = gradients(lambda x, *_: ours(x), (x,), dy)
    np.testing.assert_allclose(
        y.detach(), ghost_batch_norm(x.numpy(), size, weight, bias, eps=eps), 1e-9, 1e-9
    )
    ours(x).backward(dy)
    expected = ghost_batch_norm_backward(dy.numpy(), x.numpy(), size, weight, eps=eps)
    for got, want in zip(arrays(*found, ours.weight.grad, ours.bias.grad), expected, strict=True):
        np.testing.assert_allclose(got, want, 1e-8, 1e-8)


@given(x=tensors(), size=SIZES, momentum=MOMENTA)
def test_running_statistics_are_those_of_the_reference(x, size, momentum):
    assume(has_values(x, size))
    ours, expected = layer(x, size, momentum=momentum), RunningStatistics.start(x.shape[1], np.float64)
    for step in range(3):
        ours(x * (step + 1) + step)
        expected = update_by_ghost_batches(expected, x.numpy() * (step + 1) + step, size, momentum)
        np.testing.assert_allclose(ours.running_mean, expected.mean, 1e-6, 1e-6)
        np.testing.assert_allclose(ours.running_var, expected.var, 1e-6, 1e-6)
        assert ours.num_batches_tracked == expected.count


def test_running_statistics_move_as_by_single_updates_of_any_momenta():
    x = random_like(torch.empty(17, 3, 2, dtype=torch.float64)) * 3 + 1
    momenta = torch.tensor([0.3, 0.9, 0.0, 0.5, 1.0, 0.2, 0.1, 0.4], dtype=torch.float64)
    mean, var = torch.full((3,), 5.0, dtype=torch.float64), torch.full((3,), 7.0, dtype=torch.float64)
    expected = arrays(mean.clone(), var.clone())
    for part, momentum in zip(torch.tensor_split(x, 8), momenta, strict=True):
        new = part.mean((0, 2)).numpy(), part.var((0, 2)).numpy()
        expected = [update_running(old, b, float(momentum)) for old, b in zip(expected, new, strict=True)]
    bnlib.torch.ghost_batch_norm(x, 2, mean, var, training=True, momentum=momenta)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-12)
    np.testing.assert_allclose(var, expected[1], rtol=1e-12)


@pytest.mark.parametrize(("n", "calls"), [(12, 1), (13, 2), (17, 2), (5, 0)])
def test_the_core_is_called_once_for_each_size_of_a_ghost_batch(n, calls, monkeypatch):
    seen = []
    core = ghost.normalize_over
    monkeypatch.setattr(ghost, "normalize_over", lambda *a: seen.append(a[0].shape) or core(*a))
    GhostBatchNorm(3, 3)(torch.randn(n, 3))
    assert len(seen) == calls
    assert sum(shape[0] * shape[1] for shape in seen) in (n, 0)


# What it reduces to


@pytest.mark.usefixtures("cut")
@given(x=tensors(), more=st.integers(0, 3), momentum=MOMENTA)
def test_a_batch_below_twice_the_size_is_batch_norm_to_the_bit(x, more, momentum):
    ours = layer(x, len(x) // 2 + 1 + more, momentum=momentum)
    names = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
    plain = getattr(bnlib.torch, names[x.ndim])(x.shape[1], momentum=momentum, dtype=x.dtype)
    plain.load_state_dict(ours.state_dict())
    dy = random_like(x)
    close(gradients(ours, (x,), dy), gradients(plain, (x,), dy), rtol=0, atol=0)
    close(ours.state_dict(), plain.state_dict(), rtol=0, atol=0)


@given(x=tensors(), size=SIZES)
def test_evaluation_is_batch_norm_and_state_dicts_load_both_ways(x, size):
    ours, plain = layer(x, size), DIMS[x.ndim](x.shape[1], dtype=x.dtype)
    if has_values(x, size):
        ours(x)
    plain.load_state_dict(ours.state_dict())
    ours.load_state_dict(plain.state_dict())
    close(ours.eval()(x), plain.eval()(x), **TIGHT)
    close(ours.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert isinstance(ours, nn.modules.batchnorm._BatchNorm)


def test_ghost_batches_of_one_sample_are_instance_norm():
    x = random_like(torch.empty(6, 3, 5, dtype=torch.float64))
    y = bnlib.torch.ghost_batch_norm(x, 1, None, None, training=True)
    close(y, bnlib.torch.instance_norm(x), **TIGHT)


def test_without_running_statistics_evaluation_normalizes_by_ghost_batches():
    x = torch.randn(9, 3)
    ours = GhostBatchNorm(3, 2, track_running_stats=False)
    close(ours.eval()(x), ours.train()(x), rtol=0, atol=0)
    assert ours.running_mean is None


# Digits


@pytest.mark.parametrize("shape", [(65536, 8), (4099, 64), (33, 64, 28, 28), (17, 32, 7, 7)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_float32_is_accurate_for_large_means(shape, channels_last):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)) + 1e6
    if channels_last and len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    size = max(2, shape[0] // 5)
    parts = torch.tensor_split(x.double(), shape[0] // size)
    exact = torch.cat([nn.functional.batch_norm(part, None, None, training=True) for part in parts])
    ours = GhostBatchNorm(shape[1], size)
    assert (ours(x) - exact).abs().max() < 1e-6


def test_a_ghost_batch_sees_nothing_of_the_others():
    x = torch.randn(9, 3)
    changed = x.clone()
    changed[:5] = torch.nan
    y, other = (bnlib.torch.ghost_batch_norm(v, 4, None, None, training=True) for v in (x, changed))
    close(other[5:], y[5:], rtol=0, atol=0)
    assert other[:5].isnan().all()


# What is refused

X, ONES = torch.randn(6, 3), torch.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GhostBatchNorm(3, 0), ValueError, "expected ghost_batch_size to be at least 1, got 0"),
        (lambda: GhostBatchNorm(3, 2.5), TypeError, "ghost_batch_size to be an integer, got float"),
        (lambda: GhostBatchNorm(3, 2)(ONES), ValueError, r"at least 2 axes, \(N, C, ...\), got 1"),
        (lambda: GhostBatchNorm(4, 2)(X), RuntimeError, r"expected running_mean of shape \(C,\) = \(3,\)"),
        (lambda: GhostBatchNorm(3, 2)(X.double()), RuntimeError, "expected running_mean of dtype"),
        (lambda: GhostBatchNorm(3, 2)(X.long()), NotImplementedError, "got a tensor of torch.int64"),
        (lambda: GhostBatchNorm(3, 2)([1.0]), TypeError, "expected input to be a tensor, got list"),
        (
            lambda: GhostBatchNorm(3, 1)(X),
            ValueError,
            r"more than 1 value per channel of a ghost batch, got input of shape \(1, 3\)",
        ),
        (lambda: GhostBatchNorm(3, 2, eps=-1)(X), ValueError, "expected eps to be finite and at least 0"),
        (
            lambda: GhostBatchNorm(3, 2, momentum="a")(X),
            TypeError,
            "expected momentum to be a number, got str",
        ),
        (
            lambda: bnlib.torch.ghost_batch_norm(X, 2, None, None, training=True, momentum=torch.rand(2)),
            ValueError,
            r"expected momentum of 1 number or 3, one a ghost batch, got shape \(2,\)",
        ),
        (
            lambda: bnlib.torch.ghost_batch_norm(X, 2, ONES, None, training=True),
            ValueError,
            "or neither, got running_mean alone",
        ),
        (
            lambda: bnlib.torch.ghost_batch_norm(X, 2, None, None),
            RuntimeError,
            "expected running_mean in evaluation, got None",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_momentum_of_less_precision_updates_in_that_of_the_statistics():
    momentum = torch.tensor(0.3)
    x = random_like(torch.empty(12, 3, dtype=torch.float64))
    mean, var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    bnlib.torch.ghost_batch_norm(x, 2, mean, var, training=True, momentum=momentum)
    expected = torch.zeros(3, dtype=torch.float64)
    for part in x.split(2):
        expected += float(momentum) * (part.mean(0) - expected)
    torch.testing.assert_close(mean, expected, rtol=1e-13, atol=1e-13)


def test_one_axis_is_too_few():
    with pytest.raises(IndexError, match="expected at least 2 axes"):
        bnlib.torch.ghost_batch_norm(torch.ones(4), 2, None, None, training=True)
