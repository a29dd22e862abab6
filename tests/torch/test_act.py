import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors import close, gradients, random_like, tensors
from torch import nn

from bnlib.torch import BatchNorm2d, BatchNormAct, batch_norm_act, kernels


def composed(x, residual, weight, bias, training=True, running=(None, None)):
    """Return the same by three operations of PyTorch."""
    y = nn.functional.batch_norm(x, *running, weight, bias, training)
    return torch.relu(y if residual is None else y + residual)


@settings(max_examples=30, deadline=None)
@given(tensors(least_ndim=2), st.booleans())
def test_output_and_gradients_are_those_of_the_composition(x, shortcut):
    c = x.shape[1]
    weight, bias = random_like(torch.zeros(c).double(), 2), random_like(torch.zeros(c).double(), 3)
    rest = [random_like(x, 4)] if shortcut else []

    def ours(x, weight, bias, residual=None):
        return batch_norm_act(x, residual, None, None, weight, bias, training=True)

    def theirs(x, weight, bias, residual=None):
        return composed(x, residual, weight, bias)

    dy = random_like(x, 5)
    (y, first), (expected, second) = (gradients(f, (x, weight, bias, *rest), dy) for f in (ours, theirs))
    close(y, expected)
    for a, b in zip(first, second, strict=True):
        close(a, b, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_the_layer_does_what_three_layers_do(training, momentum):
    torch.manual_seed(0)
    ours = BatchNormAct(5, momentum=momentum).train(training)
    nn.init.normal_(ours.weight)
    theirs = BatchNorm2d(5, momentum=momentum).train(training)
    theirs.load_state_dict(ours.state_dict())
    for seed in range(3):
        x = torch.from_numpy(random_like(torch.zeros(4, 5, 3, 2), seed).numpy())
        residual = random_like(x, seed + 9)
        close(ours(x, residual), torch.relu(theirs(x) + residual))
        close(ours(x), torch.relu(theirs(x)))
    close(ours.state_dict(), theirs.state_dict())


def test_the_layer_takes_any_rank_and_knows_its_arguments():
    layer = BatchNormAct(4, eps=0.1, affine=False, track_running_stats=False).eval()
    for shape in ((6, 4), (6, 4, 3), (6, 4, 3, 2), (2, 4, 1, 2, 3)):
        x = torch.rand(shape)
        close(layer(x), torch.relu(nn.functional.batch_norm(x, None, None, training=True, eps=0.1)))
    assert repr(layer).startswith("BatchNormAct(4, eps=0.1")
    assert isinstance(copy.deepcopy(layer), BatchNormAct)


@pytest.mark.parametrize(
    ("residual", "error", "message"),
    [
        (3.0, TypeError, "expected residual to be a tensor, got float"),
        (torch.zeros(4, 3), RuntimeError, r"expected residual of shape \(4, 5\), got \(4, 3\)"),
        (
            torch.zeros(4, 5).double(),
            RuntimeError,
            "expected residual of torch.float32 on cpu, got torch.float64",
        ),
    ],
)
def test_what_cannot_be_added_is_refused(residual, error, message):
    with pytest.raises(error, match=message):
        BatchNormAct(5)(torch.zeros(4, 5), residual)


def test_the_errors_of_batch_norm_are_kept():
    with pytest.raises(ValueError, match="more than 1"):
        BatchNormAct(5)(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="axes"):
        BatchNormAct(5)(torch.zeros(5))
    with pytest.raises(RuntimeError, match="expected running_mean in evaluation, got None"):
        batch_norm_act(torch.zeros(4, 5), None, None, None)


def test_an_empty_batch_gives_an_empty_output():
    x = torch.zeros(0, 5, requires_grad=True)
    y = BatchNormAct(5)(x, torch.zeros(0, 5))
    assert y.shape == (0, 5)
    assert torch.autograd.grad(y, x, y.detach())[0].shape == (0, 5)


@pytest.mark.parametrize("training", [True, False])
def test_what_suits_the_kernels_goes_to_them_with_all_arguments(training, monkeypatch):
    seen = []

    def suits(input, *given, added=None):
        seen.append((input, *given, added))
        return True

    monkeypatch.setattr(kernels, "suits", suits)
    monkeypatch.setattr(kernels, "batch_norm", lambda *args, **kwargs: (args, kwargs))
    x, residual, mean, weight, bias = (torch.randn(4, 5), torch.randn(4, 5), *torch.randn(3, 5).unbind())
    var = torch.ones(5)
    args, kwargs = batch_norm_act(x, residual, mean, var, weight, bias, training, 0.3, 0.5)
    assert kwargs == {"relu": True}
    expected = (x, mean, var, weight, bias, training, 0.3, 0.5, residual)
    assert all(a is b for a, b in zip(args, expected, strict=True))
    assert all(a is b for a, b in zip(seen[0], (x, mean, var, weight, bias, residual), strict=True))


@pytest.mark.parametrize(("mean", "var"), [(None, None), (torch.zeros(5), None), (None, torch.ones(5))])
def test_without_running_statistics_the_kernels_take_training_alone(mean, var, monkeypatch):
    monkeypatch.setattr(kernels, "suits", lambda *_, **__: True)
    monkeypatch.setattr(kernels, "batch_norm", lambda *_, **__: "kernels")
    with pytest.raises(RuntimeError, match="in evaluation, got None"):
        batch_norm_act(torch.zeros(4, 5), None, mean, var)
    if mean is None and var is None:
        assert batch_norm_act(torch.zeros(4, 5), None, mean, var, training=True) == "kernels"
