import numpy as np
import pytest
from batches import batches_and_axes, lay_out
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference.sums import sum_product


def exact(axes, *factors):
    return np.prod([f.astype(np.float64) for f in factors], axis=0).sum(axes, keepdims=True)


def positive(*shape, seed=0):
    return 1 + np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("count", [1, 2])
@given(case=batches_and_axes(dtype=np.float32), layout=st.sampled_from(["contiguous", "fortran", "reversed"]))
def test_it_is_the_sum_of_the_product(count, case, layout):
    x, axes = case
    axes = tuple(sorted(a % x.ndim for a in axes))
    factors = (x, lay_out(positive(*x.shape), layout))[:count]
    got = sum_product(axes, *factors)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, exact(axes, *factors), rtol=1e-6, atol=1e-5)


# 97 and 4099 are prime: no run divides them
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((97, 3), (0,)),
        ((4099, 3), (0,)),
        ((3, 4099), (1,)),
        ((3, 2**20), (1,)),
        ((2**20, 1), (0,)),
        ((2**10, 2, 2**10), (0, 2)),
        ((8, 3, 112, 112), (0, 2, 3)),
    ],
)
@pytest.mark.parametrize("layout", ["contiguous", "fortran", "strided"])
@pytest.mark.parametrize("count", [1, 2])
def test_long_sums_keep_their_digits(shape, axes, layout, count):
    x = lay_out(np.full(shape, 1.1, np.float32), layout)
    factors = (x,) * count
    np.testing.assert_allclose(sum_product(axes, *factors), exact(axes, *factors), rtol=1e-6)


def test_one_layout_after_another():
    a, b = positive(64, 256), lay_out(positive(64, 256, seed=1), "fortran")
    for axes in ((0,), (1,), (0, 1)):
        for pair in ((a, b), (b, a)):
            np.testing.assert_allclose(sum_product(axes, *pair), exact(axes, *pair), rtol=3e-7)


def test_the_highest_precision_of_all_is_kept():
    x = np.full((4096, 2), 0.1, np.float16)
    np.testing.assert_allclose(sum_product((0,), x), exact((0,), x), rtol=1e-6)
    np.testing.assert_allclose(sum_product((0,), x, x), exact((0,), x, x), rtol=1e-6)
    y = np.full((4096, 2), 0.1)
    np.testing.assert_allclose(sum_product((0,), x, y), exact((0,), x, y), rtol=1e-13)


def test_squares_beyond_float32_fit_float64():
    x = np.full((64, 2), 1e30, np.float32)
    with np.errstate(over="ignore"):
        assert np.isinf(sum_product((0,), x, x)).all()
    np.testing.assert_allclose(sum_product((0,), x, x, dtype=np.float64), exact((0,), x, x), rtol=1e-13)


def test_nothing_to_sum():
    x = positive(4, 3)
    np.testing.assert_array_equal(sum_product((), x), x)
    np.testing.assert_array_equal(sum_product((), x, x), x * x)
    np.testing.assert_array_equal(sum_product((0,), np.ones((0, 3), np.float32)), np.zeros((1, 3)))
    assert sum_product((0,), np.ones((4, 0), np.float32)).shape == (1, 0)
