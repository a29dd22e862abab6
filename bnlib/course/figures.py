"""The figures of the book: one style, the same colour for the same method, deterministic images."""

import base64
import io
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

#: Okabe and Ito's palette, which colour-blind readers can tell apart; one colour a method.
COLORS = {
    "bn": "#0072B2",
    "none": "#D55E00",
    "ln": "#009E73",
    "gn": "#CC79A7",
    "in": "#E69F00",
    "rms": "#56B4E9",
    "wn": "#F0E442",
    "theory": "#404040",
}

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=[c for name, c in COLORS.items() if name != "theory"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "figure.figsize": (6.8, 3.2),
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "mathtext.fontset": "dejavusans",
}


def use_style() -> None:
    """Set matplotlib's parameters to the book's figure style."""
    mpl.rcdefaults()
    mpl.rcParams.update(_STYLE)


def render(figure: Figure, *, dpi: int = 140, colors: int = 96) -> bytes:
    """Draw a figure to a small PNG whose bytes depend on the figure alone, and close it.

    Args:
        figure: the matplotlib figure.
        dpi: dots per inch.
        colors: size of the palette, 2 to 256; a palette keeps line art at a third of its size.

    Returns:
        The bytes of the PNG file.

    Raises:
        TypeError: ``figure`` is not a matplotlib figure.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"expected a matplotlib Figure, got {type(figure).__name__}")
    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()  # once: `savefig` draws twice where a layout is constrained
    plt.close(figure)
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    small = io.BytesIO()
    picture.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()


def encode(png: bytes) -> str:
    """Return the base64 text of an image, as notebooks and data addresses hold it."""
    return base64.b64encode(png).decode("ascii")


def show(figure: Figure, alt: str) -> None:
    """Display a figure together with the words that say what it shows.

    Args:
        figure: the matplotlib figure; it is closed.
        alt: what a reader who cannot see the figure needs to know: axes, curves and their message.

    Raises:
        TypeError: ``figure`` is not a matplotlib figure.
        ValueError: ``alt`` is empty.
    """
    alt = describe(alt)
    png = encode(render(figure))
    display({"image/png": png, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)


def describe(alt: str) -> str:
    """Return the text on one line, or refuse an empty one."""
    line = " ".join(alt.split())
    if not line:
        raise ValueError("expected alt text that says what the figure shows, got an empty string")
    return line
