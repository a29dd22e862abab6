import importlib.util
from pathlib import Path

import pytest
import torch

from bnlib.lab.gpu import PASSES, GpuRecord, gpu_records, write

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
EMPTY = GpuRecord("Test GPU 1", 132, 50 << 20, 4e12, {"torch": "0"}, "2026-01-01", False, [])


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_gpu", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_shapes_of_the_plan_are_measured(benchmark):
    every = list(benchmark.cases())
    assert len(set(every)) == len(every)
    images = [c for c in every if len(c.shape) == 4 and c.shape[0] in (32, 128, 256)]
    assert len(images) == 12 * 3 * 2 * 3
    assert {c.shape for c in every} >= {*benchmark.OTHERS, (1 << 20, 1024), (128, 64)}
    assert {c.dtype for c in every} == {"float32", "float16", "bfloat16"}


@pytest.mark.parametrize("direction", list(PASSES))
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_all_that_is_timed_computes_the_same(benchmark, direction, layout):
    case = benchmark.Case((4, 3, 2, 2), layout, "float32")
    results = []
    for function in benchmark.peers(direction, with_compile=False).values():
        torch.manual_seed(0)
        results.append(benchmark.prepare(function, direction, case, "cpu")())
    assert len(results) == 3
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-4)


def test_inputs_take_turns(benchmark):
    case, seen = benchmark.Case((1 << 12, 1 << 10), "contiguous", "float32"), []
    call = benchmark.prepare(lambda x, *rest: seen.append(x.data_ptr()), "forward", case, "cpu")
    for _ in range(16):
        call()
    assert len(set(seen)) * case.bytes >= min(16 * case.bytes, 256 << 20)
    assert len(set(seen)) > 1


def test_short_calls_are_timed_in_a_graph(benchmark):
    case, asked = benchmark.Case((4, 3), "contiguous", "float32"), []

    def timer(prepared, in_graph):
        asked.append(in_graph)
        return 5.0

    functions = benchmark.peers("forward", with_compile=False)
    assert benchmark.time_peers(functions, "forward", case, timer)[1] == "graph"
    assert asked == [False] * 3 + [True] * 3
    assert benchmark.time_peers(functions, "forward", case, lambda *_: 20.0)[1] == "events"


def test_a_run_that_was_cut_off_goes_on(benchmark, tmp_path):
    todo = [benchmark.Case(s, "contiguous", "float32") for s in ((4, 3), (2, 3, 2, 2))]
    states = []

    def timer(prepared, in_graph):
        prepared()()
        return 30.0

    def keep(record):
        write(record, tmp_path)
        states.append(len(record.rows))
        if len(states) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark.measure(EMPTY, todo, keep, 60, False, timer)
    (record,) = gpu_records(tmp_path)
    assert (len(record.rows), record.complete) == (4, False)
    record = benchmark.measure(record, todo, keep, 60, False, timer)
    assert (len(record.rows), record.complete) == (2 * len(PASSES), True)
    assert states[3:] == [4, *range(5, 2 * len(PASSES) + 1), 2 * len(PASSES)]
    assert gpu_records(tmp_path) == [record]
    assert "forward                   1.00" in benchmark.table(record)
    unfinished = benchmark.measure(EMPTY, todo, keep, -1.0, False, timer)
    assert not unfinished.rows


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark.main([])
    assert "expected a GPU that PyTorch can use, got none" in capsys.readouterr().err
