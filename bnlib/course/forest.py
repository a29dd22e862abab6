"""Comparisons behind a claim, drawn with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bnlib.course.figures import COLORS
from bnlib.lab.verdicts import SIDES, Comparison

__all__ = ["forest"]

_PAINT = dict(zip(SIDES, (COLORS["bn"], COLORS["none"], "#888888"), strict=True))
_SHAPE = dict(zip(SIDES, "oXD", strict=True))


def forest(comparisons: Sequence[Comparison]) -> Figure:
    """Draw each comparison's mean and interval beside the line of no effect, a panel for each effect.

    A panel is logarithmic where its effects are ratios, all above 0.

    Args:
        comparisons: in the order of the rows; none leaves the figure empty.

    Returns:
        The figure, as high as its rows need.
    """
    kinds: dict[tuple[str, float], list[Comparison]] = {}
    for comparison in comparisons:
        kinds.setdefault((comparison.what, comparison.none), []).append(comparison)
    heights = [len(found) + 1.5 for found in kinds.values()] or [1]
    figure, panels = plt.subplots(
        len(heights), squeeze=False, height_ratios=heights,
        figsize=(7.0, 0.9 + 0.9 * len(heights) + 0.2 * sum(heights)),
    )  # fmt: skip
    for axes, ((what, none), found) in zip(panels[:, 0], kinds.items(), strict=False):
        for y, c in enumerate(found):
            color = _PAINT[c.side]
            axes.plot([c.effect.low, c.effect.high], [y, y], color=color, lw=2)
            axes.plot(c.effect.mean, y, _SHAPE[c.side], ms=6, color=color)
        axes.axvline(none, color=COLORS["theory"], lw=1)
        axes.set_yticks(range(len(found)), [c.where for c in found], fontsize=8)
        axes.set(ylim=(len(found) - 0.5, -0.5))
        axes.set_title(what, fontsize=9, loc="left")
        if none > 0 and all(c.effect.low > 0 for c in found):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
    for side in SIDES:
        panels[0, 0].plot([], [], _SHAPE[side], ms=10, color=_PAINT[side], label=side)
    figure.legend(loc="outside upper right", ncols=3)
    return figure
