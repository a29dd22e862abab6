"""Corruptions: images stay images, severities are in order, and each does what it says."""

import numpy as np
import pytest

from bnlib.lab.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from bnlib.lab.data import fashion_mnist

IMAGES = fashion_mnist().x_test[:60]
each = pytest.mark.parametrize("name", CORRUPTIONS)


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_images_stay_images_and_the_originals_stay(name, dtype):
    x = IMAGES.astype(dtype)
    before = x.copy()
    for severity in (0, *SEVERITIES):
        spoilt = corrupt(x, name, severity)
        assert (spoilt.dtype, spoilt.shape) == (x.dtype, x.shape)
        assert spoilt.min() >= 0
        assert spoilt.max() <= 1
        assert (severity == 0) == np.array_equal(spoilt, x)
        assert not np.shares_memory(spoilt, x)
    np.testing.assert_array_equal(x, before)


@each
def test_the_seed_decides(name):
    first, again, other = (corrupt(IMAGES, name, 3, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    random = name in ("noise", "specks", "rotation", "translation")
    assert random != np.array_equal(first, other)


@each
def test_each_severity_is_further_from_the_original(name):
    x = fashion_mnist().x_test[:400].astype(np.float64)
    distances = [np.sqrt(((corrupt(x, name, s) - x) ** 2).mean()) for s in SEVERITIES]
    if name == "inversion":  # thresholds are in order, distances of the first four are not
        changed = [(corrupt(x, name, s) != x).mean() for s in SEVERITIES]
        assert changed == sorted(changed)
        assert distances[-1] == max(distances)
    else:
        assert distances == sorted(set(distances))


def test_no_images_and_odd_sizes():
    for name in CORRUPTIONS:
        assert corrupt(np.zeros((0, 4, 4)), name, 5).shape == (0, 4, 4)
        assert corrupt(np.full((1, 5, 3), 0.5), name, 5).shape == (1, 5, 3)


def test_what_they_do():
    x = IMAGES.astype(np.float64)
    np.testing.assert_allclose(corrupt(x, "inversion", 5), 1 - x)
    np.testing.assert_allclose(corrupt(x, "brightness", 5), np.minimum(x + 0.5, 1))
    np.testing.assert_allclose(corrupt(x, "contrast", 4), 0.4 + 0.2 * x, atol=1e-12)
    grey = np.full((40, 28, 28), 0.5)
    assert corrupt(grey, "noise", 2).std() == pytest.approx(0.2, rel=0.03)
    specks = corrupt(grey, "specks", 5)
    assert (specks != 0.5).mean() == pytest.approx(0.3, rel=0.05)
    assert (specks == 1).mean() == pytest.approx(0.15, rel=0.1)


def test_blur_keeps_a_flat_image_and_spreads_a_dot():
    flat, dot = np.full((1, 15, 15), 0.3), np.zeros((1, 15, 15))
    dot[0, 7, 7] = 1
    np.testing.assert_allclose(corrupt(flat, "blur", 5), flat)
    spread = corrupt(dot, "blur", 5)
    assert spread.sum() == pytest.approx(1)
    rows = np.arange(15) - 7
    assert spread.sum((0, 1)) @ rows**2 == pytest.approx(1.5**2, rel=0.05)


def test_images_are_moved_and_turned_both_ways():
    x = np.zeros((200, 28, 28))
    x[:, 13:15, 20:22] = 1
    moved = corrupt(x, "translation", 5)  # by 10 pixels, some out of sight
    centers = {tuple(np.argwhere(image).mean(0)) for image in moved if image.any()}
    assert centers == {(13.5, 10.5), (3.5, 20.5), (23.5, 20.5)}
    turned = corrupt(x, "rotation", 5)
    assert {bool(image[:13].sum() > image[15:].sum()) for image in turned} == {True, False}
    assert turned.sum((1, 2)) == pytest.approx(np.full(200, 4.0), rel=0.1)


@pytest.mark.parametrize(
    ("x", "name", "severity", "error", "message"),
    [
        (IMAGES[0], "noise", 1, ValueError, r"\(N, H, W\), got \(14, 14\)"),
        (IMAGES + 1, "noise", 1, ValueError, r"in \[0, 1\], got 1 to"),
        (IMAGES * np.nan, "noise", 1, ValueError, "got nan to nan"),
        ((IMAGES * 255).astype(np.uint8), "noise", 1, TypeError, "floating dtype, got uint8"),
        (IMAGES, "fog", 1, ValueError, "expected a corruption noise, .*, got 'fog'"),
        (IMAGES, "noise", 6, ValueError, "severity from 0 to 5, got 6"),
        (IMAGES, "noise", 2.5, ValueError, r"severity from 0 to 5, got 2\.5"),
    ],
)
def test_bad_input(x, name, severity, error, message):
    with pytest.raises(error, match=message):
        corrupt(x, name, severity)
