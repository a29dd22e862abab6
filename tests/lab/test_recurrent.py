"""The recurrent network of the lab, and batch norm that leaves samples out."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from bnlib.lab.probes import state_gradients
from bnlib.lab.recurrent import RNN, StepBatchNorm1d

IMAGES = torch.rand(6, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LENGTHS = [14, 3, 9, 1, 14, 6]


def ended(x=IMAGES, lengths=LENGTHS, fill=torch.nan):
    """Return images of which only the first rows are there."""
    rows = torch.arange(x.shape[1])
    return x.where((rows < torch.tensor(lengths)[:, None])[..., None], fill)


def made(seed=0, **arguments):
    torch.manual_seed(seed)
    return RNN(5, **arguments).double()


def test_the_rnn_is_the_recurrence_that_it_says():
    model = made(norm="none")
    h = torch.zeros(6, 5, dtype=torch.float64)
    for t in range(14):
        h = torch.tanh(model.input(IMAGES[:, t]) + h @ model.recurrent.weight.T)
    torch.testing.assert_close(model(IMAGES), model.head(h))


def test_an_rnn_may_have_statistics_for_each_time():
    model = made(steps=14)
    model(IMAGES)
    means = model.norm.running_mean
    assert means.shape == (14, 5)
    assert len({tuple(m.tolist()) for m in means}) == 14
    assert RNN(5).norm.running_mean.shape == (1, 5)
    assert model.norm.weight.shape == (5,)


def test_the_terms_are_normalized_where_place_says():
    x, h = IMAGES[:, 0], torch.randn(6, 5, dtype=torch.float64)

    def norm(a):
        return (a - a.mean(0)) / (a.var(0, correction=0) + 1e-5).sqrt() * 0.3

    for place, expected in {
        "sum": lambda wx, uh: norm(wx + uh),
        "input": lambda wx, uh: norm(wx) + uh,
        "both": lambda wx, uh: norm(wx) + norm(uh),
    }.items():
        model = made(place=place, gamma=0.3)
        wx, uh = model.input(x), model.recurrent(h)
        new, _ = model.advance(0, wx, (h, h), None)
        torch.testing.assert_close(new, torch.tanh(expected(wx, uh)))


def test_an_lstm_without_norm_is_that_of_pytorch():
    model = made(norm="none", cell="lstm")
    theirs = nn.LSTM(14, 5, batch_first=True).double()
    order = torch.arange(20).view(4, 5)[[0, 1, 3, 2]].flatten()  # i, f, g, o
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(model.input.weight[order])
        theirs.bias_ih_l0.copy_(model.input.bias[order])
        theirs.weight_hh_l0.copy_(model.recurrent.weight[order])
        theirs.bias_hh_l0.zero_()
    torch.testing.assert_close(model.states(IMAGES), theirs(IMAGES)[0])
    assert model.input.bias[5:10].min() > 0.7 > model.input.bias[10:].max()


@pytest.mark.parametrize("cell", ["plain", "lstm"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_what_comes_after_the_end_of_a_sequence_does_not_matter(cell, norm):
    model = made(cell=cell, norm=norm, place="both", steps=14).train()
    states = model.states(ended())
    for row, length in zip(states, LENGTHS, strict=True):
        torch.testing.assert_close(row[length:], row[length - 1].expand(14 - length, -1))
    longer = torch.cat([ended(), torch.full((6, 3, 14), torch.nan, dtype=torch.float64)], 1)
    torch.testing.assert_close(
        made(cell=cell, norm=norm, place="both", steps=14)(longer), model.head(states[:, -1])
    )
    model(ended()).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_statistics_are_those_of_the_sequences_that_go_on():
    model = made(steps=14)
    states = model.states(ended())
    h = torch.cat([torch.zeros(6, 1, 5, dtype=torch.float64), states], 1)
    for t in range(14):
        alive = [i for i, length in enumerate(LENGTHS) if length > t]
        a = (model.input(IMAGES[:, t]) + model.recurrent(h[:, t]))[alive]
        torch.testing.assert_close(model.norm.running_mean[t], 0.1 * a.mean(0))
        torch.testing.assert_close(model.norm.running_var[t], 0.9 + 0.1 * a.var(0))


def test_padding_may_be_counted_as_rows_of_zeros():
    counting, zeros = made(count_padding=True), ended(fill=0.0)
    counting(ended())
    model = made()
    model(ended())
    assert not torch.allclose(counting.norm.running_mean, model.norm.running_mean)
    first = made(count_padding=True, steps=14)
    first(ended())
    a = first.input(zeros[:, 1]) + first.recurrent(first.states(ended())[:, 0])
    torch.testing.assert_close(first.norm.running_mean[1] / 0.19, a.mean(0), rtol=1e-9, atol=1e-12)


def test_steps_after_the_last_norm_use_the_last():
    model = made(steps=3).eval()
    model.norm.running_mean[2] = 0.5
    longer = made(steps=14).eval()
    longer.norm.running_mean[2:] = 0.5
    torch.testing.assert_close(model(IMAGES), longer(IMAGES))
    longer.norm.running_mean[5] = 0.0
    assert not torch.allclose(model(IMAGES), longer(IMAGES))


def test_gamma_is_the_weight_of_every_norm():
    model = RNN(5, cell="lstm", place="both", gamma=0.1, steps=2)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 3
    assert all((m.weight == 0.1).all() for m in norms)


# Batch norm with a mask


def test_masked_batch_norm_is_batch_norm_of_the_rows_that_count():
    x = torch.randn(9, 4, dtype=torch.float64) * 3 + 7
    mask = torch.tensor([True, False, True, True, False, True, True, False, True])
    masked, plain = StepBatchNorm1d(4).double(), nn.BatchNorm1d(4).double()
    for layer in (masked, plain):
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
        nn.init.constant_(layer.bias, 0.5)
    g = torch.randn(6, 4, dtype=torch.float64)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = masked(one, 0, mask)
    expected = plain(other[mask])
    torch.testing.assert_close(y[mask], expected)
    assert (y[~mask] == 0.5).all()
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(masked, name)[0], getattr(plain, name))
    (y[mask] * g).sum().backward()
    (expected * g).sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(masked.eval()(x, 0, mask), plain.eval()(x))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_leave_the_running_statistics_alone(count):
    layer = StepBatchNorm1d(3)
    y = layer(torch.randn(4, 3) + 9, 0, torch.arange(4) < count)
    assert (y == 0).all()
    np.testing.assert_array_equal(layer.running_mean[0], np.zeros(3))
    np.testing.assert_array_equal(layer.running_var[0], np.ones(3))


def test_masks_may_differ_between_runs_that_are_mapped():
    layer = StepBatchNorm1d(3, 4).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    masks = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])
    buffers = {n: torch.stack([b, b]) for n, b in layer.named_buffers()}
    call = partial(functional_call, layer)
    y = vmap(lambda b, x, m: call(b, (x, 2, m)))(buffers, x, masks)
    for i in range(2):
        alone = StepBatchNorm1d(3, 4).double()
        torch.testing.assert_close(y[i], alone(x[i], 2, masks[i]))
        torch.testing.assert_close(buffers["running_var"][i], alone.running_var)


# Gradients through time


def test_gradients_by_states_are_those_of_the_chain_rule():
    model = made(norm="none", activation="linear")
    squares = state_gradients(model, IMAGES, seed=3)
    g = torch.randn(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for t in reversed(range(14)):
        assert squares[t] == pytest.approx(float(g.square().sum()))
        g = g @ model.recurrent.weight.detach()


def test_what_comes_first_counts_less_where_the_slope_is_small():
    rows = torch.randn(64, 12, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.manual_seed(0)
    model = RNN(100, place="both").double()
    squares = state_gradients(model, rows)
    ratio = float(squares[3] / squares[-1]) ** (1 / 8)
    assert ratio == pytest.approx(0.672, abs=0.06)  # by (14.10), with gamma 1 on both terms
    with torch.no_grad():
        model.recurrent.weight *= 5  # which batch norm takes out again
    torch.testing.assert_close(state_gradients(model, rows), squares, rtol=1e-3, atol=0)
