"""The four original files of Fashion-MNIST: where they are found, how they are checked and read.

The data are identified by the SHA-256 of the decompressed content, because compressed files differ
between Debian's package and the authors' site. The MD5 of the compressed files is the one that the authors
publish; it rejects a broken download before the file takes its place in the cache.
"""

import gzip
import hashlib
import os
import warnings
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Original(NamedTuple):
    """Describe one file: its name, the shape of its array, and its digests."""

    name: str
    shape: tuple[int, ...]
    sha256_of_content: str
    md5_of_gzip: str


DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
ORIGINALS: Mapping[str, Original] = {
    "x_train": Original(
        "train-images-idx3-ubyte.gz",
        (60000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ),
    "y_train": Original(
        "train-labels-idx1-ubyte.gz",
        (60000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "25c81989df183df01b3e8a0aad5dffbe",
    ),
    "x_test": Original(
        "t10k-images-idx3-ubyte.gz",
        (10000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "bef4ecab320f06d8554ea6380940ec79",
    ),
    "y_test": Original(
        "t10k-labels-idx1-ubyte.gz",
        (10000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}


def read_all() -> dict[str, npt.NDArray[np.uint8]]:
    """Read all 70,000 images and labels, downloading what is not on disk.

    Returns:
        ``x_train`` (60000, 28, 28), ``y_train`` (60000,), ``x_test`` (10000, 28, 28), ``y_test`` (10000,),
        all uint8 and read-only; intensities 0 to 255.

    Raises:
        ConnectionError: if a file is on neither disk nor network.
        ImportError: if a download is needed and pooch or tqdm is not installed.
    """
    return {key: parse_idx(_content(original), original.shape) for key, original in ORIGINALS.items()}


def parse_idx(content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read an array of bytes in the idx format.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each dimension as
    a big-endian 32-bit integer, then the array in row-major order.

    Args:
        content: the decompressed file.
        shape: the shape that the header must announce.

    Returns:
        A read-only uint8 array of the given shape.

    Raises:
        ValueError: if the magic number, the dimensions or the length differ from what is expected.
    """
    magic = bytes((0, 0, 8, len(shape)))
    if content[:4] != magic:
        raise ValueError(f"idx: expected magic number 0x{magic.hex()}, got 0x{content[:4].hex()}")
    start = 4 + 4 * len(shape)
    if len(content) < start:
        raise ValueError(f"idx: expected a header of {start} bytes, got {len(content)} bytes in all")
    dimensions = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    if dimensions != shape:
        raise ValueError(f"idx: expected shape {shape}, got {dimensions}")
    if len(content) - start != prod(shape):
        raise ValueError(f"idx: expected {prod(shape)} bytes of data, got {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def cache_folder() -> Path:
    """Return the folder of downloaded files: below ``$BNLIB_CACHE`` if set, else in the user's cache."""
    if chosen := os.environ.get("BNLIB_CACHE"):
        return Path(chosen).expanduser() / "fashion-mnist"
    try:
        import pooch
    except ImportError as error:
        raise _missing(error) from error
    return Path(pooch.os_cache("bnlib")) / "fashion-mnist"


def _content(original: Original) -> bytes:
    """Return the checked content of one file from Debian's package, the cache or the authors' site."""
    content = _content_on_disk(DEBIAN / original.name, original)
    if content is not None:
        return content
    cached = cache_folder() / original.name
    content = _content_on_disk(cached, original)
    if content is not None:
        return content
    _download(original, cached)
    try:
        return _decompress(cached, original)
    except ValueError as error:
        cached.unlink(missing_ok=True)
        raise _unavailable(original, error) from error


def _content_on_disk(path: Path, original: Original) -> bytes | None:
    """Return the checked content of a file, or None if it is missing or, with a warning, if damaged."""
    if not path.is_file():
        return None
    try:
        return _decompress(path, original)
    except ValueError as error:
        warnings.warn(f"{error}; the file is not used", RuntimeWarning, stacklevel=2)
        return None


def _decompress(path: Path, original: Original) -> bytes:
    """Return the decompressed content of a file, or raise ValueError unless its SHA-256 is right."""
    longest = 4 + 4 * len(original.shape) + prod(original.shape)
    try:
        with gzip.open(path) as file:
            content = file.read(longest + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != original.sha256_of_content:
        raise ValueError(
            f"{path} is damaged (expected SHA-256 {original.sha256_of_content} of its content, got {digest})"
        )
    return content


def _download(original: Original, path: Path) -> None:
    """Download one file; it takes its place in the cache when complete and of the published MD5."""
    try:
        import pooch
        from requests import RequestException
        from tqdm import tqdm
    except ImportError as error:
        raise _missing(error) from error
    # pooch sets the true total, but skips a bar that is false, as one without a total is.
    with tqdm(desc=original.name, total=1, unit="B", unit_scale=True, ncols=79) as bar:
        try:
            pooch.retrieve(
                SITE + original.name,
                known_hash=f"md5:{original.md5_of_gzip}",
                fname=path.name,
                path=path.parent,
                downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16),
            )
        except (RequestException, ValueError) as error:
            raise _unavailable(original, error) from error


def _unavailable(original: Original, cause: Exception) -> ConnectionError:
    """Say what failed and what to do about it."""
    return ConnectionError(
        f"could not download {SITE}{original.name}. Try again online, or install Debian's package "
        f"dataset-fashion-mnist, or put the four files {', '.join(o.name for o in ORIGINALS.values())} "
        f"into {cache_folder()}, or use the shipped subset (full=False). What failed: {cause}"
    )


def _missing(cause: ImportError) -> ImportError:
    """Say which extra brings what a download needs."""
    return ImportError(
        f"to download the full set, install 'bnlib[data]', which brings pooch and tqdm ({cause}); "
        "the shipped subset (full=False) and Debian's package dataset-fashion-mnist need neither"
    )
