"""Programs that wait for each other, on the CPU: run together, small batches cut as large ones are."""

import pytest
import torch
from cases import DEVICE, cases, close, draw, exact, pieces
from together import run_together
from triton.runtime.errors import InterpreterError

from bnlib.torch import kernels
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


def compare(batch, act, training=True):
    """Compare output, gradients and running statistics with float64."""
    leaves = [t.clone().requires_grad_() for t in batch[:4]]
    mean, var = batch.running_mean.clone(), batch.running_var.clone()
    added = leaves[3] if act else None
    y = kernels.batch_norm(leaves[0], mean, var, *leaves[1:3], training, 0.1, 1e-5, added, relu=act)
    gradients = torch.autograd.grad(y, leaves if act else leaves[:3], batch.dy)
    expected, exact_gradients, running = exact(batch, training, act)
    dtype, values = batch.x.dtype, batch.x.numel() // batch.x.shape[1]
    close(y.detach(), expected, dtype)
    for k, (ours, theirs) in enumerate(zip(gradients, exact_gradients, strict=True)):
        whole = k in (0, 3)
        close(ours, theirs, dtype if whole or act else torch.float32, 1 if whole else values**0.5)
    close(mean, running[0])
    close(var, running[1])


PLAIN = [((33, 20), "contiguous"), ((4, 3, 5, 7), "channels last"), ((5, 8, 4, 4), "contiguous")]


@pytest.mark.parametrize(
    ("shape", "layout", "dtype", "act"),
    [(*case, True) for case in cases()] + [(*case, torch.float32, False) for case in PLAIN],
)
def test_all_plans_agree_with_float64(plans, shape, layout, dtype, act):
    compare(draw(shape, layout, dtype), act)
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


def held(x, block_m, groups):
    """Return a launch that holds ``x`` in programs of ``block_m`` values."""
    members = -(-launch.geometry_of(x).values // block_m)
    return pieces(x, block_m, members, method="group", groups=groups)


def train(batch, cut):
    return forward.train(batch.x, None, None, (None, None, None), batch.weight, batch.bias, 0.1, 1e-5, cut)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize(("block_m", "groups"), [(16, 1), (32, 2), (64, 5)])
def test_groups_of_any_size_give_the_same(layout, block_m, groups):
    batch = draw((3, 5, 6, 7), layout)
    y, _ = train(batch, held(batch.x, block_m, groups))
    close(y, exact(batch, training=True, act=False)[0])


@pytest.mark.parametrize("method", ["group", "l2"])
def test_tickets_are_zero_after_each_launch(monkeypatch, method):
    batch = draw((3, 5, 6, 7))
    kept = torch.zeros(5, dtype=torch.int32)
    monkeypatch.setattr(launch, "tickets", lambda device, number: kept)
    cut = held(batch.x, 32, 2) if method == "group" else pieces(batch.x, 16, 3, method="l2", groups=2)
    for _ in range(3):
        close(train(batch, cut)[0], exact(batch, training=True, act=False)[0])
        assert not kept.any()


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
