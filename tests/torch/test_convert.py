import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

import bnlib.torch
from bnlib.torch.surgery import Change, Skip, convert

NAMES = [f"{lazy}BatchNorm{n}d" for lazy in ("", "Lazy") for n in (1, 2, 3)]
PACKAGES = {"torch": nn, "bnlib": bnlib.torch}


class OwnBatchNorm(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x) + 1


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


def net():
    """Return a model of three batch norms, one used twice, with hooks, mixed modes and a frozen weight."""
    torch.manual_seed(0)
    shared = nn.BatchNorm1d(4)
    block = nn.Sequential(nn.Linear(4, 4), shared, nn.ReLU(), nn.Linear(4, 4), shared)
    model = nn.Sequential(nn.BatchNorm1d(4, momentum=None), block, bnlib.torch.BatchNorm1d(4, affine=False))
    model[0].weight.requires_grad = False
    model[2].eval()
    return model


def types(model):
    return [type(m) for m in model.modules()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("source", "to"), [("torch", "bnlib"), ("bnlib", "torch")])
@pytest.mark.parametrize("inplace", [False, True])
def test_each_type_becomes_the_other_even_as_the_root(name, source, to, inplace):
    old, new = (getattr(PACKAGES[package], name) for package in (source, to))
    model = old() if "Lazy" in name else old(3)
    done = convert(model, to, inplace)
    assert type(done.model) is new
    assert (done.model is model) == inplace
    assert done.changed == (Change("", old, new),)
    assert done.skipped == ()
    assert type(model) is (new if inplace else old)


def test_the_default_is_a_copy_of_bnlib():
    model = net()
    before = types(model)
    done = convert(model)
    assert [c.name for c in done.changed] == ["0", "1.1"]
    assert type(done.model[0]) is type(done.model[1][1]) is bnlib.torch.BatchNorm1d
    assert types(model) == before


def test_parameters_and_buffers_stay_the_same_objects():
    model = net()
    before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    convert(model, inplace=True)
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert list(after) == list(before)
    assert all(after[key] is before[key] for key in before)
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad


def test_an_optimizer_goes_on():
    model, x = net(), torch.randn(5, 4)
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(x).pow(3).sum().backward()
    sgd.step()
    convert(model, inplace=True)
    before = [model[1][1].weight.clone(), model[1][1].bias.clone()]
    sgd.zero_grad()
    model(x).pow(3).sum().backward()
    sgd.step()
    assert not torch.equal(model[1][1].weight, before[0])
    assert not torch.equal(model[1][1].bias, before[1])


def test_a_copy_shares_nothing():
    model = net()
    before = copy.deepcopy(model.state_dict())
    other = convert(model).model
    for p in [*other.parameters(), *other.buffers()]:
        p.data += 1
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)


@pytest.mark.parametrize("inplace", [False, True])
def test_modes_settings_and_shared_modules_stay(inplace):
    model = net()
    done = convert(model, inplace=inplace).model
    assert [m.training for m in done.modules()] == [m.training for m in model.modules()]
    assert done[0].momentum is None
    assert done[1][1] is done[1][4]


@pytest.mark.parametrize("inplace", [False, True])
def test_hooks_stay(inplace):
    model, seen = net(), []
    model[0].register_forward_hook(lambda m, args, y: seen.append("forward"))
    model[0].register_forward_pre_hook(lambda m, args: seen.append("before"))
    model[0].register_full_backward_hook(lambda m, dx, dy: seen.append("backward"))
    convert(model, inplace=inplace).model(torch.randn(5, 4, requires_grad=True)).pow(3).sum().backward()
    assert seen == ["before", "forward", "backward"]


def test_a_hook_can_still_be_removed():
    model, seen = net(), []
    handle = model[0].register_forward_hook(lambda m, args, y: seen.append("forward"))
    convert(model, inplace=True)
    handle.remove()
    model(torch.randn(5, 4))
    assert seen == []


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float32, 1e-5), (torch.float64, 1e-7)]
)
def test_outputs_and_state_agree(dtype, tolerance):
    model = net().to(dtype)
    other = convert(model).model
    close = {"rtol": tolerance, "atol": tolerance}
    for x in torch.randn(3, 5, 4).to(dtype):
        torch.testing.assert_close(other(x), model(x), **close)
    torch.testing.assert_close(other.state_dict(), model.state_dict(), **close)
    model.eval(), other.eval()
    torch.testing.assert_close(other(x), model(x), **close)
    assert all(p.dtype == dtype for p in other.parameters())


def test_there_and_back_changes_nothing():
    model, x = net(), torch.randn(5, 4)
    other = convert(convert(model).model, "torch").model
    model[2].__class__ = nn.BatchNorm1d
    assert types(other) == types(model)
    assert torch.equal(other(x), model(x))


def test_a_lazy_one_becomes_its_own_kind():
    model = convert(nn.Sequential(nn.LazyBatchNorm2d())).model
    model(torch.randn(2, 3, 4, 4))
    assert type(model[0]) is bnlib.torch.BatchNorm2d
    assert model[0].num_features == 3


def test_a_converted_model_pickles():
    model = convert(net()).model
    assert types(pickle.loads(pickle.dumps(model))) == types(model)


def test_others_are_skipped_with_a_reason():
    computed = nn.BatchNorm1d(3)
    parametrize.register_parametrization(computed, "weight", Double())
    model = nn.Sequential(nn.SyncBatchNorm(3), OwnBatchNorm(3), computed, nn.LayerNorm(3), nn.BatchNorm1d(3))
    before = types(model)
    done = convert(model, inplace=True)
    assert types(model)[:-1] == before[:-1]
    assert done.changed == (Change("4", nn.BatchNorm1d, bnlib.torch.BatchNorm1d),)
    assert done.skipped == (
        Skip("0", nn.SyncBatchNorm, "which shares statistics between processes"),
        Skip("1", OwnBatchNorm, "a subclass, whose own code would be lost"),
        Skip("2", type(computed), "whose parameters are computed by torch.nn.utils.parametrize"),
    )


def test_those_of_the_wanted_type_are_in_no_list():
    model = nn.Sequential(nn.BatchNorm1d(3), bnlib.torch.LazyBatchNorm2d())
    assert [c.name for c in convert(model, "bnlib").changed] == ["0"]
    assert [c.name for c in convert(model, "torch").changed] == ["1"]
    assert convert(model, "bnlib").skipped == convert(model, "torch").skipped == ()


def test_the_report_is_readable():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.SyncBatchNorm(3)))
    assert str(convert(model)) == (
        "1 changed\n"
        "  0: torch.nn.BatchNorm1d -> bnlib.torch.BatchNorm1d\n"
        "1 skipped\n"
        "  1.0: torch.nn.SyncBatchNorm, which shares statistics between processes"
    )
    assert str(convert(nn.LazyBatchNorm3d())) == (
        "1 changed\n  (the model): torch.nn.LazyBatchNorm3d -> bnlib.torch.LazyBatchNorm3d"
    )
    assert repr(convert(nn.ReLU())) == "0 changed"


def leaves():
    makers = [nn.ReLU, lambda: nn.Linear(2, 2), lambda: nn.SyncBatchNorm(2), lambda: OwnBatchNorm(2)]
    for name in NAMES:
        for package in PACKAGES.values():
            cls = getattr(package, name)
            makers.append(cls if "Lazy" in name else lambda cls=cls: cls(2))
    return st.sampled_from(makers).map(lambda make: make())


TREES = st.recursive(
    leaves(), lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda m: nn.Sequential(*m))
)


@given(TREES, st.sampled_from(["bnlib", "torch"]))
def test_any_tree_keeps_all_but_the_wanted_types(model, to):
    before = dict(model.named_modules())
    old = types(model)
    done = convert(model, to, inplace=True)
    assert dict(model.named_modules()) == before
    changed = {c.name: c for c in done.changed}
    other = {"bnlib": "torch", "torch": "bnlib"}[to]
    for (name, module), was in zip(before.items(), old, strict=True):
        exact = was.__name__ in NAMES and was is getattr(PACKAGES[other], was.__name__)
        assert (name in changed) == exact
        assert type(module) is (getattr(PACKAGES[to], was.__name__) if exact else was)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: convert([nn.ReLU()]), TypeError, "expected model to be a torch.nn.Module, got list"),
        (
            lambda: convert(nn.ReLU(), "jax"),
            ValueError,
            "expected to to be 'bnlib', 'torch' or 'sync', got 'jax'",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
