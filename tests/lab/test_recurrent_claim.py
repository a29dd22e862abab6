"""The experiment on recurrent networks, and what its record says about the claim."""

import numpy as np
import pytest
import torch

from bnlib.lab.claims.recurrent import judge
from bnlib.lab.experiments.recurrent import (
    CELLS,
    LENGTHS,
    SHARED,
    choose,
    cut,
    maker,
    parts,
    recurrent,
    sequences,
    step_moments,
)
from bnlib.lab.network import seeded
from bnlib.lab.records import Record
from bnlib.lab.verdicts import CONDITIONS, FAILS, HOLDS

PARTS = parts()
SMALL = {"full": False, "train": 2000, "validation": 300, "test": 300, "steps": 6, "hidden": 8}


def short(part, **changes):
    return {**PARTS[part], **SMALL, "lr": [0.03, 0.1], **changes}


@pytest.mark.parametrize("part", ["plain, equal, LN, gamma 1", "LSTM, unequal, BN, gamma 0.1"])
def test_metrics_have_their_shapes_and_do_not_depend_on_the_seeds_beside(part):
    found = recurrent(short(part), [0, 3])
    alone = recurrent(short(part), [3])
    lengths = 11 if "unequal" in part else 1
    shapes = {"accuracy": (lengths,), "batch_accuracy": (lengths,), "offset": (14,), "spread": (14,)}
    assert set(found) == {"train_loss", "validation_accuracy", *shapes}
    for name, values in found.items():
        assert np.shape(values) == (2, 2, *shapes.get(name, ()))
        assert np.isfinite(values).all() == ("BN" in part or name not in ("offset", "spread"))
        np.testing.assert_allclose(values[1], alone[name][0], rtol=1e-4, atol=0.02)


def test_without_batch_norm_both_statistics_are_one():
    found = recurrent(short("plain, unequal, LN, gamma 0.1"), [0])
    np.testing.assert_array_equal(found["accuracy"], found["batch_accuracy"])
    shared = recurrent(short("plain, unequal, shared BN, gamma 0.1"), [0])
    assert not np.array_equal(shared["accuracy"], shared["batch_accuracy"])


def test_a_run_that_overflows_is_nan_and_the_other_is_not():
    found = recurrent(short("plain, equal, none", lr=[0.1, np.nan]), [0])
    for name in ("accuracy", "batch_accuracy", "validation_accuracy", "train_loss"):
        assert np.isfinite(found[name]).reshape(2, -1).all(1).tolist() == [True, False]


def test_sequences_end_where_their_lengths_say():
    training, validation, test = sequences(short("plain, unequal, none"))
    assert [len(s.x) for s in (training, validation, test)] == [2000, 300, 300]
    for s, last in ((training, 11), (validation, 11), (test, 14)):
        assert (s.lengths.min(), s.lengths.max()) == (4, last)
        there = ~s.x.isnan()
        assert (there.all(2).sum(1) == s.lengths).all()
        assert (there.any(2).sum(1) == s.lengths).all()
    images = {row[:4].numpy().tobytes() for row in training.x}
    assert len({row[:4].numpy().tobytes() for row in validation.x} & images) < 10  # no image is in both


def test_large_images_give_two_rows_a_step():
    images = np.arange(2 * 28 * 28, dtype=np.float32).reshape(2, 28, 28)
    found = cut(images, np.array([3, 4]), slice(None), [14, 14], 0)
    assert found.x.shape == (2, 14, 56)
    np.testing.assert_array_equal(found.x[1, 2], np.concatenate([images[1, 4], images[1, 5]]))


def test_methods_differ_in_normalization_and_rates_alone():
    for cell in CELLS:
        for lengths in LENGTHS:
            ours = [s for part, s in PARTS.items() if part.startswith(f"{cell}, {lengths}, ")]
            assert len(ours) == {"plain": 6, "LSTM": 4}[cell]
            fixed = [{k: s[k] for k in s if k not in ("norm", "per_step", "gamma", "lr")} for s in ours]
            assert all(f == fixed[0] for f in fixed)
            assert SHARED.items() <= fixed[0].items()


def test_moments_of_a_step_are_0_and_1_where_the_statistics_are_its_own():
    settings = short("plain, equal, BN, gamma 0.1")
    _, _, test = sequences(settings)
    model = seeded(maker(settings, test), 0, torch.float64)
    for norm in (model.norm, model.input_norm):
        norm.momentum = 1.0  # so that the running statistics become those of this batch
    x = test.x.double()
    model(x)
    offset, spread = step_moments(model.eval(), x)
    np.testing.assert_allclose(offset, 0, atol=0.02)
    np.testing.assert_allclose(spread, [0] + [1] * 13, atol=0.02)
    model.norm.running_mean[0] += 2 * model.norm.eps**0.5
    assert step_moments(model, x)[0][0] == pytest.approx(2)
    assert step_moments(model, x)[0][1] > 0.1


# The claim


def record(gap=0.0, unequal=0.0, beyond=0.0, **gains):
    """Return a record whose accuracies are 0.7 and what BN gains by a method, lengths and statistics."""
    metrics, settings, noise = {}, {}, np.random.default_rng(0).normal(0, 0.002, (5, 1, 1))
    for part, s in PARTS.items():
        _, lengths, method = part.split(", ")[:3]
        first, last = s["test_lengths"]
        tested = np.arange(first, last + 1)
        gain = gains.get(method.replace(" ", "_"), 0.0)
        jitter = np.random.default_rng(len(settings)).normal(0, 0.001, (5, 1, 1))
        level = 0.7 + gain + noise + jitter + np.zeros((5, 1, len(tested)))
        if method == "BN":
            level = level - unequal * (lengths == "unequal") - beyond * (tested > s["train_lengths"][1])
        batch = level + gap * (method == "shared BN")
        metrics[part] = {
            "validation_accuracy": [[0.7]] * 5,
            "accuracy": level.tolist(),
            "batch_accuracy": (batch + noise * 0.1).tolist(),
            "offset": np.zeros((5, 1, 14)).tolist(),
            "spread": np.ones((5, 1, 14)).tolist(),
        }
        settings[part] = {**s, "lr": [0.1]}
    return Record("trial", settings, range(5), metrics, {}, "", "")


def test_a_record_of_the_claim_makes_it_hold():
    found = judge(record(gap=0.1, BN=-0.05, unequal=0.03, beyond=0.04))
    assert [part.verdict for part in found] == [HOLDS] * 4
    assert [len(part.comparisons) for part in found] == [4, 4, 4, 4]
    first = found[0].comparisons[0]
    assert (first.where, first.effect.mean) == ("plain, equal", pytest.approx(10, abs=0.1))
    costs = [c.effect.mean for c in found[3].comparisons]
    assert costs == pytest.approx([3, 3, 4, 4], abs=0.2)


def test_a_record_of_the_contrary_makes_it_fail():
    found = judge(record(gap=-0.1, BN=0.05, unequal=-0.03, beyond=-0.04))
    assert [part.verdict for part in found] == [FAILS] * 4
    assert {c.side for part in found for c in part.comparisons} == {"against"}


def test_parts_are_judged_by_themselves():
    found = judge(record(gap=0.1, LN=0.02, unequal=0.05))
    assert [part.verdict for part in found] == [HOLDS, CONDITIONS, HOLDS, CONDITIONS]


def test_gamma_and_rate_are_chosen_by_validation_where_no_run_overflows():
    trial = record()
    for part, values in {
        "plain, equal, BN, gamma 0.1": [[0.5, 0.7, None], [0.6, 0.8, 0.9]],
        "plain, equal, BN, gamma 1": [[0.5, 0.8, 0.1], [0.6, 0.72, 0.1]],
    }.items():
        trial.settings[part]["lr"] = [1.0, 2.0, 3.0]
        metrics = {"validation_accuracy": values}
        for name in ("accuracy", "batch_accuracy"):
            metrics[name] = [[[0.1], [0.2], [0.3]], [[0.4], [0.5], [0.6]]]
        for name in ("offset", "spread"):
            metrics[name] = np.ones((2, 3, 14)).tolist()
        trial.metrics[part] = metrics
    chosen = choose(trial, "plain", "equal", "BN")
    assert (chosen.part, chosen.lr) == ("plain, equal, BN, gamma 1", 2.0)
    np.testing.assert_allclose(chosen.usual, [20, 50])
    assert chosen.trained.tolist() == [True]
    for part in ("plain, equal, BN, gamma 0.1", "plain, equal, BN, gamma 1"):
        trial.metrics[part]["validation_accuracy"] = [[None] * 3] * 2
    with pytest.raises(ValueError, match="expected a part 'plain, equal, BN' with a rate at which no run"):
        choose(trial, "plain", "equal", "BN")


def test_the_choice_is_among_parts_of_one_method():
    trial = record()
    trial.metrics["plain, equal, shared BN, gamma 0.1"]["validation_accuracy"] = [[0.9]] * 5
    assert choose(trial, "plain", "equal", "BN").part.startswith("plain, equal, BN, gamma")
    assert choose(trial, "LSTM", "unequal", "BN").trained.tolist() == [True] * 8 + [False] * 3
