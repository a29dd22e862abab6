"""The experiment on regularization: what it compares differs in nothing but what its parts say."""

import numpy as np
import pytest

from bnlib.lab.data import fashion_mnist
from bnlib.lab.experiments.regularization import at_best_rate, measure, parts, regularization, split
from bnlib.lab.records import Record

PARTS = parts()
SHAPES = {
    "train_accuracy": (2, 2),
    "test_accuracy": (2, 2),
    "validation_accuracy": (2, 2),
    "recomputed_accuracy": (2, 2),
    "test_loss": (2, 2),
}


def short(part, **changes):
    return {**PARTS[part], "full": False, "steps": 8, "lr": PARTS[part]["lr"][-2:], **changes}


@pytest.mark.parametrize("part", ["MLP, no BN, dropout 0.5", "MLP, BN 16", "CNN, BN 4"])
def test_metrics_have_their_shapes_and_do_not_depend_on_the_seeds_beside(part):
    found = regularization(short(part), [0, 3])
    assert {name: np.shape(values) for name, values in found.items()} == SHAPES
    alone = regularization(short(part), [3])
    for name in SHAPES:
        assert np.isfinite(found[name]).all()
        np.testing.assert_array_equal(found[name][1], alone[name][0])


def test_the_batch_is_the_same_whatever_m_is():
    for name in ("MLP", "CNN"):
        ours = [settings for part, settings in PARTS.items() if part.startswith(name)]
        assert {settings["m"] for settings in ours} == {0, 64, 16, 4}
        fixed = [{k: v for k, v in settings.items() if k not in ("m", "dropout")} for settings in ours]
        assert all(settings == fixed[0] for settings in fixed)


def test_m_as_large_as_the_batch_is_batch_norm_and_less_is_not():
    whole, larger, small = (measure(short("MLP, BN 64", m=m), 1)["test_loss"] for m in (64, 1000, 4))
    np.testing.assert_array_equal(whole, larger)
    assert not np.allclose(whole, small, atol=1e-3)


def test_a_run_that_overflows_is_nan_and_the_other_is_not():
    found = measure(short("MLP, BN 64", lr=[0.1, 1e30]), 0)
    for name in ("validation_accuracy", "recomputed_accuracy", "test_accuracy"):
        assert np.isfinite(found[name]).tolist() == [True, False]


def test_no_image_is_in_training_and_validation():
    few, (x, y) = split(5, 512, 2000)
    assert (few.x_train.shape, x.shape, y.shape) == ((512, 14, 14), (2000, 14, 14), (2000,))
    ours, theirs = ({image.tobytes() for image in images} for images in (few.x_train, x))
    assert not ours & theirs
    np.testing.assert_array_equal(few.x_test, fashion_mnist().x_test)
    other, _ = split(6, 512, 2000)
    assert not np.array_equal(few.x_train, other.x_train)


def record(**metrics):
    settings = {"one": {"lr": [0.1, 0.2, 0.4]}}
    return Record("trial", settings, [0, 1], {"one": metrics}, {}, "", "")


def test_the_rate_is_chosen_by_validation_where_no_run_overflows():
    chosen = at_best_rate(
        record(
            validation_accuracy=[[0.5, 0.7, 0.9], [0.6, 0.8, None]],
            train_accuracy=[[0.1, 0.8, 0.3], [0.1, 0.9, 0.3]],
            test_accuracy=[[0.9, 0.7, 0.3], [0.9, 0.6, None]],
            recomputed_accuracy=[[0.9, 0.75, 0.3], [0.9, 0.5, None]],
        ),
        "one",
    )
    assert (chosen.lr, chosen.validation) == (0.2, pytest.approx(75))
    np.testing.assert_allclose(chosen.train, [80, 90])
    np.testing.assert_allclose(chosen.test, [70, 60])
    np.testing.assert_allclose(chosen.recomputed, [75, 50])
    np.testing.assert_allclose(chosen.gap, [10, 30])
    with pytest.raises(ValueError, match="expected a rate at which no run of 'one' overflows"):
        at_best_rate(record(validation_accuracy=[[None, 0.5], [0.5, None]]), "one")
