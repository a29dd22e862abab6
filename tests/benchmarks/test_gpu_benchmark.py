import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bnlib.lab.gpu import PASSES, SHARE_GOALS, GpuRecord, Row, Run, gpu_records, write

FOLDER = Path(__file__).parents[2] / "benchmarks"
EMPTY = GpuRecord("Test GPU 1", 132, 64, {"torch": "0"}, 10, [], [])
RUN, QUICK = Run("2026-01-01", 4e12, True), Run("2026-01-02", 5e12, False)


@pytest.fixture(scope="module")
def benchmark(load):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield load("gpu")
        sys.modules.pop("gpu_cases")


@pytest.fixture(scope="module")
def cases(benchmark):
    return sys.modules["gpu_cases"]


@pytest.fixture
def todo(cases):
    shapes = (4, 3), (2, 3, 2, 2)
    return [(cases.Case(shape, "contiguous", "float32"), d) for shape in shapes for d in PASSES]


@pytest.fixture
def without_compiler(benchmark, cases, monkeypatch):
    """What asks for torch.compile gets the plain function, by the same name."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)


def steady(prepared, calls):
    prepared()()
    return 30.0


def test_all_shapes_of_the_plan_are_measured(cases):
    every = list(cases.cases())
    assert len(set(every)) == len(every)
    images = [c for c in every if len(c.shape) == 4 and c.shape[0] in (32, 128, 256)]
    assert len(images) == 12 * 3 * 2 * 3
    assert {c.shape for c in every} >= {*cases.OTHERS, (1 << 20, 1024), (128, 64)}
    assert {c.dtype for c in every} == {"float32", "float16", "bfloat16"}


def test_each_beginning_of_the_plan_stands_for_the_whole(cases):
    plan = cases.plan()
    assert Counter(plan) == Counter((c, d) for c in cases.cases() for d in PASSES)
    assert plan == cases.plan()
    first = [Row(*case, direction, "", {}, "") for case, direction in plan[:60]]
    for goal in SHARE_GOALS:
        assert any(goal.covers(row.direction, row.order, row.size) for row in first[:20])
    assert {row.direction for row in first[:20]} == set(PASSES)
    dtypes = Counter(row.dtype for row in first)
    assert min(dtypes[dtype] for dtype in ("float32", "float16", "bfloat16")) >= 10
    assert {row.shape[0] for row in first} >= {32, 128, 256, 4096, 65536}


@pytest.mark.parametrize("direction", list(PASSES))
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_all_that_is_timed_computes_the_same(cases, direction, layout):
    case = cases.Case((4, 3, 2, 2), layout, "float32")
    results = []
    for function in cases.peers(with_compile=False).values():
        torch.manual_seed(0)
        results.append(cases.prepare(function, direction, case, 2, "cpu")())
    assert len(results) == 3
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-4)


def test_what_is_added_is_another_tensor_that_gets_a_gradient(cases):
    case, seen = cases.Case((4, 3, 2, 2), "channels last", "float32"), []

    def watched(x, added, *rest):
        seen.append((x, added))
        return cases.theirs(x, added, *rest)

    for direction in ("fused forward", "fused backward"):
        found = cases.prepare(watched, direction, case, 1, "cpu")()
    for x, added in seen:
        assert x.data_ptr() != added.data_ptr()
        assert x.stride() == added.stride()
    assert all(added.requires_grad for _, added in seen[1:])
    assert [t.shape for t in found] == [case.shape, case.shape, (3,), (3,)]


@pytest.mark.parametrize("direction", list(PASSES))
def test_all_that_is_read_takes_turns(cases, monkeypatch, direction):
    case, read = cases.Case((4, 3), "contiguous", "float32"), []
    grad = torch.autograd.grad

    def watched(x, added, *rest):
        if not direction.endswith("backward"):
            read.append([t.data_ptr() for t in (x, added) if t is not None])
        return cases.theirs(x, added, *rest)

    def watched_grad(y, leaves, dy, **options):
        read.append([t.data_ptr() for t in (y, *leaves[:-2], dy)])
        return grad(y, leaves, dy, **options)

    monkeypatch.setattr(torch.autograd, "grad", watched_grad)
    call = cases.prepare(watched, direction, case, 5, "cpu")
    for _ in range(10):
        call()
    assert read[:5] == read[5:]
    assert all(len(set(column)) == 5 for column in zip(*read, strict=True))


def test_inputs_exceed_the_cache_but_not_by_much(cases):
    for case in cases.cases():
        for cache in (50 << 20, 126 << 20):
            held = case.inputs(cache) * case.bytes
            assert cache < held < 2 * cache + case.bytes


def timed(benchmark, case, functions, timer, bandwidth=4e12):
    chip = benchmark.Chip("cpu", 256, bandwidth)
    return benchmark.time_peers(functions, "forward", case, chip, timer)


def test_short_calls_are_timed_in_a_graph_of_all_inputs(benchmark, cases):
    case, asked = cases.Case((4, 3), "contiguous", "float32"), []

    def timer(prepared, calls):
        asked.append(calls)
        return 5.0

    functions = cases.peers(with_compile=False)
    assert timed(benchmark, case, functions, timer, bandwidth=1.0)[1] == "graph"
    number = case.inputs(256)
    assert (number, asked[:3]) == (11, [0] * 3)
    assert set(asked[3:]) == {22}
    assert asked[3] >= benchmark.LEAST_CALLS
    assert timed(benchmark, case, functions, lambda *_: 20.0, bandwidth=1.0)[1] == "events"


def test_what_should_be_short_is_timed_in_a_graph_whatever_it_costs_the_cpu(benchmark, cases):
    case, asked = cases.Case((1000, 1000), "contiguous", "float32"), []

    def timer(prepared, calls):
        asked.append(calls)
        return 50.0

    functions = cases.peers(with_compile=False)
    assert timed(benchmark, case, functions, timer, bandwidth=8e6 / 19e-6)[1] == "graph"
    assert 0 not in asked
    assert timed(benchmark, case, functions, timer, bandwidth=8e6 / 21e-6)[1] == "events"


def broken(*arguments):
    raise torch.OutOfMemoryError("no memory\nfor this")


def test_what_fails_is_recorded_and_the_others_are_timed(benchmark, cases):
    case = cases.Case((4, 3), "contiguous", "float32")
    functions = cases.peers(with_compile=False) | {"cuDNN": broken}
    found, how = timed(benchmark, case, functions, steady)
    assert how == "graph"
    assert found.microseconds == {"bnlib": 30.0, "native": 30.0}
    assert found.failures == {"cuDNN": "OutOfMemoryError: no memory"}
    nothing, _ = timed(benchmark, case, {"bnlib": broken}, steady, bandwidth=1.0)
    assert not nothing.microseconds


def test_times_in_a_graph_are_not_compared_with_others(benchmark, cases):
    case, calls_made = cases.Case((4, 3), "contiguous", "float32"), []

    def timer(prepared, calls):
        calls_made.append(calls)
        if calls and len(calls_made) == 2:
            raise RuntimeError("not permitted while capturing")
        return 30.0

    found, how = timed(benchmark, case, cases.peers(with_compile=False), timer)
    assert how == "events"
    assert set(found.microseconds) == {"bnlib", "cuDNN", "native"}
    assert found.failures == {"cuDNN in a graph": "RuntimeError: not permitted while capturing"}
    assert calls_made[3:] == [0] * 3


@pytest.mark.usefixtures("without_compiler")
def test_a_run_that_was_cut_off_goes_on(benchmark, todo, tmp_path):
    states = []

    def keep(record):
        write(record, tmp_path)
        states.append(len(record.rows))
        if len(states) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark.measure(EMPTY, todo, RUN, keep, 60, steady)
    (record,) = gpu_records(tmp_path)
    assert (len(record.rows), record.complete) == (4, False)
    later = RUN._replace(bandwidth=2e12, date="2026-01-03")
    record = benchmark.measure(record, todo, later, keep, 60, steady)
    assert (len(record.rows), record.complete, record.date) == (10, True, "2026-01-03")
    assert states == list(range(1, 11))
    assert gpu_records(tmp_path) == [record]
    assert [row.run for row in record.rows] == [0] * 4 + [1] * 6
    assert [row.direction for row in record.rows] == list(PASSES) * 2
    assert not benchmark.measure(EMPTY, todo, RUN, keep, -1.0, steady).rows


@pytest.mark.usefixtures("without_compiler")
def test_rows_without_compile_are_marked_and_measured_again_at_the_end(benchmark, todo):
    quick = benchmark.measure(EMPTY, todo[:3], QUICK, lambda record: None, 60, steady)
    assert quick.without_compile == 3
    assert set(quick.rows[0].microseconds) == {"bnlib", "cuDNN", "native"}
    counts = []
    record = benchmark.measure(quick, todo, RUN, lambda r: counts.append(r.without_compile), 60, steady)
    assert counts == [3] * 7 + [2, 1, 0]
    assert len(record.rows) == 10
    assert all("compiled" in row.microseconds for row in record.rows)
    assert benchmark.measure(record, todo, QUICK, counts.append, 60, steady).rows == record.rows
    assert len(counts) == 10


@pytest.mark.usefixtures("without_compiler")
def test_a_row_that_fails_is_not_tried_again(benchmark, cases, todo, monkeypatch):
    found = cases.peers(with_compile=True) | {"compiled": broken}
    monkeypatch.setattr(benchmark, "peers", lambda with_compile: found)
    record = benchmark.measure(EMPTY, todo, RUN, lambda record: None, 60, steady)
    assert len(record.rows) == 10
    assert {row.failures["compiled"] for row in record.rows} == {"OutOfMemoryError: no memory"}
    kept = []
    benchmark.measure(replace(record), todo, RUN, kept.append, 60, steady)
    assert not kept


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark.main([])
    assert "expected a GPU that PyTorch can use, got none" in capsys.readouterr().err
