"""Normalization over a group of processes, on a group that this process is alone in: it is batch norm."""

import copy
from threading import Lock

import pytest
import torch
import torch.distributed as dist
from tensors import random_like
from torch import nn

from bnlib.torch import (
    SyncBatchNorm,
    batch_norm,
    collective,
    convert_sync_batchnorm,
    distributed,
    sync_batch_norm,
)
from bnlib.torch.arithmetic import Sums


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def by_channel(p, x):
    return None if p is None else p.view(1, -1, *[1] * (x.ndim - 2))


def made(shape, dtype=torch.float64, mean=3.0, device="cpu"):
    """Return x, weight and bias as leaves, running statistics, and dy."""
    where = {"dtype": dtype, "device": device}
    x = (random_like(torch.empty(shape, dtype=torch.float64)) * 2 + mean).to(**where)
    weight, bias, *running = (
        random_like(torch.empty(shape[1], dtype=torch.float64), k).abs().to(**where) + 0.5
        for k in range(1, 5)
    )
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    return leaves, running, random_like(torch.empty(shape, dtype=torch.float64), 5).to(**where)


def both(group, shape, use=(True, True), momentum=0.3, eps=0.1, **kwargs):
    """Return outputs, gradients and running statistics of the group of one and of batch norm."""
    found = []
    for together in (True, False):
        (x, *parameters), running, dy = made(shape, **kwargs)
        weight, bias = (p if used else None for p, used in zip(parameters, use, strict=True))
        if together:
            y = collective.normalize_together(
                x, *running, by_channel(weight, x), by_channel(bias, x), momentum, eps, group
            )
        else:
            y = batch_norm(x, *running, weight, bias, True, momentum, eps)
        y.backward(dy)
        found.append([y.detach(), x.grad, *(p.grad for p in parameters), *running])
    return found


def close(found, rtol=1e-12, atol=1e-12):
    for got, want in zip(*found, strict=True):
        if want is None:
            assert got is None
        else:
            torch.testing.assert_close(got, want, rtol=rtol, atol=atol)


@pytest.mark.parametrize("shape", [(2, 3), (9, 1), (7, 4, 5), (3, 2, 2, 4)], ids=str)
def test_values_gradients_and_running_statistics(group, shape):
    close(both(group, shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", [(2, 3), (7, 4, 5), (3, 2, 2, 4)], ids=str)
def test_a_group_of_nccl_on_a_gpu(shape):
    gpu = torch.device("cuda", 0)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1, device_id=gpu)
    try:
        close(both(dist.group.WORLD, shape, device=gpu))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("use", [(False, False), (True, False), (False, True)])
def test_parameters_may_be_missing(group, use):
    close(both(group, (7, 4, 5), use))


def test_the_momentum_may_be_a_tensor(group):
    close(both(group, (7, 4), momentum=torch.tensor(0.25)))


@pytest.mark.parametrize(
    ("dtype", "mean", "tolerance"),
    [(torch.float32, 1e6, 1e-6), (torch.float16, 30.0, 2e-3), (torch.bfloat16, 0.0, 1e-2)],
)
def test_other_dtypes(group, dtype, mean, tolerance):
    found = both(group, (50, 4), dtype=dtype, mean=mean)
    assert found[0][0].dtype == dtype
    close(found, tolerance, tolerance)


def test_running_statistics_may_be_missing(group):
    (x, *_), _, _ = made((7, 4))
    y = collective.normalize_together(x, None, None, None, None, 0.1, 1e-5, group)
    torch.testing.assert_close(y, batch_norm(x, None, None, training=True))


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (5, 0)], ids=str)
def test_without_a_value(group, shape):
    (x, weight, bias), running, _ = made(shape)
    before = [r.clone() for r in running]
    y = collective.normalize_together(
        x, *running, by_channel(weight, x), by_channel(bias, x), 0.1, 1e-5, group
    )
    assert y.shape == shape
    torch.testing.assert_close(running, before)
    y.sum().backward()
    assert all(not t.grad.any() for t in (x, weight, bias))


def test_one_value(group):
    with pytest.raises(
        ValueError, match=r"^expected more than 1 value per channel in all processes together, got 1$"
    ):
        collective.normalize_together(torch.ones(1, 3), None, None, None, None, 0.1, 1e-5, group)


def test_the_moments(group):
    x = random_like(torch.empty(6, 3, 2))
    moments = collective.gathered_moments(x, (0, 2), group)
    assert moments.count == 12
    torch.testing.assert_close(torch.as_tensor(moments.mean), x.double().mean((0, 2)))
    square = x.double().var((0, 2), correction=0) * 12
    torch.testing.assert_close(torch.as_tensor(moments[2]), square)


@pytest.mark.parametrize("needs", range(3))
def test_gradients_that_are_not_asked_for(group, needs):
    leaves, _, dy = made((6, 3))
    for k, t in enumerate(leaves):
        t.requires_grad_(k == needs)
    x, weight, bias = leaves
    seen = []
    collective.normalize_together(
        x, None, None, by_channel(weight, x), by_channel(bias, x), 0.1, 1e-5, group
    ).backward(dy)
    seen = [t.grad is not None for t in leaves]
    assert seen == [k == needs for k in range(3)]


@pytest.mark.parametrize("of", range(3))
@pytest.mark.parametrize("by", range(3))
def test_a_second_derivative_is_refused(group, of, by):
    (x, weight, bias), _, dy = made((6, 3))
    dy.requires_grad_()
    y = collective.normalize_together(
        x, None, None, by_channel(weight, x), by_channel(bias, x), 0.1, 1e-5, group
    )
    first = torch.autograd.grad(y, (x, weight, bias), dy, create_graph=True)
    usual = torch.autograd.grad(batch_norm(x, None, None, weight, bias, True), (x, weight, bias), dy)
    torch.testing.assert_close(first, usual)
    with pytest.raises(
        RuntimeError, match=r"^expected first derivatives of SyncBatchNorm over several processes"
    ):
        torch.autograd.grad(first[of].sum(), (x, weight, dy)[by])


def test_the_bias_of_half_precision_learns_in_its_own_precision(group):
    x, dy = (random_like(torch.empty(3000, 3), seed).bfloat16() for seed in (0, 1))
    bias = torch.zeros(1, 3, requires_grad=True)
    y = collective.normalize_together(x, None, None, None, bias, 0.1, 1e-5, group)
    y.backward(dy)
    torch.testing.assert_close(bias.grad[0], dy.double().sum(0).float(), rtol=1e-5, atol=1e-4)


# Who talks about what


@pytest.fixture
def said(monkeypatch):
    """Collect what is communicated in which group."""
    said, communicate = [], collective.communicate

    def spy(run, what, group):
        said.append((what, group))
        communicate(run, what, group)

    monkeypatch.setattr(collective, "communicate", spy)
    return said


def test_each_collective_says_what_it_is_about(group, said):
    collective.gathered_moments(torch.ones(4, 3), (0,), group)
    sums = collective.summed(Sums(torch.ones(1, 3), 2 * torch.ones(1, 3)), group)
    torch.testing.assert_close(tuple(sums), (torch.ones(1, 3), 2 * torch.ones(1, 3)))
    assert said == [("moments", group), ("sums of gradients", group)]


def test_what_a_collective_says_when_it_fails(monkeypatch):
    monkeypatch.setattr(dist, "get_world_size", {"the group": 3}.get)
    monkeypatch.setattr(dist, "get_rank", lambda: 2)

    def fail():
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(RuntimeError) as caught:
        collective.communicate(fail, "moments", "the group")
    assert str(caught.value) == (
        "expected all 3 processes of the group to exchange moments in SyncBatchNorm, got on rank 2: "
        "Connection closed by peer. A process that does not arrive is waited for until the time-out of the "
        "group, which init_process_group and new_group set"
    )


def test_the_group_of_several(group, monkeypatch):
    assert collective.group_of_several(None) is None
    assert collective.group_of_several(group) is None
    sizes = {group: 2, "mine": 5, "theirs": -1, "alone": 1}
    monkeypatch.setattr(dist, "get_world_size", sizes.get)
    assert collective.group_of_several(None) is group
    assert collective.group_of_several("mine") == "mine"
    assert collective.group_of_several("alone") is None
    with pytest.raises(
        RuntimeError,
        match=r"^expected a process_group that this process is in, got one without rank 0$",
    ):
        collective.group_of_several("theirs")


def test_without_torch_distributed_there_is_no_group(monkeypatch):
    assert collective.group_of_several("any") is None
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "is_available", lambda: False)
    assert collective.group_of_several("any") is None


# The function and the layer


@pytest.fixture
def asked(group, monkeypatch):
    """Take a group of one for one of several; collect the groups that were asked about."""
    asked = []

    def ask(process_group):
        asked.append(process_group)
        return group

    monkeypatch.setattr(distributed, "group_of_several", ask)
    return asked


@pytest.mark.parametrize("layer", [False, True])
def test_training_is_batch_norm_over_the_group(asked, layer):
    (x, weight, bias), running, dy = made((6, 3, 2))
    (x2, weight2, bias2), running2, _ = made((6, 3, 2))
    if layer:
        sync = SyncBatchNorm(3, 0.1, 0.3, process_group="mine", dtype=torch.float64)
        sync.load_state_dict(
            dict(zip(sync.state_dict(), [weight, bias, *running, torch.tensor(0)], strict=True))
        )
        y = sync(x)
        running = [sync.running_mean, sync.running_var]
        weight, bias = sync.weight, sync.bias
    else:
        y = sync_batch_norm(x, *running, weight, bias, True, 0.3, 0.1, "mine")
    want = batch_norm(x2, *running2, weight2, bias2, True, 0.3, 0.1)
    y.backward(dy)
    want.backward(dy)
    close(
        [[y, x.grad, weight.grad, bias.grad, *running], [want, x2.grad, weight2.grad, bias2.grad, *running2]]
    )
    assert asked == ["mine"]


def test_in_training_one_value_is_one_of_all_processes(asked):
    with pytest.raises(ValueError, match=r"in all processes together, got 1$"):
        sync_batch_norm(torch.ones(1, 3), None, None, training=True)


def test_one_running_statistic_is_refused(asked):
    with pytest.raises(ValueError, match="expected both running_mean and running_var or neither"):
        sync_batch_norm(torch.ones(4, 3), torch.zeros(3), None, training=True)


def test_the_warning_points_to_the_caller():
    with pytest.warns(RuntimeWarning, match="expected batch norms that can share") as caught:
        convert_sync_batchnorm(nn.LazyBatchNorm1d())
    assert caught[0].filename == __file__


def test_evaluation_asks_for_no_group(asked):
    (x, weight, bias), running, _ = made((6, 3, 2))
    y = sync_batch_norm(x, *running, weight, bias, False, 0.3, 0.1, "mine")
    torch.testing.assert_close(y, batch_norm(x, *running, weight, bias, False, 0.3, 0.1))
    for kwargs in ({}, {"track_running_stats": False}):
        layer = SyncBatchNorm(3, process_group="mine", dtype=torch.float64, **kwargs).eval()
        torch.testing.assert_close(
            layer(x), batch_norm(x, layer.running_mean, layer.running_var, training=bool(kwargs))
        )
    assert not asked


def test_a_layer_that_holds_itself_can_be_copied():
    layer = SyncBatchNorm(3)
    layer.__dict__["itself"] = layer
    again = copy.deepcopy(layer)
    assert again.itself is again


def test_a_copy_shares_what_its_original_shares():
    group = Lock()  # which cannot be copied
    layer, other = SyncBatchNorm(3, process_group=group), SyncBatchNorm(3, process_group=group)
    other.weight = layer.weight
    again = copy.deepcopy(nn.Sequential(layer, other, layer))
    assert again[0] is again[2]
    assert again[0].weight is again[1].weight
    assert again[0].weight is not layer.weight
    assert again[0].process_group is again[1].process_group is group
