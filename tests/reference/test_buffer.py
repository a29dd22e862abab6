import numpy as np
import pytest

from bnlib.reference import batch_norm, batch_norm_backward
from bnlib.reference.buffer import short_buffer


def test_the_buffer_is_short_within_and_as_before_after():
    before = np.getbufsize()
    assert short_buffer(np.getbufsize)() < before
    assert np.getbufsize() == before


def test_it_is_as_before_after_an_error():
    before = np.getbufsize()
    with pytest.raises(KeyError):
        short_buffer({}.pop)("missing")
    assert np.getbufsize() == before


def test_the_size_that_a_caller_chose_is_kept():
    before = np.setbufsize(4096)
    try:
        x = np.random.default_rng(0).standard_normal((8, 3), dtype=np.float32)
        batch_norm(x)
        batch_norm_backward(x, x)
        assert np.getbufsize() == 4096
    finally:
        np.setbufsize(before)
