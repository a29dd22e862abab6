"""The experiment on the family of normalizers, and the judgement of its record."""

import numpy as np
import pytest

from bnlib.lab.claims.family import SHIFTED, advice, grid, judge, table, task_names
from bnlib.lab.experiments.family import METHODS, TASKS, family, images, maker, parts
from bnlib.lab.records import Record
from bnlib.lab.verdicts import CONDITIONS, FAILS, HOLDS, verdict

PARTS = parts()
SHORT = {"steps": 4, "full": False}
PER_SEED = ("rate", "test_accuracy", "shifted_accuracy", "shifted_validation_accuracy")


@pytest.mark.parametrize(
    "part", ["MLP, batch 4, BN", "CNN, IN", "CNN, batch 2, WN", "RNN, BN", "deep MLP, RMS", "attention, LN"]
)
def test_metrics_have_their_shapes(part):
    rates = PARTS[part]["lr"][:2]
    found = family({**PARTS[part], **SHORT, "lr": rates}, [0, 3])
    shapes = {name: np.shape(values) for name, values in found.items()}
    assert shapes == {"validation_accuracy": (2, 2), **dict.fromkeys(PER_SEED, (2,))}
    assert all(np.isfinite(values).all() for values in found.values())
    best = int(found["validation_accuracy"].mean(0).argmax())
    np.testing.assert_array_equal(found["rate"], rates[best])


def test_without_a_shift_shifted_images_are_the_test_images():
    settings = {**PARTS["CNN, LN"], **SHORT, "lr": [0.1]}
    plain = family({**settings, "contrast": 1.0, "brightness": 0.0}, [0, 1])
    np.testing.assert_array_equal(plain["shifted_accuracy"], plain["test_accuracy"])
    np.testing.assert_allclose(plain["shifted_validation_accuracy"], plain["validation_accuracy"][:, 0])


def test_methods_of_a_task_differ_in_nothing_but_their_norm():
    for task, settings in TASKS.items():
        own = [PARTS[f"{task}, {method}"] for method in settings["methods"]]
        assert [part["norm"] for part in own] == [METHODS[method] for method in settings["methods"]]
        assert all({**part, "norm": ""} == {**own[0], "norm": ""} for part in own)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_its_network(part):
    names = [type(module).__name__ for module in maker(PARTS[part])().modules()]
    wanted = {"batch": "BatchNorm", "rms": "RMSNorm", "weight": "WeightNorm", "none": ""}
    norm = wanted.get(PARTS[part]["norm"], "GroupNorm")
    assert any(norm in name for name in names)
    others = {"BatchNorm", "RMSNorm", "WeightNorm", "GroupNorm"} - {norm}
    assert not any(other in name for other in others for name in names)


def test_images_are_the_package_s_own_subset_where_not_full():
    assert images(False).x_train.shape == (6000, 14, 14)


def record(gains):
    """Make a record in which a method gains so many points over BN on a task, and 0 where none is given."""
    metrics = {}
    noise = np.array([-0.001, 0.0, 0.002])
    for i, (part, settings) in enumerate(PARTS.items()):
        task, _, method = part.rpartition(", ")
        test, shifted = (
            0.8 + gains.get((name, method), 0) / 100 + noise * np.cos(i) for name in (task, f"{task} shifted")
        )
        metrics[part] = {
            "validation_accuracy": np.outer(test, np.linspace(0.9, 1, len(settings["lr"]))).tolist(),
            "rate": [settings["lr"][1]] * 3,
            "test_accuracy": test.tolist(),
            "shifted_accuracy": shifted.tolist(),
            "shifted_validation_accuracy": shifted.tolist(),
        }
    return Record("family", PARTS, [0, 1, 2], metrics, {}, "", "")


CLAIMED = {
    ("MLP, batch 4", "LN"): 5,
    ("CNN, batch 2", "LN"): 5,
    ("RNN", "LN"): 5,
    ("attention", "LN"): 5,
    ("CNN shifted", "IN"): 30,
    ("CNN, batch 2", "IN"): 5,
    ("MLP", "LN"): -5,
    ("CNN", "LN"): -5,
    ("CNN", "IN"): -5,
}


def verdicts(gains):
    return [part.verdict for part in judge(record(gains))]


def test_the_claim_holds_where_every_comparison_is_for_it():
    assert verdicts(CLAIMED) == [HOLDS, HOLDS, HOLDS]
    assert verdict(judge(record(CLAIMED))) == HOLDS


def test_it_does_not_hold_where_the_methods_are_alike_or_the_other_way_round():
    assert verdicts({}) == [FAILS, FAILS, FAILS]
    assert verdicts({key: -gain for key, gain in CLAIMED.items()}) == [FAILS, FAILS, FAILS]


@pytest.mark.parametrize("missing", CLAIMED)
def test_every_comparison_counts(missing):
    found = verdicts({key: gain for key, gain in CLAIMED.items() if key != missing})
    assert sorted(found) == sorted([HOLDS, HOLDS, CONDITIONS])


def test_the_table_has_a_row_for_each_part_and_for_the_images_of_another_contrast():
    rows = list(table(record(CLAIMED)))
    assert len(rows) == len(PARTS) + len(METHODS)
    assert task_names(record({}))[-1] == SHIFTED
    found = {(row.task, row.method): row for row in rows}
    assert found[SHIFTED, "IN"].difference.mean == pytest.approx(30, abs=1)
    assert found["CNN, batch 2", "LN"].difference.mean == pytest.approx(5, abs=1)
    assert found["CNN", "IN"].accuracy.mean == pytest.approx(75, abs=1)
    assert found["RNN", "BN"].difference == (0, 0, 0)
    assert not any(row.at_edge for row in rows)


def test_the_grid_has_a_line_for_each_task_and_a_column_for_each_method():
    made = record(CLAIMED)
    head, *lines = grid(made, lambda row: f"{row.method}{row.difference.mean:+.0f}").splitlines()
    assert head.split() == list(METHODS)
    assert [line[:19].strip() for line in lines] == task_names(made)
    cnn = lines[task_names(made).index("CNN")]
    assert cnn[19:].split() == ["BN+0", "none-0", "LN-5", "IN-5", "GN+0", "RMS+0", "WN+0"]
    rnn = lines[task_names(made).index("RNN")]
    assert [rnn.index(f"{name}") for name in ("none", "LN", "WN")] == [
        cnn.index(name) for name in ("none", "LN", "WN")
    ]


def test_advice_names_the_winner_and_only_what_it_beats():
    lines = {line.task: line for line in advice(record({("RNN", "LN"): 5, ("RNN", "RMS"): 5.01}))}
    assert list(lines) == ["RNN"]
    assert lines["RNN"].method in ("LN", "RMS")
    assert set(lines["RNN"].better_than) == {"BN", "none", "WN"}
    assert str(lines["RNN"]).startswith(f"RNN: {lines['RNN'].method}, better than\n    +5.")
    assert str(lines["RNN"]).endswith(f"not seen to differ from {lines['RNN'].like[0]}")
    assert set(lines["RNN"].like) == {"LN", "RMS"} - {lines["RNN"].method}
    shifted = {line.task: line for line in advice(record(CLAIMED))}[SHIFTED]
    assert (shifted.method, len(shifted.better_than)) == ("IN", 6)
