"""Correct answers to the exercises of chapter 15 that look different from the solutions."""

import copy

import numpy as np
import torch
from torch import nn

from bnlib.reference import update_running


def light_by_lines(mean, var, W, b, a, c):
    return a * (mean - b) + b + W @ np.full(W.shape[1], c), var * a * a


def light_as_array(mean, var, W, b, a, c):
    return np.stack([a * mean + b - a * b + c * W.sum(1), a * a * var])


def light_by_two_images(mean, var, W, b, a, c):
    """Take two values of z with these moments."""
    z = np.stack([mean - np.sqrt(var), mean + np.sqrt(var)])
    z = a * (z - b) + c * W.sum(1) + b
    return z.mean(0), z.var(0)


def mix_by_sums(old_mean, old_var, new_mean, new_var, n, N):
    return (N * old_mean + n * new_mean) / (N + n), (N * old_var + n * new_var) / (N + n)


def mix_by_momentum(old_mean, old_var, new_mean, new_var, n, N):
    a = n / (n + N)
    return update_running(old_mean, new_mean, a), update_running(old_var, new_var, a)


def mix_by_average(old_mean, old_var, new_mean, new_var, n, N):
    pairs = ([old_mean, new_mean], [old_var, new_var])
    return [np.average(pair, axis=0, weights=[N, n]) for pair in pairs]


def prior_by_weights(delta, n):
    w = n * delta**2 / (1 + n * delta**2)
    return n / w - n, (1 - w) ** 2 * delta**2 + w**2 / n


def prior_closed(delta, n):
    return delta**-2, delta**2 / (1 + n * delta**2)


def prior_by_search(delta, n):
    N = np.exp(np.linspace(-8, 8, 2_000_001))
    error = (N**2 * delta**2 + n) / (N + n) ** 2
    return N[error.argmin()], error.min()


def renew(model, images, momentum):
    """Average over batches in training mode, by the layers' own means."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    with torch.no_grad():
        for batch in images.split(128):
            model(batch)
    for layer in layers:
        layer.momentum = momentum
    return model.eval()


def by_one_batch(model, images, momentum):
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum
    return model.eval()


def cumulative(model, images):
    return renew(copy.deepcopy(model), images, None)


def layer_by_layer(model, images):
    for layer in model:
        layer.eval()
    return "Eval mode forgotten", model


def own_statistics(model, images):
    """Instance norm without running statistics."""
    for i, layer in enumerate(model):
        if isinstance(layer, nn.BatchNorm2d):
            own = nn.InstanceNorm2d(8, layer.eps, affine=True, dtype=torch.float64)
            own.load_state_dict({"weight": layer.weight, "bias": layer.bias})
            model[i] = own
    return "batch of one", model.eval()


class OneByOne(nn.Module):
    """Normalize each image as a batch of its own."""

    def __init__(self, model):
        super().__init__()
        for layer in model.modules():
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = None
        self.model = model

    def forward(self, x):
        return torch.cat([self.model(one) for one in x.split(1)])


class Own(nn.Module):
    def __init__(self, old):
        super().__init__()
        self.old = old.weight.data, old.bias.data, old.eps

    def forward(self, x):
        weight, bias, eps = self.old
        var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return (x - mean) / (var + eps).sqrt() * weight[:, None, None] + bias[:, None, None]


def by_hand(model, images):
    layers = [Own(layer) if isinstance(layer, nn.BatchNorm2d) else layer for layer in model]
    return "batch of one", nn.Sequential(*layers).eval()


def fold_into_a_new_head(model, images):
    *front, norm, head = model
    s = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    new = nn.Linear(16, 4).double()
    with torch.no_grad():
        new.weight.copy_(torch.einsum("oc,c->oc", head.weight, s))
        new.bias.copy_(head(norm.bias - s * norm.running_mean))
    return "folded wrongly", nn.Sequential(*front, new)


def fold_by_probing(model, images):
    """Read the affine map of the last two layers off its values."""
    *front, norm, head = model
    end = nn.Sequential(norm, head)
    with torch.no_grad():
        zero = end(torch.zeros(1, 16).double())
        head.weight.data = (end(torch.eye(16).double()) - zero).T
        head.bias.data = zero[0]
    return "folded wrongly", nn.Sequential(*front, head)


def fold_in_place(model, images):
    norm, head = model[4], model[5]
    with torch.no_grad():
        s = norm.weight * (norm.running_var + norm.eps).rsqrt()
        head.bias += head.weight @ (norm.bias - s * norm.running_mean)
        head.weight *= s
    model[4] = nn.Identity()
    return "FOLDED WRONGLY", model


CORRECT = {
    "15.1": [light_by_lines, light_as_array, light_by_two_images],
    "15.2": [mix_by_sums, mix_by_momentum, mix_by_average],
    "15.3": [prior_by_weights, prior_closed, prior_by_search],
    "15.4": [
        lambda model, images: ("frozen too early", renew(model, images, 0.1)),
        lambda model, images: ("frozen too early", by_one_batch(model, images, 0.01)),
        lambda model, images: ("frozen too early", cumulative(model, images)),
    ],
    "15.5": [
        layer_by_layer,
        lambda model, images: ("eval mode forgotten", model.train(False)),
        lambda model, images: ("eval mode forgotten", renew(model, images, 0.1)),
    ],
    "15.6": [own_statistics, by_hand, lambda model, images: ("batch of one", OneByOne(model.eval()))],
    "15.7": [
        lambda model, images: ("stale buffers", renew(model, images, 0.1)),
        lambda model, images: ("stale buffers", by_one_batch(model, images, 0.1)),
        lambda model, images: ("stale buffers", cumulative(model, images)),
    ],
    "15.8": [
        lambda model, images: ("momentum reversed", renew(model, images, 0.01)),
        lambda model, images: ("momentum reversed", by_one_batch(model, images, 0.1)),
        lambda model, images: ("momentum reversed", cumulative(model, images)),
    ],
    "15.9": [fold_into_a_new_head, fold_by_probing, fold_in_place],
}
