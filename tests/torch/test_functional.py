import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given
from hypothesis import strategies as st
from tensors import LAYOUTS, NORMS, close, gradients, parameters, random_like, suits, tensors

import bnlib.torch
from bnlib.reference import RunningStatistics, batch_norm_inference, batch_norm_inference_backward
from bnlib.torch import blocks

TIGHT = {"rtol": 1e-9, "atol": 1e-9}
EPS = st.sampled_from([1e-5, 1e-3, 10.0])


@pytest.fixture(params=["one block", "many blocks"])
def cut(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(blocks, "BYTES_PER_THREAD", 64)


def as_arrays(*values):
    return [v.detach().numpy() for v in values]


# Values, gradients and second gradients against the reference and against PyTorch


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.usefixtures("cut")
@given(data=st.data(), eps=EPS)
def test_values_and_gradients_are_those_of_the_reference_and_of_pytorch(name, data, eps):
    norm = NORMS[name]
    x = data.draw(tensors())
    assume(suits(name, x.shape))
    x = x + data.draw(st.sampled_from([0.0, 100.0]))
    w, b = parameters(norm, x)
    dy = random_like(x)
    y, found = gradients(lambda *p: norm.ours(*p, eps=eps), (x, w, b), dy)
    _, expected = gradients(lambda *p: norm.theirs(*p, eps=eps), (x, w, b), dy)
    np.testing.assert_allclose(as_arrays(y)[0], norm.reference(*as_arrays(x, w, b), eps=eps), 1e-9, 1e-9)
    close(y, norm.theirs(x, w, b, eps=eps), **TIGHT)
    close(found, expected, **TIGHT)
    for got, want in zip(as_arrays(*found), norm.backward(*as_arrays(dy, x, w), eps=eps), strict=True):
        np.testing.assert_allclose(got, want, 1e-9, 1e-9)


@pytest.mark.parametrize("name", NORMS)
@given(data=st.data())
def test_second_gradients_are_those_of_pytorch(name, data):
    norm = NORMS[name]
    x = data.draw(tensors())
    assume(suits(name, x.shape))
    w, b = parameters(norm, x)
    dy = random_like(x).requires_grad_()
    directions = [random_like(t, seed) for seed, t in enumerate((x, w, b), start=5)]

    def second(function):
        leaves = [t.detach().clone().requires_grad_() for t in (x, w, b)]
        first = torch.autograd.grad(function(*leaves), leaves, dy, create_graph=True)
        total = sum((v * g).sum() for v, g in zip(directions, first, strict=True))
        return torch.autograd.grad(total, [*leaves[:2], dy])

    close(second(norm.ours), second(norm.theirs), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("given_parameters", [(False, False), (True, False), (False, True)])
def test_either_parameter_may_be_missing(name, given_parameters):
    norm = NORMS[name]
    x = random_like(torch.empty(4, 6, 3, dtype=torch.float64))
    w, b = parameters(norm, x)
    with_weight, with_bias = given_parameters
    if name == "rms" and not with_bias:
        b, with_bias = torch.zeros_like(b), True
    ones, zeros = torch.ones_like(w), torch.zeros_like(b)
    y = norm.ours(x, w if with_weight else None, b if with_bias else None)
    close(y, norm.theirs(x, w if with_weight else ones, b if with_bias else zeros), **TIGHT)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_the_gradients_asked_for_are_computed(needed):
    x = random_like(torch.empty(5, 3, dtype=torch.float64))
    norm = NORMS["batch"]
    inputs = [x, *parameters(norm, x)]
    dy = random_like(x)
    _, every = gradients(norm.ours, inputs, dy)
    leaves = [t.clone().requires_grad_(i in needed) for i, t in enumerate(inputs)]
    found = torch.autograd.grad(norm.ours(*leaves), [leaves[i] for i in needed], dy)
    close(found, tuple(every[i] for i in needed), **TIGHT)


# Accuracy

SHAPES = [(65536, 8), (4096, 64), (32, 64, 56, 56), (16, 32, 7, 7)]
CASES = [(s, last) for s in SHAPES for last in (False, True) if not last or len(s) == 4]


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e3, 1e6])
@pytest.mark.parametrize(("shape", "channels_last"), CASES)
def test_float32_is_accurate_for_large_means(shape, channels_last, mean):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator) + mean
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    w, b = torch.ones(shape[1]), torch.zeros(shape[1])
    dy = torch.randn(shape, generator=generator)
    norm = NORMS["batch"]
    y, found = gradients(norm.ours, (x, w, b), dy)
    exact, expected = gradients(norm.theirs, (x.double(), w.double(), b.double()), dy.double())
    assert (y - exact).abs().max() < 1e-6
    for got, want in zip(found, expected, strict=True):
        assert (got - want).norm() < 1e-5 * want.norm()


def test_gradients_of_long_columns_keep_their_digits():
    """PyTorch's kernel adds up the 65536 rows one by one, and is off by some 5e-6."""
    generator = torch.Generator().manual_seed(5)
    x, dy = torch.randn(65536, 8, generator=generator), torch.randn(65536, 8, generator=generator)
    inputs, norm = (x, torch.ones(8), torch.zeros(8)), NORMS["batch"]
    _, found = gradients(norm.ours, inputs, dy)
    _, expected = gradients(norm.theirs, [t.double() for t in inputs], dy.double())
    for got, want in zip(found, expected, strict=True):
        assert (got - want).norm() < 1e-6 * want.norm()


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_is_accurate_for_large_means(name):
    norm = NORMS[name]
    x = torch.randn(16, 64, 49, generator=torch.Generator().manual_seed(0)) + 1e6
    w, b = (t.float() for t in parameters(norm, x))
    if name == "rms":
        w = torch.ones_like(w)
    exact = norm.theirs(x.double(), w.double(), b.double())
    assert (norm.ours(x, w, b) - exact).abs().max() < 1e-6 * max(1, float(exact.abs().max()))


def test_channels_of_large_and_small_mean_stand_side_by_side():
    x = torch.randn(512, 4, generator=torch.Generator().manual_seed(1))
    x = x * torch.tensor([1.0, 1e-3, 1.0, 1e3]) + torch.tensor([0.0, 1e3, 1e6, 0.1])
    w, b = torch.ones(4), torch.zeros(4)
    norm = NORMS["batch"]
    assert (
        norm.ours(x, w, b, eps=1e-12) - norm.theirs(x.double(), w.double(), b.double(), eps=1e-12)
    ).abs().max() < 2e-6


def test_sorted_data_do_not_mislead_the_shift():
    x = torch.arange(4096.0)[:, None].repeat(1, 3) + 1e5
    norm, w, b = NORMS["batch"], torch.ones(3), torch.zeros(3)
    assert (norm.ours(x, w, b) - norm.theirs(x.double(), w.double(), b.double())).abs().max() < 1e-6


# Running statistics


@pytest.mark.usefixtures("cut")
@given(x=tensors(), momentum=st.sampled_from([0.0, 0.1, 0.7, 1.0]), as_number=st.booleans())
def test_running_statistics_are_those_of_the_reference_and_of_pytorch(x, momentum, as_number):
    channels = x.shape[1]
    start = torch.linspace(-1, 1, channels, dtype=x.dtype), torch.linspace(1, 2, channels, dtype=x.dtype)
    ours, theirs = ([t.clone() for t in start] for _ in range(2))
    weight = momentum if as_number else torch.tensor(momentum)
    bnlib.torch.batch_norm(x, *ours, training=True, momentum=weight)
    F.batch_norm(x, *theirs, training=True, momentum=momentum)
    expected = RunningStatistics(*as_arrays(*start)).update(x.numpy(), momentum)
    close(ours, theirs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours[0].numpy(), expected.mean, 1e-6, 1e-6)
    np.testing.assert_allclose(ours[1].numpy(), expected.var, 1e-6, 1e-6)


@given(x=tensors(least_ndim=3))
def test_running_statistics_of_instance_norm_are_those_of_pytorch(x):
    assume(x.shape[2:].numel() > 1)
    ours, theirs = (
        [torch.zeros(x.shape[1], dtype=x.dtype), torch.ones(x.shape[1], dtype=x.dtype)] for _ in "ab"
    )
    bnlib.torch.instance_norm(x, *ours)
    F.instance_norm(x, *theirs)
    close(ours, theirs, **TIGHT)


def test_running_statistics_of_a_large_mean_are_exact_to_rounding():
    x = torch.randn(65536, 8, generator=torch.Generator().manual_seed(2)) + 1e6
    mean, var = torch.zeros(8), torch.ones(8)
    bnlib.torch.batch_norm(x, mean, var, training=True, momentum=1.0)
    close(mean.double(), x.double().mean(0), rtol=1e-7, atol=0)
    close(var.double(), x.double().var(0), rtol=1e-6, atol=0)


def test_evaluation_leaves_the_running_statistics_alone():
    mean, var = torch.randn(3), torch.rand(3)
    before = mean.clone(), var.clone()
    bnlib.torch.batch_norm(torch.randn(4, 3), mean, var)
    close((mean, var), before, rtol=0, atol=0)


# Evaluation


@pytest.mark.usefixtures("cut")
@given(x=tensors(), eps=EPS)
def test_evaluation_is_that_of_the_reference_and_of_pytorch(x, eps):
    norm = NORMS["batch"]
    w, b = parameters(norm, x)
    mean, var = parameters(norm, x, seed=9)
    var = var.abs() + 0.1
    dy = random_like(x)
    y, found = gradients(lambda *p: bnlib.torch.batch_norm(p[0], mean, var, *p[1:], eps=eps), (x, w, b), dy)
    other, expected = gradients(lambda *p: F.batch_norm(p[0], mean, var, *p[1:], eps=eps), (x, w, b), dy)
    close(y, other, **TIGHT)
    close(found, expected, **TIGHT)
    arrays = as_arrays(x, mean, var, w)
    np.testing.assert_allclose(y.detach(), batch_norm_inference(*arrays, b.numpy(), eps=eps), 1e-9, 1e-9)
    wanted = batch_norm_inference_backward(dy.numpy(), *arrays, eps=eps)
    for got, want in zip(as_arrays(*found), wanted, strict=True):
        np.testing.assert_allclose(got, want, 1e-9, 1e-9)


def test_evaluation_keeps_the_digits_of_a_large_mean():
    x = torch.randn(512, 8, generator=torch.Generator().manual_seed(4)) + 1e6
    mean, var = x.mean(0), torch.ones(8)
    exact = F.batch_norm(x.double(), mean.double(), var.double())
    assert (bnlib.torch.batch_norm(x, mean, var) - exact).abs().max() < 1e-6
    assert (F.batch_norm(x, mean, var) - exact).abs().max() > 1e-3


@given(x=tensors(least_ndim=3))
def test_instance_norm_with_running_statistics_is_that_of_pytorch(x):
    w, b = parameters(NORMS["batch"], x)
    arguments = torch.zeros_like(w), torch.ones_like(w) * 2, w, b, False
    close(bnlib.torch.instance_norm(x, *arguments), F.instance_norm(x, *arguments), **TIGHT)


# Layouts, dtypes, awkward values


def test_instance_norm_by_running_statistics_takes_matrices():
    x, mean, var = (
        random_like(torch.empty(5, 3)),
        torch.tensor([0.0, 1.0, 3.0]),
        torch.tensor([1.0, 2.0, 0.5]),
    )
    y = bnlib.torch.instance_norm(x, mean, var, use_input_stats=False)
    close(y, bnlib.torch.batch_norm(x, mean, var))
    with pytest.raises(ValueError, match=r"expected at least 2 axes, \(N, C, L, ...\), got 1"):
        bnlib.torch.instance_norm(x[0], mean, var, use_input_stats=False)
    with pytest.raises(ValueError, match=r"expected at least 3 axes, \(N, C, L, ...\), got 2"):
        bnlib.torch.instance_norm(x, mean, var)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_a_dense_input_is_kept(name, layout):
    norm = NORMS[name]
    x = tensors_of((4, 6, 5, 3), layout)
    w, b = parameters(norm, x)
    y, (dx, *_) = gradients(norm.ours, (x, w, b), random_like(x))
    assert y.stride() == dx.stride() == torch.empty_like(x).stride()


def tensors_of(shape, layout, dtype=torch.float64):
    from tensors import as_tensor

    return as_tensor(np.random.default_rng(7).standard_normal(shape), layout).to(dtype)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.usefixtures("cut")
def test_half_precision_is_computed_in_float32(name, dtype, mixed):
    norm = NORMS[name]
    x = random_like(torch.empty(8, 4, 3, 2)).to(dtype)
    w, b = (p.to(torch.float32 if mixed and name != "rms" else dtype) for p in parameters(norm, x.float()))
    dy = random_like(x)
    y, found = gradients(norm.ours, (x, w, b), dy)
    exact, expected = gradients(norm.theirs, (x.double(), w.double(), b.double()), dy.double())
    assert y.dtype == dtype
    assert [g.dtype for g in found] == [dtype, w.dtype, b.dtype]
    slack = 4 * torch.finfo(dtype).eps
    for got, want in zip((y, *found), (exact, *expected), strict=True):
        close(got.double(), want, rtol=slack, atol=slack)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.usefixtures("cut")
def test_parameters_of_half_precision_learn_in_their_own_precision(create_graph):
    x, dy = (random_like(torch.empty(3000, 3), seed).bfloat16() for seed in (0, 1))
    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    y = bnlib.torch.batch_norm(x, None, None, weight, bias, True)
    dweight, dbias = torch.autograd.grad(y, (weight, bias), dy, create_graph=create_graph)
    x_hat = torch.nn.functional.batch_norm(x.double(), None, None, training=True)
    close(dweight, (dy * x_hat).sum(0).float(), rtol=1e-4, atol=1e-3)
    close(dbias, dy.double().sum(0).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("given_weight", [True, False])
def test_tangents_of_half_precision_are_rounded_once(given_weight):
    x, x_t = (random_like(torch.empty(300, 5), seed).bfloat16() for seed in (0, 1))
    weight = random_like(torch.empty(5), 2) if given_weight else None

    def function(module, weight):
        return lambda x: module.batch_norm(x, None, None, weight, training=True)

    wide = None if weight is None else weight.double()
    _, expected = torch.func.jvp(function(torch.nn.functional, wide), (x.double(),), (x_t.double(),))
    _, found = torch.func.jvp(function(bnlib.torch, weight), (x,), (x_t,))
    assert found.dtype == torch.bfloat16
    assert (found == expected.bfloat16()).double().mean() > 0.99


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_momentum_of_single_precision_moves_statistics_of_double(shape):
    x, momentum = random_like(torch.empty(9, 3, dtype=torch.float64)), torch.full(shape, 0.3)
    mean, var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    bnlib.torch.batch_norm(x, mean, var, training=True, momentum=momentum)
    close(mean, float(momentum) * x.mean(0), **TIGHT)
    close(var, 1 + float(momentum) * (x.var(0) - 1), **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_may_have_running_statistics_of_either_dtype(dtype):
    x = random_like(torch.empty(64, 4)).to(dtype) + 3
    for kind in (dtype, torch.float32):
        mean, var = torch.zeros(4, dtype=kind), torch.ones(4, dtype=kind)
        bnlib.torch.batch_norm(x, mean, var, training=True, momentum=1.0)
        close(mean.double(), x.double().mean(0), rtol=2 * torch.finfo(dtype).eps, atol=0)
        close(var.double(), x.double().var(0), rtol=2 * torch.finfo(dtype).eps, atol=0)
        assert mean.dtype == kind
        assert bnlib.torch.batch_norm(x, mean, var).dtype == dtype


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.usefixtures("cut")
def test_a_bad_value_spoils_its_channel_and_nothing_else(bad):
    x = torch.randn(40, 3)
    x[7, 1] = bad
    y = bnlib.torch.batch_norm(x, None, None, training=True)
    assert y[:, 1].isnan().all()
    clean = bnlib.torch.batch_norm(x[:, ::2], None, None, training=True)
    close(y[:, ::2], clean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.3, -7e5])
def test_a_constant_channel_gives_the_bias(value):
    x = torch.randn(50, 3)
    x[:, 1] = value
    y = bnlib.torch.batch_norm(x, None, None, torch.ones(3), torch.full((3,), 2.0), training=True)
    close(y[:, 1], torch.full((50,), 2.0), rtol=0, atol=2e-6)


def test_eps_may_be_zero():
    x = torch.randn(50, 3, dtype=torch.float64)
    y = bnlib.torch.batch_norm(x, None, None, training=True, eps=0.0)
    close(y.var(0, correction=0), torch.ones(3, dtype=torch.float64), **TIGHT)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (4, 0), (4, 3, 0)])
def test_empty_input_gives_empty_output_and_zero_gradients(shape):
    x = torch.empty(shape, requires_grad=True)
    w, b = (torch.ones(shape[1], requires_grad=True) for _ in range(2))
    running = torch.full((shape[1],), 2.0), torch.full((shape[1],), 3.0)
    y = bnlib.torch.batch_norm(x, *running, w, b, training=True)
    assert y.shape == shape
    dx, dw, db = torch.autograd.grad(y.sum(), (x, w, b))
    assert dx.shape == shape
    close((dw, db), (torch.zeros(shape[1]), torch.zeros(shape[1])))
    close(running, (torch.full((shape[1],), 2.0), torch.full((shape[1],), 3.0)))
    assert bnlib.torch.batch_norm(x, *running, w, b).shape == shape


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_tangent_of_evaluation_by_each_input(dtype, bias):
    x, x_t = (random_like(torch.empty(6, 3), seed).to(dtype) for seed in (0, 1))
    mean, var, weight, weight_t = (random_like(torch.empty(3), seed).abs() for seed in range(2, 6))
    given = (x, weight, weight_t) if bias else (x, weight)

    def evaluate(x, weight, bias=None):
        return bnlib.torch.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    def expected(x_t=0.0, weight_t=0.0, bias_t=0.0):
        x_hat = (x.double() - mean) / (var.double() + 1e-3).sqrt()
        y_t = weight * x_t / (var.double() + 1e-3).sqrt() + weight_t * x_hat + bias_t
        return y_t.expand(6, 3).to(dtype)

    for k, tangent in enumerate((x_t, weight_t, weight_t)[: len(given)]):
        alone = lambda t, k=k: evaluate(*given[:k], t, *given[k + 1 :])  # noqa: E731
        _, found = torch.func.jvp(alone, (given[k],), (tangent,))
        assert found.dtype == dtype
        want = expected(**{("x_t", "weight_t", "bias_t")[k]: tangent.double()})
        torch.testing.assert_close(found, want, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def test_the_bias_of_half_precision_evaluation_learns_in_its_own_precision():
    x, dy = (random_like(torch.empty(3000, 3), seed).bfloat16() for seed in (0, 1))
    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    bnlib.torch.batch_norm(x, torch.zeros(3), torch.ones(3), weight, bias).backward(dy)
    torch.testing.assert_close(bias.grad, dy.double().sum(0).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty_input_of_the_other_norms(shape):
    x = torch.empty(shape)
    for function in (bnlib.torch.layer_norm, bnlib.torch.rms_norm):
        assert function(x, shape[1:], torch.ones(shape[1:])).shape == shape
    assert bnlib.torch.group_norm(torch.empty(2, 4, 0), 2).shape == (2, 4, 0)
    assert bnlib.torch.instance_norm(torch.empty(0, 4, 3)).shape == (0, 4, 3)


def test_the_input_is_not_changed():
    for name, norm in NORMS.items():
        for mean in (0.0, 100.0):
            x = torch.randn(4, 6, 5) + mean
            w, b = parameters(norm, x)
            copies = [t.clone() for t in (x, w, b)]
            gradients(norm.ours, (x, w, b), random_like(x))
            close([x, w, b], copies, rtol=0, atol=0, msg=name)


def test_rms_eps_defaults_to_that_of_the_dtype_computed_in():
    for dtype in (torch.float16, torch.float32, torch.float64):
        x = torch.full((1, 2), 1e-4, dtype=dtype)
        close(bnlib.torch.rms_norm(x, (2,)), F.rms_norm(x, (2,)))


# Autocast


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["batch", "instance", "group", "layer"])
def test_autocast_gives_the_dtypes_and_values_of_pytorch(name, dtype):
    norm = NORMS[name]
    x = random_like(torch.empty(8, 4, 6))
    w, b = parameters(norm, x)
    mix = random_like(torch.empty(6, 6), seed=3)

    def step(function):
        leaves = [t.clone().requires_grad_() for t in (x, w, b)]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = function(leaves[0] @ mix, *leaves[1:])
        return y, torch.autograd.grad(y.float().square().sum() + y.float().sum(), leaves)

    (y, found), (other, expected) = step(norm.ours), step(norm.theirs)
    assert y.dtype == other.dtype == dtype
    slack = 16 * torch.finfo(dtype).eps
    close(y, other, rtol=slack, atol=slack)
    for got, want in zip(found, expected, strict=True):
        assert (got - want).norm() <= slack * want.norm() + 0.1


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w, b: bnlib.torch.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: bnlib.torch.batch_norm(x, torch.zeros(4), torch.ones(4), w, b),
        lambda x, w, b: bnlib.torch.instance_norm(x, None, None, w, b),
        lambda x, w, b: bnlib.torch.group_norm(x, 2, w, b),
        lambda x, w, b: bnlib.torch.layer_norm(x, (4,), w, b),
        lambda x, w, b: bnlib.torch.ghost_batch_norm(x, 2, None, None, w, b, True),
    ],
    ids=["batch", "evaluation", "instance", "group", "layer", "ghost"],
)
def test_an_empty_batch_gives_parameters_the_gradient_zero(function):
    half = function(torch.zeros(0, 4, 4, dtype=torch.bfloat16), torch.ones(4), torch.ones(4))
    assert half.dtype == torch.bfloat16
    x = torch.zeros(0, 4, 4, requires_grad=True)
    weight, bias = torch.ones(4, requires_grad=True), torch.ones(4, requires_grad=True)
    y = function(x, weight, bias)
    assert y.shape == x.shape
    y.sum().backward()
    for p in (weight, bias):
        torch.testing.assert_close(p.grad, torch.zeros(4))


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_any_integer_may_be_a_length_of_the_normalized_shape_compiled_too(name):
    x, norm = torch.randn(2, 5), getattr(bnlib.torch, name)
    assert torch.equal(norm(x, (np.int64(5),)), norm(x, (5,)))
    compiled = torch.compile(lambda x: norm(x, x.shape[1:]), fullgraph=True, dynamic=True, backend="eager")
    torch.testing.assert_close(compiled(x), norm(x, (5,)))
