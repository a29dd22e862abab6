"""The rule that turns intervals into verdicts."""

import pytest

from bnlib.lab.statistics import Interval
from bnlib.lab.verdicts import CONDITIONS, FAILS, HOLDS, Comparison, Part, report, verdict

NAN = float("nan")


def compared(low, high, **how):
    return Comparison("MLP", "difference, %", Interval((low + high) / 2, low, high), **how)


@pytest.mark.parametrize(
    ("low", "high", "how", "side"),
    [
        (0.1, 0.3, {}, "for"),
        (-0.3, -0.1, {}, "against"),
        (-0.1, 0.3, {}, "unclear"),
        (0.0, 0.3, {}, "unclear"),
        (-0.3, 0.0, {}, "unclear"),
        (-0.3, -0.1, {"expected": "below"}, "for"),
        (0.1, 0.3, {"expected": "below"}, "against"),
        (0.1, 0.3, {"none": 1.0, "expected": "below"}, "for"),
        (1.1, 1.3, {"none": 1.0}, "for"),
        (0.9, 1.3, {"none": 1.0}, "unclear"),
        (NAN, 0.3, {}, "unclear"),
        (0.1, NAN, {}, "unclear"),
        (-2.0, NAN, {"expected": "below"}, "unclear"),
    ],
)
def test_side_of_an_interval(low, high, how, side):
    assert compared(low, high, **how).side == side


YES, NO, OPEN = compared(1, 2), compared(-2, -1), compared(-1, 1)


@pytest.mark.parametrize(
    ("comparisons", "expected"),
    [
        ([YES, YES], HOLDS),
        ([YES, OPEN], CONDITIONS),
        ([YES, NO], CONDITIONS),
        ([OPEN, NO], FAILS),
        ([OPEN], FAILS),
        ([NO], FAILS),
    ],
)
def test_verdict_of_a_part(comparisons, expected):
    part = Part("It helps.", comparisons)
    assert part.verdict == expected
    assert sum(part.count(side) for side in ("for", "against", "unclear")) == len(comparisons)


def test_the_worst_part_decides():
    good, mixed, bad = Part("a", [YES]), Part("b", [YES, NO]), Part("c", [NO])
    assert verdict([good]) == HOLDS
    assert verdict([good, mixed]) == CONDITIONS
    assert verdict([bad, mixed, good]) == FAILS


def test_nothing_to_judge_is_an_error():
    with pytest.raises(ValueError, match=r"at least 1 comparison for 'It helps\.', got none"):
        Part("It helps.", [])
    with pytest.raises(ValueError, match=r"at least 1 part, got none"):
        verdict([])


def test_a_report_counts_and_concludes():
    assert report([Part("It helps.", [YES, YES, OPEN]), Part("It is fast.", [NO])]) == (
        "It helps.\n    2 for, 1 unclear: holds under conditions\n"
        "It is fast.\n    1 against: does not hold as stated\n"
        "The claim: does not hold as stated"
    )
