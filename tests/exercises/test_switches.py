"""Edits that turn a solution into a wrong one."""

import pytest

from bnlib.exercises.exercise import AT_ONCE, Mistake, case, exercise
from bnlib.exercises.switches import combine, compile_function, read_source, spans

SOURCE = "return gamma * x.var(axis=0) + beta\n"


def original(x):
    """Add one."""
    return x + 1


def edited(*edits):
    return combine(SOURCE, spans(SOURCE, edits))


def test_context_is_not_part_of_an_edit():
    assert spans(SOURCE, ["x.var(axis=0) => x.var(axis=0, ddof=1)"]) == ((27, 27, ", ddof=1"),)
    assert spans(SOURCE, ["var(axis=0) => var(axis=1)"]) == ((26, 27, "1"),)


def test_touching_edits_combine():
    both = edited("var(axis=0) => var(axis=1)", "x.var(axis=0) => x.var(axis=0, ddof=1)")
    assert both == "return gamma * x.var(axis=1, ddof=1) + beta\n"
    assert edited("gamma * x => x", " + beta => ") == "return x.var(axis=0)\n"


def test_order_does_not_matter():
    edits = ("var(axis=0) => var(axis=1)", "gamma * => 2 * gamma *", " + beta => ")
    assert edited(*edits) == edited(*edits[::-1]) == "return 2 * gamma * x.var(axis=1)\n"


def test_overlapping_edits_do_not_combine():
    assert edited("axis=0 => axis=1", "axis=0 => axis=2") is None
    assert edited("gamma * x.var(axis=0) => x", "axis=0 => axis=1") is None
    assert edited("axis=0 => axis=0, a=1", "axis=0 => axis=0, b=1") is None


@pytest.mark.parametrize("edit", ["x.std => x.var", "a => b", "x.var", "x.var => x.var"])
def test_edits_that_cannot_be_placed(edit):
    with pytest.raises(ValueError, match="expected"):
        spans(SOURCE, [edit])


def test_source_has_no_decorators():
    assert read_source(original) == 'def original(x):\n    """Add one."""\n    return x + 1\n'
    assert compile_function(read_source(original).replace("+ 1", "+ 2"), original)(1) == 3


def make(**mistakes):
    return exercise("0.1", "Toy", cases=[case(x=1)], hints=["", ""], explanation="", mistakes=mistakes)(
        original
    )


SINGLE = (("a",), ("b",), ("c",), ("d",))


def test_combinations_come_fewest_first():
    toy = make(
        a=Mistake("A.", "", "return x => return 3 * x"),
        b=Mistake("B.", "", "+ 1 => + 5"),
        c=Mistake("C.", "", "+ 1 => + 9"),
        d=Mistake("D.", "", "return x => return x + x", excludes=("a",)),
    )
    assert AT_ONCE == 3
    assert toy.combinations == (*SINGLE, ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))
    with pytest.raises(ValueError, match="can occur together"):
        toy.variant(("a", "d"))


def test_wrong_values_do_not_combine():
    toy = make(a=Mistake("A.", "", gives=3), b=Mistake("B.", "", gives=4))
    assert toy.combinations == (("a",), ("b",))


def test_the_first_arrow_separates():
    assert spans("return 1", ['1 => " => "']) == ((7, 8, '" => "'),)
