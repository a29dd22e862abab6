"""The patients have the symptoms that their diagnoses explain, and each its own."""

import re

import numpy as np
import pytest
import torch

from bnlib.exercises import EXERCISES, charts, check
from bnlib.exercises.clinic import DIAGNOSES, WELL, accuracy, examine, folding, newest, treatment
from bnlib.exercises.exercise import Fresh, case
from bnlib.exercises.outputs import UnusableError
from bnlib.exercises.patients import PATIENTS, before_export, images, norms, patient, stripes


def percent(reading):
    return float(reading.rstrip("%")) / 100


@pytest.fixture(scope="module")
def chart():
    return {name: examine(patient(name)) for name in PATIENTS}


def test_all_but_one_are_ill_as_they_are_and_that_one_alone(chart):
    for name in PATIENTS:
        assert percent(chart[name]["as it is, one by one"]) < 0.9
        assert (percent(chart[name]["as it is, 128 at once"]) >= WELL) == (name == "B")


def test_each_has_the_signs_of_its_fault(chart):
    right = {way: [percent(chart[name][way]) >= WELL for name in PATIENTS] for way in list(chart["A"])[1:6]}
    assert right["batch statistics of 128"] == [True, True, False, True, True, False]
    assert right["batch statistics of 1"] == [False, False, True, False, False, False]
    assert right["running statistics"] == [False, True, False, False, False, False]
    assert [chart[name]["mode"] == "train" for name in PATIENTS] == [name == "B" for name in PATIENTS]
    weights = [chart[name]["weight of a new batch"] for name in PATIENTS]
    assert weights == ["0.00", "0.10", "0.10", "0.10", "0.99", "-"]
    assert [chart[name]["batches seen"] for name in PATIENTS] == ["200", "200", "9600", "0", "201", "-"]


def test_single_images_leave_out_the_spread_between_images(chart):
    first = [float(chart[name]["running spread is times"].split(",")[0]) for name in "BC"]
    assert first[0] == 1.0
    assert first[1] < 0.8


def test_the_network_before_its_export_is_well_and_is_not_the_export():
    assert accuracy(before_export(), 128) >= WELL
    assert not norms(patient("F"))


def test_examining_and_treating_change_no_patient():
    model = patient("B")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    examine(model)
    check("15.5", lambda model, images: ("eval mode forgotten", model.eval()))
    assert model.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert patient("B").training


@pytest.mark.parametrize("name", "BE")
@pytest.mark.parametrize(
    "look",
    [
        lambda model: accuracy(model, 8),
        newest,
        examine,
        lambda model: treatment((DIAGNOSES[0], model)),
        lambda model: folding((DIAGNOSES[0], model)),
    ],
)
def test_no_instrument_changes_what_it_looks_at(look, name):
    model = patient(name)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    look(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert {layer.training for layer in model.modules()} == {name == "B"}


def test_of_several_batch_norms_the_first_is_read():
    model = patient("A")
    first, second = norms(model)
    first.momentum, first.num_batches_tracked[...] = 0.25, 7
    second.momentum, second.num_batches_tracked[...] = 0.5, 8
    readings = examine(model)
    assert readings["weight of a new batch"] == "0.25"
    assert readings["batches seen"] == "7"


class Pairs(torch.nn.Module):
    """A model whose answers depend on their neighbours, two by two."""

    def forward(self, x):
        y = x.flatten(1)[:, :4]
        return y if len(y) % 2 else y + y.reshape(-1, 2, 4).flip(1).reshape(-1, 4)


def test_a_dependence_on_one_neighbour_is_seen():
    np.testing.assert_array_equal(treatment((DIAGNOSES[0], Pairs()))[2:], [0, 1])


def test_a_small_dependence_on_company_is_seen():
    model = patient("B")
    with torch.no_grad():
        model[-1].weight *= 1e-3
        model[-1].bias *= 1e-3
    found = treatment(("momentum reversed", model))
    assert found.dtype == float
    np.testing.assert_array_equal(found[[0, 2]], [2, 0])
    np.testing.assert_array_equal(treatment(("momentum reversed", model.eval()))[[0, 2]], [2, 1])


def test_the_table_has_a_column_for_each():
    lines = charts().splitlines()
    assert lines[0].split() == list(PATIENTS)
    assert len(lines) == 11
    assert charts() == charts()


def test_stripes_and_random_numbers():
    x, y = stripes(40, 5)
    assert (x.shape, x.dtype, y.shape) == ((40, 1, 8, 8), torch.float64, (40,))
    assert set(y.tolist()) == {0, 1, 2, 3}
    torch.testing.assert_close(images(), stripes(512, 1)[0])
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    patient("A")
    assert torch.rand(1) == wanted


@pytest.mark.parametrize("name", ["G", "", "AB", "a"])
def test_there_are_six(name):
    with pytest.raises(ValueError, match="expected a patient A to F, got"):
        patient(name)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda model, images: model, "Expected two values, a diagnosis and a model, got a model alone"),
        (lambda model, images: ("a cold", model), "Expected one of 'eval mode forgotten', .*, got a text"),
        (lambda model, images: (DIAGNOSES[0], 3), "Expected a model in second place, got an integer"),
    ],
)
def test_an_answer_of_another_kind_is_explained(answer, message):
    result = check("15.4", answer)
    assert result.outcome == "wrong"
    assert re.search(message, result.message)


def test_a_stub_is_not_attempted():
    assert check("15.4", lambda model, images: (..., model)).outcome == "not attempted"


def test_arrays_of_a_case_cannot_be_written_to():
    one = case(x=np.zeros(3), n=2)
    assert one.group == ""
    assert not one.inputs["x"].flags.writeable


def test_an_unusable_answer_is_an_exception_with_its_message():
    assert str(UnusableError("name", "Message.")) == "Message."


def test_a_fresh_input_is_made_for_each_call():
    one = case(model=Fresh(list), n=3)
    first, second = one.arguments(), one.arguments()
    first[0].append(1)
    assert second == [[], 3]
    assert all(isinstance(c.inputs["model"], Fresh) for c in EXERCISES["15.9"].cases)
