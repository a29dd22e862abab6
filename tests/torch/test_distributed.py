"""SyncBatchNorm on real processes: ranks, each with a part, are one process with the whole batch."""

import copy
import pickle

import numpy as np
import pytest
import ranks
import torch
from torch import nn

import bnlib.torch
from bnlib.lab.processes import run_on
from bnlib.torch import BatchNorm1d, BatchNorm2d, GhostBatchNorm, SyncBatchNorm, convert_sync_batchnorm
from bnlib.torch.surgery import convert

SPLITS = [[24], [12, 12], [23, 1], [6, 6, 6, 6], [1, 5, 7, 11], [0, 24], [9, 0, 0, 15], [0, 0, 24, 0]]


def in_one(shape, mean, kwargs):
    """Return the outcome of one process with the whole batch."""
    return ranks.outcome(ranks.made(BatchNorm1d, shape[1], **kwargs), *ranks.whole_batch(shape, mean))


def joined(parts, name):
    """Put the rows of all ranks together; take the first of what is the same on all."""
    if name in ("y", "dx", "evaluated"):
        return np.concatenate([part[name] for part in parts])
    for part in parts:
        np.testing.assert_array_equal(part[name], parts[0][name])
    return parts[0][name]


# One process with the whole batch


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("splits", SPLITS, ids=str)
def test_ranks_with_parts_are_one_process_with_the_whole(splits, mean):
    shape = (24, 3, 2)
    parts = run_on(len(splits), ranks.layer_outcome, shape, splits, mean, {})
    expected = in_one(shape, mean, {})
    assert {"dx", "dweight", "dbias", "running_var", "num_batches_tracked"} < set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(joined(parts, name), value, rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"affine": False},
        {"momentum": None},
        {"track_running_stats": False},
        {"eps": 0.1, "momentum": 0.7},
    ],
    ids=str,
)
def test_options_mean_what_they_mean_on_one_process(kwargs):
    shape, splits = (24, 3), [2, 4, 7, 11]
    parts = run_on(4, ranks.layer_outcome, shape, splits, 10.0, kwargs)
    expected = in_one(shape, 10.0, kwargs)
    del expected["evaluated"]  # without running statistics it is by process
    for name, value in expected.items():
        np.testing.assert_allclose(joined(parts, name), value, rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("shape", [(5, 1), (7, 3, 1, 5), (4, 2, 3, 1, 2)])
def test_any_rank_of_input(shape):
    splits = [2, shape[0] - 2]
    parts = run_on(2, ranks.layer_outcome, shape, splits, 0.0, {})
    layer = ranks.made(GhostBatchNorm, shape[1], ghost_batch_size=99)  # which takes any rank, too
    for name, value in ranks.outcome(layer, *ranks.whole_batch(shape)).items():
        np.testing.assert_allclose(joined(parts, name), value, rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_training_in_data_parallel_is_training_with_the_large_batch(size):
    losses, buffers = run_on(size, ranks.train_on_all)[0]
    expected, expected_buffers = ranks.train(ranks.small_network(BatchNorm1d), ranks.twenty_batches())
    assert expected[-1] < 0.5 * expected[0]
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-10)
    for got, value in zip(buffers, expected_buffers, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-10, atol=1e-10)


def test_a_group_is_the_part_of_the_ranks_that_share():
    parts = run_on(4, ranks.half_of_the_group)
    x, dy = ranks.whole_batch((8, 3))
    for half in range(2):
        rows = slice(4 * half, 4 * half + 4)
        expected = ranks.outcome(ranks.made(BatchNorm1d, 3), x[rows], dy[rows])
        for name in ("y", "dx", "running_var"):
            got = joined(parts[2 * half : 2 * half + 2], name)
            np.testing.assert_allclose(got, expected[name], rtol=0, atol=1e-10)


# Digits


def test_every_rank_gets_the_same_bits():
    found = run_on(4, ranks.bits, (24, 7), [1, 5, 7, 11])
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("dtype", "mean", "tolerance"),
    [
        (torch.float32, 1e6, 1e-6),
        (torch.float32, 0.0, 1e-6),
        (torch.float16, 100.0, 3e-3),
        (torch.bfloat16, 0.0, 3e-2),
    ],
)
def test_low_precision_keeps_its_digits(dtype, mean, tolerance):
    shape, splits = (24, 3, 50), [1, 5, 7, 11]
    parts = run_on(4, ranks.in_dtype, dtype, shape, splits, mean)
    x, dy = (t.double() for t in ranks.whole_batch(shape, mean, dtype))
    layer = BatchNorm1d(3).double()
    x.requires_grad_()
    y = layer(x)
    y.backward(dy)
    for i, value in enumerate((y, x.grad)):
        got = np.concatenate([part[i] for part in parts])
        np.testing.assert_allclose(got, value.detach(), rtol=0, atol=tolerance)
    for i, value in ((2, layer.running_mean), (3, layer.running_var)):
        np.testing.assert_allclose(parts[0][i], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_every_rank_in_its_channel_alone(bad):
    assert run_on(2, ranks.with_a_nan, bad) == [[False, True, False]] * 2


# What is communicated


@pytest.mark.parametrize(
    ("mode", "needs_gradient", "forward", "backward"),
    [
        ("training", True, ["allgather_"], ["allreduce_"]),
        ("training", False, ["allgather_"], []),
        ("evaluation", True, [], []),
        ("evaluation, nothing tracked", True, [], []),
        ("alone", True, [], []),
    ],
)
def test_one_collective_forward_and_one_backward(mode, needs_gradient, forward, backward):
    assert run_on(2, ranks.collectives, mode, needs_gradient) == [(forward, backward)] * 2


@pytest.mark.parametrize("backward", [False, True])
def test_a_rank_that_does_not_arrive_is_an_error_after_the_time_out(backward):
    found = run_on(2, ranks.arrive_late, 2.5, backward)
    message, seconds = found[0]
    what = "sums of gradients" if backward else "moments"
    assert f"expected all 2 processes of the group to exchange {what} in SyncBatchNorm" in message
    assert "got on rank 0" in message
    assert "Timed out" in message
    assert 0.5 < seconds < 2.5


# The edges


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)])
def test_without_any_value_nothing_moves(shape):
    assert run_on(2, ranks.no_values_anywhere, shape) == [(shape, True, True, 1)] * 2


def test_errors():
    expected = {
        "not in the group": "RuntimeError: expected a process_group that this process is in, got one without",
        "one value": "ValueError: expected more than 1 value per channel in all processes together, got 1",
        "rank": "ValueError: expected at least 2 axes, (N, C, ...), got 1",
        "channels": "RuntimeError: expected running_mean of shape (C,) = (4,), got (3,)",
        "dtype": "RuntimeError: expected running_mean of dtype torch.float64",
        "integers": "NotImplementedError: expected input to be float16",
        "eps": "ValueError: expected eps to be finite and at least 0",
    }
    for rank, found in enumerate(run_on(2, ranks.refused)):
        for name, message in expected.items():
            if (rank, name) != (0, "not in the group"):
                assert message in found[name], (rank, name)


@pytest.mark.parametrize("upstream", ["constant", "of the input"])
def test_a_second_derivative_is_refused(upstream):
    for message in run_on(2, ranks.second_derivative, upstream):
        assert message == "expected first derivatives of SyncBatchNorm over several processes, got a second"


def test_without_a_group_it_is_plain_batch_norm():
    x, dy = ranks.whole_batch((6, 3, 2))
    ours = ranks.outcome(ranks.made(SyncBatchNorm, 3), x, dy)
    plain = ranks.outcome(ranks.made(BatchNorm1d, 3), x, dy)
    for name, value in plain.items():
        np.testing.assert_array_equal(ours[name], value)


# The layer and its conversion


@pytest.mark.parametrize("other", [nn.BatchNorm1d, BatchNorm1d, nn.SyncBatchNorm])
def test_state_dicts_load_both_ways(other):
    ours, theirs = ranks.made(SyncBatchNorm, 3), other(3).double()
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert isinstance(ours, nn.modules.batchnorm._BatchNorm)


def test_it_can_be_copied_and_pickled():
    ours = SyncBatchNorm(3, eps=0.1)
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(again) is SyncBatchNorm
        assert again.eps == 0.1
        assert again.process_group is None


def mixed_model():
    """Return a model with batch norms of every kind."""
    return nn.Sequential(
        nn.BatchNorm1d(3, momentum=None),
        nn.Sequential(nn.Linear(3, 3), BatchNorm2d(3, affine=False)),
        nn.SyncBatchNorm(3),
        SyncBatchNorm(3),
        nn.LazyBatchNorm1d(),
        GhostBatchNorm(3, 2),
    )


def test_convert_exchanges_all_batch_norms_of_both_packages():
    model = mixed_model()
    done = convert(model, "sync")
    assert [c.name for c in done.changed] == ["0", "1.1", "2"]
    assert {c.new for c in done.changed} == {SyncBatchNorm}
    assert [(s.name, s.reason) for s in done.skipped] == [
        ("4", "which has not seen an input"),
        ("5", "a subclass, whose own code would be lost"),
    ]
    assert type(model[0]) is nn.BatchNorm1d
    assert done.model[0].momentum is None
    assert done.model[1][1].weight is None
    assert not hasattr(done.model[1][0], "process_group")
    assert "SyncBatchNorm" in repr(done)


def test_convert_sync_batchnorm_keeps_the_parameters_and_the_model():
    model = mixed_model()[:4]
    model[2].process_group = "its own"
    before = dict(model.named_parameters())
    assert convert_sync_batchnorm(model) is model
    assert [type(m) for m in (model[0], model[1][1], model[2], model[3])] == [SyncBatchNorm] * 4
    assert all(p is before[name] for name, p in model.named_parameters())
    assert [m.process_group for m in (model[0], model[2])] == [None, "its own"]
    assert SyncBatchNorm.convert_sync_batchnorm(model, "group") is model
    assert {m.process_group for m in (model[0], model[1][1], model[2], model[3])} == {"group"}
    assert type(convert_sync_batchnorm(nn.BatchNorm3d(2))) is SyncBatchNorm


def test_convert_sync_batchnorm_says_what_it_leaves_alone():
    with pytest.warns(
        RuntimeWarning, match=r"2 skipped\n  4: .*has not seen an input\n  5: .*GhostBatchNorm"
    ):
        convert_sync_batchnorm(mixed_model())


def test_what_convert_refuses():
    with pytest.raises(ValueError, match="'bnlib', 'torch' or 'sync', got 'mine'"):
        convert(nn.Identity(), "mine")
    with pytest.raises(ValueError, match="expected process_group with to='sync' only, got it with 'bnlib'"):
        convert(nn.Identity(), process_group="group")
    with pytest.raises(TypeError, match=r"to be a torch.nn.Module, got int"):
        convert_sync_batchnorm(3)


def test_back_to_one_dimension_is_refused_for_layers_of_any_rank():
    done = convert(nn.Sequential(SyncBatchNorm(3), nn.SyncBatchNorm(3)), "bnlib")
    assert [s.reason for s in done.skipped] == ["which shares statistics between processes"] * 2


def test_the_names_are_public():
    assert {"SyncBatchNorm", "convert_sync_batchnorm", "sync_batch_norm"} <= set(bnlib.torch.__all__)


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_ranks_on_gpus_are_one_process_with_the_whole(backend):
    needed = 2 if backend == "nccl" else 1
    if torch.cuda.device_count() < needed:
        pytest.skip(f"needs GPUs: {needed}")
    shape, splits = (24, 3, 2), [10, 14]
    parts = run_on(2, ranks.layer_outcome_on_gpu, shape, splits, backend)
    expected = in_one(shape, 100.0, {})
    for name, value in expected.items():
        np.testing.assert_allclose(joined(parts, name), value, rtol=0, atol=1e-10, err_msg=name)
