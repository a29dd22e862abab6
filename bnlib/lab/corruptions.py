"""Corrupt images in named ways at five severities, so that a model meets what it was not trained on.

The definitions are this course's own; the idea of named corruptions at five severities is from Hendrycks and
Dietterich (2019), "Benchmarking neural network robustness to common corruptions and perturbations",
arXiv:1903.12261.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupt"]

Images = npt.NDArray[np.floating[Any]]
SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """A way to spoil images.

    Attributes:
        about: what it does, in a few words.
        amounts: its strength at severities 1 to 5, of a meaning of its own.
        apply: a function of images (N, H, W) in float64, an amount and random numbers; it need not clip.
    """

    about: str
    amounts: tuple[float, float, float, float, float]
    apply: Callable[[Images, float, np.random.Generator], Images]


def noise(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Add independent normal noise of standard deviation ``amount`` to each pixel."""
    return x + amount * rng.standard_normal(x.shape)


def specks(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Make a share ``amount`` of the pixels black or white, each with probability one half."""
    hit = rng.random(x.shape) < amount
    return np.where(hit, rng.integers(0, 2, x.shape), x)


def blur(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Average with a Gaussian whose standard deviation is ``amount`` of the width."""
    sigma = amount * x.shape[-1]
    blurred: Images = ndimage.gaussian_filter(x, (0, sigma, sigma), mode="nearest")
    return blurred


def contrast(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Pull every pixel towards middle grey: ``0.5 + amount * (x - 0.5)``."""
    return 0.5 + amount * (x - 0.5)


def brightness(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Add ``amount`` to every pixel."""
    return x + amount


def rotation(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Turn each image by ``amount`` degrees, to the left or to the right; black enters at the corners."""
    left = rng.random(len(x)) < 0.5
    turned = np.empty_like(x)
    for side, angle in ((left, amount), (~left, -amount)):
        turned[side] = ndimage.rotate(x[side], angle, axes=(2, 1), reshape=False, order=1)
    return turned


def translation(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Move each image by ``amount`` of its width, rounded, along a row or a column; black enters."""
    step = round(amount * x.shape[-1])
    moved = np.empty_like(x)
    way = rng.integers(0, 4, len(x))
    for k, shift in enumerate(((0, step), (0, -step), (step, 0), (-step, 0))):
        moved[way == k] = ndimage.shift(x[way == k], (0, *shift), order=0)
    return moved


def inversion(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Invert what is as bright as ``amount`` or brighter; an amount of 0 gives the negative."""
    return np.where(x >= amount, 1 - x, x)


CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": Corruption("normal noise", (0.1, 0.2, 0.3, 0.4, 0.5), noise),
    "specks": Corruption("black and white pixels", (0.03, 0.07, 0.12, 0.2, 0.3), specks),
    "blur": Corruption("a Gaussian blur", (0.02, 0.035, 0.05, 0.07, 0.1), blur),
    "contrast": Corruption("less contrast", (0.7, 0.5, 0.35, 0.2, 0.1), contrast),
    "brightness": Corruption("more light", (0.1, 0.2, 0.3, 0.4, 0.5), brightness),
    "rotation": Corruption("turned left or right", (8.0, 16.0, 25.0, 35.0, 45.0), rotation),
    "translation": Corruption("moved aside", (0.07, 0.14, 0.21, 0.28, 0.35), translation),
    "inversion": Corruption("bright parts inverted", (0.9, 0.7, 0.5, 0.25, 0.0), inversion),
}
"""The corruptions by name. Contrast and brightness clip, which no affine map undoes."""


def corrupt(x: npt.ArrayLike, name: str, severity: int, seed: int = 0) -> Images:
    """Return corrupted images, clipped to [0, 1].

    Args:
        x: shape (N, H, W), floats in [0, 1]; not changed.
        name: one of ``CORRUPTIONS``.
        severity: 1 to 5; 0 returns a copy of ``x``.
        seed: of the random numbers. The result depends on all images together.

    Returns:
        Images of the shape and dtype of ``x``.

    Raises:
        TypeError: ``x`` are no floats.
        ValueError: another shape, values outside [0, 1], an unknown name, or a severity that there is not.
    """
    images = np.asarray(x)
    if images.dtype.kind != "f":
        raise TypeError(f"expected images of a floating dtype, got {images.dtype}")
    if images.ndim != 3:
        raise ValueError(f"expected images of shape (N, H, W), got {images.shape}")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"expected values in [0, 1], got {images.min():g} to {images.max():g}")
    if name not in CORRUPTIONS:
        raise ValueError(f"expected a corruption {', '.join(CORRUPTIONS)}, got {name!r}")
    if severity not in (0, *SEVERITIES):
        raise ValueError(f"expected a severity from 0 to 5, got {severity!r}")
    if severity == 0 or not images.size:
        unchanged: Images = images.copy()
        return unchanged
    chosen = CORRUPTIONS[name]
    rng = np.random.default_rng(seed)
    spoilt = chosen.apply(images.astype(np.float64), chosen.amounts[severity - 1], rng)
    clipped: Images = np.clip(spoilt, 0, 1).astype(images.dtype)
    return clipped
