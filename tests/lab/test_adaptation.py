"""Adapted statistics: between those of training and those of new images, layer by layer."""

import copy

import pytest
import torch
from torch import nn

from bnlib.lab.adaptation import adapt, disagreement
from bnlib.lab.models import CNN, MLP
from bnlib.torch.surgery import recompute_statistics


def trained(make=CNN):
    torch.manual_seed(0)
    model = make().double()
    for _ in range(20):
        model(torch.rand(32, 14, 14, dtype=torch.float64))
    return model.eval()


def images(n=40):
    generator = torch.Generator().manual_seed(1)
    return 0.4 + 0.2 * torch.rand(n, 14, 14, dtype=torch.float64, generator=generator)


def buffers(model):
    return {name: b for name, b in model.named_buffers() if "running" in name}


@pytest.mark.parametrize("make", [CNN, MLP])
def test_without_a_prior_it_gives_what_batch_statistics_give(make):
    model, x = trained(make), images()
    before = copy.deepcopy(model.state_dict())
    adapted = adapt(model, x)
    assert not any(module.training for module in adapted.modules())
    torch.testing.assert_close(adapted(x), copy.deepcopy(model).train()(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_without_a_prior_it_is_a_recomputation_but_for_the_factor_of_the_variance():
    model, x = trained(), images(8)
    ours, theirs = adapt(model, x), copy.deepcopy(model)
    recompute_statistics(theirs, [x], progress=False)
    for (name, a), b in zip(buffers(ours).items(), buffers(theirs).values(), strict=True):
        rows = 8 * {"0": 196, "1": 49, "2": 9}[name.split(".")[1]]
        factor = (rows - 1) / rows if name.endswith("var") else 1
        torch.testing.assert_close(a, factor * b, rtol=1e-9, atol=1e-9)


def test_the_first_layer_is_a_weighted_mean_and_a_large_prior_changes_nothing():
    model, x = trained(), images(10)
    old, new = buffers(model), buffers(adapt(model, x))
    for name, mixed in buffers(adapt(model, x, 30)).items():
        if name.startswith("blocks.0"):
            torch.testing.assert_close(mixed, 0.75 * old[name] + 0.25 * new[name])
    torch.testing.assert_close(buffers(adapt(model, x, 1e15)), old)


def test_later_layers_see_adapted_inputs():
    model, x = trained(), images()
    adapted = adapt(model, x, 20)
    hidden = adapted.blocks[1][0](adapted.blocks[0](x[:, None]))
    want = 1 / 3 * model.blocks[1][1].running_mean + 2 / 3 * hidden.mean((0, 2, 3))
    torch.testing.assert_close(adapted.blocks[1][1].running_mean, want)


def test_disagreement_is_nothing_after_adapting_and_known_for_a_known_shift():
    model, x = trained(), images()
    torch.testing.assert_close(
        disagreement(adapt(model, x), x), torch.zeros(3, 2).double(), atol=1e-9, rtol=0
    )
    layer = nn.BatchNorm1d(2).double().eval()
    layer.running_mean.copy_(torch.tensor([1.0, 2.0]))
    layer.running_var.copy_(torch.tensor([4.0, 1.0]))
    x = torch.tensor([[2.0, 1.0], [4.0, 3.0]]).double()  # means 3 and 2, standard deviations 1 and 1
    want = torch.tensor([[0.5, 0.5 * torch.tensor(2.0).log()]]).double()
    torch.testing.assert_close(disagreement(nn.Sequential(layer), x), want)
    assert not layer._forward_pre_hooks


def test_bad_input():
    with pytest.raises(ValueError, match=r"at least 1 image, got shape \(0, 14, 14\)"):
        adapt(trained(), images(0))
    with pytest.raises(ValueError, match="prior to be finite and at least 0, got -1"):
        adapt(trained(), images(), -1)
    with pytest.raises(TypeError, match="prior to be a number, got str"):
        adapt(trained(), images(), "16")
