"""Arrays for the tests of the reference: any shape, any layout in memory."""

import numpy as np
from hypothesis import strategies as st

LAYOUTS = ("contiguous", "fortran", "channels last", "reversed", "strided", "read-only")


def lay_out(x, layout):
    """Return the values of ``x`` with another arrangement in memory."""
    if layout == "fortran":
        return np.asfortranarray(x)
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    if layout == "reversed":
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    if layout == "strided":
        wide = np.full((x.shape[0], 2 * x.shape[1], *x.shape[2:]), np.nan, x.dtype)
        wide[:, ::2] = x
        return wide[:, ::2]
    x = x.copy()
    x.flags.writeable = layout != "read-only"
    return x


@st.composite
def batches(draw, dtype=np.float64, least_ndim=2, on_grid=False):
    """Draw an array (N, C, ...) with 2 samples or more; ``on_grid``: multiples of 1/8, to shift exactly."""
    rest = st.lists(st.integers(1, 5), min_size=least_ndim - 2, max_size=2)
    shape = (draw(st.integers(2, 9)), draw(st.integers(1, 5)), *draw(rest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.integers(-64, 65, shape) / 8 if on_grid else rng.standard_normal(shape)
    return lay_out(x.astype(dtype), draw(st.sampled_from(LAYOUTS)))


@st.composite
def batches_and_axes(draw, **kwargs):
    """Draw an array and the axes to reduce, in any order, possibly negative, that span 2 values or more."""
    x = draw(batches(**kwargs))
    axes = draw(st.permutations(range(x.ndim)))[: draw(st.integers(1, x.ndim))]
    if np.prod([x.shape[a] for a in axes]) < 2:
        axes = [*axes, 0]
    return x, tuple(a - x.ndim if draw(st.booleans()) else a for a in axes)
