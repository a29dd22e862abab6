"""What torch.compile and torch.func are given, called without them."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from tensors import random_like

from bnlib.torch import autograd, blocks, native
from bnlib.torch.arithmetic import Parameters, Statistics, wide_dtype

AXES = (0, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("center", [True, False])
def test_shifted_statistics(dtype, center):
    x = (random_like(torch.empty(6, 3, 4)) + 50).to(dtype)
    z, statistics = autograd.shifted_statistics(x, AXES, center)
    wide = torch.promote_types(dtype, torch.float32)
    assert z.dtype == wide
    exact = x.double()
    if not center:
        assert statistics.shift is None
        torch.testing.assert_close(z, x.to(wide))
        torch.testing.assert_close(statistics.var, exact.square().mean(AXES, keepdim=True))
        return
    assert statistics.shift.dtype == wide
    torch.testing.assert_close(statistics.shift, exact.mean(AXES, keepdim=True).to(wide))
    torch.testing.assert_close(z, x.to(wide) - statistics.shift)
    torch.testing.assert_close(statistics.mean(), exact.mean(AXES, keepdim=True))
    torch.testing.assert_close(statistics.var, exact.var(AXES, correction=0, keepdim=True), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("term", [True, False])
def test_scale_and_shift_while_compiling(dtype, term, monkeypatch):
    x = random_like(torch.empty(6, 3, 4)).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    shift, scale, term_ = (random_like(torch.empty(1, 3, 1), k).to(wide) for k in (1, 2, 3))
    given = x, shift, scale, term_ if term else None
    expected = autograd.scale_shift(*given)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    got = autograd.scale_shift(*given)
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected)


def parts(shifts, dtype=torch.float32):
    """Return statistics of blocks of two rows, with these shifts."""
    return [
        Statistics(
            None if shift is None else torch.full((2, 3), shift, dtype=dtype),
            torch.full((2, 3), float(k), dtype=torch.float64),
            torch.full((2, 3), k + 1.0, dtype=torch.float64),
        )
        for k, shift in enumerate(shifts)
    ]


@pytest.mark.parametrize("shifts", [(None, 5.0), (5.0, None, 7.0), (5.0, 6.0)])
def test_blocks_with_and_without_a_shift_are_joined(shifts):
    joined = blocks.join(parts(shifts))
    assert joined.shift.dtype == torch.float32
    torch.testing.assert_close(joined.shift[::2, 0], torch.tensor([shift or 0.0 for shift in shifts]))
    torch.testing.assert_close(joined.residual[::2, 0], torch.arange(len(shifts)).double())
    torch.testing.assert_close(joined.var[::2, 0], torch.arange(len(shifts)).double() + 1)


def test_blocks_without_any_shift_have_none():
    assert blocks.join(parts((None, None))).shift is None


@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("axes", [(1, 2), (0, 1), (0, 2)], ids=str)
@pytest.mark.parametrize("shared", [(0,), (1,), (2,), (0, 1), ()], ids=str)
@pytest.mark.parametrize("size", [64, 1 << 20])
def test_blocks_and_the_whole_have_the_same_gradient(weight, center, axes, shared, size, monkeypatch):
    monkeypatch.setattr(blocks, "BYTES_PER_THREAD", size)
    x, dy = (random_like(torch.empty(6, 3, 4, dtype=torch.float64), k) + 1 for k in (0, 1))
    shape = [1 if axis in shared else n for axis, n in enumerate(x.shape)]
    gamma = random_like(torch.empty(shape, dtype=torch.float64), 2) if weight else None
    _, statistics = blocks.forward(x, Parameters(gamma, None), axes, 0.1, center)
    given = dy, x, gamma, statistics, axes, shared, 0.1, center
    for got, want in zip(blocks.backward(*given), blocks.backward_whole(*given), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_sums_of_blocks_are_added_in_float64():
    part = torch.full((1, 3), 1 + 2**-23)
    for one in blocks.total([(part, part)] * 3):
        torch.testing.assert_close(
            one, torch.full((1, 3), 3 * (1 + 2**-23), dtype=torch.float64), rtol=0, atol=0
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("center", [True, False])
def test_on_other_devices_the_mean_is_the_shift(dtype, center, monkeypatch):
    monkeypatch.setattr(blocks, "conclude", spy := Mock(wraps=blocks.conclude))
    x = torch.empty(6, 3, 4, dtype=dtype, device="meta")
    statistics = blocks.statistics_of(x, AXES, center, blocks.Blocks(x))
    assert statistics.var.shape == (1, 3, 1)
    assert [call.args[0] is not None for call in spy.call_args_list] == [center]
    if center:
        assert statistics.shift.shape == (1, 3, 1)
        assert statistics.shift.dtype == torch.promote_types(dtype, torch.float32)
    else:
        assert statistics.shift is None


@pytest.mark.parametrize(("rows", "asked"), [(8, True), (7, False)])
def test_pytorch_sums_large_batches_alone(rows, asked, monkeypatch):
    calls = []
    monkeypatch.setattr(native, "LEAST_VALUES", 24)
    monkeypatch.setattr(native, "power_sums", lambda *given: calls.append(given))
    x = random_like(torch.empty(rows, 3))
    blocks.statistics_of(x, (0,), True, blocks.Blocks(x))
    assert [(given is x, axes) for given, axes in calls] == [(True, (0,))] * asked


def test_pytorch_normalizes_where_it_is_accurate(monkeypatch):
    monkeypatch.setattr(native, "forward", spy := Mock(wraps=native.forward))
    x = torch.linspace(-1, 1, 24).reshape(8, 3)
    given = Parameters(torch.ones(1, 3), None), (0,), 0.1, True
    blocks.forward(x, *given)
    assert spy.call_count == 1
    blocks.forward(x, *given, torch.empty_like(x))
    assert spy.call_count == 1


def test_blocks_have_a_row_at_least(monkeypatch):
    monkeypatch.setattr(blocks, "BYTES_PER_THREAD", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert blocks.Blocks(torch.zeros(10, 64)).rows == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("center", [True, False])
def test_normalizing_while_compiling(dtype, center, monkeypatch):
    x = (random_like(torch.empty(6, 3, 4)) + 3).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    weight, bias = (random_like(torch.empty(1, 3, 1), k).to(wide) for k in (1, 2))
    given = x, weight, bias, AXES, 0.1, center
    expected, usual = autograd.normalize_over(*given)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    got, statistics = autograd.normalize_over(*given)
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(statistics.mean(), usual.mean())


@pytest.mark.parametrize(("threads", "rows"), [(1, 2), (2, 4), (100, 10)])
def test_blocks_have_as_many_rows_as_fit(threads, rows, monkeypatch):
    monkeypatch.setattr(blocks, "BYTES_PER_THREAD", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    cut = blocks.Blocks(torch.zeros(10, 8))
    assert (cut.rows, cut.one) == (rows, rows == 10)


def test_statistics_are_float32_only_where_there_is_no_float64():
    for device, dtype in (("mps", torch.float32), ("cpu", torch.float64), ("cuda", torch.float64)):
        assert wide_dtype(SimpleNamespace(device=SimpleNamespace(type=device))) == dtype
