"""The functions under autograd's checks, the transforms of torch.func, compile and export; both modes."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tensors import NORMS, close, parameters, random_like
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import bnlib.torch

TIGHT = {"rtol": 1e-9, "atol": 1e-9}
MEAN, VAR = torch.tensor([0.5, -1.0, 2.0, 0.0]), torch.tensor([1.0, 0.3, 2.0, 5.0])


def evaluation_of(module):
    """Return batch norm in evaluation as a function of x, weight, bias."""
    return lambda x, w, b: module.batch_norm(x, MEAN.to(x.dtype), VAR.to(x.dtype), w, b)


PAIRS = {name: (norm.ours, norm.theirs) for name, norm in NORMS.items()}
PAIRS["evaluation"] = evaluation_of(bnlib.torch), evaluation_of(F)

pytestmark = pytest.mark.parametrize("name", PAIRS)


@pytest.fixture(params=["mean 0", "mean 50"])
def inputs(request, name):
    x = random_like(torch.empty(5, 4, 3, dtype=torch.float64))
    x = x if request.param == "mean 0" else x + 50
    return x, *parameters(NORMS.get(name, NORMS["batch"]), x)


def leaves(inputs):
    return [t.clone().requires_grad_() for t in inputs]


def cubed(function):
    """Make a scalar of ``function`` whose derivatives of every order are not trivial."""
    return lambda *p: (function(*p) ** 3).sum()


def test_gradcheck_in_both_modes(name, inputs):
    assert torch.autograd.gradcheck(
        PAIRS[name][0],
        leaves(inputs),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


def test_gradgradcheck_in_both_modes(name, inputs):
    x, w, b = inputs[0][:3, :, :2], *(t if t.ndim == 1 else t[:, :2] for t in inputs[1:])
    assert torch.autograd.gradgradcheck(PAIRS[name][0], leaves((x, w, b)), check_fwd_over_rev=True)


def test_gradients_that_are_batched(name, inputs):
    dy = random_like(torch.empty(7, *inputs[0].shape, dtype=torch.float64))

    def batched(function):
        p = leaves(inputs)
        return torch.autograd.grad(function(*p), p, dy, is_grads_batched=True)

    close(*map(batched, PAIRS[name]), **TIGHT)


def test_forward_mode_of_autograd(name, inputs):
    tangents = [random_like(t, seed) for seed, t in enumerate(inputs)]

    def tangent(function):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, v) for t, v in zip(inputs, tangents, strict=True)]
            return forward_ad.unpack_dual(function(*duals)).tangent

    close(*map(tangent, PAIRS[name]), **TIGHT)


def test_jvp_and_vjp(name, inputs):
    tangents = tuple(random_like(t, seed) for seed, t in enumerate(inputs))
    ours, theirs = PAIRS[name]
    close(jvp(ours, inputs, tangents), jvp(theirs, inputs, tangents), **TIGHT)
    dy = random_like(inputs[0], seed=8)
    close(vjp(ours, *inputs)[1](dy), vjp(theirs, *inputs)[1](dy), **TIGHT)


@pytest.mark.parametrize("which", range(3))
def test_derivatives_by_one_of_the_inputs(name, inputs, which):
    def alone(function):
        def by_one(t):
            return function(*inputs[:which], t, *inputs[which + 1 :])

        tangent, dy = random_like(inputs[which], seed=3), random_like(inputs[0], seed=8)
        forward = jvp(by_one, (inputs[which],), (tangent,))
        return *forward, *vjp(by_one, inputs[which])[1](dy)

    close(*map(alone, PAIRS[name]), **TIGHT)


def test_jacobians_and_hessians(name, inputs):
    ours, theirs = PAIRS[name]
    every = (0, 1, 2)
    expected = jacrev(theirs, every)(*inputs)
    close(jacrev(ours, every)(*inputs), expected, **TIGHT)
    close(jacfwd(ours, every)(*inputs), expected, **TIGHT)


def test_hessians(name, inputs):
    """Against double backward: hessians of torch.func of PyTorch's own norms are not symmetric in 2.13."""
    ours, theirs = PAIRS[name]
    x, w, b = inputs[0][:, :, :2], *(t if t.ndim == 1 else t[:, :2] for t in inputs[1:])
    expected = torch.autograd.functional.hessian(cubed(theirs), (x, w, b))
    close(hessian(cubed(ours), (0, 1, 2))(x, w, b), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("in_dims", [(0, 0, 0), (0, None, None), (None, 0, None), (1, None, 0)])
def test_vmap_over_any_of_the_inputs(name, inputs, in_dims):
    def spread(t, d):
        return t if d is None else torch.stack([t, 2 * t + 1, t - 3], d)

    stacked = [spread(t, d) for t, d in zip(inputs, in_dims, strict=True)]
    ours, theirs = PAIRS[name]
    each = torch.stack(
        [
            theirs(*(t if d is None else t.select(d, i) for t, d in zip(stacked, in_dims, strict=True)))
            for i in range(3)
        ]
    )
    close(vmap(ours, in_dims)(*stacked), each, **TIGHT)


def test_vmap_of_gradients_and_gradients_of_vmap(name, inputs):
    ours, theirs = PAIRS[name]
    stacked = [torch.stack([t, 2 * t + 1]) for t in inputs]
    every = (0, 1, 2)
    alone = [grad(cubed(theirs), every)(*(t[i] for t in stacked)) for i in range(2)]
    expected = tuple(torch.stack(pair) for pair in zip(*alone, strict=True))
    close(vmap(grad(cubed(ours), every))(*stacked), expected, **TIGHT)
    close(grad(lambda *p: vmap(cubed(ours))(*p).sum(), every)(*stacked), expected, **TIGHT)


def test_gradients_per_sample(name, inputs):
    """Each sample is a batch of its own; for batch norm in training, its mean is over the positions."""
    ours, theirs = PAIRS[name]
    samples = inputs[0][:, None]
    found = vmap(grad(cubed(ours), (1, 2)), (0, None, None))(samples, *inputs[1:])
    alone = [grad(cubed(theirs), (1, 2))(sample, *inputs[1:]) for sample in samples]
    close(found, tuple(torch.stack(field) for field in zip(*alone, strict=True)), **TIGHT)


def test_compile_keeps_one_graph(name):
    torch.compiler.reset()
    ours, theirs = PAIRS[name]
    x = random_like(torch.empty(5, 4, 3, dtype=torch.float64)) + 50
    inputs = x, *parameters(NORMS.get(name, NORMS["batch"]), x)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    dy = random_like(inputs[0])

    def run(function):
        p = leaves(inputs)
        y = function(*p)
        return y, torch.autograd.grad(y, p, dy)

    close(run(compiled), run(theirs), **TIGHT)


def test_compile_with_sizes_that_change(name):
    torch.compiler.reset()
    ours, theirs = PAIRS[name]
    compiled = torch.compile(ours, fullgraph=True, dynamic=True, backend="eager")
    for n in (3, 5, 8):
        x = random_like(torch.empty(n, 4, 3, dtype=torch.float64))
        p = parameters(NORMS.get(name, NORMS["batch"]), x)
        close(compiled(x, *p), theirs(x, *p), **TIGHT)


def test_the_compiled_form_keeps_the_digits_of_a_large_mean(name):
    torch.compiler.reset()
    ours, theirs = PAIRS[name]
    x = torch.randn(64, 4, 16, generator=torch.Generator().manual_seed(0)) + 1e6
    w, b = (t.float() for t in parameters(NORMS.get(name, NORMS["batch"]), x))
    y = torch.compile(ours, fullgraph=True, backend="aot_eager")(x, w, b)
    exact = theirs(x.double(), w.double(), b.double())
    assert (y - exact).abs().max() < 2e-6 * max(1, float(exact.abs().max()) / 5)


class Net(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, w, b):
        return self.function(x, w, b)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # raised by torch.export itself
def test_export(name, inputs):
    ours, theirs = PAIRS[name]
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(Net(ours), tuple(inputs), dynamic_shapes=({0: batch}, None, None))
    x = random_like(torch.empty(9, *inputs[0].shape[1:], dtype=torch.float64), seed=4)
    close(exported.module()(x, *inputs[1:]), theirs(x, *inputs[1:]), **TIGHT)
