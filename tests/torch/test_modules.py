import copy
import pickle

import pytest
import torch
from tensors import close, random_like
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

import bnlib.torch
from bnlib.torch import kernels

SHAPES = {1: (6, 3), 2: (4, 3, 5, 2), 3: (3, 3, 2, 3, 2)}
MODES = pytest.mark.parametrize("mode", ["train", "eval"])
DIMS = pytest.mark.parametrize("dim", SHAPES)
OPTIONS = [
    {},
    {"momentum": None},
    {"momentum": 0.5, "eps": 1e-2},
    {"affine": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False, "momentum": None},
    {"dtype": torch.float64},
]


def layer(module, dim, lazy=False, **kwargs):
    prefix = "Lazy" if lazy else ""
    return getattr(module, f"{prefix}BatchNorm{dim}d")(*([] if lazy else [3]), **kwargs)


def pair(dim, **kwargs):
    """Return our layer and that of torch.nn with the same random parameters."""
    ours, theirs = layer(bnlib.torch, dim, **kwargs), layer(nn, dim, **kwargs)
    for p in theirs.parameters():
        nn.init.normal_(p, generator=torch.Generator().manual_seed(2))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def batches(dim, dtype=torch.float32, n=3):
    return [random_like(torch.empty(SHAPES[dim], dtype=dtype), seed) + seed for seed in range(n)]


@DIMS
@pytest.mark.parametrize("options", OPTIONS)
def test_training_then_evaluation_is_that_of_torch_nn(dim, options):
    ours, theirs = pair(dim, **options)
    for x in batches(dim, options.get("dtype", torch.float32)):
        a, b = (x.clone().requires_grad_() for _ in range(2))
        ya, yb = ours(a), theirs(b)
        close(ya, yb, rtol=1e-5, atol=1e-5)
        dy = random_like(x, seed=7)
        found = torch.autograd.grad(ya, [a, *ours.parameters()], dy)
        expected = torch.autograd.grad(yb, [b, *theirs.parameters()], dy)
        close(found, expected, rtol=1e-4, atol=1e-4)
    close(ours.state_dict(), theirs.state_dict(), rtol=1e-5, atol=1e-5)
    ours.eval(), theirs.eval()
    x = batches(dim, options.get("dtype", torch.float32))[0]
    close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    close(ours.state_dict(), theirs.state_dict(), rtol=1e-5, atol=1e-5)


@MODES
def test_tracking_that_is_switched_off_later_updates_nothing(mode):
    ours, theirs = pair(2)
    x = batches(2)[1]
    for module in (ours, theirs):
        module.track_running_stats = False
        getattr(module, mode)()
    close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    close(ours.state_dict(), layer(nn, 2).state_dict() | dict(theirs.named_parameters()), rtol=0, atol=0)


@DIMS
def test_state_dicts_load_both_ways(dim):
    ours, theirs = pair(dim)
    ours(batches(dim)[1])
    theirs.load_state_dict(ours.state_dict())
    close(theirs.state_dict(), ours.state_dict(), rtol=0, atol=0)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.state_dict()._metadata == theirs.state_dict()._metadata


@DIMS
def test_tools_that_look_for_torch_nn_find_ours(dim):
    ours = layer(bnlib.torch, dim)
    assert isinstance(ours, getattr(nn, f"BatchNorm{dim}d"))
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(ours))[0], nn.SyncBatchNorm)
    assert repr(ours) == repr(layer(nn, dim))


@DIMS
def test_a_lazy_layer_becomes_ours_at_its_first_input(dim):
    lazy = layer(bnlib.torch, dim, lazy=True)
    x = batches(dim)[0]
    y = lazy(x)
    assert type(lazy) is type(layer(bnlib.torch, dim))
    assert lazy.num_features == 3
    close(y, layer(nn, dim)(x), rtol=1e-5, atol=1e-5)


def test_a_lazy_layer_loads_a_state_dict_first():
    lazy = bnlib.torch.LazyBatchNorm2d()
    state = {"weight": torch.ones(3) * 2, "bias": torch.ones(3), "running_mean": torch.ones(3)}
    state |= {"running_var": torch.ones(3) * 4, "num_batches_tracked": torch.tensor(5)}
    lazy.load_state_dict(state)
    lazy.eval()
    close(lazy(torch.full((1, 3, 1, 1), 3.0)), torch.full((1, 3, 1, 1), 3.0), rtol=1e-5, atol=1e-5)


@MODES
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_behave_alike(copied, mode):
    ours, _ = pair(2)
    first, second = batches(2, n=2)
    ours(first)
    getattr(ours, mode)()
    other = copied(ours)
    assert other.training == (mode == "train")
    assert type(other) is type(ours)
    expected = copy.deepcopy(ours)(second)
    close(other(second), expected, rtol=0, atol=0)


@MODES
def test_a_replica_shares_parameters_and_computes_alike(mode):
    ours, theirs = pair(2)
    x = batches(2)[0]
    for module in (ours, theirs):
        getattr(module, mode)()
        replica = module._replicate_for_data_parallel()
        replica._parameters = {}  # a replica holds its parameters as plain tensors
        replica.weight, replica.bias = module.weight.detach().clone(), module.bias.detach().clone()
        replica._buffers = {k: b.clone() for k, b in module._buffers.items()}
        close(replica(x), copy.deepcopy(module)(x), rtol=0, atol=0)
    close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@DIMS
def test_an_input_of_the_wrong_rank_is_refused_as_by_torch_nn(dim):
    for x in (torch.randn(3), torch.randn(2, 3, 2, 2, 2, 2)):
        with pytest.raises(ValueError, match="expected") as ours:
            layer(bnlib.torch, dim)(x)
        with pytest.raises(ValueError, match="expected") as theirs:
            layer(nn, dim)(x)
        assert str(ours.value) == str(theirs.value)


@MODES
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_compiled_model_keeps_one_graph_and_updates_its_statistics(mode, momentum):
    torch.compiler.reset()
    models = [
        nn.Sequential(nn.Conv2d(3, 3, 3), module.BatchNorm2d(3, momentum=momentum), nn.ReLU())
        for module in (bnlib.torch, nn)
    ]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        getattr(model, mode)()
    compiled = torch.compile(models[0], fullgraph=True, backend="aot_eager")
    for seed in range(3):
        x = random_like(torch.empty(4, 3, 6, 6), seed)
        close(compiled(x), models[1](x), rtol=1e-5, atol=1e-5)
    close(models[0].state_dict(), models[1].state_dict(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # raised by torch.export itself
@MODES
def test_an_exported_model_updates_its_statistics_in_training_only(mode):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), bnlib.torch.BatchNorm2d(4))
    getattr(model, mode)()
    x = random_like(torch.empty(4, 3, 6, 6))
    program = torch.export.export(copy.deepcopy(model), (x,))
    found = program.module()
    before = found.get_buffer("1.running_mean").clone()
    close(found(x), model(x), rtol=1e-6, atol=1e-6)
    assert torch.equal(found.get_buffer("1.running_mean"), before) == (mode == "eval")
    close(found.get_buffer("1.running_var"), model[1].running_var, rtol=1e-6, atol=1e-6)
    mutated = set(program.run_decompositions().graph_signature.buffers_to_mutate.values())
    names = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert mutated == (names if mode == "train" else set())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_cast_to_half_precision(dtype):
    ours, theirs = pair(2)
    ours.to(dtype), theirs.to(dtype)
    x = batches(2)[0].to(dtype)
    close(ours(x), theirs(x), rtol=0.02, atol=0.02)
    close(ours.state_dict(), theirs.state_dict(), rtol=0.02, atol=0.02)


@MODES
def test_autocast_as_torch_nn(mode):
    models = [nn.Sequential(nn.Linear(3, 3), module.BatchNorm1d(3)) for module in (bnlib.torch, nn)]
    models[1].load_state_dict(models[0].state_dict())
    x = batches(1)[0]
    for model in models:
        getattr(model, mode)()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (m(x) for m in models)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    close(ours, theirs, rtol=0.02, atol=0.02)


def test_zero_size_input():
    ours, theirs = pair(2)
    x = torch.empty(0, 3, 4, 4)
    assert ours(x).shape == theirs(x).shape == x.shape
    close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_an_ensemble_of_models_trains_as_each_would_alone():
    models = [
        nn.Sequential(nn.Linear(3, 4), bnlib.torch.BatchNorm1d(4), nn.Linear(4, 1)).double() for _ in range(3)
    ]
    x = torch.randn(8, 3, dtype=torch.float64)
    params, buffers = stack_module_state(models)
    params = {k: v.detach() for k, v in params.items()}

    def loss(p, b, x):
        y, state = functional_call(models[0], (p, b), (x,)), b
        return (y**2).sum(), state

    def step(p, b):
        return grad(loss, has_aux=True)(p, {k: v.clone() for k, v in b.items()}, x)

    found, state = vmap(step)(params, buffers)
    for i, model in enumerate(models):
        model.zero_grad()
        (model(x) ** 2).sum().backward()
        for key, p in model.named_parameters():
            close(found[key][i], p.grad, rtol=1e-9, atol=1e-9)
        for key, b in model.named_buffers():
            close(state[key][i], b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda **how: bnlib.torch.BatchNorm1d(3, **how),
        lambda **how: bnlib.torch.BatchNormAct(3, **how),
        lambda **how: bnlib.torch.GhostBatchNorm(3, 2, **how),
        lambda **how: bnlib.torch.BatchRenorm(3, **how),
        lambda **how: bnlib.torch.SyncBatchNorm(3, **how),
    ],
    ids=["BatchNorm1d", "BatchNormAct", "GhostBatchNorm", "BatchRenorm", "SyncBatchNorm"],
)
def test_every_layer_is_made_where_and_as_it_is_asked_for(make):
    there = make(device="meta", dtype=torch.float64)
    tensors = [*there.parameters(), there.running_mean, there.running_var]
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.float64)}
    plain = make()
    assert (plain.eps, plain.momentum, plain.affine, plain.track_running_stats) == (1e-5, 0.1, True, True)
    other = make(eps=0.5, momentum=0.25, affine=False)
    assert (other.eps, other.momentum, other.weight, other.bias) == (0.5, 0.25, None, None)
    assert other.running_mean is not None


@MODES
def test_what_suits_the_kernels_goes_to_them_with_all_arguments(mode, monkeypatch):
    seen = []
    monkeypatch.setattr(kernels, "suits", lambda *given: seen.append(given) or True)
    monkeypatch.setattr(kernels, "batch_norm", lambda *given: given)
    x, mean, weight, bias = (torch.randn(4, 3), *torch.randn(3, 3).unbind())
    var, training = torch.ones(3), mode == "train"
    got = bnlib.torch.batch_norm(x, mean, var, weight, bias, training, 0.3, 0.5)
    expected = x, mean, var, weight, bias, training, 0.3 if training else 0.0, 0.5
    assert len(got) == len(expected)
    assert all(
        a is b or a == b for a, b in zip(got, expected, strict=True) if not isinstance(a, torch.Tensor)
    )
    assert all(a is b for a, b in zip(got[:5], expected[:5], strict=True))
    assert all(a is b for a, b in zip(seen[0], expected[:5], strict=True))


def test_the_average_over_all_batches_is_exact_in_double_precision():
    layer = bnlib.torch.BatchNorm1d(3, momentum=None).double()
    batches = torch.arange(60.0, dtype=torch.float64).reshape(5, 4, 3).sqrt()
    for batch in batches:
        layer(batch)
    torch.testing.assert_close(layer.running_mean, batches.mean((0, 1)), rtol=1e-14, atol=0)
    torch.testing.assert_close(layer.running_var, batches.var(1).mean(0), rtol=1e-13, atol=0)
