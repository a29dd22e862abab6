"""Every public function, with every argument spoiled in every way: the documented result or error.

One argument at a time, tried in full; several at once, as hypothesis draws them. At the end of the tests, a
table says how much was tried.
"""

import copy
import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from calls import CALLS, ELSEWHERE, TABLE, Call
from hypothesis import given, settings
from hypothesis import strategies as st
from spoil import Duty, Spoiled, spoil

from bnlib import reference

TRIED: Counter[tuple[str, str]] = Counter()
"""How often a function, by its full name, came to an outcome."""

# Sequences of numbers of any kind are welcome here.
ARRAY_LIKE = ("bnlib.lab.statistics.",)


def documented(function: Callable[..., Any]) -> set[str]:
    """Return the names of the errors under ``Raises:`` of a docstring, and of those it refers to."""
    doc = inspect.getdoc(function) or ""
    section = re.search(r"^[\w, ]*Raises:\n((?:[ ].*\n?)+)", doc, re.MULTILINE)
    text = section[1] if section else ""
    found = set(re.findall(r"\b(\w+Error)\b", text))
    for name in re.findall(r"[Aa]s (?:in )?``(\w+)``", text):
        found |= documented(next(getattr(m, name) for m in (*TABLE, reference.backward) if hasattr(m, name)))
    return found


def unchanged(before: Any, after: Any) -> bool:
    """Tell whether an argument is what it was; of what is no array, nothing is asked."""
    if isinstance(before, np.ndarray) and before.dtype != object:
        return before.tobytes() == after.tobytes()
    if isinstance(before, torch.Tensor) and not before.is_meta:
        return before.reshape(-1).view(torch.uint8).equal(after.reshape(-1).view(torch.uint8))
    return True


def leaves(result: Any) -> list[Any]:
    """Return the arrays and numbers in a result."""
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves(part)]
    if dataclasses.is_dataclass(result):
        return [leaf for part in vars(result).values() for leaf in leaves(part)]
    return [result] if isinstance(result, (np.ndarray, np.number, torch.Tensor, float, int)) else []


def outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[Any, Exception | None]:
    """Return the result of a call, and the error if there was one."""
    try:
        return function(**arguments), None
    except Exception as error:
        return None, error


def judge(name: str, call: Call, spoiled: dict[str, Spoiled]) -> None:
    """Call a function with some arguments spoiled, and fail unless it does its duty."""
    what = f"{name} with " + ", ".join(f"{argument}: {s.what}" for argument, s in spoiled.items())
    arguments = call.arguments() | {argument: s.value for argument, s in spoiled.items()}
    before = copy.deepcopy(arguments)
    duties = {s.duty for s in spoiled.values()}
    result, error = outcome(call.function, arguments)
    if error is not None:
        kind = type(error).__name__
        allowed = documented(call.function) | ({"MemoryError"} if "huge" in what else set())
        assert kind in allowed, f"{what}: undocumented {kind}: {error}"
        assert "expected" in str(error) or kind == "MemoryError", (
            f"{what}: {kind} says not what was expected: {error}"
        )
        assert duties != {Duty.SAME}, f"{what}: refused what is as good as before: {error}"
        TRIED[name, "refused"] += 1
    else:
        assert Duty.REFUSE not in duties, f"{what}: expected an error, got {result!r}"
        if duties == {Duty.SAME}:
            same(what, call.function(**call.arguments()), result)
        TRIED[name, "computed"] += 1
    for argument, value in before.items():
        if not argument.startswith("running_"):  # these are updated in place
            assert unchanged(value, arguments[argument]), f"{what}: changed {argument}"


def same(what: str, expected: Any, got: Any) -> None:
    """Fail unless two results agree to rounding."""
    pairs = zip(leaves(expected), leaves(got), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-9, atol=1e-12, err_msg=what)


def ways(name: str, good: Any) -> list[Spoiled]:
    """Return the ways to spoil an argument of a function."""
    found = spoil(good)
    if name.startswith(ARRAY_LIKE):
        convertible = {"list", "tensor", "int64"}
        found = [s._replace(duty=Duty.EITHER) if s.what in convertible else s for s in found]
    return found


@pytest.mark.parametrize("name", CALLS)
def test_one_spoiled_argument(name: str) -> None:
    call = CALLS[name]
    call.function(**call.arguments())
    for argument, good in call.arguments().items():
        for way in ways(name, good):
            judge(name, call, {argument: way})


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_several_spoiled_arguments(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CALLS)))
    call = CALLS[name]
    arguments = call.arguments()
    chosen = data.draw(st.lists(st.sampled_from(sorted(arguments)), min_size=1, unique=True))
    options = {argument: ways(name, arguments[argument]) for argument in chosen}
    spoiled = {argument: data.draw(st.sampled_from(found)) for argument, found in options.items() if found}
    if spoiled:
        judge(name, call, spoiled)


@pytest.mark.parametrize("module", TABLE, ids=lambda m: m.__name__)
def test_no_public_function_is_left_out(module: Any) -> None:
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    functions = {n for n in names if inspect.isfunction(getattr(module, n))}
    functions = {n for n in functions if getattr(module, n).__module__.startswith(module.__name__)}
    assert functions - ELSEWHERE == set(TABLE[module])


def test_a_lie_is_noticed() -> None:
    def lie(x: Any) -> Any:
        """Raise nothing that is said.

        Raises:
            TypeError: never.
        """
        return x["key"]

    call = Call(lie, lambda: {"x": np.ones(2)})
    with pytest.raises(AssertionError, match="undocumented IndexError"):
        judge("lie", call, {"x": Spoiled("list", np.ones(2), Duty.EITHER)})
    with pytest.raises(AssertionError, match="expected an error"):
        judge("lie", Call(lambda x: x, call.arguments), {"x": Spoiled("text", "text", Duty.REFUSE)})
    with pytest.raises(AssertionError, match="changed x"):
        judge(
            "lie",
            Call(lambda x: x.sort(), call.arguments),
            {"x": Spoiled("2, 1", np.array([2.0, 1.0]), Duty.EITHER)},
        )
