import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bnlib.torch
from bnlib.reference import moments
from bnlib.torch.surgery import convert, recompute_statistics

LAYERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


class Interrupting:
    """Batches, and then an exception."""

    def __init__(self, batches, error):
        self.batches, self.error = batches, error

    def __iter__(self):
        yield from self.batches
        raise self.error


class Own(nn.BatchNorm1d):
    """A batch norm that updates its running statistics whatever it is told."""

    def forward(self, x):
        self.num_batches_tracked += 1
        self.running_mean += 1
        return super().forward(x)


class Gated(nn.Module):
    """A model with a branch that no input takes."""

    def __init__(self):
        super().__init__()
        self.taken, self.other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

    def forward(self, x, other=False):
        return self.other(x) if other else self.taken(input=x)


def net():
    torch.manual_seed(0)
    hidden = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2)]
    model = nn.Sequential(nn.BatchNorm1d(4), *hidden, bnlib.torch.BatchNorm1d(2))
    model(torch.randn(9, 4))
    model[1].requires_grad_(False)
    model[3].eval()
    model[6].eval()
    return model


def data(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 4, generator=generator) * 3 + 5 for n in sizes]


def quietly(model, loader, **kwargs):
    return recompute_statistics(model, loader, progress=False, **kwargs)


def snapshot(model):
    """Return all that has to stay when nothing is to change."""
    modes = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    return {k: v.clone() for k, v in model.state_dict().items()}, modes, hooks, torch.is_grad_enabled()


def assert_same(a, b):
    torch.testing.assert_close(a[0], b[0], rtol=0, atol=0)
    assert a[1:] == b[1:]


# What the statistics become


@st.composite
def cut_data(draw):
    shape = (draw(st.integers(1, 4)), *draw(st.lists(st.integers(1, 4), max_size=3)))
    sizes = draw(st.lists(st.integers(0, 6).filter(lambda n: n != 1), min_size=1, max_size=5))
    sizes.append(draw(st.integers(2, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((sum(sizes), *shape)) * draw(st.floats(0.1, 10)) + draw(st.floats(-1e4, 1e4))
    return torch.from_numpy(x), sizes


@given(cut_data(), st.booleans(), st.booleans())
def test_the_first_layer_gets_the_moments_of_the_whole_set(case, ours, channels_last):
    x, sizes = case
    model = LAYERS[x.ndim](x.shape[1]).double()
    model = convert(model).model if ours else model
    mean, var = moments(x.numpy(), (0, *range(2, x.ndim)))
    m, before = x.numel() // x.shape[1], x.clone()
    batches = x.split(sizes)
    if channels_last:
        batches = [b.movedim(1, -1).contiguous().movedim(-1, 1) for b in batches]
    done = quietly(model, batches)
    assert done == (("",), (), len(sizes), len(x))
    assert torch.equal(x, before)
    np.testing.assert_allclose(model.running_mean, mean, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(model.running_var, var * m / (m - 1), rtol=1e-8, atol=1e-14)


def test_unequal_batches_count_by_their_size():
    model = nn.BatchNorm1d(1)
    quietly(model, [torch.tensor([[0.0], [0.0], [0.0], [0.0]]), torch.tensor([[6.0], [6.0]])])
    assert model.running_mean.item() == 2
    assert model.running_var.item() == pytest.approx(48 / 5)


def test_later_layers_see_what_the_layers_before_them_do_to_each_batch():
    model, batches = net(), data(7, 3)
    by_batch = nn.Sequential(*model[:4]).train()  # without dropout, which evaluates
    with torch.no_grad():
        hidden = torch.cat([model[5](by_batch(b)) for b in batches])
    quietly(model, batches)
    torch.testing.assert_close(model[6].running_mean, hidden.mean(0))
    torch.testing.assert_close(model[6].running_var, hidden.var(0))


def test_a_large_mean_costs_no_digits():
    x = torch.randn(64, 3, 5, 5) + 1e6
    model = nn.BatchNorm2d(3)
    quietly(model, x.split(10))
    exact = x.double().var((0, 2, 3))
    torch.testing.assert_close(model.running_var.double(), exact, rtol=1e-6, atol=0)


def test_two_calls_of_a_layer_count_together():
    shared = nn.BatchNorm1d(4, affine=False)
    x = data(8)[0]
    done = quietly(nn.Sequential(shared, shared), [x])
    y = (x - x.mean(0)) / (x.var(0, correction=0) + shared.eps).sqrt()
    torch.testing.assert_close(shared.running_mean, torch.cat([x, y]).mean(0))
    torch.testing.assert_close(shared.running_var, torch.cat([x, y]).var(0))
    assert done.samples == 8


def test_hooks_of_the_user_come_first():
    model = nn.BatchNorm1d(4)
    model.register_forward_pre_hook(lambda m, args: (args[0] + 100,))
    x = data(8)[0]
    quietly(model, [x])
    torch.testing.assert_close(model.running_mean, x.mean(0) + 100)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, bnlib.torch.BatchNorm1d, nn.SyncBatchNorm, Own])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_only_the_two_statistics_change(kind, momentum):
    model = kind(4, momentum=momentum)
    before = snapshot(model)
    identities = [id(t) for t in model.state_dict(keep_vars=True).values()]
    x = torch.cat(data(5, 6))
    quietly(model, x.split([5, 6]))
    torch.testing.assert_close(model.running_mean, x.mean(0))
    torch.testing.assert_close(model.running_var, x.var(0))
    before[0]["running_mean"], before[0]["running_var"] = model.running_mean, model.running_var
    assert_same(snapshot(model), before)
    assert [id(t) for t in model.state_dict(keep_vars=True).values()] == identities


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_input_is_brought_to_the_dtype_of_the_model(dtype):
    model = net().to(dtype)
    x = data(8)[0]
    quietly(model, [x])
    assert model[0].running_mean.dtype == dtype
    torch.testing.assert_close(model[0].running_mean, x.mean(0).to(dtype), rtol=1e-2, atol=0)


def test_input_is_brought_to_the_device_of_the_model():
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.norm = nn.Parameter(torch.ones(4, device="meta")), nn.BatchNorm1d(4)

        def forward(self, x):
            assert x.device.type == "meta"

    assert quietly(Probe(), data(5)).unreached == ("norm",)


def test_indices_keep_their_dtype():
    model = nn.Sequential(nn.Embedding(9, 4), nn.BatchNorm1d(4)).double()
    index = torch.arange(9)
    quietly(model, [index])
    torch.testing.assert_close(model[1].running_mean, model[0].weight.detach().mean(0))


def test_a_compiled_model():
    torch.compiler.reset()
    model, other, batches = net(), net(), data(7, 7)
    compiled = torch.compile(other, backend="eager")
    compiled(batches[0])
    other.load_state_dict(model.state_dict())
    quietly(model, batches)
    done = quietly(compiled, batches)
    assert len(done.recomputed) == 3
    torch.testing.assert_close(other.state_dict(), model.state_dict())


# What may come as a loader


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: [x, "label"], lambda x: (x, 1, 2)])
def test_the_first_of_a_tuple_or_list(wrap):
    model, other = net(), net()
    quietly(model, data(5, 6))
    done = quietly(other, [wrap(x) for x in data(5, 6)])
    assert done == (("0", "2", "6"), (), 2, 11)
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_generator_and_a_data_loader():
    models = [net(), net(), net()]
    x = torch.cat(data(5, 5, 3))
    loaders = [
        x.split(5),
        (b for b in x.split(5)),
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), 5),
    ]
    for model, loader in zip(models, loaders, strict=True):
        assert quietly(model, loader)[2:] == (3, 13)
    for model in models[1:]:
        torch.testing.assert_close(model.state_dict(), models[0].state_dict(), rtol=0, atol=0)


def test_a_forward_of_ones_own():
    model, other = net(), net()
    quietly(model, data(5, 6))
    done = quietly(other, ({"x": x} for x in data(5, 6)), forward=lambda m, batch: m(batch["x"]))
    assert done[2:] == (2, 11)
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_layer_that_no_batch_reaches_is_left_and_reported():
    model = Gated()
    before = model.other.running_mean.clone()
    x = torch.randn(5, 3) + 4
    assert quietly(model, [x]) == (("taken",), ("other",), 1, 5)
    assert torch.equal(model.other.running_mean, before)
    torch.testing.assert_close(model.taken.running_mean, x.mean(0))
    forward = lambda m, b: m(b[0], other=b[1])  # noqa: E731
    assert quietly(model, [(x, True), (x[:3], False)], forward=forward) == (("taken", "other"), (), 2, 8)


def test_layers_that_track_nothing_are_no_concern():
    model = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.BatchNorm1d(4))
    assert quietly(model, data(5)).recomputed == ("1",)


# During the pass


def test_batch_norms_train_and_all_else_evaluates_without_gradients():
    model, seen = net(), []

    def forward(model, batch):
        seen.append([m.training for m in model])
        seen.append(torch.is_grad_enabled())
        model(batch)

    before = snapshot(model)
    quietly(model, data(5), forward=forward)
    assert seen == [[True, False, True, False, False, False, True], False]
    assert snapshot(model)[1:] == before[1:]


def test_the_loader_runs_with_gradients():
    def loader():
        assert torch.is_grad_enabled()
        yield data(5)[0]

    quietly(net(), loader())


def test_nothing_is_written_before_the_end():
    model = net()
    before = snapshot(model)[0]

    def loader():
        for x in data(5, 6):
            torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
            yield x
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)

    quietly(model, loader())
    assert not torch.equal(model[0].running_mean, before["0.running_mean"])


@pytest.mark.parametrize("error", [RuntimeError("lost"), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("where", ["loader", "forward"])
@pytest.mark.parametrize("make", [net, lambda: nn.Sequential(Own(4), nn.Dropout())])
def test_an_interruption_leaves_everything_as_it_was(error, where, make):
    model, batches = make(), data(5, 6)
    before = snapshot(model)

    def forward(model, batch):
        model(batch)
        if where == "forward" and batch is batches[-1]:
            raise error

    loader = Interrupting(batches, error) if where == "loader" else batches
    with pytest.raises(type(error)):
        quietly(model, loader, forward=forward)
    assert_same(snapshot(model), before)


def test_an_interruption_while_writing_leaves_everything_as_it_was(monkeypatch):
    model, other, copy_ = net(), net(), torch.Tensor.copy_
    calls, fatal = [], []

    def flaky(self, source):
        calls.append(None)
        if [len(calls)] == fatal:
            raise KeyboardInterrupt
        return copy_(self, source)

    before = snapshot(model)
    monkeypatch.setattr(torch.Tensor, "copy_", flaky)
    quietly(other, data(5, 6))
    last = len(calls)
    for call in range(last - 5, last + 1):  # the six statistics of three layers
        calls.clear()
        fatal[:] = [call]
        with pytest.raises(KeyboardInterrupt):
            quietly(model, data(5, 6))
        assert_same(snapshot(model), before)


def test_what_is_not_finite_is_named_with_its_first_value():
    model = nn.Sequential()
    model.XnormX = nn.BatchNorm1d(3)
    batch = torch.zeros(4, 3)
    batch[0, 1], batch[0, 2] = float("inf"), float("nan")
    with pytest.raises(ValueError, match=r"^expected a XnormX.running_mean that is finite in .*, got inf$"):
        quietly(model, [batch])


def test_all_lazy_layers_are_named():
    model = nn.Sequential(nn.LazyBatchNorm1d(), nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match=r"got lazy ones: 0, 1$"):
        quietly(model, data(5))


def test_progress_is_shown_on_stderr_alone(capsys):
    recompute_statistics(net(), iter(data(5, 6)), total=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    lines = err.rstrip().split("\r")
    assert lines[-1].startswith("statistics: 100%")
    assert re.search(r"[0-9]batch/s\]$", lines[-1])
    assert max(map(len, lines)) == 79
    quietly(net(), data(5, 6))
    assert capsys.readouterr() == ("", "")


# Bad input


LAZY = nn.Sequential(nn.LazyBatchNorm1d(), nn.BatchNorm1d(4))


@pytest.mark.parametrize(
    ("model", "loader", "error", "message"),
    [
        ([], data(5), TypeError, "expected model to be a torch.nn.Module, got list"),
        (net(), 5, TypeError, "expected loader to be an iterable of batches, got int"),
        (net(), data(5)[0], TypeError, "expected loader to be an iterable of batches, got Tensor"),
        (net(), [], ValueError, "expected loader to yield at least one batch, got none"),
        (net(), [{"x": data(5)[0]}], TypeError, "starts with one, got dict; for other batches give forward"),
        (net(), [()], TypeError, "starts with one, got tuple"),
        (net(), [(1, data(5)[0])], TypeError, "starts with one, got int"),
        (net(), data(5, 1), ValueError, "more than 1 value per channel"),
        (nn.Linear(4, 4), data(5), ValueError, "batch norms that track statistics, got Linear with none"),
        (nn.BatchNorm1d(4, track_running_stats=False), data(5), ValueError, "got BatchNorm1d with none"),
        (LAZY, data(5), ValueError, "expected batch norms that have seen an input, got lazy ones: 0"),
        (net(), [data(5)[0] / 0], ValueError, "expected a 0.running_mean that is finite .*, got -?inf"),
        (nn.BatchNorm1d(4), [torch.full((2, 4), torch.nan)], ValueError, "expected a running_mean that is"),
        (
            nn.BatchNorm1d(4, dtype=torch.float16),
            [torch.tensor([[-400.0], [400.0]]).expand(2, 4)],
            ValueError,
            "expected a running_var that is finite in torch.float16, got inf",
        ),
    ],
)
def test_errors_change_nothing(model, loader, error, message):
    before = snapshot(model) if type(model) in (nn.Sequential, nn.BatchNorm1d) and model is not LAZY else None
    with pytest.raises(error, match=message):
        quietly(model, loader)
    if before is not None:
        assert_same(snapshot(model), before)
