"""The experiment on small batches: what it compares, and what its claim makes of a record."""

from itertools import islice

import numpy as np
import pytest
import torch

from bnlib.lab.batches import batch_order, order_by_class, sorted_in_batches
from bnlib.lab.claims.small_batches import judge
from bnlib.lab.experiments.small_batches import METHODS, SIZES, best_rate, parts, percent, small_batches
from bnlib.lab.records import Record
from bnlib.lab.verdicts import CONDITIONS, FAILS, HOLDS, verdict

PARTS = parts()
NAMES = ("train_loss", "validation_accuracy", "test_accuracy", "recomputed_accuracy")
LABELS = torch.randint(10, (300,), generator=torch.Generator().manual_seed(0))


def short(part, **changes):
    return {**PARTS[part], "samples": 256, "lr": [0.02, 0.1], **changes}


@pytest.mark.parametrize("part", ["MLP, BN, 4", "MLP, renorm, 8", "CNN, GN, 16, two classes"])
def test_metrics_have_their_shapes_and_do_not_depend_on_the_seeds_beside(part):
    found = small_batches(short(part), [0, 3])
    alone = small_batches(short(part), [3])
    assert sorted(found) == sorted(NAMES)
    for name in NAMES:
        assert found[name].shape == (2, 2)
        assert np.isfinite(found[name]).all()
        np.testing.assert_allclose(found[name][1], alone[name][0], atol=0.01)


def test_sizes_see_equally_many_images_and_rates_grow_with_the_root():
    for settings in PARTS.values():
        assert settings["samples"] % settings["n"] == 0
        assert settings["samples"] <= settings["train"]
    large, small = PARTS["MLP, BN, 32"]["lr"], PARTS["MLP, BN, 2"]["lr"]
    np.testing.assert_allclose(np.array(large) / small, 4)
    assert {part for part in PARTS if "MLP, ghost" in part and "sorted" not in part} == {
        f"MLP, ghost, {m}" for m in SIZES[1:]
    }


def test_only_ghost_batches_feel_an_order_within_the_batch():
    whole, ghost = (short(f"MLP, {name}") for name in ("BN, 32", "ghost, 8"))
    for settings, feels in ((whole, False), (ghost, True)):
        losses = [small_batches({**settings, "order": o}, [0])["train_loss"] for o in ("shuffled", "sorted")]
        assert np.allclose(*losses, rtol=1e-3) != feels


def test_the_settings_of_a_part_reach_the_layers():
    losses = [
        small_batches(short("MLP, BN, 2", **how), [0])["train_loss"]
        for how in ({}, {"eps": 1.0}, {"method": "renorm"}, {"method": "LN"}, {"method": "GN"})
    ]
    assert len({round(float(loss[0, 0]), 6) for loss in losses}) == 5


def test_running_and_recomputed_statistics_differ_with_batch_normalization_only():
    for method, same in (("BN", False), ("renorm", False), ("LN", True)):
        found = small_batches(short(f"MLP, {method}, 4"), [0])
        both = found["test_accuracy"], found["recomputed_accuracy"]
        assert np.allclose(*both, atol=6e-4) == same


def test_batches_by_class_hold_few_classes_and_every_image_once():
    order = order_by_class(LABELS, 2)
    batches = list(islice(order(4, 300, 10), 25))
    blocks = torch.stack(batches).view(-1, 5)
    kinds = [len(set(LABELS[block].tolist())) for block in blocks]
    assert np.mean(np.array(kinds) == 1) > 0.75  # the others are where one class ends
    assert np.mean([len(set(LABELS[batch].tolist())) > 1 for batch in batches]) > 0.6
    assert len(set(torch.cat(batches).tolist())) == 250
    again = torch.stack(list(islice(order(4, 300, 10), 25)))
    assert torch.equal(again, torch.stack(batches))
    assert not torch.equal(next(order(5, 300, 10)), batches[0])


def test_sorting_keeps_the_batches():
    ours = islice(sorted_in_batches(LABELS)(7, 300, 32), 20)
    theirs = islice(batch_order(7, 300, 32), 20)
    for index, other in zip(ours, theirs, strict=True):
        assert torch.equal(index.sort().values, other.sort().values)
        assert (LABELS[index].diff() >= 0).all()


@pytest.mark.parametrize(
    ("classes", "size", "batch_size", "message"),
    [
        (3, 300, 10, "expected classes that divide a batch size of at most 300, got 3 and 10"),
        (2, 300, 302, "at most 300, got 2 and 302"),
        (2, 200, 10, "expected as many images as labels, 300, got 200"),
    ],
)
def test_orders_that_cannot_be(classes, size, batch_size, message):
    with pytest.raises(ValueError, match=message):
        next(order_by_class(LABELS, classes)(0, size, batch_size))


def record(accuracy):
    """Make a record of test accuracies in percent, given network, method and batch size, of three seeds."""
    rng = np.random.default_rng(0)
    metrics = {}
    for part in PARTS:
        network, method, n, *_ = part.split(", ")
        values = accuracy(network, method, int(n)) + rng.normal(0, 0.1, (3, 1))
        both = np.hstack([values, values - 20]) / 100
        metrics[part] = {"test_accuracy": both.tolist(), "validation_accuracy": both.tolist()}
    return Record("small_batches", PARTS, [0, 1, 2], metrics, {}, "", "")


def test_the_claim_holds_where_batch_normalization_alone_loses():
    parts = judge(record(lambda network, method, n: 80 - 32 / n * (method in ("BN", "ghost"))))
    assert [part.verdict for part in parts] == [HOLDS] * 3
    assert verdict(parts) == HOLDS
    assert parts[0].comparisons[0].effect.mean == pytest.approx(-1, abs=0.3)
    assert parts[1].comparisons[-1].effect.mean == pytest.approx(-15, abs=0.4)
    assert [c.where for c in parts[2].comparisons] == [
        f"{m}, ghost batches of {n}" for m in METHODS for n in SIZES[1:]
    ]


def test_the_claim_fails_where_all_methods_lose_alike():
    parts = judge(record(lambda network, method, n: 80 - 32 / n * (method != "ghost")))
    assert [part.verdict for part in parts] == [HOLDS, FAILS, FAILS]
    assert verdict(parts) == FAILS


def test_the_claim_holds_under_conditions_where_one_network_loses():
    parts = judge(
        record(lambda network, method, n: 80 - 32 / n * (method in ("BN", "ghost")) * (network == "MLP"))
    )
    assert verdict(parts) == CONDITIONS


def test_the_rate_is_the_best_in_validation_without_overflow():
    made = record(lambda network, method, n: 80)
    assert best_rate(made, "MLP, BN, 2") == 0
    made.metrics["MLP, BN, 2"]["validation_accuracy"][1][0] = None
    assert best_rate(made, "MLP, BN, 2") == 1
    np.testing.assert_allclose(percent(made, "MLP, BN, 2"), 60, atol=0.5)
    made.metrics["MLP, BN, 2"]["validation_accuracy"][1][1] = None
    with pytest.raises(ValueError, match="expected a rate at which no run of 'MLP, BN, 2' overflows"):
        best_rate(made, "MLP, BN, 2")
