import pytest

from bnlib.lab.timing import median_times


def test_the_first_turn_is_not_measured_and_calls_take_turns():
    order = []
    times = median_times({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert set(times) == {"a", "b"}
    assert all(t > 0 for t in times.values())


def test_no_turn_is_refused():
    with pytest.raises(ValueError, match="expected repeat of at least 1, got 0"):
        median_times({"a": dict}, 0)
