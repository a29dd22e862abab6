"""Ghost batch norm and batch renorm under autograd's checks, transforms, compile, dtypes and layouts."""

import copy
import pickle

import pytest
import torch
from tensors import LAYOUTS, NORMS, as_tensor, close, gradients, parameters, random_like
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap

import bnlib.torch
from bnlib.torch import BatchRenorm, GhostBatchNorm, RenormSchedule

TIGHT = {"rtol": 1e-9, "atol": 1e-9}
MEAN, VAR = torch.tensor([0.5, -1.0, 2.0, 0.0]), torch.tensor([1.0, 0.3, 9.0, 5.0])


def ghost(x, w, b):
    """Normalize by ghost batches of two samples and more."""
    return bnlib.torch.ghost_batch_norm(x, 2, None, None, w, b, training=True)


def by_channel(x, *parameters):
    return [p.to(x).reshape(1, -1, *[1] * (x.ndim - 2)) for p in parameters]


def centered_and_sigma(x):
    """Return ``x`` less its mean over the batch, and ``sqrt(var + eps)``."""
    axes = (0, *range(2, x.ndim))
    centered = x - x.mean(axes, keepdim=True)
    return centered, (centered.square().mean(axes, keepdim=True) + 1e-5).sqrt()


def plain_ghost(x, w, b):
    """Normalize by ghost batches, one after the other.

    Not by torch.nn.functional.batch_norm: the Hessian that torch.func gives of two of them is not symmetric.
    """
    parts = [torch.div(*centered_and_sigma(part)) for part in x.tensor_split(len(x) // 2)]
    w, b = by_channel(x, w, b)
    return w * torch.cat(parts) + b


def renorm_of(r_max, d_max):
    """Return batch renorm, whose running statistics are mapped where x is, so that they can be updated."""

    def renorm(x, w, b):
        zero = 0 * x.detach().sum()
        running = MEAN.to(x) + zero, VAR.to(x) + zero
        return bnlib.torch.batch_renorm(x, *running, w, b, training=True, r_max=r_max, d_max=d_max)

    return renorm


def plain_renorm_of(r_max, d_max):
    """Return batch renorm as the algorithm reads."""

    def renorm(x, w, b):
        mean, var, w, b = by_channel(x, MEAN, VAR, w, b)
        centered, sigma_batch = centered_and_sigma(x)
        sigma = (var + 1e-5).sqrt()
        r = (sigma_batch / sigma).detach().clamp(1 / r_max, r_max)
        d = ((x - centered).detach()[:1, :, :1] - mean) / sigma
        return w * (centered / sigma_batch * r + d.clamp(-d_max, d_max)) + b

    return renorm


CLIPPED, FREE = (1.001, 0.001), (1e9, 1e9)
PAIRS = {
    "ghost": (ghost, plain_ghost),
    "renorm, clipped": (renorm_of(*CLIPPED), plain_renorm_of(*CLIPPED)),
    "renorm, free": (renorm_of(*FREE), plain_renorm_of(*FREE)),
}
LAYERS = {
    "ghost": lambda **kwargs: GhostBatchNorm(4, 2, **kwargs),
    "renorm": lambda **kwargs: BatchRenorm(4, schedule=RenormSchedule.constant(1.2, 0.3), **kwargs),
}

every_function = pytest.mark.parametrize("name", PAIRS)
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@pytest.fixture(params=["mean 0", "mean 50"])
def inputs(request):
    x = random_like(torch.empty(5, 4, 3, dtype=torch.float64))
    x = x if request.param == "mean 0" else x + 50
    return x, *parameters(NORMS["batch"], x)


def leaves(inputs):
    return [t.clone().requires_grad_() for t in inputs]


def cubed(function):
    """Make a scalar of ``function`` whose derivatives of every order are not trivial."""
    return lambda *p: (function(*p) ** 3).sum()


# Autograd. A numerical derivative moves r and d, unless both are at their bounds.


@pytest.mark.parametrize("name", ["ghost", "renorm, clipped"])
def test_gradcheck_and_gradgradcheck_in_both_modes(name, inputs):
    ours = PAIRS[name][0]
    batched = {"check_batched_grad": name == "ghost"}
    assert torch.autograd.gradcheck(ours, leaves(inputs), check_forward_ad=True, **batched)
    assert torch.autograd.gradgradcheck(ours, leaves(inputs), **batched)


@every_function
def test_gradients_and_second_gradients_are_those_of_plain_operations(name, inputs):
    dy = random_like(inputs[0], seed=7)
    directions = [random_like(t, seed) for seed, t in enumerate(inputs, start=3)]

    def both(function):
        p, g = leaves(inputs), dy.clone().requires_grad_()
        y = function(*p)
        first = torch.autograd.grad(y, p, g, create_graph=True)
        total = sum((v * d).sum() for v, d in zip(first, directions, strict=True))
        return y, first, torch.autograd.grad(total, [*p[:2], g])

    close(*map(both, PAIRS[name]), rtol=1e-7, atol=1e-7)


@every_function
def test_forward_mode_of_autograd(name, inputs):
    tangents = [random_like(t, seed) for seed, t in enumerate(inputs)]

    def tangent(function):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, v) for t, v in zip(inputs, tangents, strict=True)]
            return forward_ad.unpack_dual(function(*duals)).tangent

    close(*map(tangent, PAIRS[name]), **TIGHT)


# Transforms


@every_function
def test_jacobians_and_hessians(name, inputs):
    ours, theirs = PAIRS[name]
    tangents = tuple(random_like(t, seed) for seed, t in enumerate(inputs))
    close(jvp(ours, inputs, tangents), jvp(theirs, inputs, tangents), **TIGHT)
    every = (0, 1, 2)
    expected = jacrev(theirs, every)(*inputs)
    close(jacrev(ours, every)(*inputs), expected, **TIGHT)
    close(jacfwd(ours, every)(*inputs), expected, **TIGHT)
    found, expected = (hessian(cubed(f), (0, 1))(*inputs) for f in (ours, theirs))
    close(found, expected, rtol=1e-7, atol=1e-7)


@every_function
@pytest.mark.parametrize("in_dims", [(0, 0, 0), (0, None, None), (None, 0, None), (1, None, 0)])
def test_vmap_over_any_of_the_inputs(name, inputs, in_dims):
    def spread(t, d):
        return t if d is None else torch.stack([t, 2 * t + 1, t - 3], d)

    stacked = [spread(t, d) for t, d in zip(inputs, in_dims, strict=True)]
    ours, theirs = PAIRS[name]
    each = [
        theirs(*(t if d is None else t.select(d, i) for t, d in zip(stacked, in_dims, strict=True)))
        for i in range(3)
    ]
    close(vmap(ours, in_dims)(*stacked), torch.stack(each), **TIGHT)


@every_function
def test_gradients_per_sample(name, inputs):
    ours, theirs = PAIRS[name]
    samples = inputs[0][:, None]
    if name == "ghost":  # a sample of its own is a batch that cannot be cut: take two copies of two
        samples = torch.cat([samples, samples + 1, 2 * samples, samples**2], 1)
    found = vmap(grad(cubed(ours), (0, 1, 2)), (0, None, None))(samples, *inputs[1:])
    alone = [grad(cubed(theirs), (0, 1, 2))(sample, *inputs[1:]) for sample in samples]
    close(found, tuple(torch.stack(field) for field in zip(*alone, strict=True)), **TIGHT)


@every_layer
@pytest.mark.parametrize("momentum", [0.1, None])
def test_an_ensemble_of_models_trains_as_each_would_alone(make, momentum):
    models = [nn.Sequential(nn.Linear(3, 4), make(momentum=momentum)).double() for _ in range(3)]
    x = random_like(torch.empty(9, 3, dtype=torch.float64))
    params, buffers = stack_module_state(models)
    params = {k: v.detach() for k, v in params.items()}

    def loss(p, b):
        return (functional_call(models[0], (p, b), (x,)) ** 3).sum(), b

    def step(p, b):
        return grad(loss, has_aux=True)(p, {k: v.clone() for k, v in b.items()})

    found, state = vmap(step)(params, buffers)
    for i, model in enumerate(models):
        (model(x) ** 3).sum().backward()
        for key, p in model.named_parameters():
            close(found[key][i], p.grad, **TIGHT)
        for key, b in model.named_buffers():
            close(state[key][i], b, rtol=1e-6, atol=1e-6)


# Compile and export


@every_layer
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("options", [{}, {"momentum": None, "affine": False}])
def test_a_compiled_layer_keeps_one_graph_and_updates_its_statistics(make, mode, options):
    torch.compiler.reset()
    ours = make(dtype=torch.float64, **options)
    plain = copy.deepcopy(getattr(ours, mode)())
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        x = random_like(torch.empty(9, 4, 3, dtype=torch.float64), seed) + 3
        close(gradients(compiled, (x,), x**2), gradients(plain, (x,), x**2), **TIGHT)
    close(ours.state_dict(), plain.state_dict(), **TIGHT)


@every_layer
@pytest.mark.parametrize("dynamic", [None, True])
def test_compile_with_sizes_that_change(make, dynamic):
    torch.compiler.reset()
    ours = make(dtype=torch.float64)
    plain = copy.deepcopy(ours)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    with torch.no_grad():
        for n in (9, 8, 3, 14):
            x = random_like(torch.empty(n, 4, dtype=torch.float64), n) + 3
            close(compiled(x), plain(x), **TIGHT)
    close(ours.state_dict(), plain.state_dict(), **TIGHT)


def test_a_compiled_schedule_follows_the_step():
    torch.compiler.reset()
    ours = BatchRenorm(4, schedule=RenormSchedule(2.0, 1.0, start=2, r_end=6, d_end=4))
    plain = copy.deepcopy(ours)
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for seed in range(8):
        x = random_like(torch.empty(6, 4), seed) * 5 + 2
        close(compiled(x), plain(x), rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@every_layer
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_export(make, mode):
    ours = getattr(make(), mode)()
    x = random_like(torch.empty(9, 4, 3)) + 2
    exported = torch.export.export(copy.deepcopy(ours), (x,)).module()
    close(exported(x), ours(x), rtol=1e-5, atol=1e-5)
    close(exported.get_buffer("running_var"), ours.running_var, rtol=1e-5, atol=1e-5)


# Layouts, dtypes, sizes


@every_layer
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [8, 9])
def test_any_layout_is_taken_and_that_of_a_dense_input_kept(make, layout, n):
    values = random_like(torch.empty(n, 4, 5, 3, dtype=torch.float64))
    x = as_tensor(values.numpy(), layout)
    ours, other = make(dtype=torch.float64), make(dtype=torch.float64)
    dy = random_like(x, seed=5)
    y, (dx,) = gradients(ours, (x,), dy)
    close((y, (dx,)), gradients(other, (x.contiguous(),), dy), **TIGHT)
    if layout == "channels last":
        assert y.is_contiguous(memory_format=torch.channels_last)
    if layout == "contiguous":
        assert y.is_contiguous()


@every_layer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_half_precision_is_computed_in_float32(make, dtype, mixed, mode):
    x = (random_like(torch.empty(9, 4, 6)) * 2 + 1).to(dtype)
    dy = random_like(x, seed=3)
    ours = getattr(make(dtype=torch.float32 if mixed else dtype), mode)()
    exact = getattr(make(dtype=torch.float64), mode)()
    y, (dx,) = gradients(ours, (x,), dy)
    wide, (dx_wide,) = gradients(exact, (x.double(),), dy.double())
    assert y.dtype == dx.dtype == dtype
    assert ours.running_mean.dtype == ours.weight.dtype == (torch.float32 if mixed else dtype)
    slack = 4 * torch.finfo(dtype).eps
    close(y.double(), wide, rtol=slack, atol=slack)
    close(dx.double(), dx_wide, rtol=slack, atol=slack)
    narrow = torch.float32 if mixed else dtype
    close(ours.running_var.double(), exact.running_var, rtol=torch.finfo(narrow).eps, atol=0)


@every_layer
def test_autocast_leaves_the_dtype_of_its_input(make):
    model = nn.Sequential(nn.Linear(4, 4), make())
    with torch.autocast("cpu", torch.bfloat16):
        assert model(random_like(torch.empty(9, 4))).dtype == torch.bfloat16


@every_layer
@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3), (9, 4, 0)])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_empty_input_gives_empty_output_and_zero_gradients(make, shape, mode):
    ours = getattr(make(), mode)()
    x = torch.empty(shape, requires_grad=True)
    y = ours(x)
    dx, dw, db = torch.autograd.grad(y.sum(), (x, ours.weight, ours.bias))
    assert y.shape == dx.shape == shape
    close((dw, db), (torch.zeros(4), torch.zeros(4)))
    close((ours.running_mean, ours.running_var), (torch.zeros(4), torch.ones(4)))


@every_layer
def test_without_parameters_they_are_1_and_0(make):
    x = random_like(torch.empty(9, 4, 3, dtype=torch.float64))
    for mode in ("train", "eval"):
        plain, ours = (getattr(make(dtype=torch.float64, affine=affine), mode)() for affine in (True, False))
        close(ours(x), plain(x), **TIGHT)
        assert ours.weight is None


@every_layer
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_behave_alike(make, copied):
    ours = make()
    first, second = (random_like(torch.empty(9, 4), seed) for seed in range(2))
    ours(first)
    expected = copy.deepcopy(ours)(second)
    other = copied(ours)
    assert type(other) is type(ours)
    assert repr(other) == repr(ours)
    close(other(second), expected, rtol=0, atol=0)


def test_a_layer_shows_its_arguments():
    assert "ghost_batch_size=2" in repr(GhostBatchNorm(4, 2))
    assert "schedule=RenormSchedule(r_max=3.0, d_max=5.0, start=5000" in repr(BatchRenorm(4))


@every_layer
def test_neither_input_nor_frozen_statistics_change(make):
    ours = make().eval()
    x = random_like(torch.empty(9, 4))
    before, state = x.clone(), copy.deepcopy(ours.state_dict())
    ours(x)
    close(ours.state_dict(), state, rtol=0, atol=0)
    ours.train()(x)
    close(x, before, rtol=0, atol=0)
    assert (ours.running_mean != state["running_mean"]).all()
