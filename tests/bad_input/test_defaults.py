"""Every public function, without an argument that has a default: the same as with this default."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from calls import CALLS
from test_bad_input import leaves


def tried(function: Any, arguments: dict[str, Any]) -> list[np.ndarray] | str:
    """Return the arrays in the result, and those that the call may have changed; or what its error says."""
    try:
        result = function(**arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    given = tuple(value for value in arguments.values() if isinstance(value, (np.ndarray, torch.Tensor)))
    return [np.asarray(value) for value in leaves((result, given))]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_given_has_the_documented_default(name: str) -> None:
    call = CALLS[name]
    parameters = inspect.signature(call.function).parameters
    for argument, default in ((k, p.default) for k, p in parameters.items() if p.default is not p.empty):
        without, with_default = (
            tried(call.function, {k: v for k, v in call.arguments().items() if k != argument} | extra)
            for extra in ({}, {argument: default})
        )
        assert isinstance(without, str) == isinstance(with_default, str)
        if isinstance(without, str):
            assert without == with_default
        else:
            for a, b in zip(without, with_default, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=argument)
