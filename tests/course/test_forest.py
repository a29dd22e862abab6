"""The figure of comparisons."""

import numpy as np

from bnlib.course import COLORS
from bnlib.course.forest import forest
from bnlib.lab.statistics import Interval
from bnlib.lab.verdicts import Comparison

RATIOS = [
    Comparison("MLP", "ratio", Interval(2.0, 1.5, 3.0), none=1.0),
    Comparison("CNN", "ratio", Interval(0.5, 0.25, 0.75), none=1.0),
    Comparison("RNN", "ratio", Interval(1.0, 0.5, 2.0), none=1.0),
]
POINTS = [Comparison("MLP", "points", Interval(-1.0, -2.0, 1.0))]


def test_a_panel_for_each_effect_and_a_row_for_each_comparison():
    figure = forest([*RATIOS, *POINTS])
    first, second = figure.axes
    assert [first.get_title(loc="left"), second.get_title(loc="left")] == ["ratio", "points"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["MLP", "CNN", "RNN"]
    assert (first.get_xscale(), second.get_xscale()) == ("log", "linear")
    intervals = [line for line in first.lines if line.get_linewidth() == 2]
    for line, c in zip(intervals, RATIOS, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [c.effect.low, c.effect.high])
    assert [line.get_color() for line in intervals] == [COLORS["bn"], COLORS["none"], "#888888"]
    assert [line.get_xdata()[0] for line in first.lines if line.get_linewidth() == 1] == [1.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["for", "against", "unclear"]


def test_a_figure_without_comparisons_is_empty():
    figure = forest([])
    assert not figure.axes[0].has_data() or all(len(line.get_xdata()) == 0 for line in figure.axes[0].lines)


def test_more_rows_make_it_higher():
    assert forest(RATIOS * 5).get_figheight() > forest(RATIOS).get_figheight()
