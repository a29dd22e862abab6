"""The judgements of claims: on records made up so that the answer is known."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from bnlib.lab import records
from bnlib.lab.claims import covariate_shift, depth, learning_rates, overall, regularization, transform
from bnlib.lab.claims.ledger import LEDGER
from bnlib.lab.records import Record
from bnlib.lab.verdicts import CONDITIONS, FAILS, HOLDS, verdict

SEEDS = [0, 1, 2, 3]
JITTER = np.array([-0.01, 0.02, -0.02, 0.01])


def made_up(settings, metrics):
    return Record("trial", settings, SEEDS, metrics, {}, "", "")


def about(value, shape=()):
    """Return a value for each seed, all near ``value``, repeated to (S, *shape)."""
    values = np.asarray(value) * (1 + JITTER).reshape(-1, *[1] * np.ndim(value))
    return np.broadcast_to(values.reshape(*values.shape, *[1] * len(shape)), (*values.shape, *shape)).tolist()


def sides(part):
    return [(c.where, c.side) for c in part.comparisons]


# C1, C2, C4


def of_transform(**changes):
    exact = {
        "difference": 1e-15, "undone": 1e-14, "sharing": 1.0, "sample_mean": 0.4, "sample_std": 0.5,
        "gamma": 0.2, "beta": 0.2,
    } | changes  # fmt: skip
    return made_up({"MLP": {}}, {"MLP": {name: about(value) for name, value in exact.items()}})


def test_definition():
    assert verdict(transform.judge_definition(of_transform())) == HOLDS
    assert verdict(transform.judge_definition(of_transform(difference=1e-6))) == FAILS


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, [HOLDS, HOLDS, HOLDS]),
        ({"undone": 1e-3}, [FAILS, HOLDS, HOLDS]),
        ({"beta": 1e-4}, [HOLDS, CONDITIONS, HOLDS]),
        ({"sharing": 49.0}, [HOLDS, HOLDS, FAILS]),
    ],
)
def test_scale(changes, verdicts):
    assert [part.verdict for part in transform.judge_scale(of_transform(**changes))] == verdicts


def test_across_features():
    assert verdict(transform.judge_across_features(of_transform())) == FAILS
    record = of_transform(sample_mean=1e-16, sample_std=1e-5)
    assert verdict(transform.judge_across_features(record)) == HOLDS


# C3


def of_shift(moments, gradients, noisy_loss):
    """Make a record in which BN has so much of the shifts of no BN, and noisy BN that loss; BN has 0.5."""
    losses = {"BN": 0.5, "no BN": 1.0, "noisy BN": noisy_loss}
    shift = {"BN": moments, "no BN": 1.0, "noisy BN": 3.0}
    change = {"BN": gradients, "no BN": 1.0, "noisy BN": 1.0}
    return made_up(
        {f"MLP, {method}": {"lr": [0.1], "probed": [5, 9]} for method in losses},
        {
            f"MLP, {method}": {
                "train_loss": about([losses[method]]),
                "input_shift": about(shift[method], (1, 2, 2)),
                "gradient_shift": about(change[method], (1, 2, 3)),
            }
            for method in losses
        },
    )


@pytest.mark.parametrize(
    ("record", "verdicts"),
    [
        (of_shift(0.2, 0.2, 0.95), [HOLDS, HOLDS, HOLDS]),
        (of_shift(0.2, 2.0, 0.95), [HOLDS, FAILS, HOLDS]),
        (of_shift(2.0, 0.2, 0.55), [FAILS, HOLDS, FAILS]),
    ],
)
def test_covariate_shift(record, verdicts):
    assert [part.verdict for part in covariate_shift.judge(record)] == verdicts


# C5, C12

RATES = [0.01, 0.1, 1.0, 10.0]


def of_rates(bn, none, steps=(20.0, 40.0), accuracy=(0.9, 0.8)):
    """Make a record with these final losses at four rates, and steps and accuracies of both."""
    parts = {"MLP, BN": (bn, steps[0], accuracy[0]), "MLP, no BN": (none, steps[1], accuracy[1])}
    return made_up(
        {part: {"lr": RATES, "levels": [1.0]} for part in parts},
        {
            part: {
                "train_loss": about(losses),
                "steps_to": about(count, (4, 1)),
                "test_accuracy": about(right, (4,)),
            }
            for part, (losses, count, right) in parts.items()
        },
    )


GOOD, NARROW, LOST = [0.5, 0.5, 0.5, 0.5], [2.0, 0.5, 2.0, 9.0], [2.0, 0.5, 9.0, 9.0]


@pytest.mark.parametrize(
    ("record", "verdicts"),
    [
        (of_rates(GOOD, LOST), [HOLDS, HOLDS, HOLDS]),
        (of_rates(NARROW, LOST), [HOLDS, HOLDS, FAILS]),
        (of_rates(GOOD, GOOD, steps=(40.0, 20.0)), [FAILS, FAILS, HOLDS]),
        (of_rates(LOST, GOOD, steps=(40.0, 40.0)), [FAILS, FAILS, FAILS]),
    ],
)
def test_learning_rates(record, verdicts):
    assert [part.verdict for part in learning_rates.judge(record)] == verdicts


def test_the_better_of_two_rivals_counts():
    one = of_rates(GOOD, LOST)
    settings = {**one.settings, "MLP, no BN, He": one.settings["MLP, no BN"]}
    metrics = {**one.metrics, "MLP, no BN, He": {**one.metrics["MLP, BN"], "steps_to": about(10.0, (4, 1))}}
    speed, limit, _ = learning_rates.judge(made_up(settings, metrics))
    assert (speed.verdict, limit.verdict) == (FAILS, FAILS)
    assert speed.comparisons[0].effect.mean == pytest.approx(0.5)


# C6


def of_regularization(gap, test, dropout):
    """Make a record: what each step of noise does to gap and test accuracy, and what dropout gains."""
    outcomes = {"no BN": (0.9, 0.8), "BN 64": (0.9 + gap + test, 0.8 + test)}
    outcomes["BN 4"] = (0.9 + 2 * (gap + test), 0.8 + 2 * test)
    for norm, gain in dropout.items():
        train, right = outcomes[norm]
        outcomes[f"{norm}, dropout 0.5"] = (train, right + gain)
    parts = {f"{n}, {norm}": both for n in ("MLP", "CNN") for norm, both in outcomes.items()}
    return made_up(
        {part: {"lr": [0.1]} for part in parts},
        {
            part: {
                "train_accuracy": (train + JITTER[:, None]).tolist(),
                "test_accuracy": (right + JITTER[:, None] * right).tolist(),
                "validation_accuracy": about([right]),
                "recomputed_accuracy": about([right]),
            }
            for part, (train, right) in parts.items()
        },
    )


def test_regularization():
    good = of_regularization(-0.05, 0.02, {"no BN": 0.05, "BN 64": 0.01})
    assert [part.verdict for part in regularization.judge(good)] == [HOLDS, HOLDS, HOLDS]
    bad = of_regularization(0.05, -0.02, {"no BN": 0.01, "BN 64": 0.05})
    assert [part.verdict for part in regularization.judge(bad)] == [FAILS, FAILS, FAILS]


# C7


def of_depth(growths, deep_accuracy):
    """Make a record with growths (BN, no BN) by network, and accuracies at 20 layers likewise."""
    parts = {f"{name}, {word}": pair[i] for name, pair in growths.items() for i, word in enumerate(WORDS)}
    accuracy = {
        f"{name}, {word}": pair[i] for name, pair in deep_accuracy.items() for i, word in enumerate(WORDS)
    }
    return made_up(
        {part: {"depths": [5, 20], "lr": [0.1]} for part in parts},
        {
            part: {
                "growth": np.broadcast_to(
                    np.array(about(growth))[:, None, None, None], (4, 2, 1, 3)
                ).tolist(),
                "train_loss": about(1.0, (2, 1)),
                "test_accuracy": about(accuracy[part], (2, 1)),
            }
            for part, growth in parts.items()
        },
    )


WORDS = ("BN", "no BN")


@pytest.mark.parametrize(
    ("growths", "accuracy", "verdicts"),
    [
        ({"sigmoid": (1.0, 0.05)}, {"sigmoid": (0.8, 0.1)}, [HOLDS, HOLDS, HOLDS]),
        ({"sigmoid": (0.5, 0.05)}, {"sigmoid": (0.1, 0.8)}, [FAILS, HOLDS, FAILS]),
        ({"ReLU": (1.5, 1.0)}, {"ReLU": (0.8, 0.1)}, [FAILS, HOLDS]),
        (
            {"sigmoid": (1.0, 0.05), "ReLU": (1.5, 1.0)},
            {"sigmoid": (0.8, 0.1), "ReLU": (0.4, 0.4)},
            [HOLDS, CONDITIONS, CONDITIONS],
        ),
    ],
)
def test_depth(growths, accuracy, verdicts):
    assert [part.verdict for part in depth.judge(of_depth(growths, accuracy))] == verdicts


def test_a_run_that_overflows_at_every_rate_counts_as_guessing():
    record = of_depth({"ReLU": (1.0, 1.0)}, {"ReLU": (0.8, 0.8)})
    lost = {**record.metrics["ReLU, no BN"], "train_loss": [[[None], [None]]] * 4}
    lost["test_accuracy"] = [[[None], [None]]] * 4
    metrics = {**record.metrics, "ReLU, no BN": lost}
    (gain,) = depth.judge(made_up(record.settings, metrics))[-1].comparisons
    assert gain.where == "ReLU, 20 layers"
    assert gain.effect.mean == pytest.approx(70, abs=2)


def test_overall():
    deep = of_depth({"sigmoid": (1.0, 0.05)}, {"sigmoid": (0.8, 0.1)})
    easier = overall.judge(of_rates(GOOD, LOST), deep)
    assert [part.verdict for part in easier] == [HOLDS] * 4
    harder = overall.judge(of_rates(LOST, GOOD, steps=(40.0, 20.0), accuracy=(0.7, 0.8)), deep)
    assert [part.verdict for part in harder] == [FAILS, FAILS, FAILS, HOLDS]


# The ledger


def test_every_claim_has_its_place():
    assert [claim.name for claim in LEDGER] == [f"C{n}" for n in range(1, 13)]


def test_a_missing_record_leaves_the_verdict_open(tmp_path):
    claim = next(claim for claim in LEDGER if claim.name == "C12")
    assert claim.verdict(tmp_path) == "open: no record of learning_rates, depth"
    with pytest.raises(FileNotFoundError, match="make it with"):
        claim.judge(tmp_path)
    (tmp_path / "learning_rates.json").write_bytes(records.as_json(of_rates(GOOD, LOST)))
    assert claim.verdict(tmp_path) == "open: no record of depth"
    deep = of_depth({"sigmoid": (1.0, 0.05)}, {"sigmoid": (0.8, 0.1)})
    (tmp_path / "depth.json").write_text(json.dumps(asdict(deep)))
    assert claim.verdict(tmp_path) == HOLDS


@pytest.mark.parametrize("claim", LEDGER, ids=lambda claim: claim.name)
def test_the_package_has_a_verdict_on_every_claim(claim):
    assert not claim.missing()
    assert claim.verdict() in (HOLDS, CONDITIONS, FAILS)
