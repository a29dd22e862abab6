import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensors import NORMS, close, gradients, parameters, random_like, tensors
from torch import nn

import bnlib.torch
from bnlib.reference import RunningStatistics, batch_renorm, batch_renorm_backward, update_renorm
from bnlib.torch import BatchRenorm, RenormSchedule, blocks
from bnlib.torch.surgery import recompute_statistics

TIGHT = {"rtol": 1e-9, "atol": 1e-9}
MOMENTA = st.sampled_from([0.1, 0.0, 1.0, 0.37, None])
BOUNDS = st.sampled_from([(1.0, 0.5), (1.3, 0.0), (1.3, 0.3), (3.0, 5.0), (1e9, 1e9)])
UNBOUND = RenormSchedule.constant(1e9, 1e9)
BATCH_NORM = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}


@pytest.fixture(params=["one block", "many blocks"])
def cut(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(blocks, "BYTES_PER_THREAD", 64)


def arrays(*values):
    return [v.detach().numpy().copy() for v in values]


def layer(x, **kwargs):
    """Return a layer for ``x`` with random parameters and running statistics."""
    made = BatchRenorm(x.shape[1], dtype=x.dtype, **kwargs)
    weight, bias = parameters(NORMS["batch"], x)
    mean, var = parameters(NORMS["batch"], x, seed=3)
    state = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var**2 + 0.1}
    made.load_state_dict(state | {"num_batches_tracked": torch.tensor(0)})
    return made


def spread(x):
    """Keep samples apart, so that no variance is nearly 0."""
    return 2 * x + torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape) * 0.3


# The definition


@pytest.mark.usefixtures("cut")
@given(x=tensors(), bounds=BOUNDS, eps=st.sampled_from([1e-5, 0.1]))
def test_training_is_that_of_the_reference(x, bounds, eps):
    x = spread(x)
    ours = layer(x, schedule=RenormSchedule.constant(*bounds), eps=eps)
    weight, bias, mean, var = arrays(*ours.parameters(), ours.running_mean, ours.running_var)
    limits = {"r_max": bounds[0], "d_max": bounds[1], "eps": eps}
    dy, leaf = random_like(x), x.detach().clone().requires_grad_()
    y = ours(leaf)
    found = torch.autograd.grad(y, [leaf, *ours.parameters()], dy)
    expected = batch_renorm(x.numpy(), mean, var, weight, bias, **limits)
    np.testing.assert_allclose(y.detach(), expected, 1e-9, 1e-9)
    expected = batch_renorm_backward(dy.numpy(), x.numpy(), mean, var, weight, **limits)
    for got, want in zip(arrays(*found), expected, strict=True):
        np.testing.assert_allclose(got, want, 1e-8, 1e-8)


@given(x=tensors(), momentum=MOMENTA, eps=st.sampled_from([1e-5, 0.5]))
def test_running_statistics_are_those_of_the_reference(x, momentum, eps):
    ours = layer(x, momentum=momentum, eps=eps)
    expected = RunningStatistics(*arrays(ours.running_mean, ours.running_var))
    for step in range(3):
        ours(x * (step + 1) + step)
        expected = update_renorm(expected, x.numpy() * (step + 1) + step, momentum, eps=eps)
        np.testing.assert_allclose(ours.running_mean, expected.mean, 1e-6, 1e-6)
        np.testing.assert_allclose(ours.running_var, expected.var, 1e-6, 1e-6)
        assert ours.num_batches_tracked == expected.count


def test_each_step_has_its_bounds_and_its_running_statistics():
    schedule = RenormSchedule(2.0, 1.0, start=2, r_end=6, d_end=4)
    ours = BatchRenorm(3, schedule=schedule, dtype=torch.float64)
    running = RunningStatistics.start(3, np.float64)
    for step in range(8):
        x = random_like(torch.empty(5, 3, dtype=torch.float64), seed=step) * 3 + 2
        r_max, d_max = schedule(step)
        expected = batch_renorm(x.numpy(), running.mean, running.var, r_max=r_max, d_max=d_max)
        np.testing.assert_allclose(ours(x).detach(), expected, 1e-12, 1e-12)
        running = update_renorm(running, x.numpy())


def test_the_schedule_goes_on_where_a_loaded_state_ended():
    state = nn.BatchNorm1d(3).state_dict() | {"num_batches_tracked": torch.tensor(22_500)}
    ours = BatchRenorm(3)
    ours.load_state_dict(state)
    x = torch.randn(50, 3) * 9
    y = ours(x)
    expected = batch_renorm(x.numpy(), np.zeros(3), np.ones(3), r_max=2.0, d_max=5 * 17.5 / 20)
    np.testing.assert_allclose(y.detach(), expected, rtol=1e-5, atol=1e-5)


# What it reduces to


@pytest.mark.usefixtures("cut")
@given(x=tensors())
def test_bounds_of_1_and_0_are_batch_norm_to_the_bit(x):
    for ours in (layer(x, schedule=RenormSchedule.constant(1, 0)), layer(x)):
        plain = getattr(bnlib.torch, BATCH_NORM[x.ndim])(x.shape[1], dtype=x.dtype)
        plain.load_state_dict(ours.state_dict())
        dy = random_like(x)
        close(gradients(ours, (x,), dy), gradients(plain, (x,), dy), rtol=0, atol=0)


@given(x=tensors(), eps=st.sampled_from([1e-5, 1.0]))
def test_training_computes_what_evaluation_will_where_nothing_is_clipped(x, eps):
    x = spread(x)
    ours = layer(x, schedule=UNBOUND, eps=eps)
    y = copy.deepcopy(ours).eval()(x)
    close(ours(x), y, **TIGHT)


@given(x=tensors(), eps=st.sampled_from([1e-5, 1.0]))
def test_evaluation_is_batch_norm_and_state_dicts_load_both_ways(x, eps):
    ours = layer(x, eps=eps)
    ours(x)
    plain = getattr(nn, BATCH_NORM[x.ndim])(x.shape[1], dtype=x.dtype, eps=eps)
    plain.load_state_dict(ours.state_dict())
    ours.load_state_dict(plain.state_dict())
    before = copy.deepcopy(ours.state_dict())
    close(ours.eval()(x), plain.eval()(x), **TIGHT)
    close(ours.state_dict(), before, rtol=0, atol=0)
    assert isinstance(ours, nn.modules.batchnorm._BatchNorm)


def test_without_tracking_it_is_batch_norm_and_its_statistics_can_be_recomputed():
    x = torch.randn(40, 3, dtype=torch.float64) * 5 + 2
    layer = BatchRenorm(3, schedule=RenormSchedule.constant(3.0, 5.0)).double()
    recompute_statistics(layer, x.split(10), progress=False)
    torch.testing.assert_close(layer.running_mean, x.mean(0))
    torch.testing.assert_close(layer.running_var, x.var(0))
    layer.track_running_stats = False
    torch.testing.assert_close(layer.train()(x), nn.BatchNorm1d(3).double()(x))


def test_no_gradient_flows_through_the_correction():
    """Through the unclipped output as a whole, dx would be dy over sigma; through a batch it sums to 0."""
    x = random_like(torch.empty(7, 3, dtype=torch.float64)) * 2 + 1
    ours = layer(x, schedule=UNBOUND)
    _, (dx,) = gradients(ours, (x,), random_like(x, seed=5))
    close(dx.sum(0), torch.zeros(3, dtype=torch.float64), **TIGHT)


# Digits


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("shape", [(65536, 8), (4096, 64), (32, 64, 28, 28), (16, 32, 7, 7)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_float32_is_accurate_for_large_means(shape, channels_last, mean):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)) + mean
    if channels_last and len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    running = torch.full((shape[1],), mean + 0.25), torch.full((shape[1],), 1.3)
    ours = bnlib.torch.batch_renorm(x, *(t.clone() for t in running), training=True)
    exact = bnlib.torch.batch_norm(x.double(), *(t.double() for t in running))
    assert (ours - exact).abs().max() < 1e-6


def test_running_statistics_keep_the_digits_of_a_large_mean():
    x = torch.randn(65536, 8, generator=torch.Generator().manual_seed(2)) + 1e6
    mean, var = torch.zeros(8), torch.ones(8)
    bnlib.torch.batch_renorm(x, mean, var, training=True, momentum=1.0)
    close(mean.double(), x.double().mean(0), rtol=1e-7, atol=0)
    close(var.double(), x.double().var(0, correction=0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.1, 0.3])
def test_a_constant_channel_leaves_no_negative_variance(eps):
    ours = BatchRenorm(1, momentum=0.3, eps=eps)
    ours.running_var.zero_()
    for _ in range(20):
        ours(torch.full((5, 1), 3.0))
        assert 0 <= ours.running_var < 1e-6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_value_spoils_its_channel_and_nothing_else(bad):
    x = torch.randn(40, 3)
    clean = BatchRenorm(3, schedule=UNBOUND)(x)
    x[7, 1] = bad
    y = BatchRenorm(3, schedule=UNBOUND)(x)
    assert y[:, 1].isnan().all()
    close(y[:, ::2], clean[:, ::2], rtol=1e-6, atol=1e-6)


# What is refused

X, ONES, FOUR = torch.randn(6, 3), torch.ones(3), torch.ones(4)
STATS = ONES, ONES


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BatchRenorm(3)(ONES), ValueError, r"at least 2 axes, \(N, C, ...\), got 1"),
        (lambda: BatchRenorm(3)(X[:1]), ValueError, r"more than 1 value per channel, got .* \(1, 3\)"),
        (lambda: BatchRenorm(4)(X), RuntimeError, r"expected running_mean of shape \(C,\) = \(3,\)"),
        (lambda: BatchRenorm(3)(X.double()), RuntimeError, "expected running_mean of dtype torch.float64"),
        (lambda: BatchRenorm(3)(X > 0), NotImplementedError, "got a tensor of torch.bool"),
        (lambda: BatchRenorm(3)([1.0]), TypeError, "expected input to be a tensor, got list"),
        (lambda: BatchRenorm(3, eps=-1)(X), ValueError, "expected eps to be finite and at least 0"),
        (lambda: BatchRenorm(3, momentum="a")(X), TypeError, "expected momentum to be a number, got str"),
        (
            lambda: bnlib.torch.batch_renorm(ONES, *STATS),
            IndexError,
            r"at least 2 axes, \(N, C, ...\), got 1",
        ),
        (
            lambda: bnlib.torch.batch_renorm(X, None, ONES, training=True),
            RuntimeError,
            "expected running_mean to be a tensor, got None",
        ),
        (
            lambda: bnlib.torch.batch_renorm(X, ONES, None),
            RuntimeError,
            "expected running_var to be a tensor, got None",
        ),
        (lambda: bnlib.torch.batch_renorm(X, *STATS, FOUR), RuntimeError, "expected weight of shape"),
        (lambda: bnlib.torch.batch_renorm(X, *STATS, None, FOUR), RuntimeError, "expected bias of shape"),
        (
            lambda: bnlib.torch.batch_renorm(X, *STATS, training=True, r_max=0.5),
            ValueError,
            "expected r_max to be at least 1, got 0.5",
        ),
        (
            lambda: bnlib.torch.batch_renorm(X, *STATS, training=True, d_max=-1.0),
            ValueError,
            "expected d_max to be at least 0, got -1",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_bounds_are_3_and_5_unless_given():
    x = torch.tensor([[-100.0], [300.0]])
    y = bnlib.torch.batch_renorm(x, torch.zeros(1), torch.ones(1), training=True)
    close(y, torch.tensor([[2.0], [8.0]]), atol=1e-5, rtol=0)
