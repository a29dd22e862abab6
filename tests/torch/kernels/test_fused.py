import pytest
import torch
from cases import SHAPES, cases, close, draw, exact, layouts, pieces

import bnlib.torch
from bnlib.torch import kernels
from bnlib.torch.kernels import autograd, backward, forward, ops
from bnlib.torch.kernels.dispatch import fits
from bnlib.torch.kernels.launch import geometry_of


def fused(b, training, momentum=0.1, added=True, relu=True):
    """Return the output, the gradients, and the running statistics."""
    leaves = [t.clone().requires_grad_() for t in b[:4]]
    mean, var = b.running_mean.clone(), b.running_var.clone()
    y = kernels.batch_norm(
        leaves[0], mean, var, *leaves[1:3], training, momentum, 1e-5, leaves[3] if added else None, relu
    )
    return y.detach(), torch.autograd.grad(y, leaves[: 4 if added else 3], b.dy), (mean, var)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "layout", "dtype"), cases())
def test_shortcut_and_relu_agree_with_float64(shape, layout, dtype, training):
    batch = draw(shape, layout, dtype)
    y, gradients, running = fused(batch, training)
    expected, exact_gradients, exact_running = exact(batch, training, act=True)
    close(y, expected, dtype)
    values = batch.x.numel() // shape[1]
    for k, (ours, theirs) in enumerate(zip(gradients, exact_gradients, strict=True)):
        close(ours, theirs, dtype if k in (0, 3) else torch.float32, 1 if k in (0, 3) else values**0.5)
    for ours, theirs in zip(running, exact_running, strict=True):
        close(ours, theirs)


def test_relu_alone_and_the_shortcut_alone():
    batch = draw((4, 3, 5, 7))
    zero = batch._replace(added=torch.zeros_like(batch.added))
    alone, gradients, _ = fused(batch, True, added=False)
    both, others, _ = fused(zero, True)
    torch.testing.assert_close((alone, *gradients), (both, *others[:3]))
    y, gradients, _ = fused(batch, True, relu=False)
    plain, others, _ = fused(batch, True, added=False, relu=False)
    torch.testing.assert_close(y, plain + batch.added)
    torch.testing.assert_close(gradients, (*others, batch.dy))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((3, 5, 6, 7), "contiguous"), ((3, 5, 6, 7), "channels last"), ((33, 20), "contiguous")],
)
@pytest.mark.parametrize("members", [1, 3])
def test_bits_say_where_relu_is_on(shape, layout, members):
    b = draw(shape, layout)
    bits = ops.room_for_bits(b.x, relu=True)
    assert bits.numel() <= b.x.numel() / 8 + max(b.x.shape[0] * b.x[0, 0].numel(), b.x.shape[1])
    y, statistics = forward.train(
        b.x, b.added, bits, (None, None, None), b.weight, b.bias, 0.1, 1e-5, pieces(b.x, 16, members)
    )
    assert torch.equal(autograd.unpacked(bits, b.x), y > 0)
    saved = backward.Saved(b.x, *statistics, b.weight, bits)
    _, dadded, _ = backward.differentiate(b.dy, saved, 1e-5, True, True, pieces(b.x, 16, members))
    assert torch.equal(dadded, torch.where(y > 0, b.dy, 0))


def test_a_nan_passes_relu_as_in_pytorch():
    batch = draw((4, 3, 5, 7))
    batch.added[1, 2, 3, 4] = float("nan")
    y, gradients, _ = fused(batch, True)
    assert y[1, 2, 3, 4].isnan()
    assert y.isnan().sum() == 1
    assert gradients[3][1, 2, 3, 4] == batch.dy[1, 2, 3, 4]


def test_upstream_gradients_in_another_layout():
    batch = draw((4, 3, 5, 7))
    other = batch._replace(dy=batch.dy.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(fused(batch, True)[1], fused(other, True)[1])
    constant = batch._replace(dy=torch.ones(1, device=batch.x.device).expand_as(batch.x))
    close(fused(constant, True)[1][2], exact(constant, True, act=True)[1][2])


@pytest.mark.parametrize("double", [False, True])
def test_gradients_have_the_shapes_of_the_parameters(double):
    b = draw((4, 3, 5, 7))
    x = b.x.clone().requires_grad_()
    rows = [t.view(3, 1, 1).clone().requires_grad_() for t in (b.weight, b.bias)]
    y = kernels.batch_norm(x, None, None, *rows, True, 0.1, 1e-5)
    gradients = torch.autograd.grad(y, rows, b.dy, create_graph=double)
    for ours, theirs in zip(gradients, exact(b, True, act=False)[1][1:], strict=True):
        assert ours.shape == (3, 1, 1)
        close(ours.detach().view(3), theirs, times=140**0.5)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_shortcut_that_needs_no_gradient_gets_none(monkeypatch, wanted):
    written = []
    once = backward.differentiate

    def watched(*arguments):
        results = once(*arguments)
        written.append(results[1] is not None)
        return results

    monkeypatch.setattr(backward, "differentiate", watched)
    b = draw((4, 3, 5, 7))
    x, added = b.x.clone().requires_grad_(), b.added.clone().requires_grad_(wanted)
    y = kernels.batch_norm(x, None, None, b.weight, b.bias, True, 0.1, 1e-5, added, relu=True)
    y.backward(b.dy)
    assert written == [wanted]
    assert (added.grad is not None) == wanted
    close(x.grad, exact(b, True, act=True)[1][0])


@pytest.mark.parametrize("training", [True, False])
def test_the_momentum_may_be_a_tensor(training):
    batch = draw((4, 3, 5, 7))
    given = torch.tensor(0.3, dtype=torch.float64, device=batch.x.device)
    torch.testing.assert_close(fused(batch, training, given), fused(batch, training, 0.3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_gradients_can_be_differentiated(layout, training):
    def second(b, function):
        leaves = [t.clone().requires_grad_() for t in b[:4]]
        y = function(b, *leaves)
        first = torch.autograd.grad(y, leaves, b.dy, create_graph=True)
        return torch.autograd.grad(first[0].square().sum() + first[1].sum(), leaves[:2])

    def ours(b, x, weight, bias, added):
        return kernels.batch_norm(
            x, b.running_mean, b.running_var, weight, bias, training, 0.0, 1e-5, added, relu=True
        )

    def theirs(b, x, weight, bias, added):
        y = torch.nn.functional.batch_norm(
            x, b.running_mean, b.running_var, weight, bias, training, 0.0, 1e-5
        )
        return torch.relu(y + added)

    batch = draw((4, 3, 5, 7), layout)
    wide = type(batch)(*(t.double() for t in batch))
    for a, b in zip(second(batch, ours), second(wide, theirs), strict=True):
        close(a, b, times=20)


def test_a_batch_of_upstream_gradients():
    batch = draw((4, 3, 5, 7))
    x = batch.x.clone().requires_grad_()
    y = kernels.batch_norm(x, None, None, batch.weight, batch.bias, True, 0.1, 1e-5)
    dys = torch.stack([batch.dy, batch.added])
    (together,) = torch.autograd.grad(y, x, dys, is_grads_batched=True, retain_graph=True)
    for dy, dx in zip(dys, together, strict=True):
        torch.testing.assert_close(dx, torch.autograd.grad(y, x, dy, retain_graph=True)[0])


@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # by torch.compile itself
@pytest.mark.parametrize("training", [True, False])
def test_torch_compile_keeps_one_graph(training):
    b = draw((33, 20))

    def f(x, weight, bias, added, mean, var):
        y = kernels.batch_norm(x.sin(), mean, var, weight, bias, training, 0.1, 1e-5, added, relu=True)
        return y.cos()

    def results(function):
        torch._dynamo.reset()
        leaves = [t.clone().requires_grad_() for t in b[:4]]
        running = b.running_mean.clone(), b.running_var.clone()
        y = function(*leaves, *running)
        return y, torch.autograd.grad(y, leaves, b.dy), running

    torch.testing.assert_close(results(torch.compile(f, backend="aot_eager", fullgraph=True)), results(f))


def test_what_is_kept_for_the_backward_pass():
    b = draw((8, 4, 6, 6))
    kept = []
    x, added = b.x.clone().requires_grad_(), b.added
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        kernels.batch_norm(x, None, None, b.weight, b.bias, True, 0.1, 1e-5, added, relu=True)
    beside = sum(
        t.numel() * t.element_size() for t in kept if t.data_ptr() not in (x.data_ptr(), b.weight.data_ptr())
    )
    assert beside == x.numel() // 8 + 3 * 4 * 4


def test_unpacked_knows_each_layout():
    for shape in SHAPES:
        for layout in layouts(shape):
            x = draw(shape, layout).x
            assert geometry_of(x) is not None
            full = ops.room_for_bits(x, relu=True).fill_(255)
            assert autograd.unpacked(full, x).shape == x.shape
            assert autograd.unpacked(full, x).all()


@pytest.fixture
def on_kernels(monkeypatch):
    """Send to the kernels all that they can address, on whatever device."""
    monkeypatch.setattr(kernels, "suits", lambda x, *others, added=None: fits(x, *others, added=added))
    calls = []
    once = kernels.batch_norm
    monkeypatch.setattr(kernels, "batch_norm", lambda *a, **k: calls.append(a) or once(*a, **k))
    return calls


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.2, None])
@pytest.mark.parametrize("layer", [bnlib.torch.BatchNorm2d, bnlib.torch.BatchNormAct])
def test_layers_use_the_kernels_and_mean_the_same(on_kernels, layer, momentum, training):
    b = draw((4, 3, 5, 7))
    fast = layer(3, momentum=momentum).to(b.x.device).train(training)
    plain = torch.nn.BatchNorm2d(3, momentum=momentum).double().to(b.x.device).train(training)
    act = layer is bnlib.torch.BatchNormAct
    for _ in range(2):
        y = fast(b.x, b.added) if act else fast(b.x)
        expected = plain(b.x.double())
        close(y.detach(), torch.relu(expected + b.added) if act else expected)
    assert len(on_kernels) == 2
    for name, value in plain.state_dict().items():
        close(fast.state_dict()[name], value.double())


def test_evaluation_without_statistics_is_refused_before_any_kernel(on_kernels):
    with pytest.raises(RuntimeError, match="expected running_mean in evaluation, got None"):
        bnlib.torch.batch_norm_act(draw((4, 3)).x, None, None, None)
    assert not on_kernels


def test_a_step_that_moves_the_statistics_makes_an_older_evaluation_stale():
    b = draw((4, 3, 5, 7))
    x = b.x.clone().requires_grad_()
    y = kernels.batch_norm(x, b.running_mean, b.running_var, None, None, False, 0.1, 1e-5)
    kernels.batch_norm(x, b.running_mean, b.running_var, None, None, True, 0.1, 1e-5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y, x, b.dy)
