"""Each probe where the answer is known in closed form."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import vmap

from bnlib.lab import probes
from bnlib.lab.data import fashion_mnist
from bnlib.lab.models import CNN, MLP, RNN, ResidualMLP
from bnlib.lab.network import Network, State, seeded
from bnlib.lab.runs import Settings, grid
from bnlib.lab.train import Moment, train

F64 = torch.float64


def state_of(model):
    params = {n: p.detach() for n, p in model.named_parameters()}
    return State(params, {n: b.detach().clone() for n, b in model.named_buffers()})


def moment_of(network, x, y, lr=0.1, next_params=None):
    """Make the moment of a plain step; ``next_params`` replaces some of the weights after it."""
    params, buffers = state_of(network.model)
    gradient = network.gradient(params, buffers, x, y)
    after = {n: p - lr * gradient[n] for n, p in params.items()} | (next_params or {})
    return Moment(params, buffers, x, y, gradient, after, torch.tensor(lr, dtype=F64))


def mse(outputs, targets):
    return (outputs - targets).square().sum(1).mean() / 2


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Chain(nn.Module):
    """Linear maps one after the other, as blocks."""

    def __init__(self, *widths):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


# Places


def test_activations_are_those_of_a_forward_pass():
    model = seeded(partial(MLP, (6, 5, 4, 3), activation="tanh"), 0, F64)
    x = normal(7, 6)
    found = probes.activations(Network(model), *state_of(model), x)
    assert list(found) == ["blocks.0", "blocks.1"]
    torch.testing.assert_close(found["blocks.1"], model.blocks[1](model.blocks[0](x)))
    assert not any(m._forward_hooks for m in model.modules())


def test_activations_come_in_the_order_asked_for():
    model = seeded(partial(MLP, (6, 5, 4, 3), activation="tanh"), 0, F64)
    names = ["blocks.1", "blocks.0", "blocks.0.0"]  # a forward pass meets them the other way around
    found = probes.activations(Network(model), *state_of(model), normal(7, 6), names)
    assert list(found) == names
    assert [a.shape[1] for a in found.values()] == [4, 5, 5]


def test_activation_gradients_are_those_of_autograd():
    model = seeded(partial(MLP, (6, 5, 4, 3), norm="batch", activation="tanh"), 0, F64)
    x, y = normal(7, 6), torch.arange(7) % 3
    found = probes.activation_gradients(Network(model), *state_of(model), x, y)
    first = model.blocks[0](x)
    second = model.blocks[1](first)
    loss = nn.functional.cross_entropy(model.head(second), y)
    expected = torch.autograd.grad(loss, [first, second])
    for a, b in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(a, b)


# Internal covariate shift


def test_moments_move_as_the_weights_do():
    network = Network(Chain(3, 2).double(), mse)
    x, y = normal(9, 3) + 1, normal(9, 2)
    w = network.model.blocks[0].weight.detach()
    a = x @ w.T
    moment = moment_of(network, x, y, next_params={"blocks.0.weight": 3 * w})
    mean, log_std = probes.moment_shift(network, moment)[0]
    assert log_std == pytest.approx(math.log(3))
    assert mean == pytest.approx((2 * a.mean(0).abs() / a.std(0, correction=0)).mean().item())


def test_units_that_do_not_vary_do_not_count():
    network = Network(Chain(3, 2).double(), mse)
    w = network.model.blocks[0].weight.detach()
    with torch.no_grad():
        network.model.blocks[0].weight[0] = 0
    x, y = normal(9, 3), normal(9, 2)
    after = w.clone()
    after[1] *= 2
    shift = probes.moment_shift(network, moment_of(network, x, y, next_params={"blocks.0.weight": after}))
    assert shift[0, 1] == pytest.approx(math.log(2))


def test_batch_norm_keeps_the_moments_of_its_output_whatever_the_weights_do():
    def shift(norm):
        model = seeded(partial(MLP, (6, 5, 4, 3), norm=norm, activation="linear"), 0, F64)
        network = Network(model)
        x, y = normal(20, 6) + 2, torch.arange(20) % 3
        other = {n: p + normal(*p.shape, seed=5) for n, p in state_of(model).params.items() if p.ndim == 2}
        return probes.moment_shift(network, moment_of(network, x, y, 0.0, other))

    assert shift("batch").abs().max() < 1e-4  # eps leaves a little
    assert shift("none").min() > 0.01


def test_shift_of_moments_by_hand():
    before = torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.5, 0.0]], dtype=F64)
    after = torch.tensor([[2.0, 4.0, 9.0], [4.0, 0.25, 1.0]], dtype=F64)  # the third unit did not vary
    expected = torch.tensor([(0.5 + 2) / 2, math.log(2)], dtype=F64)
    torch.testing.assert_close(probes.shift_of_moments(before, after), expected)
    both = probes.shift_of_moments(torch.stack([before, before]), torch.stack([after, before]))
    torch.testing.assert_close(both, torch.stack([expected, torch.zeros(2, dtype=F64)]))


def test_unit_moments_are_those_of_the_batch_given():
    network = Network(seeded(partial(MLP, (6, 5, 5, 3), norm="none"), 0, F64))
    x, fixed, y = normal(20, 6), normal(11, 6, seed=1) + 1, torch.arange(20) % 3
    found = probes.unit_moments(network, moment_of(network, x, y), fixed, ["blocks.1", "blocks.0"])
    for name, row in zip(("blocks.1", "blocks.0"), found, strict=True):
        a = probes.activations(network, *state_of(network.model), fixed)[name]
        torch.testing.assert_close(row, torch.stack([a.mean(0), a.std(0, correction=0)]))


def test_gradient_shift_of_a_chain_of_two_scalars():
    network = Network(Chain(1, 1, 1).double(), mse)
    x, y, a, b, a_next = 2.0, 5.0, 0.5, -1.5, 0.75
    with torch.no_grad():
        network.model.blocks[0].weight.fill_(a)
        network.model.blocks[1].weight.fill_(b)
    after = {"blocks.0.weight": torch.tensor([[a_next]], dtype=F64)}
    after["blocks.1.weight"] = torch.tensor([[99.0]], dtype=F64)  # the layer itself and those above stay
    moment = moment_of(
        network, torch.tensor([[x]], dtype=F64), torch.tensor([[y]], dtype=F64), next_params=after
    )
    found = probes.gradient_shift(network, moment)
    g, g_next = (b * w * x - y for w in (a, a_next))
    first, second = g * a * x, g_next * a_next * x
    np.testing.assert_allclose(found[0], [0, abs(g * b * x), 1], atol=1e-12)
    np.testing.assert_allclose(found[1], [abs(first - second), abs(first), 1], rtol=1e-12)


def test_gradient_shift_counts_the_norms_below():
    model = seeded(partial(MLP, (6, 5, 4, 3)), 0, F64)
    network, x, y = Network(model), normal(20, 6), torch.arange(20) % 3
    params = state_of(model).params
    after = params | {"blocks.0.1.weight": params["blocks.0.1.weight"] * 2}  # gamma of the first block
    shift = probes.gradient_shift(network, moment_of(network, x, y, next_params=after))[:, 0]
    assert shift[0] == 0
    assert (shift[1:] > 1e-6).all()


# Smoothness


def test_a_quadratic_loss_has_a_known_landscape():
    network = Network(Chain(4, 1).double(), mse)
    x, y = normal(30, 4), normal(30, 1, seed=1)
    moment = moment_of(network, x, y)
    hessian = x.T @ x / len(x)
    g = moment.gradient["blocks.0.weight"][0]
    distances = [0.1, 1.0, 3.0]
    found = probes.along_gradient(network, moment, distances)
    start = network.batch_loss(moment.params, moment.buffers, x, y)
    bend = (g @ hessian @ g).item()
    for d, (loss, change, beta) in zip(distances, found, strict=True):
        assert loss.item() == pytest.approx((start - d * g.square().sum()).item() + d * d * bend / 2)
        assert change.item() == pytest.approx(d * (hessian @ g).norm().item())
        assert beta.item() == pytest.approx(((hessian @ g).norm() / g.norm()).item())


def test_relative_steps_along_a_quadratic_loss():
    network = Network(Chain(4, 1).double(), mse)
    x, y = normal(30, 4), normal(30, 1, seed=1)
    moment = moment_of(network, x, y)
    size = moment.params["blocks.0.weight"].norm()
    hessian = size.square() * x.T @ x / len(x)
    g = size * moment.gradient["blocks.0.weight"][0]
    start = network.batch_loss(moment.params, moment.buffers, x, y)
    unit = g / g.norm()
    fractions = [0.1, 1.0, 3.0]
    found = probes.along_relative_gradient(network, moment, fractions)
    for r, (loss, change, relative) in zip(fractions, found, strict=True):
        assert loss.item() == pytest.approx((start - r * g.norm() + r * r * unit @ hessian @ unit / 2).item())
        assert change.item() == pytest.approx(r * (hessian @ unit).norm().item())
        assert relative.item() == pytest.approx(change.item() / g.norm().item())


def test_relative_step_is_the_way_in_relative_weights():
    """Taking the step that the other probe probes, at its own r, gives the loss that it found there."""
    network = Network(Chain(4, 3, 2).double(), mse)
    x, y = normal(30, 4), normal(30, 2, seed=1)
    moment = moment_of(network, x, y)
    w, g = moment.params, moment.gradient
    there = {n: w[n] - 0.1 * w[n].square().sum() * g[n] for n in w}
    stepped = moment._replace(next_params=there)
    r = probes.relative_step(network, stepped).item()
    ((loss, _, _),) = probes.along_relative_gradient(network, moment, [r])
    assert loss.item() == pytest.approx(network.batch_loss(there, moment.buffers, x, y).item())
    only = probes.relative_step(network, stepped, ["blocks.1.weight"]).item()
    assert only == pytest.approx(0.1 * (w["blocks.1.weight"].norm() * g["blocks.1.weight"].norm()).item())


def test_relative_steps_do_not_see_the_scale_of_weights():
    """With BN any scale, without it factors of two layers that cancel, give the same function."""
    x, y = normal(20, 6), torch.arange(20) % 3
    for norm, factors in (("batch", (3.0, 0.2, 1.0)), ("none", (4.0, 0.5, 0.5))):
        make = partial(MLP, (6, 5, 4, 3), norm=norm, activation="relu", init="he")
        network = Network(seeded(make, 0, F64))
        for module in network.model.modules():
            if hasattr(module, "eps"):
                module.eps = 0.0
        first = moment_of(network, x, y)
        scaled = dict(first.params)
        for name, factor in zip(probes.weight_names(network), factors, strict=True):
            scaled[name] = factor * scaled[name]
        gradient = network.gradient(scaled, first.buffers, x, y)
        second = first._replace(params=scaled, gradient=gradient)
        here, there = (probes.along_relative_gradient(network, m, [0.05, 0.4]) for m in (first, second))
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-12)
        here, there = (probes.along_gradient(network, m, [0.05]) for m in (first, second))
        assert abs(here - there).max() > 0.1


# Scale


def test_a_step_on_the_sphere_by_hand():
    network = Network(Chain(2, 1).double(), mse)
    w = torch.tensor([[3.0, 4.0]], dtype=F64)
    with torch.no_grad():
        network.model.blocks[0].weight.copy_(w)
    for angle in (1e-9, 0.3, math.pi / 2, 3.0):
        c, s = math.cos(angle), math.sin(angle)
        turned = 7 * torch.tensor([[3 * c - 4 * s, 3 * s + 4 * c]], dtype=F64)
        moment = moment_of(network, normal(5, 2), normal(5, 1), 0.5, {"blocks.0.weight": turned})
        np.testing.assert_allclose(probes.steps_on_sphere(network, moment), [[5, 0.5 / 25, angle]], rtol=1e-6)


def test_weight_decay_leads_to_the_angle_of_equilibrium():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 20))
    data = (x, x[:, :10].argmax(1), x[:9], np.zeros(9, int))
    make = partial(MLP, (20, 20, 10), norm="batch", activation="tanh", bias=False)
    lr, decays = 0.5, [0.002, 0.01]
    runs = train(
        make, data, steps=1500, batch_size=16, seeds=[0, 1], evaluate_at=[],
        settings=[Settings(lr, weight_decay=decay) for decay in decays],
        probes={"turn": partial(probes.steps_on_sphere, names=["blocks.0.0.weight"])},
        probe_at=range(1000, 1500, 5),
    )  # fmt: skip
    angles = np.sqrt(np.square(runs.probes["turn"][..., 0, 2]).mean(axis=(1, 2)))
    np.testing.assert_allclose(angles, np.sqrt(2 * lr * np.array(decays)), rtol=0.06)


# Depth


def growth(batch_size, activation, width, depth, seed, init):
    """Return the factor by which the squared gradient grows a layer, from deep layers to the first."""
    widths = (width, *[width] * depth, 10)
    model = seeded(partial(MLP, widths, activation=activation, init=init, bias=False), seed)
    x = torch.randn(batch_size, width, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(batch_size) % 10
    norms = probes.gradient_norms(Network(model), moment_of(Network(model), x, y))
    return (norms[2] / norms[-3]) ** (1 / (depth - 5))


def test_gradients_of_deep_relu_nets_with_batch_norm_grow_by_pi_over_pi_minus_1():
    found = np.mean([growth(512, "relu", 256, 16, seed, "he") for seed in range(2)])
    assert found == pytest.approx(math.pi / (math.pi - 1), rel=0.03)


@pytest.mark.parametrize("batch_size", [5, 8, 16])
def test_gradients_of_deep_linear_nets_with_batch_norm_grow_by_the_batch_size(batch_size):
    found = np.mean([growth(batch_size, "linear", 500, 16, seed, "lecun") for seed in range(4)])
    assert found - 1 == pytest.approx(1 / (batch_size - 3), rel=0.25)


def test_the_branch_of_block_l_brings_one_part_in_l_plus_1():
    make = partial(ResidualMLP, 300, 10, activation="linear", init="lecun", inputs=300)
    model = seeded(make, 0, F64)
    share = probes.residual_share(Network(model), state_of(model), normal(400, 300))
    np.testing.assert_allclose(share, 1 / np.arange(2, 12), rtol=0.05)


def test_without_batch_norm_every_branch_brings_half():
    model = seeded(partial(ResidualMLP, 300, 6, "none", "linear", init="lecun", inputs=300), 0, F64)
    share = probes.residual_share(Network(model), state_of(model), normal(400, 300))
    np.testing.assert_allclose(share, 0.5, rtol=0.05)


def test_ranks_of_known_representations():
    q = torch.linalg.qr(normal(20, 6))[0] * math.sqrt(20)  # orthogonal columns of mean square 1
    assert probes.soft_rank(q) == 6
    assert probes.rank_bound(q).item() == pytest.approx(6)
    one = normal(20, 1) @ normal(1, 6, seed=1)
    assert probes.soft_rank(one, 1e-6) == 1
    assert probes.rank_bound(one).item() == pytest.approx(1)
    scaled = q * torch.tensor([1.0, 1.0, 0.5, 0.3, 0.1, 0.0], dtype=F64)
    assert probes.soft_rank(scaled, 0.1) == 3  # mean squares 1, 1, 0.25, 0.09, 0.01, 0
    squares = np.array([1, 1, 0.25, 0.09, 0.01, 0])
    assert probes.rank_bound(scaled).item() == pytest.approx(squares.sum() ** 2 / (squares**2).sum())
    assert probes.rank_bound(7 * scaled).item() == pytest.approx(probes.rank_bound(scaled).item())


# Noise


@pytest.mark.parametrize("m", [2, 8, 32])
def test_the_mean_of_a_batch_varies_by_sigma_squared_over_m(m):
    values = normal(1000, 50) * 3 + 5
    means, variances = probes.batch_moments(values, m, 2000)
    assert means.shape == variances.shape == (2000, 50)
    sigma2 = values.var(0, correction=0).sum()
    assert (probes.noise(means) * m / sigma2).item() == pytest.approx(1, rel=0.03)
    assert (variances.mean(0).sum() / sigma2).item() == pytest.approx(1 - 1 / m, rel=0.01)


def test_the_noise_of_the_gradient_without_batch_norm_is_that_of_one_image_over_m():
    model = seeded(partial(MLP, (6, 5, 3), norm="none", activation="tanh"), 0, F64)
    network, x, y = Network(model), normal(40, 6), torch.arange(40) % 3
    state = state_of(model)
    each = vmap(lambda x, y: network.gradient(*state, x[None], y[None]))(x, y)
    rows = torch.cat([g.flatten(1) for g in each.values()], 1)
    one = rows.var(0, correction=0).sum()
    for m in (2, 16):
        found = probes.noise(probes.batch_gradients(network, state, x, y, m, 3000))
        assert (found * m / one).item() == pytest.approx(1, rel=0.06)


def test_gradients_of_batches_are_those_of_the_network():
    model = seeded(partial(MLP, (6, 5, 3)), 0, F64).train()
    network, x, y = Network(model), normal(40, 6), torch.arange(40) % 3
    found = probes.batch_gradients(network, state_of(model), x, y, 4, 20, seed=3)
    index = torch.randint(40, (20, 4), generator=torch.Generator().manual_seed(3))
    for d in (0, 17):
        g = network.gradient(*state_of(model), x[index[d]], y[index[d]])
        torch.testing.assert_close(found[d], torch.cat([t.flatten() for t in g.values()]))
    with pytest.raises(ValueError, match="above 0"):
        probes.batch_gradients(network, state_of(model), x, y, 0, 20)


# Within a training


@pytest.mark.parametrize(
    "make",
    [partial(MLP, (196, 8, 8, 10), norm="noisy"), partial(CNN, (3, 4)), partial(ResidualMLP, 8, 2), RNN],
)
def test_all_probes_run_in_a_training_of_any_model(make):
    data = [a[:100] for a in fashion_mnist()]
    found = {
        "moments": probes.moment_shift,
        "gradients": probes.gradient_shift,
        "line": partial(probes.along_gradient, distances=[0.1, 0.2]),
        "relative": partial(probes.along_relative_gradient, fractions=[0.1, 0.2]),
        "sphere": probes.steps_on_sphere,
        "norms": probes.gradient_norms,
        "step": probes.relative_step,
    }
    runs = train(
        make, data, steps=3, batch_size=20, seeds=[0, 1], settings=grid(lr=[0.1, 0.2, 0.3]),
        probes=found, probe_at=[0, 2],
    )  # fmt: skip
    for name in found:
        values = runs.probes[name]
        assert values.shape[:3] == (3, 2, 2)
        assert np.isfinite(values).all()
        # Each run has its own answer, but all settings start alike.
        assert not np.allclose(values[0, 0, 1], values[0, 1, 1], atol=1e-9)
    np.testing.assert_allclose(runs.probes["norms"][0, :, 0], runs.probes["norms"][1, :, 0], rtol=1e-4)
