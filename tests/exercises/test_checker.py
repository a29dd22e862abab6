"""Generic findings, displays, hints and solutions."""

import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from bnlib.exercises import EXERCISES, check, checker, hint, progress, solution
from bnlib.exercises.answers import choice
from bnlib.exercises.exercise import Mistake, case, exercise
from bnlib.exercises.inputs import features
from bnlib.exercises.verdict import judge

solve = EXERCISES["2.1"].solution
solve_pair = EXERCISES["2.4"].solution


def test_a_fault_of_the_checker_is_told_of_the_exercise(monkeypatch):
    def fail(exercise, answer):
        raise ValueError("lost")

    monkeypatch.setattr(checker, "judge", fail)
    result = check("2.2", (0, 2, 3))
    assert str(result) == (
        "Exercise 2.2 (Which axes?): an error stopped it.\n"
        "The checker itself failed on this answer: ValueError('lost')."
    )


@exercise(
    "0.1",
    "A toy",
    cases=[
        case("training", x=features(1, 3, 2), training=True),
        case("training", x=features(2, 5, 4), training=True),
        case("evaluation", x=features(3, 4, 3), training=False),
    ],
    hints=["One.", "Two."],
    explanation="None.",
    mistakes={"doubled": Mistake("It is doubled.", "Look.", "return x => return 2 * x")},
)
def toy(x, training):
    if training:
        x = x - x.mean(axis=0)
    return x


def toy_sum(v):
    x = v
    return x


@exercise(
    "0.2",
    "A choice",
    read=choice("Grows", "shrinks", "stays"),
    hints=["One.", "Two."],
    explanation="None.",
    mistakes={"sign": Mistake("It does not shrink.", "Look.", gives="shrinks")},
)
def toy_choice():
    return "grows"


@pytest.mark.parametrize(
    ("answer", "finding", "words"),
    [
        (lambda *all: 2 * solve(*all), "constant factor", "2 times what is expected, in all cases"),
        (lambda *all: -solve(*all), "constant factor", "the wrong sign"),
        (lambda *all: 0 * solve(*all), "constant factor", "zero everywhere"),
        (lambda *all: solve(*all) * len(all[0]), "constant factor", "from case to case: 3, 7, 5"),
        (lambda *all: solve(*all) + 3, "constant offset", "plus 3, in all cases"),
        (lambda *all: solve(*all) + len(all[0]), "constant offset", "from case to case: 3, 7, 5"),
        (lambda *all: solve(*all).T, "transposed", "transposed"),
        (lambda *all: solve(*all)[None], "wrong shape", "a `keepdims=True` or `None` too many"),
        (lambda *all: solve(*all).mean(0), "wrong shape", "averaged away"),
        (lambda *all: solve(*all)[:, None] - solve(*all), "wrong shape", "broadcast against each other"),
        (lambda *all: solve(*all)[:-1], "wrong shape", "expected (3, 2)"),
        (lambda *all: np.log(solve(*all)), "not finite", "NaN"),
        (lambda *all: solve(*all) / [[0] + [1] * (all[0].shape[1] - 1)], "not finite", "infinity in 3 of 6"),
        (lambda *all: solve(*all).astype(np.float16), "wrong dtype", "float16"),
        (lambda *all: solve(*all).astype(int), "wrong dtype", "whole numbers"),
        (lambda *all: solve(*all) > 0, "wrong dtype", "bool"),
        (lambda *all: solve(*all) + 1j, "wrong dtype", "complex"),
    ],
)
def test_generic_findings(answer, finding, words):
    result = check("2.1", answer)
    assert (result.outcome, result.diagnosis, result.findings) == ("wrong", (), (finding,)), result
    assert words in result.message
    assert "expected =" in result.block


def test_missing_keepdims():
    def keep(x):
        return x.mean(axis=1, keepdims=True)

    rows = exercise(
        "0.3", "Row means", cases=[case(x=features(5, 4, 3))], hints=["", ""], explanation="", mistakes={}
    )(keep)
    result = judge(rows, lambda x: x.mean(axis=1))
    assert result.findings == ("wrong shape",)
    assert "a missing `keepdims=True`" in result.message


def test_swapped_return_values():
    plain = exercise(
        "0.4",
        "Pair",
        returns=("gamma", "beta"),
        cases=EXERCISES["2.4"].cases,
        hints=["", ""],
        explanation="",
        mistakes={},
    )(solve_pair)
    result = judge(plain, lambda x, eps: solve_pair(x, eps)[::-1])
    assert result.findings == ("swapped return values",)
    assert "`beta, gamma`" in result.message


def test_which_of_two_values_is_wrong():
    result = check("2.4", lambda x, eps: (3 * solve_pair(x, eps)[0], solve_pair(x, eps)[1]))
    assert result.findings == ("constant factor",)
    assert result.message.startswith("`beta` is right. `gamma` is 3 times")
    assert "expected gamma" in result.block
    assert "expected beta" not in result.block


@pytest.mark.parametrize("value", [3.0, (1.0,), (1.0, 2.0, 3.0), np.float64(3), "ab"])
def test_wrong_number_of_values(value):
    assert check("2.4", lambda x, eps: value).findings == ("wrong number of values",)
    assert check("2.1", lambda *all: (solve(*all), None)).findings == ("wrong number of values",)


def test_dependence_on_a_previous_call():
    calls = []

    def answer(*all):
        calls.append(1)
        return solve(*all) * (1 if len(calls) == 1 else 2)

    result = check("2.1", answer)
    assert result.findings == ("depends on a previous call",)
    assert "keeps something between calls" in result.message


def test_random_answers():
    rng = np.random.default_rng(1)
    assert "depends on a previous call" in check("2.1", lambda x, *_: rng.normal(size=x.shape)).findings


def test_right_in_training_but_not_in_evaluation():
    assert judge(toy, lambda x, training: toy.solution(x, training)).passed
    result = judge(toy, lambda x, training: x - x.mean(axis=0))
    assert result.findings[0] == "right in some cases only"
    assert "right for training, and wrong for evaluation" in result.message


def test_choice():
    assert judge(toy_choice, " GROWS ").passed
    assert judge(toy_choice, "shrinks").diagnosis == ("sign",)
    assert judge(toy_choice, "stays").message.startswith("That is not the answer.")
    assert judge(toy_choice, "jumps").findings == ("no such choice",)
    assert judge(toy_choice, 3).findings == ("no such choice",)
    assert judge(toy_choice, ...).outcome == "not attempted"


def test_the_smallest_failing_case_is_shown():
    def answer(x, gamma, beta, eps):
        y = solve(x, gamma, beta, eps)
        if len(x) > 3:
            y[2, 1] += 4.0
        return y

    result = check("2.1", answer)
    text = repr(result)
    assert "The smallest case that fails:\nx =\n[[ 7.29  4.88" in text, "5 x 5, not 7 x 4, which has more"
    assert "They differ most at [2, 1]: expected" in text
    assert "eps = 1.5" in text


def test_a_mistake_that_raises_on_some_cases():
    result = check("2.3", EXERCISES["2.3"].variant(("along the width",)))
    assert (result.outcome, result.diagnosis) == ("raised", ("along the width",))
    assert "ValueError" in result.message
    assert "aligned from the right" in result.message


def test_a_different_error_is_not_taken_for_it():
    wrong = EXERCISES["2.3"].variant(("along the width",))

    def answer(*all):
        try:
            return wrong(*all)
        except ValueError:
            raise KeyError from None

    assert check("2.3", answer).diagnosis == ()


def test_an_error_on_all_cases_names_no_mistake():
    always = exercise(
        "0.5",
        "Sum",
        cases=[case(v=features(6, 4, 3))],
        hints=["", ""],
        explanation="",
        mistakes={"axis": Mistake("Another axis.", "Look.", "return x => return x.sum(axis=7)")},
    )
    broken = always(toy_sum)
    assert broken.observe(("axis",), 0) == "AxisError"
    assert judge(broken, broken.variant(("axis",))).diagnosis == ()


def test_three_mistakes():
    names = ("n - 1", "gamma ignored", "beta ignored")
    result = check("2.1", EXERCISES["2.1"].variant(names))
    assert result.diagnosis == names
    assert result.message.startswith("It has 3 mistakes.\n\n")


def test_deterministic():
    wrong = EXERCISES["2.1"].variant(("per sample",))
    for answer in (wrong, solve, lambda *all: 2 * solve(*all), lambda *all: 1 / 0):
        first, second = check("2.1", answer), check("2.1", answer)
        assert first == second
        assert repr(first) == repr(second)
        assert first._repr_html_() == second._repr_html_()


def test_quick():
    judge(EXERCISES["2.1"], solve)
    started = time.perf_counter()
    for _ in range(5):
        check("2.1", lambda x, gamma, beta, eps: x)
    assert (time.perf_counter() - started) / 5 < 0.3


class Balanced(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.append(tag)
        style = dict(attrs).get("style", "")
        assert not re.search(r"(?<![-\w])(color|background)\s*:", style), "text takes the page's colours"
        assert "id" not in dict(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


ANSWERS = [solve, ..., lambda *all: 1 / 0, lambda *all: 2 * solve(*all), EXERCISES["2.1"].variant(("n - 1",))]


@pytest.mark.parametrize("answer", ANSWERS)
def test_html_says_what_the_text_says(answer):
    result = check("2.1", answer)
    html = Balanced(result._repr_html_())
    for line in repr(result).replace("`", "").splitlines():
        for sentence in line.split(". "):
            assert sentence.strip(".") in html.text


def test_html_is_escaped():
    def answer(x, gamma, beta, eps):
        raise ValueError("<script>alert(1)</script> & `<b>`")

    html = check("2.1", answer)._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "<script>alert(1)</script>" in Balanced(html).text


@pytest.mark.parametrize("id", EXERCISES)
def test_hints_open_one_by_one_without_a_kernel(id):
    html = Balanced(check(id, ...)._repr_html_())
    assert html.seen.count("details") == html.seen.count("summary") == len(EXERCISES[id].hints)
    assert "</details></details></div>" in check(id, ...)._repr_html_(), "each hint inside the one before"
    for text in EXERCISES[id].hints:
        assert text.replace("`", "") in html.text


def test_hints_come_one_after_the_other(monkeypatch):
    monkeypatch.setattr(checker, "_hints_given", {})
    hints = EXERCISES["2.1"].hints
    for number in (1, 2, 3, 3):
        given = hint("2.1")
        assert repr(given) == (
            f"Exercise 2.1 (Batch normalization of a matrix), hint {number} of 3: {hints[number - 1]}"
        )
        assert f"hint {number} of 3" in Balanced(given._repr_html_()).text
    assert hint("2.3").number == 1


def test_solution_shows_source_and_explanation():
    shown = solution("2.1")
    assert shown.source.startswith("def batch_norm(x: np.ndarray, gamma")
    assert "mistakes" not in shown.source
    assert shown.explanation in repr(shown)
    assert shown.source.strip() in Balanced(shown._repr_html_()).text


def test_what_was_looked_up_does_not_count_as_solved():
    def answer(x):
        return (x - x.mean(axis=0)) / x.std(axis=0)

    solution("1.1")
    assert check("1.1", answer).passed
    assert "1.1" not in progress().solved
    checker._solutions_shown.clear()
    assert check("1.1", answer).passed
    assert "1.1" in progress().solved


@pytest.mark.parametrize("function", [hint, solution])
def test_unknown_ids_raise_a_clear_error(function):
    with pytest.raises(KeyError) as caught:
        function("2.11")
    assert str(caught.value) == 'There is no exercise \'2.11\'. Did you mean "2.1", "2.5" or "2.4"?'


def test_results_say_what_they_are():
    result = check("2.1", solve)
    assert result.passed
    assert repr(result) == "Exercise 2.1 (Batch normalization of a matrix): correct."
    assert not check("2.1", ...).passed


def test_progress_is_shown():
    check("2.2", (0, 2, 3))
    shown = progress()
    assert shown.solved == ("2.2",)
    assert repr(shown).startswith(f"1 of {len(EXERCISES)} exercises solved\n")
    assert "solved  2.2   Which axes?" in repr(shown)
    assert Balanced(shown._repr_html_()).text.count("✓ solved") == 1


def test_import_is_light():
    heavy = {"torch", "matplotlib", "filelock", "IPython"}
    code = f"import sys, bnlib.exercises; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
