"""Make the shipped subset of Fashion-MNIST from the full set: ``python -m bnlib.lab.subset [FILE]``.

The rule: the first 600 training images and the first 200 test images of each class, kept in their original
order; each 2x2 block of pixels becomes its mean, rounded to the nearest integer, halves up.
The file is the same, byte for byte, at each run with the same zlib.
"""

import argparse
import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bnlib.lab import originals

SHIPPED = Path(__file__).parent / "fashion_mnist" / "fashion_mnist_14x14.npz"
PER_CLASS = {"train": 600, "test": 200}


def subset() -> dict[str, npt.NDArray[np.uint8]]:
    """Choose and shrink the images of the full set.

    Returns:
        ``x_train`` (6000, 14, 14), ``y_train`` (6000,), ``x_test`` (2000, 14, 14), ``y_test`` (2000,),
        all uint8; intensities 0 to 255.

    Raises:
        ConnectionError: if the full set is on neither disk nor network.
    """
    full = originals.read_all()
    chosen = {}
    for part, count in PER_CLASS.items():
        x, y = full[f"x_{part}"], full[f"y_{part}"]
        kept = first_of_each_class(y, count)
        chosen[f"x_{part}"] = halve(x[kept])
        chosen[f"y_{part}"] = y[kept]
    return chosen


def first_of_each_class(labels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.intp]:
    """Return, in increasing order, the indices of the first `count` occurrences of each label."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def halve(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Average each 2x2 block: (n, 2h, 2w) to (n, h, w), uint8, rounded to nearest, halves up."""
    n, height, width = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2).astype(np.uint16)
    total = blocks[:, :, 0, :, 0] + blocks[:, :, 0, :, 1] + blocks[:, :, 1, :, 0] + blocks[:, :, 1, :, 1]
    return ((total + 2) // 4).astype(np.uint8)


def archive(arrays: Mapping[str, npt.NDArray[np.uint8]]) -> bytes:
    """Pack arrays as a compressed ``.npz`` that holds no time, no user and no machine."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            member.external_attr = 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            file.writestr(member, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return packed.getvalue()


def main(path: Path) -> None:
    """Write the subset to a file, whole or not at all."""
    content = archive(subset())
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (Path(folder) / path.name).write_bytes(content)
        (Path(folder) / path.name).replace(path)
    print(f"{path}: {len(content):,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the shipped subset of Fashion-MNIST.")
    parser.add_argument("file", nargs="?", type=Path, default=SHIPPED, help="where to write it (%(default)s)")
    main(parser.parse_args().file)
