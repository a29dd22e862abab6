"""Records are written whole, go on after an interrupt, and are the same at each run."""

import json
import math
import re

import numpy as np
import pytest
from torch import nn

from bnlib.lab import records, registry
from bnlib.lab.__main__ import main
from bnlib.lab.network import seeded
from bnlib.lab.registry import Experiment

PARTS = {"one": {"scale": 1.0}, "two": {"scale": 2.0}}


def measure(settings, seeds):
    """Draw numbers. This is no measurement."""
    drawn = [np.random.default_rng(seed).normal(size=(2, 3)) for seed in seeds]
    return {"array": settings["scale"] * np.stack(drawn), "number": [seed / 3 for seed in seeds]}


class Interrupted:
    """A measurement that stops the program at one of its calls."""

    def __init__(self, at=None):
        self.at, self.calls = at, []

    def __call__(self, settings, seeds):
        self.calls.append((settings["scale"], list(seeds)))
        if len(self.calls) == self.at:
            raise KeyboardInterrupt
        return measure(settings, seeds)


def make(function=measure, seeds=3, at_once=3, parts=PARTS):
    return Experiment("trial", parts, seeds, at_once, function)


@pytest.fixture
def registered(monkeypatch):
    trial = make()
    monkeypatch.setattr(registry, "experiments", lambda: {"trial": trial})
    return trial


def content(folder):
    found = json.loads((folder / "trial.json").read_text())
    date = found.pop("date")
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", date)
    return found


def test_a_record_holds_what_the_readers_need(tmp_path):
    record = records.run(make(), folder=tmp_path)
    assert list(content(tmp_path)) == ["experiment", "settings", "seeds", "metrics", "versions", "device"]
    assert record.seeds == [0, 1, 2]
    assert set(record.versions) == {"python", "numpy", "torch", "bnlib"}
    loaded = records.load("trial", tmp_path)
    assert loaded == record
    assert loaded.metric("two", "array").shape == (3, 2, 3)
    expected = 2 * np.random.default_rng(1).normal(size=(2, 3))
    np.testing.assert_allclose(loaded.metric("two", "array")[1], expected, rtol=5e-6)
    np.testing.assert_allclose(loaded.metric("one", "number"), [0, 1 / 3, 2 / 3], rtol=5e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["trial.json"]


def test_two_runs_differ_in_the_date_at_most(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        records.run(make(), folder=tmp_path / name)
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("at", range(1, 7))
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, at):
    whole = tmp_path / "whole"
    whole.mkdir()
    records.run(make(), folder=whole)
    first = Interrupted(at)
    with pytest.raises(KeyboardInterrupt):
        records.run(make(first, at_once=1), folder=tmp_path)
    assert not (tmp_path / "trial.json").exists()
    second = Interrupted()
    records.run(make(second, at_once=1), folder=tmp_path)
    assert len(second.calls) == 6 - (at - 1)
    assert first.calls[-1] == second.calls[0]
    assert content(tmp_path) == content(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trial.json", "whole"]


def test_an_interrupted_run_leaves_the_old_record(tmp_path):
    records.run(make(), folder=tmp_path)
    before = (tmp_path / "trial.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        records.run(make(Interrupted(2)), seeds=4, folder=tmp_path)
    assert (tmp_path / "trial.json").read_bytes() == before


def test_more_seeds_use_those_that_are_finished(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        records.run(make(Interrupted(2)), folder=tmp_path)
    again = Interrupted()
    records.run(make(again, at_once=10), seeds=5, folder=tmp_path)
    assert again.calls == [(1.0, [3, 4]), (2.0, [0, 1, 2, 3, 4])]


def test_what_other_settings_or_versions_gave_is_not_used(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        records.run(make(Interrupted(2)), folder=tmp_path)
    other = Interrupted()
    records.run(make(other, parts={**PARTS, "two": {"scale": 3.0}}), folder=tmp_path)
    assert len(other.calls) == 2
    with pytest.raises(KeyboardInterrupt):
        records.run(make(Interrupted(2)), folder=tmp_path)
    monkeypatch.setattr(records, "versions", lambda: {"python": "0"})
    other = Interrupted()
    records.run(make(other), folder=tmp_path)
    assert len(other.calls) == 2


def test_what_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path):
    def diverge(settings, seeds):
        return {"loss": [[math.nan, 1.0], [math.inf, 2.0]]}

    records.run(make(diverge, seeds=2), folder=tmp_path)
    assert content(tmp_path)["metrics"]["one"]["loss"] == [[None, 1.0], [None, 2.0]]
    np.testing.assert_array_equal(
        records.load("trial", tmp_path).metric("one", "loss"), [[math.nan, 1.0], [math.nan, 2.0]]
    )


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least 2 seeds, got 1"):
        records.run(make(), seeds=1, folder=tmp_path)
    with pytest.raises(ValueError, match=r"expected x of shape \(3, \.\.\.\), got \(2,\)"):
        records.run(make(lambda settings, seeds: {"x": [1.0, 2.0]}), folder=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected a record of the experiment 'no'.*lab run no"):
        records.load("no", tmp_path)
    record = records.run(make(), folder=tmp_path)
    with pytest.raises(ValueError, match="expected a part one, two, got 'three'"):
        record.metric("three", "array")
    with pytest.raises(ValueError, match="expected a metric array, number, got 'loss'"):
        record.metric("one", "loss")


def test_the_registry_refuses_a_name_twice_and_too_few_seeds(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    register = registry.experiment("trial", parts=PARTS, seeds=4)
    assert register(measure) is measure
    with pytest.raises(ValueError, match="expected a name that is not taken, got 'trial'"):
        registry.experiment("trial", parts=PARTS)
    with pytest.raises(ValueError, match="expected at least 1 part and 2 seeds, got 2 and 1"):
        registry.experiment("other", parts=PARTS, seeds=1)
    with pytest.raises(ValueError, match="expected a name of letters"):
        registry.experiment("a/b", parts=PARTS)
    found = registry._registered["trial"]
    assert (found.seeds, found.at_once, found.about) == (4, 4, "Draw numbers. This is no measurement.")


# The command line


def test_run_without_names_runs_what_has_no_record(tmp_path, registered, capsys):
    folder = ["--folder", str(tmp_path)]
    assert main([*folder, "list"]) == 0
    assert "no record" in capsys.readouterr().out
    assert main([*folder, "run"]) == 0
    assert capsys.readouterr().out == "trial: recorded, 3 seeds\n"
    before = (tmp_path / "trial.json").stat().st_mtime_ns
    assert main([*folder, "run"]) == 0
    assert capsys.readouterr().out == "Every experiment has a record.\n"
    assert (tmp_path / "trial.json").stat().st_mtime_ns == before
    assert main([*folder, "run", "trial", "--seeds", "4"]) == 0
    assert main([*folder, "list"]) == 0
    assert "4 seeds" in capsys.readouterr().out


def test_show_gives_means_with_intervals(tmp_path, registered, capsys):
    main(["--folder", str(tmp_path), "run"])
    capsys.readouterr()
    assert main(["--folder", str(tmp_path), "show", "trial"]) == 0
    out = capsys.readouterr().out
    assert "scale: 2.0" in out
    assert re.search(r"number +0\.3333 \[-0\.4947, 1\.161\]", out)
    assert out.count("array[") == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "trial"], "expected a record of the experiment 'trial', got none"),
        (["run", "no"], "expected an experiment trial, got 'no'"),
        (["run", "trial", "--seeds", "1"], "expected at least 2 seeds, got 1"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, registered, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["--folder", str(tmp_path), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_interrupt_is_no_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry, "experiments", lambda: {"trial": make(Interrupted(1))})
    assert main(["--folder", str(tmp_path), "run"]) == 130
    assert "goes on from what is finished" in capsys.readouterr().err


def test_every_record_in_the_package_is_of_an_experiment_as_it_is():
    known = registry.experiments()
    assert set(records.recorded()) <= set(known)
    for name in records.recorded():
        record, experiment = records.load(name), known[name]
        assert record.settings == json.loads(json.dumps(experiment.parts))
        assert len(record.seeds) >= max(5, experiment.seeds)
        assert record.experiment == name
        for part in record.metrics:
            for metric in record.metrics[part]:
                assert len(record.metric(part, metric)) == len(record.seeds)


def test_a_file_has_a_line_for_each_part_and_each_seed(tmp_path):
    records.run(make(), folder=tmp_path)
    lines = [line.strip().rstrip(",") for line in (tmp_path / "trial.json").read_text().splitlines()]
    assert '"two": {"scale": 2.0}' in lines
    assert '"seeds": [0, 1, 2]' in lines
    assert sum(line.startswith("[[") for line in lines) == 6
    assert len(lines) < 60


# The experiments


def test_learning_rates_measures_what_it_says():
    from bnlib.lab.experiments.learning_rates import PARTS, learning_rates

    for part, settings in PARTS.items():
        short = {**settings, "full": False, "steps": 20, "lr": [0.1, 1e30]}
        found = learning_rates(short, [0, 3])
        shapes = {n: np.shape(v) for n, v in found.items()}
        assert shapes.pop("steps_to") == (2, 2, len(settings["levels"]))
        assert shapes == dict.fromkeys(
            ["start_loss", "train_loss", "test_loss", "test_accuracy", "diverged_at"], (2, 2)
        )
        # All rates start alike.
        np.testing.assert_allclose(found["start_loss"][:, 0], found["start_loss"][:, 1], rtol=1e-6)
        assert (found["diverged_at"][:, 0] == -1).all()
        assert np.isfinite(found["test_accuracy"][:, 0]).all(), part
    assert max(rates(PARTS)) / min(rates(PARTS)) >= 1e4


def test_steps_to_a_level_by_hand():
    from bnlib.lab.experiments.learning_rates import steps_to

    falls = np.repeat([2.0, 1.0, 0.0], 20)
    lost = np.where(np.arange(60) < 25, 2.0, np.nan)
    found = steps_to(np.stack([falls, lost, falls[::-1]]), [2.0, 1.5, 0.05, -1.0])
    np.testing.assert_array_equal(
        found, [[20, 30, 59, np.nan], [20, np.nan, np.nan, np.nan], [20, 20, 20, np.nan]]
    )


def test_weight_norms_measures_what_it_says():
    from bnlib.lab.experiments.weight_norms import PARTS, weight_norms

    settings = PARTS["rate 0.3, eps 1e-05"]
    # The strongest decay settles soonest.
    short = {**settings, "full": False, "steps": 300, "settled": 200}
    short["weight_decay"] = settings["weight_decay"][-1:]
    found = weight_norms(short, [0, 3])
    assert {name: v.shape for name, v in found.items()} == dict.fromkeys(
        ["angle", "norm", "gradient"], (2, 1, 2)
    )
    turn = settings["lr"] * found["gradient"] / found["norm"] ** 2
    np.testing.assert_allclose(found["angle"], turn, rtol=0.1)
    np.testing.assert_allclose(found["angle"], np.sqrt(2 * 0.01), rtol=0.15)


def test_depth_measures_what_it_says():
    from bnlib.lab.experiments.depth import PARTS, depth

    for part, settings in PARTS.items():
        short = {**settings, "full": False, "steps": 12, "depths": [3, 6], "lr": [0.1, 1e30], "width": 16}
        found = depth(short, [0, 3])
        assert {n: np.shape(v) for n, v in found.items()} == {
            "train_loss": (2, 2, 2), "test_accuracy": (2, 2, 2), "test_accuracy_by_batch": (2, 2, 2),
            "growth": (2, 2, 2, 4),
        }  # fmt: skip
        accuracy = found["test_accuracy"][:, :, 0], found["test_accuracy_by_batch"][:, :, 0]
        assert found["train_loss"][:, :, 0].min() > 1 >= np.max(accuracy), part
        assert settings["norm"] == "batch" or np.allclose(*accuracy, atol=0.02)
        np.testing.assert_allclose(found["growth"][:, :, 0, 0], found["growth"][:, :, 1, 0], rtol=1e-6)
        assert not np.allclose(found["growth"][0], found["growth"][1])
        assert not np.allclose(found["growth"][:, 0], found["growth"][:, 1])


def test_growth_of_gradients_too_small_for_single_precision():
    from bnlib.lab.experiments.depth import PARTS, depth

    short = {**PARTS["sigmoid, no BN"], "full": False, "steps": 11, "depths": [60], "lr": [0.01]}
    initial = depth(short, [0, 1])["growth"][:, 0, 0, 0]
    np.testing.assert_allclose(initial, 0.0557, atol=0.004)


def rates(parts):
    (shared,) = {tuple(settings["lr"]) for settings in parts.values()}
    return shared


def test_smoothness_measures_what_it_says():
    from bnlib.lab.experiments.smoothness import PARTS, smoothness

    assert len(PARTS) == 6
    changes = {"full": False, "steps": 3, "lr": [0.1, 0.25, 0.7], "probe_at": [0, 2]}
    changes["fractions"] = [1e-4, 0.1, 0.2, 0.3]
    for settings in PARTS.values():
        found = smoothness({**settings, **changes, "multiples": [0.5]}, [0, 3])
        shapes = {n: np.shape(v) for n, v in found.items()}
        assert shapes.pop("train_loss") == (2, 3)
        assert shapes.pop("relative_loss") == shapes.pop("relative_change") == (2, 3, 2, 4)
        assert set(shapes.values()) == {(2, 3, 2)}
        assert len(shapes) == 5
        # A short step does what the gradient promises; all rates start alike, and see steps of their own.
        promised = found["loss"] - 1e-4 * found["relative_gradient"]
        np.testing.assert_allclose(found["relative_loss"][..., 0], promised, atol=3e-4)
        np.testing.assert_allclose(found["loss"][:, 0, 0], found["loss"][:, 1, 0], rtol=1e-5)
        assert (found["gradient_change"][:, 0, 0] != found["gradient_change"][:, 1, 0]).all()
        # The start counts in the range: with a single point elsewhere it would be 0.
        assert (found["loss_range"] > 0).all()


def test_networks_with_and_without_bn_start_from_the_same_weights():
    from bnlib.lab.experiments.smoothness import NETWORKS, PARTS, maker

    for name in NETWORKS:
        with_bn, without = (seeded(maker(PARTS[f"{name}, {word}"]), 3) for word in ("BN", "no BN"))
        pairs = [
            [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
            for model in (with_bn, without)
        ]
        assert len(pairs[0]) >= 3
        assert all((a == b).all() for a, b in zip(*pairs, strict=True))
        assert len(list(with_bn.parameters())) > len(list(without.parameters()))


def test_covariate_shift_measures_what_it_says():
    from bnlib.lab.experiments.covariate_shift import PARTS, covariate_shift

    found = {}
    for part, settings in PARTS.items():
        short = {**settings, "full": False, "steps": 9, "probed": [2, 3, 7], "lr": [0.1, 0.3]}
        found[part] = covariate_shift(short, [0, 3])
        assert {n: np.shape(v) for n, v in found[part].items()} == {
            "train_loss": (2, 2), "test_accuracy": (2, 2), "input_shift": (2, 2, 3, 2),
            "linear_shift": (2, 2, 3, 2), "gradient_shift": (2, 2, 3, 3),
        }  # fmt: skip
        assert all(np.isfinite(v).all() for v in found[part].values()), part
    for network in ("ReLU MLP", "sigmoid MLP"):
        # Noise is met from step to step, after the normalization: a multiple of what the step itself moves.
        for words in (("BN", "noisy BN"), ("no BN", "noise, no BN")):
            calm, noisy = (found[f"{network}, {word}"]["input_shift"] for word in words)
            assert (noisy > 3 * calm).all()
        # It is the same on both sides of a gradient shift.
        calm, noisy = (found[f"{network}, {word}"]["gradient_shift"] for word in ("BN", "noisy BN"))
        assert (abs(noisy - calm) < calm).all()


def test_gradient_shifts_are_averaged_over_all_layers_but_the_first():
    from bnlib.lab.experiments.covariate_shift import over_layers

    layers = np.array([[[9.0, 9.0, 9.0], [1.0, 2.0, 0.5], [4.0, 0.5, -0.1]]])
    np.testing.assert_allclose(over_layers(layers), [[2.0, 2.0, 0.2]])


def test_transform_measures_what_it_says():
    from bnlib.lab.experiments.transform import PARTS, over_features, transform

    for settings in PARTS.values():
        found = transform({**settings, "full": False, "steps": 3}, [0, 3])
        assert {np.shape(values) for values in found.values()} == {(2,)}
        assert all((found[name] > 0).all() and (found[name] < 0.1).all() for name in ("gamma", "beta"))
        assert (found["sharing"] == np.prod(settings["shape"][2:])).all()
        assert max(found["difference"].max(), found["undone"].max()) < 1e-12
        # Layer norm does what the claim says of batch norm.
        assert max(found["layer_mean"].max(), found["layer_std"].max()) < 1e-4 < found["sample_mean"].min()
    rows = np.array([[1.0, 5.0], [-2.0, -2.0]])
    assert over_features(rows, "row") == pytest.approx({"row_mean": 6.5**0.5, "row_std": 1.0})
