"""Images for the experiments: Fashion-MNIST, a shipped subset or all of it.

Importing this module loads NumPy alone; what a download needs is imported when a download starts.
"""

from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bnlib.lab import originals

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""The name of each label, 0 to 9."""

PIXELS = {False: 14 * 14, True: 28 * 28}
"""Pixels of an image of the shipped subset, and of the full set."""


class FashionMNIST(NamedTuple):
    """Hold images as floats in [0, 1], black to white, and labels 0 to 9 that index `CLASSES`."""

    x_train: npt.NDArray[np.floating[Any]]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.floating[Any]]
    y_test: npt.NDArray[np.int64]


def fashion_mnist(*, full: bool = False, dtype: npt.DTypeLike = np.float32) -> FashionMNIST:
    """Load grayscale images of clothing with their classes.

    The shipped subset holds the first 600 training and the first 200 test images of each class, in the
    original order, each 2x2 block of pixels averaged and rounded to 1/255 (`bnlib.lab.subset` makes it).
    It needs no network. The full set is read from Debian's package ``dataset-fashion-mnist`` where that is
    installed, otherwise from the user's cache (``$BNLIB_CACHE``, by default ``pooch.os_cache("bnlib")``),
    into which it is downloaded once (30 MB) with a progress bar on standard error. Every read of it checks
    the SHA-256 of the decompressed content; a damaged file is reported by a `RuntimeWarning` and not used.

    Args:
        full: False for the shipped subset, True for all 70,000 images.
        dtype: floating type of the images.

    Returns:
        ``(x_train, y_train, x_test, y_test)``. Images of type `dtype`, intensities in [0, 1], of shapes
        (6000, 14, 14) and (2000, 14, 14), or (60000, 28, 28) and (10000, 28, 28) if `full`.
        Labels int64, of shapes (6000,) and (2000,), or (60000,) and (10000,). New arrays at each call.

    Raises:
        TypeError: if `dtype` is not a floating type.
        ConnectionError: if the full set is on neither disk nor network; says what to do.
        ImportError: if a download is needed and pooch or tqdm is not installed (extra ``bnlib[data]``).

    Source:
        Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
        algorithms", 2017, arXiv:1708.07747. MIT licence, Zalando SE.
    """
    floating = np.dtype(dtype)
    if not np.issubdtype(floating, np.floating):
        raise TypeError(f"expected a floating dtype, got {floating}")
    arrays = originals.read_all() if full else _read_shipped()
    return FashionMNIST(
        x_train=np.divide(arrays["x_train"], 255, dtype=floating),
        y_train=arrays["y_train"].astype(np.int64),
        x_test=np.divide(arrays["x_test"], 255, dtype=floating),
        y_test=arrays["y_test"].astype(np.int64),
    )


def _read_shipped() -> dict[str, npt.NDArray[np.uint8]]:
    """Read the subset that the package ships, as bytes."""
    shipped = files("bnlib.lab") / "fashion_mnist" / "fashion_mnist_14x14.npz"
    with shipped.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in FashionMNIST._fields}
