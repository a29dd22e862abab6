"""The types of values in words, and when two arrays are close."""

import numpy as np
import pytest
import torch

from bnlib.exercises.answers import axes, number
from bnlib.exercises.outputs import HUGE, UnusableError, close, name_type, to_array


def numbers():
    yield 1


async def waits():
    return 1


class Apple: ...


class Xylophone: ...


class pear: ...  # noqa: N801


class Other:
    detach = None


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (numbers, "a generator"),
        (waits, "a coroutine"),
        (lambda: torch.ones(2), "a torch tensor"),
        (lambda: torch.nn.Parameter(torch.ones(2)), "a torch tensor"),
        (Apple, "an Apple"),
        (Xylophone, "a Xylophone"),
        (pear, "a pear"),
        (lambda: max, "a function"),
        (lambda: None, "None"),
    ],
)
def test_names_of_types(make, name):
    assert name_type(make()) == name


def test_numbers_in_tensors_and_arrays_of_one():
    read = number()
    for value in (torch.tensor(2.5), np.array([[2.5]]), np.float32(2.5), 2.5):
        got = read(value)
        assert (got.shape, got.dtype, float(got)) == ((), np.dtype(float), 2.5)


def test_axes_from_the_end():
    got = axes(3)((-3, -1))
    assert got.dtype == float
    np.testing.assert_array_equal(got, [1, 0, 1])


def test_not_all_that_can_be_detached_is_a_tensor():
    with pytest.raises(
        UnusableError, match=r"^It returns an Other of dtype object; expected an array or a number"
    ):
        to_array(Other())


@pytest.mark.parametrize(
    ("got", "expected", "tolerance", "alike"),
    [
        ([1.5], [1.0], 0.5, True),
        ([1.5], [1.0], 0.49, False),
        ([1e-3 + 2e-8], [1e-3], 1e-5, False),
        ([1e-3 + 2e-9], [1e-3], 1e-5, True),
        ([1.5e-5], [0.0], 1e-5, False),
        ([0.5e-5], [0.0], 1e-5, True),
        ([np.nan], [np.inf], 1.0, False),
        ([np.inf], [np.nan], 1.0, False),
        ([], [], 1e-5, True),
        ([np.inf], [np.inf], 1e-5, True),
        ([np.nan, 1.0], [np.nan, 1.0], 1e-5, True),
        ([np.inf, 1.0], [2 * HUGE, 1.0], 1e-5, True),
        ([HUGE / 2, 1.0], [2 * HUGE, 1.0], 1e-5, False),
        ([1.0], [[1.0]], 1e-5, False),
    ],
)
def test_close(got, expected, tolerance, alike):
    assert close(np.array(got), np.array(expected), tolerance) is alike
