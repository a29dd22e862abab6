"""The picture that stands for the site where a link to it is shared."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BACKGROUND, _BATCH, _NORMALIZED, _MEAN = "#10304d", "#f0b64d", "#7cc7f2", "#ffffff"
_BATCHES = ((-3.4, 0.5), (2.6, 1.5), (5.6, 0.8))  # mean and standard deviation


def draw_preview(title: str) -> bytes:
    """Return a PNG of 1200 x 630 pixels: the title, and three batches that all become the same.

    Args:
        title: title of the book; it is broken at its comma.
    """
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor=_BACKGROUND)
    name, _, promise = title.partition(", ")
    figure.text(0.06, 0.83, name, color="white", fontsize=44, fontweight="bold", va="center")
    figure.text(0.06, 0.70, promise.capitalize(), color=_NORMALIZED, fontsize=30, va="center")
    axes = figure.add_axes((0.06, 0.07, 0.88, 0.5))
    _draw_curves(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=_BACKGROUND, metadata={"Software": None})
    return buffer.getvalue()


def _draw_curves(axes: Axes) -> None:
    x = np.linspace(-6, 9, 600)
    for mean, deviation in _BATCHES:
        curve = np.exp(-(((x - mean) / deviation) ** 2) / 2) / deviation
        axes.fill_between(x, 1.25 + 0.5 * curve, 1.25, color=_BATCH, alpha=0.35, linewidth=0)
        axes.plot(x, 1.25 + 0.5 * curve, color=_BATCH, linewidth=3)
        axes.annotate(
            "",
            (0.25 * mean, 0.98),
            (mean, 1.2),
            arrowprops={"arrowstyle": "-|>", "color": "#9fb4c8", "linewidth": 2},
        )
    curve = np.exp(-(x**2) / 2)
    axes.fill_between(x, 0.85 * curve, color=_NORMALIZED, alpha=0.4, linewidth=0)
    axes.plot(x, 0.85 * curve, color=_NORMALIZED, linewidth=4)
    axes.plot([0, 0], [0, 0.85], color=_MEAN, linewidth=2, linestyle=(0, (4, 3)))
    axes.set(xlim=(-6, 9), ylim=(0, 2.3))
    axes.axis("off")
