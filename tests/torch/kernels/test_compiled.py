"""The kernels under ``torch.compile``; no GPU is needed to trace for one."""

import pytest
import torch
from cases import DEVICE, close, draw, exact
from torch._subclasses.fake_tensor import FakeTensorMode

import bnlib.torch
from bnlib.torch import kernels
from bnlib.torch.kernels import dispatch, launch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # by torch.compile itself


@pytest.fixture
def kept(monkeypatch):
    """Let tickets be kept on whatever device; return those that are."""
    found = {}
    monkeypatch.setattr(launch, "_tickets", found)
    if DEVICE == "cpu":
        monkeypatch.setattr(launch, "stream_of", lambda device: 0)
    return found


def step(x, weight, bias, added, mean, var):
    """Normalize as a layer would, between two operations."""
    y = kernels.batch_norm(x.sin(), mean, var, weight, bias, True, 0.1, 1e-5, added, relu=True)
    return y.cos()


def test_what_compiles_for_a_gpu_is_one_graph_with_an_operator(monkeypatch):
    graphs = []
    monkeypatch.setattr(dispatch, "compiles_for", lambda device: True)
    with FakeTensorMode():
        x, row = torch.empty(4, 3, 5, 5, device="cuda"), torch.empty(3, device="cuda")
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, row: bnlib.torch.batch_norm(x, row, row, row, row, True),
        backend=lambda graph, _: graphs.append(graph) or graph,
        fullgraph=True,
    )
    assert compiled(x, row).shape == x.shape
    called = [node.target for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert called.count(torch.ops.bnlib.batch_norm_training.default) == 1


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_question_for_the_device_is_compiled_without_a_warning(backend):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: x.sin() if dispatch.runs_on(x.device) else x.cos(), backend=backend, fullgraph=True
    )
    x = torch.ones(3)
    torch.testing.assert_close(compiled(x), x.cos())


def test_operators_keep_no_tickets(kept):
    b = draw((2, 3, 64, 40))  # of which each channel is shared by programs
    torch._dynamo.reset()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for function, number in ((compiled, 0), (step, 1)):
        leaves = [t.clone().requires_grad_() for t in b[:4]]
        y = function(*leaves, b.running_mean.clone(), b.running_var.clone())
        torch.autograd.grad(y, leaves, b.dy)
        assert len(kept) == number
        assert not any(t.any() for t in kept.values())


def test_kept_tickets_serve_again(kept):
    b = draw((2, 3, 64, 40))
    expected = exact(b, training=True, act=False)[0]
    for _ in range(2):
        close(kernels.batch_norm(b.x, None, None, b.weight, b.bias, True, 0.1, 1e-5), expected)
        assert len(kept) == 1
