import numpy as np
import pytest
import torch

from bnlib.course import same


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1.0, 1.0 + 1e-7),
        (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3) + 1e-7),
        (torch.arange(3.0), np.arange(3.0)),
        (np.float32([1e-3]), np.float64([1e-3])),
        ([1, 2], np.array([1.0, 2.0])),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.array([True, False]), np.array([True, False])),
        (np.array([1 + 2j]), np.array([1 + 2j])),
    ],
)
def test_equal_results_pass_and_say_so(capsys, left, right):
    same(left, right, within=1e-6)
    assert capsys.readouterr().out == "equal within 1e-06\n"


@pytest.mark.parametrize(
    ("left", "right", "difference"),
    [
        (1.0, 1.1, "0.1"),
        (1.1, 1.0, "0.1"),
        ([0.0, 0.0, 2.0], [0.0, 0.0, -1.0], "3"),
        (np.nan, np.nan, "nan"),
        ([1.0, np.nan], [1.0, 1.0], "nan"),
        ([1.0, 1.0], [np.nan, 1.0], "nan"),
        # Without care these wrap around to 1, fail to subtract, and lose their imaginary part.
        (np.uint8([0]), np.uint8([255]), "255"),
        (np.array([True]), np.array([False]), "1"),
        (np.array([1 + 2j]), np.array([1.0]), "2"),
    ],
)
def test_different_results_fail_and_say_by_how_much(capsys, left, right, difference):
    with pytest.raises(AssertionError, match=f"^expected a largest difference of 0.01, got {difference}$"):
        same(left, right, within=0.01)
    assert capsys.readouterr().out == ""


def test_the_bound_itself_is_within():
    same(1.0, 1.5, within=0.5)
    with pytest.raises(AssertionError):
        same(1.0, 1.5, within=0.5 - 1e-9)


@pytest.mark.parametrize(("left", "right"), [((3,), (1, 3)), ((3,), (1,)), ((), (1,)), ((2, 3), (3, 2))])
def test_shapes_must_be_equal_even_where_they_broadcast(left, right):
    with pytest.raises(AssertionError) as raised:
        same(np.zeros(left), np.zeros(right), within=1.0)
    assert str(raised.value) == f"expected equal shapes, got {left} and {right}"
