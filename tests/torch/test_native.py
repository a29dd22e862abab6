"""PyTorch's kernel for the statistics, on a matrix read as a shorter and wider one, against float64."""

import pytest
import torch

from bnlib.torch import native

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
