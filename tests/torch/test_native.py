"""PyTorch's own kernels against float64, and which inputs they are given."""

from unittest.mock import Mock

import pytest
import torch

from bnlib.torch import native
from bnlib.torch.arithmetic import Parameters, Statistics
from bnlib.torch.blocks import backward_whole
from bnlib.torch.functional import batch_norm, layer_norm

ROWS, COLUMNS = native.ROWS_IN_TURN, native.COLUMNS
SHAPES = {
    "many blocks and a rest": (ROWS * (COLUMNS // 12) * 2 + ROWS * 3 + 5, 12),
    "whole blocks": (ROWS * 8, COLUMNS // 4),
    "one group": (ROWS, 3),
    "fewer rows than a group": (ROWS - 1, 7),
    "a block narrower than the matrix": (ROWS * 2 + 1, COLUMNS * 2 + 1),
}


def exact_sums(x, axes):
    x = x.double()
    return x.sum(axes, keepdim=True), x.square().sum(axes, keepdim=True)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_columns_are_those_of_float64(shape, dtype):
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0)) + 0.5
    total, square = native.power_sums(x, (0,))
    expected, expected_square = exact_sums(x, (0,))
    tolerance = 5e-7 if dtype == torch.float32 else 1e-14
    assert total.dtype == square.dtype == torch.float64
    torch.testing.assert_close(total, expected, atol=tolerance * len(x), rtol=0)
    torch.testing.assert_close(square, expected_square, atol=0, rtol=tolerance)


def test_sums_of_many_blocks_are_exact_where_float32_would_round():
    value = 1 + 2**-23
    for x in (torch.full((3 * ROWS, COLUMNS), value), torch.full((5 * ROWS, 7), value)):
        total, square = native.power_sums(x, (0,))
        torch.testing.assert_close(total, torch.full_like(total, len(x) * value), rtol=0, atol=0)
        rounded = float(torch.tensor(value) ** 2)
        torch.testing.assert_close(square, torch.full_like(square, len(x) * rounded), rtol=0, atol=0)


def test_channels_last_are_columns():
    x = torch.randn(5, 3, 17, 13, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    axes = (0, 2, 3)
    for found, expected in zip(native.power_sums(x, axes), exact_sums(x, axes), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "axes"),
    [
        (torch.ones(4, 3, 2, 2), (0, 2, 3)),
        (torch.ones(4, 6)[:, ::2], (0,)),
        (torch.ones(4, 3), (1,)),
        (torch.ones(4, 3, dtype=torch.float16), (0,)),
        (torch.ones(4), (0,)),
    ],
    ids=["channels first", "strided", "other axes", "half precision", "no channels"],
)
def test_what_does_not_lie_as_columns_is_left_to_others(x, axes):
    assert native.power_sums(x, axes) is None


# What is left to PyTorch, and what is not


def statistics(x, axes, shift=None):
    kept = x.double()
    return Statistics(shift, kept.mean(axes, keepdim=True), kept.var(axes, correction=0, keepdim=True))


X = torch.randn(6, 4, 3, 5, generator=torch.Generator().manual_seed(0))
CHANNELS = (0, 2, 3)
PLAIN = Parameters(torch.ones(1, 4, 1, 1), torch.zeros(1, 4, 1, 1))


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.double(),
        X.contiguous(memory_format=torch.channels_last),
        X[:, :, 0, 0].clone(),
        X[:, :, 0].clone(),
    ],
    ids=["float32", "float64", "channels last", "matrix", "three axes"],
)
def test_the_kernels_take_packed_batches(x):
    axes = (0, *range(2, x.ndim))
    given = Parameters(None, None)
    assert native.suits(x, given, axes, statistics(x, axes))
    assert native.suits_backward(x, given, axes, statistics(x, axes))


@pytest.mark.parametrize(
    ("x", "parameters", "axes", "shift"),
    [
        (X, PLAIN, CHANNELS, torch.zeros(1, 4, 1, 1)),
        (X, PLAIN, (2, 3), None),
        (X, PLAIN, (0,), None),
        (X[::2, :, :, ::2], PLAIN, CHANNELS, None),
        (X.half(), PLAIN, CHANNELS, None),
        (X.to("meta"), Parameters(None, None), CHANNELS, None),
        (X, Parameters(torch.ones(1, 4, 3, 5), None), CHANNELS, None),
        (X, Parameters(None, torch.ones(6, 1, 1, 1)), CHANNELS, None),
        (X, Parameters(PLAIN.weight.double(), None), CHANNELS, None),
        (X, Parameters(None, PLAIN.bias.double()), CHANNELS, None),
        (X[:, 0, 0, 0].clone(), Parameters(None, None), (0,), None),
    ],
    ids=[
        "shifted", "instances", "batch only", "strided", "half", "another device",
        "weight of positions", "bias of samples", "wide weight", "wide bias", "one axis",
    ],
)  # fmt: skip
def test_the_kernels_are_not_given_what_they_would_get_wrong(x, parameters, axes, shift):
    assert not native.suits(x, parameters, axes, statistics(x, axes, shift))
    assert not native.suits_backward(x, parameters, axes, statistics(x, axes, shift))


@pytest.mark.parametrize(
    ("shape", "taken"),
    [((native.MOST_ROWS, 1), True), ((native.MOST_ROWS + 1, 1), False), ((native.MOST_ROWS + 1, 1, 1), True)],
)
def test_the_gradient_of_long_columns_is_not_left_to_pytorch(shape, taken):
    x = torch.zeros(shape)
    axes = (0, *range(2, x.ndim))
    assert native.suits_backward(x, Parameters(None, None), axes, statistics(x, axes)) == taken


VALUES = torch.ones(3)


@pytest.mark.parametrize(
    ("mean", "var", "eps", "taken"),
    [
        (1.0, 1.0, 0.0, True),
        (-1.0, 0.75, 0.25, True),
        (1.0, 0.9, 0.0, False),
        (-1.0, 0.9, 0.0, False),
        (torch.tensor([0.0, 0.0, 2.0]), 1.0, 0.0, False),
    ],
)
def test_evaluation_is_left_to_pytorch_where_no_mean_exceeds_its_standard_deviation(mean, var, eps, taken):
    given = (mean * VALUES, var * VALUES)
    assert native.suits_evaluation(torch.zeros(2, 3), *given, None, None, eps) is taken
    assert native.suits_evaluation(torch.zeros(2, 3), *given, VALUES, VALUES, eps) is taken


@pytest.mark.parametrize("wide", range(4))
def test_evaluation_with_another_dtype_is_not_left_to_pytorch(wide):
    given = [torch.zeros(3), VALUES, VALUES, VALUES]
    assert native.suits_evaluation(torch.zeros(2, 3), *given, 0.0)
    given[wide] = given[wide].double()
    assert not native.suits_evaluation(torch.zeros(2, 3), *given, 0.0)


def test_evaluation_on_another_device_is_not_left_to_pytorch():
    given = [torch.zeros(3), VALUES, None, None]
    assert not native.suits_evaluation(torch.zeros(2, 3, device="meta"), *given, 0.0)


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, -2.0, 0.5, 3.0]).view(1, 4, 1, 1)])
def test_the_kernel_of_the_gradient_against_the_formula(weight):
    dy = torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
    found = statistics(X, CHANNELS)
    dx, sums = native.backward(dy, X, weight, found, 1e-3)
    gamma = None if weight is None else weight.double()
    expected, expected_sums = backward_whole(
        dy.double(), X.double(), gamma, found, CHANNELS, CHANNELS, 1e-3, True
    )
    torch.testing.assert_close(dx, expected.float(), atol=1e-6, rtol=1e-5)
    for got, want in zip(sums, expected_sums, strict=True):
        torch.testing.assert_close(got, want.float(), atol=1e-5, rtol=1e-5)


def test_an_empty_batch_has_sums_of_zero():
    for one in native.power_sums(torch.ones(0, 3), (0,)):
        torch.testing.assert_close(one, torch.zeros(1, 3, dtype=torch.float64))


@pytest.fixture
def asked(monkeypatch):
    """Collect what is asked about evaluation."""
    asked = []
    monkeypatch.setattr(native, "suits_evaluation", lambda *given: asked.append(given))
    return asked


def test_evaluation_asks_about_its_own_arguments(asked):
    x, mean, var = torch.randn(5, 3), torch.zeros(3), torch.ones(3)
    weight, bias = torch.full((3,), 2.0), torch.full((3,), 3.0)
    batch_norm(x, mean, var, weight, bias, False, 0.1, 0.5)
    ((*tensors, eps),) = asked
    assert all(a is b for a, b in zip(tensors, (x, mean, var, weight, bias), strict=True))
    assert eps == 0.5


def test_under_a_transform_evaluation_does_not_ask(asked):
    x = torch.randn(4, 5, 3)
    torch.func.vmap(lambda x: batch_norm(x, torch.zeros(3), torch.ones(3)))(x)
    assert not asked


@pytest.mark.parametrize("axes", ["batch", "features"])
def test_the_gradient_of_batch_norm_is_left_to_pytorch(axes, monkeypatch):
    monkeypatch.setattr(native, "backward", spy := Mock(wraps=native.backward))
    x = torch.linspace(-1, 1, 24).reshape(6, 4).requires_grad_()
    weight = torch.ones(4, requires_grad=True)
    y = batch_norm(x, None, None, weight, training=True) if axes == "batch" else layer_norm(x, (4,), weight)
    y.square().sum().backward()
    assert spy.call_count == (axes == "batch")
