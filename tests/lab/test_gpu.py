import math

import pytest

from bnlib.lab import records
from bnlib.lab.gpu import (
    PASSES,
    RATIO_GOALS,
    SHARE_GOALS,
    GpuRecord,
    Row,
    Run,
    gpu_records,
    intensity,
    least_bytes,
    unfinished,
    write,
)

SMALL, LARGE = (100, 16, 32, 32), (100, 64, 64, 64)


def row(ours, others=(), shape=SMALL, direction="forward", layout="contiguous", dtype="float32", **more):
    times = dict(zip(("cuDNN", "native", "compiled"), others, strict=False))
    times |= {} if ours is None else {"bnlib": ours}
    return Row(shape, layout, dtype, direction, "one", times, "events", **more)


def record(*rows, planned=4, versions="0", bandwidths=(1e12,), compiled=True):
    runs = [Run("2026-01-01", bandwidth, compiled) for bandwidth in bandwidths]
    return GpuRecord("A GPU (80 GB)", 132, 50 << 20, {"torch": versions}, planned, runs, list(rows))


def test_bytes_are_counted_by_passes():
    assert least_bytes(1000, 4, "forward", stays=True) == 8000
    assert least_bytes(1000, 2, "backward", stays=False) == 10000
    assert all(once <= twice for once, twice in PASSES.values())
    with pytest.raises(ValueError, match=r"expected a direction forward, .*, got 'sideways'"):
        least_bytes(1, 4, "sideways", stays=True)


def test_halving_the_bytes_doubles_the_intensity():
    assert intensity(2, "forward", True) == 2 * intensity(4, "forward", True)
    assert intensity(4, "forward", False) < intensity(4, "forward", True) < 2


def test_a_row_is_compared_with_the_fastest_of_all_and_of_eager():
    found = row(2.0, [8.0, 6.0, 3.0])
    assert (found.fastest(), found.ratio()) == ("compiled", 1.5)
    assert (found.fastest("eager"), found.ratio("eager")) == ("native", 3.0)
    assert row(None, [1.0]).ratio() is None
    assert (row(1.0).fastest(), row(1.0).ratio("eager")) == (None, None)


@pytest.mark.parametrize(
    ("direction", "layout", "shape", "passes"),
    [
        ("forward", "contiguous", SMALL, 2),
        ("forward", "contiguous", LARGE, 2),
        ("forward", "channels last", SMALL, 2),
        ("forward", "channels last", LARGE, 3),
        ("forward", "contiguous", (1 << 20, 64), 3),
        ("backward", "contiguous", LARGE, 3),
        ("backward", "channels last", SMALL, 5),
        ("evaluation", "channels last", LARGE, 2),
        ("fused forward", "contiguous", LARGE, 3),
        ("fused forward", "channels last", LARGE, 4),
        ("fused backward", "contiguous", LARGE, 4),
        ("fused backward", "channels last", LARGE, 6),
    ],
)
@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("bfloat16", 2)])
def test_the_share_of_the_bandwidth_is_that_of_the_passes_of_the_goals(
    direction, layout, shape, passes, dtype, itemsize
):
    found = row(10.0, shape=shape, direction=direction, layout=layout, dtype=dtype)
    assert found.passes == passes
    assert passes in PASSES[direction]
    assert found.share(1e9) == pytest.approx(passes * math.prod(shape) * itemsize / 10e-6 / 1e9)
    assert found._replace(method="split").share(1e9) == found.share(1e9)
    assert found._replace(microseconds={}).share(1e9) is None


def test_25_mib_is_small_and_more_is_large():
    limit = 25 << 18
    assert [row(1.0, shape=(n, 1)).size for n in (limit, limit + 1)] == ["small", "large"]


def test_every_row_without_fusion_has_one_goal_and_every_direction_a_ratio():
    for direction in ("forward", "backward", "evaluation"):
        for order in ("NCHW", "NHWC"):
            for size in ("small", "large"):
                assert sum(goal.covers(direction, order, size) for goal in SHARE_GOALS) == 1
    assert {goal.direction for goal in RATIO_GOALS if goal.worst == 0.97} == set(PASSES)


def microseconds_of(share, passes, shape):
    return passes * math.prod(shape) * 4 / 1e12 / share * 1e6


def test_a_share_is_met_by_the_worst_row_and_tells_the_median():
    good, better, bad = (row(microseconds_of(share, 2, SMALL)) for share in (0.86, 0.9, 0.8))
    met, missed = record(good, better).shares()[0], record(good, better, bad).shares()[0]
    assert (met.rows, met.verdict) == (2, "met")
    assert (met.middle, met.worst) == pytest.approx((0.88, 0.86))
    assert (missed.rows, missed.verdict) == (3, "missed")
    assert (missed.middle, missed.worst) == pytest.approx((0.86, 0.8))
    assert {found.verdict for found in record(good).shares()[1:]} == {"not measured"}
    failed = record(good, row(None)).shares()[0]
    assert (failed.rows, failed.missing, failed.verdict) == (1, 1, "missed")


def test_sizes_and_layouts_have_goals_of_their_own():
    small = row(microseconds_of(0.81, 2, SMALL), layout="channels last")
    large = row(microseconds_of(0.91, 3, LARGE), layout="channels last", shape=LARGE)
    assert [f.verdict for f in record(small, large).shares()[:3]] == ["not measured", "met", "missed"]


def test_a_share_is_of_the_bandwidth_of_its_own_run():
    found = record(row(1.0), row(1.0, run=1), bandwidths=(1e12, 2e12))
    assert found.share(found.rows[0]) == 2 * found.share(found.rows[1])


def test_ratios_need_a_mean_and_no_bad_case():
    def forward(*rows):
        return record(*rows).ratios()[0]

    assert forward(row(1.0, [2.0]), row(1.0, [8.0])).middle == pytest.approx(4)
    assert forward(row(1.0, [2.0]), row(1.0, [1.0])).verdict == "met"
    assert forward(row(1.0, [1.3]), row(1.0, [1.3])).verdict == "missed"
    assert forward(row(1.0, [9.0]), row(1.0, [0.96])).verdict == "missed"
    assert forward(row(1.0, [9.0]), row(None, [1.0])).verdict == "missed"
    assert forward(row(1.0, [9.0]), row(1.0)).rows == 1


def test_fused_is_judged_against_eager():
    found = record(row(1.0, [2.5, 2.1, 1.1], direction="fused forward")).ratios()
    by_goal = {(f.goal.direction, f.goal.against): f for f in found}
    assert by_goal["fused forward", "eager"].middle == pytest.approx(2.1)
    assert by_goal["fused forward", "best peer"].middle == pytest.approx(1.1)
    assert by_goal["fused forward", "eager"].verdict == "met"
    assert by_goal["fused backward", "eager"].verdict == "not measured"


def test_the_report_says_how_much_was_measured_and_what_is_missing():
    text = record(
        row(1.0, [2.0], failures={"compiled": "OutOfMemoryError"}), row(2.0, [2.0]), compiled=False
    ).report()
    assert "A GPU (80 GB): 2 of 4 rows" in text
    assert "2026-01-01: a copy moves 1.00 TB/s, without torch.compile" in text
    assert "torch.compile took no part in 2 rows" in text
    assert "compiled failed in 1 rows" in text
    assert "forward, NCHW, 2 passes" in text
    assert "forward, best peer             1.40 0.97    2    1.41   1.00  met" in text
    assert "torch.compile" not in record(row(1.0, [2.0])).report()


def test_what_is_written_is_read_again_and_is_no_experiment(tmp_path):
    assert gpu_records(tmp_path) == []
    found = record(row(1.0, [2.0]))
    assert write(found, tmp_path).name == "gpu-a-gpu--80-gb.json"
    (again,) = gpu_records(tmp_path)
    assert again == found
    assert records.recorded(tmp_path) == []


def test_a_record_with_more_times_stays_until_the_new_one_has_as_many(tmp_path):
    old, new = record(*[row(1.0, [2.0])] * 2), record(row(1.0, [2.0]), versions="1")
    write(old, tmp_path)
    assert write(new, tmp_path).suffix == ".part"
    assert gpu_records(tmp_path) == [old]
    assert unfinished(old.device, {"torch": "1"}, tmp_path) == new
    assert unfinished(old.device, {"torch": "0"}, tmp_path) == old
    assert unfinished(old.device, {"torch": "2"}, tmp_path) is None
    without_compile = record(row(1.0), row(1.0), versions="1")
    assert write(without_compile, tmp_path).suffix == ".part"
    more = record(*[row(1.0, [2.0])] * 2, versions="1")
    write(more, tmp_path)
    assert gpu_records(tmp_path) == [more]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_the_records_of_the_package_are_of_all_directions():
    for found in gpu_records():
        assert all(run.bandwidth > 0 for run in found.runs)
        assert {r.direction for r in found.rows} == set(PASSES)
