"""The experiment on distribution shift, and what its record says about the claim."""

import numpy as np
import pytest

from bnlib.lab.claims.shift import judge
from bnlib.lab.corruptions import CORRUPTIONS
from bnlib.lab.data import fashion_mnist
from bnlib.lab.experiments.distribution_shift import SHARED, corrupted, distribution_shift, trained
from bnlib.lab.records import Record
from bnlib.lab.verdicts import CONDITIONS, FAILS, HOLDS, verdict

SMALL = {**SHARED, "full": False, "steps": 3, "pool": 64, "evaluated": 100, "counts": [1, 8], "draws": 1}
SMALL |= {"channels": [4, 8], "shares": [0.0, 1.0]}
PLAIN = {"clean": (1, 1), "accuracy": (1, 8, 5, 1)}
NORMALIZED = {
    "clean": (1, 3),
    "accuracy": (1, 8, 5, 3),
    "clean_disagreement": (1, 2),
    "disagreement": (1, 8, 5, 2),
    "by_count": (1, 3, 2, 3),
    "by_share": (1, 3, 2, 2),
}


@pytest.mark.parametrize(("norm", "shapes"), [("batch", NORMALIZED), ("group", PLAIN)])
def test_metrics_have_their_shapes(norm, shapes):
    found = distribution_shift({**SMALL, "norm": norm}, [3])
    assert {name: values.shape for name, values in found.items()} == shapes
    assert all(np.isfinite(values).all() for values in found.values())


def test_pool_and_evaluated_images_are_apart_and_the_seeds_own():
    data = fashion_mnist()
    one = corrupted(SMALL, data, 0, "none", 0)
    pool, x = ({image.numpy().tobytes() for image in images} for images in (one.pool, one.x))
    assert (len(one.pool), len(one.x), len(one.y)) == (64, 100, 100)
    assert not pool & x
    spoilt = corrupted(SMALL, data, 0, "inversion", 5)
    np.testing.assert_allclose(spoilt.x, 1 - one.x, atol=1e-6)
    assert not np.array_equal(corrupted(SMALL, data, 1, "none", 0).x, one.x)


def test_both_parts_train_on_the_same_batches():
    models = [trained({**SMALL, "norm": norm}, fashion_mnist(), 0) for norm in ("batch", "group")]
    shapes = [[tuple(p.shape) for p in model.parameters()] for model in models]
    assert shapes[0] == shapes[1]


def record(running, reestimated, batch, clean=0.02, shifted=0.4):
    """Make a record of 5 seeds with accuracies without a shift and with one, and disagreements."""
    jitter = np.linspace(-0.004, 0.004, 5)
    accuracy = np.full((5, 8, 5, 3), 0.5)
    accuracy[..., 0] = running[1]
    accuracy[..., 1] = np.asarray(reestimated)[:, None] + jitter[:, None, None]
    metrics = {
        "clean": np.stack([running[0] + jitter, np.full(5, batch), np.full(5, batch)], 1),
        "accuracy": accuracy,
        "clean_disagreement": np.full((5, 2), clean) * (1 + jitter[:, None]),
        "disagreement": np.full((5, 8, 5, 2), shifted) * (1 + 2 * jitter[:, None, None, None]),
    }
    return Record("distribution_shift", {}, range(5), {"BN": metrics}, {}, "", "")


def test_the_claim_holds_where_re_estimation_wins_back_accuracy():
    parts = judge(record((0.84, 0.3), [0.7] * 8, 0.842))
    assert [part.verdict for part in parts] == [HOLDS] * 3
    assert [len(part.comparisons) for part in parts] == [1, 40, 40]
    assert parts[2].comparisons[0].effect.mean == pytest.approx(40)
    assert parts[1].comparisons[0].effect.mean == pytest.approx(20, rel=0.01)
    assert [c.where for c in parts[2].comparisons] == [f"{n} {s}" for n in CORRUPTIONS for s in range(1, 6)]


def test_the_claim_holds_under_conditions_where_some_corruptions_win_nothing():
    parts = judge(record((0.84, 0.3), [0.7] * 7 + [0.3], 0.842))
    assert [part.verdict for part in parts] == [HOLDS, HOLDS, CONDITIONS]
    assert parts[2].comparisons[-1].side == "unclear"


def test_the_claim_fails_where_nothing_is_won_or_running_statistics_do_not_stand_in():
    nothing = judge(record((0.84, 0.7), [0.6] * 8, 0.842, shifted=0.01))
    assert [part.verdict for part in nothing] == [HOLDS, FAILS, FAILS]
    worse = judge(record((0.8, 0.3), [0.7] * 8, 0.842))
    assert [part.verdict for part in worse] == [FAILS, HOLDS, HOLDS]
    assert verdict(worse) == FAILS
