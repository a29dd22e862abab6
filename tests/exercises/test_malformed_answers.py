"""Answers that are no answers: the checker says so, and neither raises nor hangs."""

import asyncio
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from bnlib.exercises import EXERCISES, check
from bnlib.exercises import run as running

solve = EXERCISES["2.1"].solution


def stub(x, gamma, beta, eps):
    return ...


def stub_without_return(x, gamma, beta, eps):
    """Normalize."""
    ...


def stub_with_pass(x, gamma, beta, eps):
    pass


def stub_that_raises(x, gamma, beta, eps):
    raise NotImplementedError


def stub_with_blanks(x, gamma, beta, eps):
    mean = ...
    return gamma * (x - mean) + beta


@pytest.mark.parametrize(
    "answer", [..., stub, stub_without_return, stub_with_pass, stub_that_raises, stub_with_blanks]
)
def test_a_stub_prints_one_stable_line(answer):
    result = check("2.1", answer)
    assert result.outcome == "not attempted"
    assert repr(result) == (
        "Exercise 2.1 (Batch normalization of a matrix): not attempted yet. "
        "Replace the `...` and run this cell again."
    )


def test_a_stub_of_several_values_or_of_a_value():
    assert check("2.4", lambda x, eps: (..., ...)).outcome == "not attempted"
    assert check("2.2", ...).outcome == "not attempted"
    assert check("1.4", ...).outcome == "not attempted"


@pytest.mark.parametrize("answer", [None, 3, "x", b"x", [], {}, np.ones(3), (i for i in range(3)), object()])
def test_not_a_function(answer):
    result = check("2.1", answer)
    assert (result.outcome, result.findings) == ("wrong", ("not a function",))
    assert "without calling it" in result.message


def test_none_is_returned():
    def forgot(x, gamma, beta, eps):
        y = gamma * x + beta  # noqa: F841

    result = check("2.1", forgot)
    assert (result.outcome, result.findings) == ("wrong", ("returns None",))
    assert "`return`" in result.message


def test_generator():
    def endless(x, gamma, beta, eps):
        while True:
            yield x

    result = check("2.1", endless)
    assert result.findings == ("wrong type",)
    assert "`yield`" in result.message


def test_coroutine():
    async def later(x, gamma, beta, eps):
        await asyncio.sleep(0)

    assert "a coroutine" in check("2.1", later).message


@pytest.mark.parametrize(
    "value", ["text", b"bytes", {"y": 1}, {1, 2}, len, object(), [[1, 2], [3]], [None], [...]]
)
def test_values_of_other_types(value):
    result = check("2.1", lambda x, gamma, beta, eps: value)
    assert (result.outcome, result.findings) == ("wrong", ("wrong type",)), result


@pytest.mark.parametrize(
    "answer", [lambda x: x, lambda x, gamma, beta, eps, more: x, lambda: 1, lambda *, x: x]
)
def test_wrong_arity(answer):
    result = check("2.1", answer)
    assert (result.outcome, result.findings) == ("raised", ("wrong arguments",))
    assert "(x, gamma, beta, eps)" in result.message


def test_other_names_and_defaults_are_fine():
    assert check("2.1", lambda a, b, c, d=1e-5: solve(a, b, c, d)).passed
    assert check("2.1", lambda *all: solve(*all)).passed


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), KeyError("k"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()],
)
def test_exceptions(error):
    def answer(x, gamma, beta, eps):
        assert len(x) > 2
        raise error

    result = check("2.1", answer)
    assert result.outcome == "raised"
    assert type(error).__name__ in result.message
    assert "in line 3 of `answer`: `raise error`" in result.message
    assert "`x` of shape (3, 2)" in result.message


def test_exception_without_text():
    class BadError(Exception):
        def __str__(self):
            raise ValueError

    def answer(x, gamma, beta, eps):
        raise BadError

    assert "BadError" in check("2.1", answer).message


def test_endless_recursion():
    def answer(x, gamma, beta, eps):
        return answer(x, gamma, beta, eps)

    assert "RecursionError" in check("2.1", answer).message


def test_an_error_in_some_cases_only():
    def answer(x, gamma, beta, eps):
        if len(x) > 6:
            raise ZeroDivisionError
        return solve(x, gamma, beta, eps)

    result = check("2.1", answer)
    assert result.outcome == "raised"
    assert "`x` of shape (7, 4)" in result.message


def loop(x, gamma, beta, eps):
    while True:
        pass


def test_infinite_loop(short_limit):
    before = set(threading.enumerate())
    started = time.monotonic()
    result = check("2.1", loop)
    assert time.monotonic() - started < 3
    assert result.outcome == "raised"
    assert "loop that never ends" in result.message
    time.sleep(0.1)
    assert set(threading.enumerate()) <= before, "the loop is stopped, not left running"


def test_infinite_loop_that_catches_everything(short_limit):
    stop = threading.Event()

    def answer(x, gamma, beta, eps):
        while not stop.is_set():
            try:
                time.sleep(0.01)
            except BaseException:
                continue

    try:
        assert "loop that never ends" in check("2.1", answer).message
    finally:
        stop.set()


def test_an_answer_that_ran_too_long_is_not_called_again_and_says_nothing(short_limit, monkeypatch):
    calls, said = [], []
    monkeypatch.setattr(threading, "excepthook", said.append)

    def answer(*all):
        calls.append(threading.current_thread())
        loop(*all)

    assert "ran too long" in check("2.1", answer).message
    calls[0].join(2)
    assert not calls[0].is_alive()
    assert calls[0].daemon
    assert (len(calls), said) == (1, [])


def test_what_comes_too_late_does_not_count(short_limit):
    def answer(*all):
        try:
            loop(*all)
        except BaseException:
            return solve(*all)

    assert "ran too long" in check("2.1", answer).message


def test_a_stub_is_called_once():
    calls = []
    check("2.1", lambda *all: calls.append(all) or ...)
    assert len(calls) == 1


def test_slow_answers_share_one_limit(monkeypatch):
    monkeypatch.setattr(running, "TOTAL_SECONDS", 0.5)
    started = time.monotonic()
    result = check("2.1", lambda *all: (time.sleep(0.3), solve(*all))[1])
    assert result.outcome == "raised"
    assert time.monotonic() - started < 2


def test_infinite_loop_outside_of_the_main_thread(short_limit):
    results = []
    thread = threading.Thread(target=lambda: results.append(check("2.1", loop)))
    thread.start()
    thread.join(5)
    assert results[0].outcome == "raised"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_an_interrupt_by_the_user_passes_through():
    def answer(x, gamma, beta, eps):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    # Where the tests run in the background, the shell has the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            check("2.1", answer)
    finally:
        signal.signal(signal.SIGINT, before)


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    result = check("2.1", lambda *all: torch.tensor(solve(*all)))
    assert (result.outcome, result.findings) == ("wrong", ("wrong type",))
    assert "torch tensor" in result.message
    assert "values are right" in result.message
    weights = check("2.1", lambda *all: torch.tensor(solve(*all), dtype=torch.float32, requires_grad=True))
    assert weights.findings == ("wrong type",)
    both = check("2.4", lambda x, eps: tuple(map(torch.tensor, EXERCISES["2.4"].solution(x, eps))))
    assert both.findings == ("wrong type",)
    named = check("2.1", lambda *all: torch.tensor(EXERCISES["2.1"].variant(("n - 1",))(*all)))
    assert named.diagnosis == ("n - 1",)
    assert named.findings == ("wrong type",)


def test_lists():
    result = check("2.1", lambda *all: solve(*all).tolist())
    assert "a list" in result.message


def test_huge_outputs():
    started = time.monotonic()
    for value in (np.zeros(30_000_000, dtype=np.int8), "x" * 10**7, list(range(10**5)), 10**6000):
        result = check("2.1", lambda x, gamma, beta, eps, value=value: value)
        assert result.outcome == "wrong"
        assert len(repr(result)) < 3000
        assert len(result._repr_html_()) < 6000
    assert time.monotonic() - started < 5


def test_long_error_messages_are_cut():
    def answer(x, gamma, beta, eps):
        raise ValueError("word " * 10_000)

    assert len(repr(check("2.1", answer))) < 1000


@pytest.mark.parametrize("name", ["mean", "sqrt", "var", "asarray", "abs"])
def test_an_answer_that_patches_numpy(name):
    original = getattr(np, name)

    def answer(*all):
        y = solve(*all)
        setattr(np, name, lambda *args, **kwargs: 0)
        return y

    for _ in range(2):
        result = check("2.1", answer)
        assert getattr(np, name) is original
        assert (result.outcome, result.findings) == ("wrong", ("NumPy replaced",))
        assert f"`np.{name}`" in result.message
    assert check("2.1", solve).passed


def test_numpy_patched_before(monkeypatch):
    monkeypatch.setattr(np, "sqrt", lambda value: 0)
    result = check("2.4", EXERCISES["2.4"].solution)
    assert result.passed
    assert "`np.sqrt` had been replaced" in result.message
    assert np.sqrt(4.0) == 2.0


def test_a_patched_linear_algebra(monkeypatch):
    monkeypatch.delattr(np.linalg, "eigvalsh")
    result = check("1.2", lambda x: np.linalg.cond(x) ** 2)
    assert result.passed
    assert result.findings == ("NumPy replaced",)


def test_numpy_settings_of_the_learner():
    with np.errstate(all="raise"), np.printoptions(precision=1, threshold=2):
        first = check("2.1", lambda *all: np.log(solve(*all)))
    assert repr(first) == repr(check("2.1", lambda *all: np.log(solve(*all))))


def test_inputs_changed_in_place():
    def answer(x, gamma, beta, eps):
        x -= x.mean(axis=0)
        gamma *= 1.0
        return gamma * x / np.sqrt(x.var(axis=0) + eps) + beta

    for _ in range(2):
        result = check("2.1", answer)
        assert (result.outcome, result.findings) == ("wrong", ("input changed in place",))
        assert "its input `x` in place" in result.message
    assert check("2.1", solve).passed


@pytest.mark.parametrize("change", [lambda x: x.fill(np.nan), lambda x: x.resize((1, 1), refcheck=False)])
def test_other_changes_of_the_input(change):
    def answer(x, gamma, beta, eps):
        y = solve(x, gamma, beta, eps)
        change(x)
        return y

    assert check("2.1", answer).findings == ("input changed in place",)


def test_an_output_that_is_overwritten_by_the_next_call():
    buffer = np.empty(100)

    def answer(*all):
        y = solve(*all)
        view = buffer[: y.size].reshape(y.shape)
        view[...] = y
        return view

    assert check("2.1", answer).passed


@pytest.mark.parametrize("id", ["9.9", "", "2", "2.10", None, 2.1, ("2.1",), [], "x" * 10**6])
def test_unknown_exercise(id):
    result = check(id, solve)
    assert result.outcome == "raised"
    assert "There is no exercise" in result.message
    assert len(repr(result)) < 500


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        ("100", "wrong type"),
        (None, "wrong type"),
        (True, "wrong type"),
        ((1, 2), "wrong type"),
        (np.ones(3), "wrong type"),
        (1 + 2j, "wrong type"),
        (10**6000, "wrong type"),
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_malformed_numbers(answer, finding):
    result = check("1.4", answer)
    assert (result.outcome, result.findings) == ("wrong", (finding,)), result


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        ("0, 2, 3", "wrong type"),
        (None, "wrong type"),
        ({0: 1}, "wrong type"),
        ((i for i in (0, 2, 3)), "wrong type"),
        ((0, 2, "W"), "wrong type"),
        ((0.0, 2.0, 3.0), "wrong type"),
        ((0, 2, 4), "no such axis"),
        ((0, 2, 3, -1), "repeated axis"),
    ],
)
def test_malformed_axes(answer, finding):
    result = check("2.2", answer)
    assert (result.outcome, result.findings) == ("wrong", (finding,))


def test_an_unexpected_number_does_not_give_the_answer_away():
    result = check("1.4", 37.0)
    assert repr(result).splitlines()[1:] == ['That is not the answer. `hint("1.4")` gives a hint.']


def test_a_fault_of_the_checker_is_reported(monkeypatch):
    monkeypatch.setattr("bnlib.exercises.checker.judge", lambda *_: 1 / 0)
    result = check("2.1", solve)
    assert result.outcome == "raised"
    assert "checker itself" in result.message
