import pytest

from bnlib.lab import records
from bnlib.lab.gpu import PASSES, GpuRecord, Row, gpu_records, intensity, least_bytes, write


def row(ours, others, shape=(2, 3, 4, 4), direction="forward", method="one", dtype="float32"):
    times = {"bnlib": ours} | {f"peer {i}": t for i, t in enumerate(others)}
    return Row(shape, "contiguous", dtype, direction, method, times, "events")


def record(*rows):
    return GpuRecord("A GPU (80 GB)", 132, 50 << 20, 1e12, {"torch": "0"}, "2026-01-01", True, list(rows))


def test_bytes_are_counted_by_passes():
    assert least_bytes(1000, 4, "forward", stays=True) == 8000
    assert least_bytes(1000, 2, "backward", stays=False) == 10000
    assert all(once <= twice for once, twice in PASSES.values())
    with pytest.raises(ValueError, match=r"expected a direction forward, .*, got 'sideways'"):
        least_bytes(1, 4, "sideways", stays=True)


def test_halving_the_bytes_doubles_the_intensity():
    assert intensity(2, "forward", True) == 2 * intensity(4, "forward", True)
    assert intensity(4, "forward", False) < intensity(4, "forward", True) < 2


def test_a_row_is_compared_with_its_fastest_peer():
    found = row(2.0, [5.0, 3.0, 4.0])
    assert (found.best_peer, found.ratio) == ("peer 1", 1.5)


@pytest.mark.parametrize(("method", "passes"), [("one", 2), ("group", 2), ("l2", 2), ("split", 3)])
@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("bfloat16", 2)])
def test_the_share_of_the_bandwidth(method, passes, dtype, itemsize):
    found = row(10.0, [10.0], shape=(1000, 10), method=method, dtype=dtype)
    assert found.share(1e9) == pytest.approx(passes * 10000 * itemsize / 10e-6 / 1e9)


def test_the_summary_is_that_of_the_ratios():
    found = record(row(1.0, [2.0]), row(1.0, [8.0]), row(1.0, [0.5], direction="backward"))
    assert found.summary("forward")["geometric mean"] == pytest.approx(4)
    assert found.summary("forward")["worst"] == 2
    assert found.summary("backward")["worst"] == 0.5
    with pytest.raises(ValueError, match="expected rows of direction 'evaluation', got none"):
        found.summary("evaluation")


def test_what_is_written_is_read_again_and_is_no_experiment(tmp_path):
    assert gpu_records(tmp_path) == []
    found = record(row(1.0, [2.0]))
    assert write(found, tmp_path).name == "gpu-a-gpu--80-gb.json"
    (again,) = gpu_records(tmp_path)
    assert again == found
    assert records.recorded(tmp_path) == []


def test_the_records_of_the_package_are_of_all_directions():
    for found in gpu_records():
        assert found.bandwidth > 0
        assert {r.direction for r in found.rows} == set(PASSES)
