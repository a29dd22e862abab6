"""The models and their parts."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from bnlib.lab import layers
from bnlib.lab.attention import Attention
from bnlib.lab.models import CNN, MLP, RNN, ResidualMLP
from bnlib.lab.network import seeded
from bnlib.lab.noise import Dropout, Noisy
from bnlib.torch import BatchNorm1d, BatchNorm2d

IMAGES = torch.rand(6, 14, 14, generator=torch.Generator().manual_seed(0))
ALL = {
    "mlp": MLP,
    "cnn": partial(CNN, (4, 8)),
    "residual": partial(ResidualMLP, 12, 3),
    "rnn": partial(RNN, 12),
    "attention": partial(Attention, 12),
}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
@pytest.mark.parametrize("norm", ["none", "batch", "noisy", "layer", "group"])
def test_images_become_logits_and_every_weight_gets_a_gradient(make, norm):
    model = make(norm=norm)
    logits = model(IMAGES)
    assert logits.shape == (6, 10)
    (logits * torch.randn(6, 10)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert len(model.blocks) >= 1
    batch_norms = [m for m in model.modules() if isinstance(m, (BatchNorm1d, BatchNorm2d))]
    assert bool(batch_norms) == (norm in ("batch", "noisy"))


@pytest.mark.parametrize("norm", ["layer", "group", "rms", "instance"])
def test_other_norms_look_at_one_sample_at_a_time(norm):
    model = CNN((4, 8), norm=norm) if norm == "instance" else MLP((196, 12, 10), norm=norm)
    torch.testing.assert_close(model(IMAGES)[:2], model(IMAGES[:2]))
    batch = MLP((196, 12, 10))
    assert not torch.allclose(batch(IMAGES)[:2], batch(IMAGES[:2]))


def test_rms_norm_is_that_of_pytorch_over_all_values_of_a_sample():
    x = torch.randn(5, 4, 3, 2)
    (ours,) = layers.norm("rms", 4, 2)
    torch.testing.assert_close(ours(x), nn.functional.rms_norm(x, (4, 3, 2)))
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([1.0, 2.0, 3.0, -1.0]))
    expected = ours.weight[:, None, None] * nn.functional.rms_norm(x, (4, 3, 2))
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours(x[..., 0, 0]), ours.weight * nn.functional.rms_norm(x[..., 0, 0], (4,)))


def test_attention_is_the_block_that_it_says():
    model = seeded(partial(Attention, 6, "layer"), 0, torch.float64)
    x = IMAGES.double()
    h = model.embed(x) + model.place
    norm = partial(nn.functional.layer_norm, normalized_shape=(6,))
    q, k, v = model.mix(norm(h)).split(6, dim=2)
    h = h + nn.functional.scaled_dot_product_attention(q, k, v)
    h = h + model.blocks[0](norm(h))
    torch.testing.assert_close(model(x), model.head(norm(h).mean(1)))


@pytest.mark.parametrize(("norm", "one_by_one"), [("layer", True), ("rms", True), ("batch", False)])
def test_attention_looks_at_one_image_at_a_time_but_for_batch_norm(norm, one_by_one):
    model = Attention(8, norm)
    assert torch.allclose(model(IMAGES)[:2], model(IMAGES[:2]), atol=1e-5) == one_by_one


def test_layer_norm_is_that_of_pytorch():
    x = torch.randn(5, 12)
    (ours,) = layers.norm("layer", 12)
    torch.testing.assert_close(ours(x), nn.functional.layer_norm(x, (12,)))


def test_a_norm_may_be_given_as_a_function():
    seen = []

    def make(channels, positions):
        seen.append((channels, positions))
        return nn.Identity()

    MLP((196, 12, 7, 10), norm=make)
    CNN((4,), norm=make)
    assert seen == [(12, 0), (7, 0), (4, 2)]


def test_a_residual_block_without_branch_is_the_identity():
    model = ResidualMLP(12, 3).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.branch[-1].weight.zero_()
            block.branch[-1].bias.zero_()
    stem = model.stem(IMAGES.flatten(1))
    torch.testing.assert_close(model(IMAGES), model.head(stem))


@pytest.mark.parametrize(("init", "gain"), [("he", 2), ("lecun", 1)])
def test_initial_weights_have_the_variance_of_their_rule(init, gain):
    model = MLP((300, 400, 10), init=init)
    assert model.blocks[0][0].weight.std().item() == pytest.approx(math.sqrt(gain / 300), rel=0.01)
    assert not model.blocks[0][0].bias.any()
    conv = CNN((64, 64), init=init).blocks[1][0].weight
    assert conv.std().item() == pytest.approx(math.sqrt(gain / (64 * 9)), rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(MLP, (3,)), r"expected 2 widths or more, each at least 1, got \(3,\)"),
        (partial(MLP, (3, 0, 2)), "expected 2 widths or more"),
        (partial(MLP, norm="bn"), "expected norm none, batch, .*, got 'bn'"),
        (partial(MLP, activation="gelu"), "expected activation relu, sigmoid, tanh, linear, got 'gelu'"),
        (partial(MLP, init="xavier"), "expected init torch, he, lecun, got 'xavier'"),
        (partial(CNN, ()), r"expected channels, each at least 1, got \(\)"),
        (partial(RNN, cell="gru"), "expected cell plain, lstm, got 'gru'"),
        (partial(RNN, place="output"), "expected place sum, input, both, got 'output'"),
        (partial(Dropout, 1.0), "expected p of at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_choices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Noise


def test_dropout_keeps_the_mean_and_does_nothing_in_evaluation():
    layer, x = Dropout(0.3), torch.ones(200, 500)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(y, layer(x))
    assert layer.eval()(x) is x


def test_noisy_batch_norm_shifts_each_unit_anew_at_each_step():
    layer = Noisy(BatchNorm1d(3000))
    x = torch.randn(64, 3000) * 5 + 7
    s, m = layer.draw((64, 3000)).unbind(0)
    assert m.mean(0).abs().max() < 0.6
    assert m.mean(0).std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.05)  # U(-0.5, 0.5)
    assert (m - m.mean(0)).std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert s.mean().item() == pytest.approx(1.125, rel=0.01)  # U(1, 1.25)
    assert (s - s.mean(0)).std().item() == pytest.approx(0.1, rel=0.05)
    first, second = layer(x), layer(x)
    assert (first.mean(0) - second.mean(0)).abs().mean() > 0.2  # of unit variance, so this is a shift
    layer.eval()
    torch.testing.assert_close(layer(x), layer.norm(x))
