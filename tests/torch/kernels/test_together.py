"""Programs that wait for each other, on the CPU: run together, small batches cut as large ones are."""

import pytest
import torch
from cases import DEVICE, cases, compare, draw, held
from together import run_together
from triton.runtime.errors import InterpreterError

from bnlib.torch.kernels import forward, launch, plan
from bnlib.torch.kernels.launch import Launch
from bnlib.torch.kernels.tiles import wait_for_all

pytestmark = pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU, which runs programs together")

TINY = {"HELD_VALUES": 32, "SCATTERED_VALUES": 16, "STREAMED_VALUES": 16, "SMALL_BYTES": 32}
SMALL_GPU = plan.Device(multiprocessors=3, l2_bytes=4096)


@pytest.fixture
def plans(monkeypatch):
    """Let small batches be cut up as large ones are, and return the plans that are made."""
    made = []
    once = plan.make_plan
    for name, value in TINY.items():
        monkeypatch.setattr(plan, name, value)

    def make_plan(geometry, itemsize, tensors, _device):
        made.append(once(geometry, itemsize, tensors, SMALL_GPU))
        return made[-1]

    monkeypatch.setattr(launch, "make_plan", make_plan)
    monkeypatch.setattr(plan.Plan, "in_two_launches", lambda self: self)
    return made


PLAIN = [((33, 20), "contiguous"), ((4, 3, 5, 7), "channels last"), ((5, 8, 4, 4), "contiguous")]


@pytest.mark.parametrize(
    ("shape", "layout", "dtype", "act"),
    [(*case, True) for case in cases()] + [(*case, torch.float32, False) for case in PLAIN],
)
def test_all_plans_agree_with_float64(plans, shape, layout, dtype, act):
    assert compare(draw(shape, layout, dtype), act) == 1
    assert len(plans) == 2


def test_each_way_to_share_a_channel_is_among_them(plans):
    for shape, layout, _ in cases():
        for tensors in (1, 2):
            Launch.of(draw(shape, layout).x, tensors)
    assert {(made.method, made.in_one_launch, made.members > 1) for made in plans} == {
        ("one", True, False),
        ("group", True, True),
        ("l2", True, True),
        ("l2", False, True),
        ("split", False, True),
    }


def train(batch, cut):
    return forward.train(batch.x, None, None, (None, None, None), batch.weight, batch.bias, 0.1, 1e-5, cut)


def test_without_its_barrier_a_program_takes_what_is_not_there_yet(monkeypatch):
    batch = draw((3, 5, 6, 7))
    cut = held(batch.x, 16, 5)
    monkeypatch.setattr(forward, "wait_for_all", lambda *_: None)
    y, _ = train(batch, cut)
    assert y.isnan().any()


def test_programs_that_wait_in_vain_are_given_up(monkeypatch):
    batch = draw((3, 5, 6, 7))
    cut = held(batch.x, 64, 1)
    assert cut.plan.members == 2
    run_together(monkeypatch, patience=1.0)
    monkeypatch.setattr(forward, "wait_for_all", lambda ticket, members: wait_for_all(ticket, members + 1))
    with pytest.raises(InterpreterError, match="2 of 2 programs wait in vain"):
        train(batch, cut)
