import json

import pytest
import torch

SHAPES = [(4, 3), (2, 3, 2, 2)]


@pytest.fixture(scope="module")
def benchmark(load):
    return load("torch_cpu")


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_command_prints_a_table_and_writes_json(benchmark, tmp_path, capsys):
    file = tmp_path / "times.json"
    benchmark.main(["--repeat", "2", "--threads", "1", "--json", str(file)], SHAPES)
    lines = capsys.readouterr().out.splitlines()
    record = json.loads(file.read_text())
    assert len(lines) == 2 + len(record["rows"]) == 2 + 3 * 3
    assert [r["layout"] for r in record["rows"][::3]] == ["contiguous", "contiguous", "channels last"]
    assert [r["direction"] for r in record["rows"][:3]] == ["forward", "backward", "evaluation"]
    assert all(t > 0 for r in record["rows"] for t in r["milliseconds"].values())


@pytest.mark.parametrize("arguments", [["--repeat", "0"], ["--threads", "0"], ["--repeat", "-1"]])
def test_bad_numbers_are_refused(benchmark, capsys, arguments):
    with pytest.raises(SystemExit):
        benchmark.main(arguments, SHAPES)
    assert f"expected {arguments[0]} of at least 1, got {arguments[1]}" in capsys.readouterr().err


@pytest.mark.parametrize("shape", SHAPES)
def test_all_that_is_timed_computes_the_same(benchmark, shape):
    for peers in benchmark.calls(shape, "contiguous").values():
        torch.testing.assert_close(peers["bnlib"](), peers["torch"](), rtol=1e-4, atol=1e-4)


def test_goals_are_judged_by_the_ratios(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "median_times", lambda peers, repeat: {"bnlib": 1.0, "torch": 1.0})
    rows = benchmark.measure(SHAPES, [1])
    met = {(r["layout"], len(r["shape"]), r["direction"]): r["goal_met"] for r in rows}
    assert not met.pop(("contiguous", 4, "forward"))
    assert all(met.values())
    assert "1.00  0.67 not" in benchmark.table(rows)
