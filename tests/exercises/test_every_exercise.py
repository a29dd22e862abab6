"""Every exercise, every mistake alone and in pairs, and correct answers that look different."""

import ast
import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from correct_variants import CORRECT

import bnlib.reference as reference
from bnlib.exercises import EXERCISES, chapter01, check, solution
from bnlib.exercises.diagnose import diagnose
from bnlib.exercises.run import Failure, Trial
from bnlib.exercises.verdict import judge

SINGLES = [(id, names) for id, one in EXERCISES.items() for names in one.combinations if len(names) == 1]
PAIRS = [(id, names) for id, one in EXERCISES.items() for names in one.combinations if len(names) == 2]


def plain(value):
    """Name a parameter in ASCII: by other names, pytest finds a test only the first time in a process."""
    return str(value).encode("ascii", "replace").decode()


@pytest.mark.parametrize(("id", "names"), SINGLES, ids=plain)
def test_each_mistake_is_caught_and_named(id, names):
    result = check(id, EXERCISES[id].variant(names))
    assert result.outcome in ("wrong", "raised")
    assert result.diagnosis == names
    mistake = EXERCISES[id].mistakes[names[0]]
    assert mistake.what in result.message
    assert mistake.message in result.message


@pytest.mark.parametrize(("id", "names"), PAIRS, ids=plain)
def test_each_pair_of_mistakes_is_caught_and_named(id, names):
    result = judge(EXERCISES[id], EXERCISES[id].variant(names))
    assert not result.passed
    assert result.diagnosis == names


def trials(exercise, names):
    """Return what an answer with these mistakes gives, without calling it again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = [exercise.observe(names, index) for index in range(len(exercise.cases))]
    return [
        Trial(case, failure=Failure(one, "")) if isinstance(one, str) else Trial(case, one)
        for case, one in zip(exercise.cases, seen, strict=True)
    ]


@pytest.mark.parametrize("id", [id for id, one in EXERCISES.items() if one.read is None])
def test_mistakes_are_a_hundred_tolerances_apart(id):
    exercise = EXERCISES[id]
    coarse = replace(exercise, tolerance=100 * exercise.tolerance)
    for names in (names for names in exercise.combinations if len(names) < 3):
        assert diagnose(coarse, trials(exercise, names)) == names


@pytest.mark.parametrize("id", EXERCISES)
def test_three_mistakes_at_once_never_pass(id):
    exercise = EXERCISES[id]
    for names in (names for names in exercise.combinations if len(names) == 3):
        result = judge(exercise, exercise.variant(names))
        assert not result.passed
        assert len(result.diagnosis) in (2, 3)


@pytest.mark.parametrize("id", EXERCISES)
def test_mistakes_of_code_combine(id):
    exercise = EXERCISES[id]
    if exercise.read is None:
        combined = {name for names in exercise.combinations if len(names) == 2 for name in names}
        assert combined == set(exercise.mistakes)


@pytest.mark.parametrize(
    ("id", "answer"), [(id, answer) for id, answers in CORRECT.items() for answer in answers]
)
def test_correct_variants_pass(id, answer):
    result = check(id, answer)
    assert result.passed, result
    assert result.diagnosis == ()


def test_there_are_three_correct_variants_of_each():
    assert set(CORRECT) == set(EXERCISES)
    assert all(len(answers) >= 3 for answers in CORRECT.values())


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda one: one.id)
def test_texts(exercise):
    assert len(exercise.hints) >= 2
    assert exercise.explanation
    texts = [*exercise.hints, exercise.explanation, exercise.title]
    for mistake in exercise.mistakes.values():
        texts += [mistake.what, mistake.message]
        assert mistake.what[0].isupper() or mistake.what[0] in "γβε2√"
        assert mistake.what.endswith(".")
        assert mistake.message.endswith((".", "?"))
        assert set(mistake.excludes) <= set(exercise.mistakes)
    for text in texts:
        assert "$" not in text
        assert "\\" not in text
        assert text.count("`") % 2 == 0


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda one: one.id)
def test_the_solution_shown_is_the_one_that_runs(exercise):
    names = {"np": np}
    exec(solution(exercise.id).source, names)
    assert judge(exercise, names[exercise.solution.__name__]).passed


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda one: one.id)
def test_the_solution_passes_and_is_not_recorded(exercise, data_folder):
    assert check(exercise.id, exercise.solution).passed
    assert not data_folder.exists()


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda one: one.id)
def test_cases_do_not_change(exercise):
    for case in exercise.cases:
        for value in case.inputs.values():
            assert not isinstance(value, np.ndarray) or not value.flags.writeable
        assert list(case.inputs) == list(exercise.parameters)


def test_solutions_agree_with_the_reference():
    for id in ("2.1", "2.3"):
        for case in EXERCISES[id].cases:
            x, gamma, beta, eps = case.inputs.values()
            expected = reference.batch_norm(x, gamma, beta, eps=eps)
            np.testing.assert_allclose(
                EXERCISES[id].solution(x, gamma, beta, eps), expected, rtol=1e-12, atol=1e-12
            )
    for case in EXERCISES["2.4"].cases:
        x, eps = case.inputs.values()
        gamma, beta = EXERCISES["2.4"].solution(x, eps)
        np.testing.assert_allclose(reference.batch_norm(x, gamma, beta, eps=eps), x, rtol=1e-12)
    assert EXERCISES["2.2"].solution() == reference.batch_norm_axes(4)


def test_best_step_is_best():
    for case in EXERCISES["1.3"].cases:
        (eigenvalues,) = case.inputs.values()
        eta, rate = EXERCISES["1.3"].solution(eigenvalues)
        factors = [np.abs(1 - step * eigenvalues).max() for step in eta * np.linspace(0.5, 1.5, 1001)]
        assert min(factors) == pytest.approx(rate)
        assert np.argmin(factors) == 500


def test_more_steps_is_what_gradient_descent_takes():
    def steps(kappa):
        error, count = np.array([1.0, 1.0]), 0
        while np.abs(error).max() > 1e-3:
            error = error * (1 - 2 / (1 + kappa) * np.array([1.0, kappa]))
            count += 1
        return count

    assert check("1.4", steps(1000) / steps(10)).passed


def test_the_example_on_the_page_is_short():
    tree = ast.parse(Path(chapter01.__file__).read_text(encoding="utf-8"))
    function = next(node for node in tree.body if getattr(node, "name", "") == "standardize")
    assert function.end_lineno - function.decorator_list[0].lineno + 1 < 40
    page = Path(__file__).parents[2] / "chapters" / "checker.md"
    assert ":pyobject: standardize" in page.read_text(encoding="utf-8")


def test_ids_are_in_order_and_belong_to_their_file():
    numbers = [tuple(map(int, id.split("."))) for id in EXERCISES]
    assert numbers == sorted(numbers)
    assert len({one.title for one in EXERCISES.values()}) == len(EXERCISES)
    for one in EXERCISES.values():
        assert one.solution.__module__ == f"bnlib.exercises.chapter{one.chapter:02}"


def test_confusable_mistakes_would_be_noticed():
    """The cases must separate all mistakes: with one case of mean 0, some are alike."""
    exercise = EXERCISES["2.1"]
    flat = replace(exercise.cases[0], inputs={**exercise.cases[0].inputs, "gamma": np.ones(2)})
    blind = replace(exercise, cases=(flat,))
    confused = [
        (a, b)
        for a, b in combinations(exercise.mistakes, 2)
        if judge(blind, blind.variant((b,))).diagnosis != (b,)
    ]
    assert confused
