import pytest
import torch
from cases import DEVICE, TURNS, cases, close, draw, exact, held, pieces

from bnlib.torch.kernels import forward, launch
from bnlib.torch.kernels.launch import Launch


def train(batch, cut, momentum=0.1, eps=1e-5):
    """Return output, statistics and running statistics."""
    mean, var = batch.running_mean.clone(), batch.running_var.clone()
    running = mean, var, None
    y, statistics = forward.train(batch.x, None, None, running, batch.weight, batch.bias, momentum, eps, cut)
    return y, statistics, mean, var


@pytest.mark.parametrize(("shape", "layout", "dtype"), cases())
def test_training_agrees_with_float64(shape, layout, dtype):
    batch = draw(shape, layout, dtype)
    y, _, mean, var = train(batch, Launch.of(batch.x, 1))
    expected, _, running = exact(batch, training=True, act=False)
    close(y, expected, dtype)
    close(mean, running[0])
    close(var, running[1])
    assert y.stride() == batch.x.stride()
    assert y.dtype == dtype


@pytest.mark.parametrize(("shape", "layout", "dtype"), cases())
def test_evaluation_agrees_with_float64(shape, layout, dtype):
    b = draw(shape, layout, dtype)
    y = forward.evaluate(
        b.x, None, None, b.running_mean, b.running_var, b.weight, b.bias, 1e-5, Launch.of(b.x, 1)
    )
    close(y, exact(b, training=False, act=False)[0], dtype)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("at_once", [2, 5])
def test_any_cut_into_programs_gives_the_same(layout, members, at_once):
    batch = draw((3, 5, 6, 7), layout)
    at_once = at_once if layout == "contiguous" else 5
    y, _, mean, var = train(batch, pieces(batch.x, 16, members, at_once=at_once))
    expected, _, running = exact(batch, training=True, act=False)
    close(y, expected)
    close(mean, running[0])
    close(var, running[1])


@pytest.mark.parametrize(("members", "groups"), TURNS)
def test_channels_that_take_turns_give_the_same(members, groups):
    batch = draw((3, 5, 6, 7))
    y, _, mean, var = train(batch, pieces(batch.x, 16, members, method="l2", groups=groups))
    expected, _, running = exact(batch, training=True, act=False)
    close(y, expected)
    close(mean, running[0])
    close(var, running[1])


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize(("block_m", "groups"), [(16, 1), (32, 2), (64, 5)])
def test_groups_of_any_size_give_the_same(layout, block_m, groups):
    batch = draw((3, 5, 6, 7), layout)
    y, _, _, _ = train(batch, held(batch.x, block_m, groups))
    close(y, exact(batch, training=True, act=False)[0])


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("mean", [1e3, -1e6])
@pytest.mark.parametrize("cut", [None, (16, 3), (64, 1)])
def test_a_large_mean_costs_no_digit(layout, mean, cut):
    batch = draw((4, 3, 6, 8), layout, mean=mean)._replace(
        weight=torch.ones(3, device=DEVICE), bias=torch.zeros(3, device=DEVICE)
    )
    y, _, _, _ = train(batch, pieces(batch.x, *cut) if cut else Launch.of(batch.x, 1))
    expected, _, _ = exact(batch, training=True, act=False)
    limit = 1e-6 if DEVICE == "cuda" else 2e-6  # the interpreter adds up one value after the other
    assert (y - expected).abs().max() <= limit


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_a_trend_costs_no_digit(layout):
    batch = draw((4, 3, 6, 8), layout)
    batch.x.add_(torch.linspace(-50, 50, 4, device=DEVICE).view(4, 1, 1, 1))
    y, _, _, _ = train(batch, pieces(batch.x, 16, 4))
    close(y, exact(batch, training=True, act=False)[0])


@pytest.mark.parametrize("cut", [(32, 1), (8, 4)])
def test_the_statistics_are_the_mean_in_two_parts_and_the_variance(cut):
    batch = draw((7, 3, 4, 1), mean=1e6)
    _, (shift, residual, var), _, _ = train(batch, pieces(batch.x, *cut))
    x = batch.x.double()
    torch.testing.assert_close(shift.double() + residual.double(), x.mean((0, 2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(var.double(), x.var((0, 2, 3), correction=0), rtol=2e-6, atol=0)


@pytest.mark.parametrize("cut", [(32, 1), (8, 4)])
def test_constant_channels_give_the_bias(cut):
    batch = draw((4, 3, 2, 4))
    batch.x.copy_(torch.tensor([0.1, 1e6, -3.0]).view(1, 3, 1, 1))
    y, (_, _, var), _, _ = train(batch, pieces(batch.x, *cut))
    assert not var.any()
    torch.testing.assert_close(y, batch.bias.view(1, 3, 1, 1).expand_as(y), rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of NumPy, which the interpreter uses
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("cut", [(32, 1), (8, 4)])
def test_what_is_not_finite_spoils_its_channel_only(bad, cut):
    batch = draw((4, 3, 2, 4))
    batch.x[2, 1, 0, 3] = bad
    y, _, mean, var = train(batch, pieces(batch.x, *cut))
    assert y[:, 1].isnan().all()
    assert not y[:, ::2].isnan().any()
    assert not mean[::2].isnan().any()
    assert not mean[1].isfinite()
    assert var[1].isnan()


def test_parameters_may_be_missing_or_of_half_precision():
    batch = draw((6, 4, 3, 3), dtype=torch.float16)
    half = batch._replace(weight=batch.weight.half(), bias=batch.bias.half())
    y, _, _, _ = train(half, Launch.of(half.x, 1))
    close(y, exact(half, training=True, act=False)[0], torch.float16)
    y, _ = forward.train(
        batch.x, None, None, (None, None, None), None, None, 0.1, 1e-5, Launch.of(batch.x, 1)
    )
    bare = batch._replace(weight=torch.ones_like(batch.weight), bias=torch.zeros_like(batch.bias))
    close(y, exact(bare, training=True, act=False)[0], torch.float16)


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: pieces(x, 16, 3),
        lambda x: held(x, 32, 2),
        lambda x: pieces(x, 16, 3, method="l2", groups=2),
    ],
    ids=["split", "group", "l2"],
)
def test_tickets_are_zero_after_each_use(monkeypatch, cut):
    batch = draw((3, 5, 6, 7))
    kept = torch.zeros(5, dtype=torch.int32, device=DEVICE)
    monkeypatch.setattr(launch, "tickets", lambda device, number: kept)
    for _ in range(3):
        y, _, _, _ = train(batch, cut(batch.x))
        close(y, exact(batch, training=True, act=False)[0])
        assert not kept.any()
