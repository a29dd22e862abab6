"""What the record of the mutants says, on made-up results."""

import json

import mutants
import pytest
import yaml


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Make results of two modules, and differences without mutmut."""
    codes = {
        "bnlib/one.py": {"bnlib.one.x_f__mutmut_1": 1, "bnlib.one.x_f__mutmut_2": 0},
        "bnlib/two.py": {
            "bnlib.two.x_g__mutmut_1": -24,
            "bnlib.two.x_g__mutmut_2": 33,
            "bnlib.two.x_g__mutmut_3": 3,
        },
        "bnlib/none.py": {},
    }
    for file, found in codes.items():
        path = tmp_path / f"{file}.meta"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"exit_code_by_key": found}), encoding="utf-8")
    monkeypatch.setattr(mutants, "WORK", tmp_path)
    monkeypatch.setattr(mutants, "RECORD", tmp_path / "results" / "mutation.json")
    monkeypatch.setattr(mutants, "install", lambda: None)
    differences = lambda found: [["-return 1", f"+return {name[-1]}"] for _, name in found]  # noqa: E731
    monkeypatch.setattr(mutants, "differences", differences)
    return tmp_path


def test_the_record_counts_what_was_noticed(tried, monkeypatch, capsys):
    rules = {"bnlib.one.": {"^.return 2": "as good"}, "": {"never": "no"}}
    (tried / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    monkeypatch.setattr(mutants, "REASONS", tried / "rules.yml")
    assert mutants.main(["--record"]) == 0
    found = json.loads((tried / "results" / "mutation.json").read_text(encoding="utf-8"))
    assert (found["mutants"], found["killed"], found["share"], found["equivalent"]) == (5, 3, 0.6, 1)
    assert found["modules"] == {
        "bnlib.one": {"killed": 1, "survived": 1},
        "bnlib.two": {"killed": 1, "killed, by its end": 1, "no test": 1},
    }
    assert [(s["name"], s["outcome"], s["reason"]) for s in found["survivors"]] == [
        ("bnlib.one.x_f__mutmut_2", "survived", "as good"),
        ("bnlib.two.x_g__mutmut_2", "no test", None),
    ]
    assert "3 of 5 mutants killed, 60.0 %" in capsys.readouterr().out


def test_tests_in_other_processes_belong_to_what_runs_there():
    several = f"{mutants.SEVERAL_PROCESSES}::test_a"
    found = {
        "duration_by_test": {several: 2.0, "tests/torch/test_b.py::test_b": 1.0},
        "tests_by_mangled_function_name": {
            "bnlib.torch.functional.x_f": [several, "tests/torch/test_b.py::test_b"],
            "bnlib.torch.functional.x_g": [several],
        },
    }
    mutants.attach(found, ["bnlib.torch.collective.x_h", "bnlib.torch.functional.x_f"])
    assert found["tests_by_mangled_function_name"] == {
        "bnlib.torch.functional.x_f": ["tests/torch/test_b.py::test_b"],
        "bnlib.torch.functional.x_g": [several],
        "bnlib.torch.collective.x_h": [several],
    }


def test_what_runs_when_the_exercises_are_loaded_is_tried_in_processes_of_its_own(tried, monkeypatch):
    (tried / "bnlib" / "exercises").mkdir()
    path = tried / "bnlib" / "exercises" / "answers.py.meta"
    names = [f"bnlib.exercises.answers.x_number__mutmut_{i}" for i in (1, 2, 3, 4)]
    path.write_text(json.dumps({"exit_code_by_key": dict(zip(names, (0, 33, 1, 0), strict=True))}))
    asked = []

    def run_alone(name):
        asked.append(name)
        return int(name.endswith(("1", "2")))

    monkeypatch.setattr(mutants, "run_alone", run_alone)
    mutants.run_loaded(2, {})
    assert sorted(asked) == [names[0], names[1], names[3]]
    assert list(json.loads(path.read_text())["exit_code_by_key"].values()) == [1, 1, 1, 0]


def test_every_rule_is_a_pattern_with_a_sentence():
    rules = yaml.safe_load(mutants.REASONS.read_text(encoding="utf-8"))
    assert rules
    for start, patterns in rules.items():
        assert start == "" or start.startswith("bnlib.")
        for pattern, why in patterns.items():
            assert mutants.re.compile(pattern)
            assert why.endswith(".")


def test_the_record_names_a_reason_for_every_survivor():
    found = json.loads(mutants.RECORD.read_text(encoding="utf-8"))
    assert found["share"] >= 0.95
    assert found["killed"] + len(found["survivors"]) == found["mutants"] > 5000
    rules = yaml.safe_load(mutants.REASONS.read_text(encoding="utf-8"))
    for survivor in found["survivors"]:
        said = mutants.reason(survivor["name"], survivor["change"], rules)
        assert said is not None
        assert survivor["reason"] == said
