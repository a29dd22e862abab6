"""Weight normalization in the models of the lab."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from bnlib.lab.attention import Attention
from bnlib.lab.data import fashion_mnist
from bnlib.lab.models import CNN, MLP, RNN
from bnlib.lab.network import seeded
from bnlib.lab.runs import grid
from bnlib.lab.train import train
from bnlib.lab.weight_norm import weight_normalized
from bnlib.reference import weight_norm

X = torch.rand(6, 14, 14, generator=torch.Generator().manual_seed(0)).double()
MODELS = {
    "mlp": partial(MLP, (196, 7, 5, 10), "none"),
    "cnn": partial(CNN, (3, 4), "none"),
    "rnn": partial(RNN, 5, "none"),
    "attention": partial(Attention, 8, "none"),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_it_starts_as_the_same_network_and_leaves_the_head(make):
    plain = seeded(make, 0, torch.float64)
    normalized = weight_normalized(seeded(make, 0, torch.float64))
    torch.testing.assert_close(normalized(X), plain(X))
    changed = [name for name, _ in normalized.named_parameters() if "original" in name]
    assert changed
    assert not any(name.startswith("head") for name in changed)


LAYERS = {"linear": partial(nn.Linear, 4, 3), "convolution": partial(nn.Conv2d, 2, 3, 3)}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_weights_and_gradients_are_those_of_pytorch_and_of_the_reference(make):
    ours = weight_normalized(nn.Sequential(seeded(make, 0)))
    theirs = nn.Sequential(parametrizations.weight_norm(seeded(make, 0)))
    upstream = torch.randn(ours[0].weight.shape)
    found = []
    for model in (ours, theirs):
        lengths = model[0].parametrizations.weight.original0
        with torch.no_grad():
            lengths.mul_(torch.tensor([0.5, 2.0, -1.0]).view(-1, *[1] * (lengths.ndim - 1)))
        (upstream * model[0].weight).sum().backward()
        found.append([p.grad.flatten() for p in model[0].parametrizations.weight.parameters()])
    torch.testing.assert_close(ours[0].weight, theirs[0].weight)
    torch.testing.assert_close(*found)
    g, v = (p.detach().numpy() for p in ours[0].parametrizations.weight.parameters())
    np.testing.assert_allclose(weight_norm(v, g), ours[0].weight.detach().numpy(), rtol=1e-5)


def test_runs_trained_at_once_are_those_of_a_plain_loop():
    data = fashion_mnist(dtype=np.float64)

    def make():
        return weight_normalized(CNN((3, 4), "none"))

    runs = train(make, data, steps=3, seeds=[0, 1], settings=grid(lr=[0.1, 0.3]), dtype=torch.float64)
    model = seeded(make, 1, torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    order = torch.randperm(6000, generator=torch.Generator().manual_seed(1))
    for batch in order[: 3 * 64].view(3, 64):
        loss = nn.functional.cross_entropy(
            model(torch.as_tensor(data.x_train)[batch]), torch.as_tensor(data.y_train)[batch]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(runs.run(1, 1).params[name], p.detach())
    torch.testing.assert_close(runs.model(1, 1)(X), model(X))


def test_nothing_to_normalize_is_an_error():
    with pytest.raises(ValueError, match="expected linear maps or convolutions before the head"):
        weight_normalized(nn.ReLU())
