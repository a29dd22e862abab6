"""Every public function, without the arguments that have a default: the same as with these defaults."""

import inspect

import numpy as np
import pytest
from calls import CALLS
from test_bad_input import leaves


@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_given_has_the_documented_default(name: str) -> None:
    call = CALLS[name]
    parameters = inspect.signature(call.function).parameters
    defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    without, with_defaults = (
        {k: v for k, v in call.arguments().items() if k not in defaults} | extra for extra in ({}, defaults)
    )
    got, expected = call.function(**without), call.function(**with_defaults)
    assert len(leaves(got)) == len(leaves(expected))
    for a, b in zip(leaves(got), leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
