"""Training many networks at once gives each of them what a plain loop gives it."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bnlib.lab.batches import batch_order, noise_generator
from bnlib.lab.data import fashion_mnist
from bnlib.lab.models import CNN, MLP, RNN, ResidualMLP
from bnlib.lab.network import seeded
from bnlib.lab.noise import NoiseLayer
from bnlib.lab.recurrent import StepBatchNorm1d
from bnlib.lab.runs import Settings, grid
from bnlib.lab.sgd import cosine
from bnlib.lab.train import train


def small_data(size=200, seed=0):
    data = fashion_mnist(dtype=np.float64)
    chosen = np.random.default_rng(seed).permutation(len(data.x_train))[:size]
    return data.x_train[chosen], data.y_train[chosen], data.x_test[::20], data.y_test[::20]


DATA = small_data()
MODELS = {
    "mlp": partial(MLP, (196, 12, 9, 10), activation="sigmoid"),
    "mlp without": partial(MLP, (196, 12, 9, 10), norm="none"),
    "mlp layer": partial(MLP, (196, 12, 10), norm="layer", activation="tanh"),
    "mlp noisy": partial(MLP, (196, 12, 9, 10), norm="noisy", dropout=0.3),
    "cnn": partial(CNN, (3, 4)),
    "cnn group": partial(CNN, (4, 4), norm="group"),
    "residual": partial(ResidualMLP, 8, 3),
    "rnn": partial(RNN, 7, steps=6, gamma=0.5),
    "rnn input": partial(RNN, 7, place="input"),
}


class TorchSteps(StepBatchNorm1d):
    """Computes each step by PyTorch's own function; all rows count."""

    def forward(self, input, step=0, mask=None):
        return nn.functional.batch_norm(input, *self.running(step), self.weight, self.bias, self.training)


def with_torch_norms(model):
    """Replace our batch norms by those of PyTorch, which are computed by other code."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, StepBatchNorm1d):
                child.__class__ = TorchSteps
            elif isinstance(child, nn.modules.batchnorm._BatchNorm):
                base = nn.BatchNorm2d if child._get_name().endswith("2d") else nn.BatchNorm1d
                twin = base(child.num_features).double()
                twin.load_state_dict(child.state_dict())
                setattr(module, name, twin)
    return model


def plain_loop(make_model, seed, setting, steps, batch_size, schedule=lambda step, steps: 1.0):
    """Train one network as tutorials do; return its losses and itself."""
    model = with_torch_norms(seeded(make_model, seed, torch.float64))
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p *= setting.init_scale
    optimizer = torch.optim.SGD(
        model.parameters(), setting.lr, momentum=setting.momentum, weight_decay=setting.weight_decay
    )
    x, y = (torch.as_tensor(t) for t in DATA[:2])
    order, generator, losses = batch_order(seed, len(x), batch_size), noise_generator(seed), []
    noisy = [m for m in model.modules() if isinstance(m, NoiseLayer)]
    model.train()
    for step in range(steps):
        index = next(order)
        for layer in noisy:  # the shape of its input: all layers of these models are 12, 9 wide
            width = [12, 12, 9, 9][noisy.index(layer)]
            layer.draws = layer.draw((batch_size, width), generator)
        for group in optimizer.param_groups:
            group["lr"] = setting.lr * schedule(step, steps)
        loss = cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_every_run_follows_the_plain_loop_step_by_step(name):
    settings = [Settings(0.1), Settings(0.05, momentum=0.9, weight_decay=0.01, init_scale=1.5)]
    seeds, steps, batch_size = [3, 0, 11], 15, 16
    runs = train(
        MODELS[name], DATA, steps=steps, batch_size=batch_size, seeds=seeds, settings=settings,
        schedule=cosine, dtype=torch.float64,
    )  # fmt: skip
    x, y = (torch.as_tensor(t) for t in DATA[2:])
    for k, setting in enumerate(settings):
        for s, seed in enumerate(seeds):
            losses, model = plain_loop(MODELS[name], seed, setting, steps, batch_size, cosine)
            np.testing.assert_allclose(runs.train_loss[k, s], losses, rtol=1e-9)
            for n, p in model.named_parameters():
                np.testing.assert_allclose(runs.state.params[n][k, s], p.detach(), rtol=1e-8, atol=1e-10)
            with torch.no_grad():
                logits, own = model(x), runs.model(k, s)(x)
            np.testing.assert_allclose(own, logits, rtol=1e-8, atol=1e-10)
            test_loss = cross_entropy(logits, y).item()
            accuracy = (logits.argmax(1) == y).double().mean().item()
            assert runs.loss["test", "running"][k, s, 0] == pytest.approx(test_loss, rel=1e-9)
            assert runs.accuracy["test", "running"][k, s, 0] == pytest.approx(accuracy)


def test_a_diverged_run_is_recorded_and_leaves_the_others_alone():
    make = partial(MLP, (196, 12, 9, 10), norm="none", activation="linear")
    alone = train(
        make, DATA, steps=40, batch_size=16, seeds=[0, 1], settings=grid(lr=0.1), dtype=torch.float64
    )
    both = train(
        make, DATA, steps=40, batch_size=16, seeds=[0, 1], settings=grid(lr=[1e9, 0.1]), dtype=torch.float64
    )
    assert both.diverged.tolist() == [[True, True], [False, False]]
    np.testing.assert_allclose(both.train_loss[1], alone.train_loss[0], rtol=1e-10)
    first = both.diverged_at[0]
    for s in range(2):
        assert np.isfinite(both.train_loss[0, s, : first[s]]).all()
        assert not np.isfinite(both.train_loss[0, s, first[s]])
    assert np.isnan(both.accuracy["test", "running"][0]).all()
    assert np.isfinite(both.accuracy["test", "running"][1]).all()
    assert np.isnan(both.final_loss()[0]).all()
    np.testing.assert_allclose(both.final_loss(10)[1], both.train_loss[1, :, -10:].mean(-1))


def test_weights_that_overflow_in_the_last_step_are_a_divergence():
    runs = train(
        MODELS["mlp without"], DATA, steps=1, seeds=[0], dtype=torch.float64,
        settings=[Settings(1e308, weight_decay=1e3), Settings(0.1)],
    )  # fmt: skip
    assert np.isfinite(runs.train_loss).all()
    assert runs.diverged_at.tolist() == [[1], [-1]]


def test_a_seed_gives_the_same_run_whatever_runs_beside_it():
    make, kwargs = MODELS["mlp noisy"], {"steps": 12, "batch_size": 16, "dtype": torch.float64}
    many = train(make, DATA, seeds=[4, 2, 7], settings=grid(lr=[0.3, 0.1]), **kwargs)
    one = train(make, DATA, seeds=[2], settings=grid(lr=0.1), **kwargs)
    np.testing.assert_allclose(one.train_loss[0, 0], many.train_loss[1, 1], rtol=1e-10)
    # All settings of a seed start from the same weights, with the same batch and the same noise.
    np.testing.assert_allclose(many.train_loss[0, :, 0], many.train_loss[1, :, 0], rtol=1e-12)
    assert len(set(many.train_loss[0, :, 0])) == 3


def test_the_same_call_gives_the_same_result_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (train(MODELS["mlp noisy"], DATA, steps=5, seeds=[0, 1]) for _ in range(2))
    assert np.array_equal(first.train_loss, second.train_loss)
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_by_batch_statistics_normalizes_each_batch_by_itself():
    which = [(part, statistics) for part in ("train", "test") for statistics in ("running", "batch")]
    runs = train(
        MODELS["mlp"], DATA, steps=6, batch_size=16, seeds=[0, 1], evaluate=which, evaluate_at=[6, 0, 3],
        dtype=torch.float64,
    )  # fmt: skip
    assert runs.evaluated_at.tolist() == [0, 3, 6]
    for part, start in (("train", 0), ("test", 2)):
        x, y = (torch.as_tensor(t) for t in DATA[start : start + 2])
        model = runs.model(0, 1).train()
        n = len(x) // 16 * 16
        with torch.no_grad():
            batches = torch.cat([model(x[i : i + 16]) for i in range(0, n, 16)])
            running = runs.model(0, 1)(x)
        assert runs.loss[part, "batch"][0, 1, -1] == pytest.approx(cross_entropy(batches, y[:n]).item())
        assert runs.loss[part, "running"][0, 1, -1] == pytest.approx(cross_entropy(running, y).item())
        right = (batches.argmax(1) == y[:n]).double().mean().item()
        assert runs.accuracy[part, "batch"][0, 1, -1] == pytest.approx(right)
    assert runs.loss["test", "running"].shape == (1, 2, 3)


def test_evaluations_and_probes_do_not_change_the_run():
    def probe(network, moment):
        return network.batch_loss(moment.params, moment.buffers, moment.x, moment.y)

    kwargs = {"steps": 8, "batch_size": 16, "seeds": [0, 1], "dtype": torch.float64}
    plain = train(MODELS["mlp noisy"], DATA, **kwargs)
    watched = train(
        MODELS["mlp noisy"], DATA, evaluate_at=range(9), probes={"loss": probe}, probe_at=[5, 2],
        evaluate=[("train", "batch"), ("test", "running")], **kwargs,
    )  # fmt: skip
    assert np.array_equal(plain.train_loss, watched.train_loss)
    for name, b in plain.state.buffers.items():
        assert torch.equal(b, watched.state.buffers[name])
    # The probe sees the weights, the batch and the noise of the step.
    assert watched.probed_at.tolist() == [2, 5]
    np.testing.assert_allclose(watched.probes["loss"], plain.train_loss[..., [2, 5]], rtol=1e-12)


def test_a_probe_sees_the_step_from_both_sides():
    def step_error(network, m):
        errors = [(m.params[n] - m.lr * m.gradient[n] - p).abs().max() for n, p in m.next_params.items()]
        return torch.stack(errors).max()

    runs = train(
        MODELS["mlp"], DATA, steps=4, seeds=[0, 1], settings=grid(lr=[0.1, 0.7]), schedule=cosine,
        probes={"error": step_error}, probe_at=[0, 3], dtype=torch.float64,
    )  # fmt: skip
    assert runs.probes["error"].shape == (2, 2, 2)
    assert runs.probes["error"].max() < 1e-15


def test_the_grid_varies_the_last_setting_fastest():
    settings = grid(lr=[0.1, 1.0], weight_decay=[0.0, 0.5, 1.0], momentum=0.9)
    assert settings[1] == Settings(0.1, 0.9, 0.5)
    assert [s.lr for s in settings] == [0.1] * 3 + [1.0] * 3
    with pytest.raises(TypeError, match="expected settings lr, momentum, weight_decay, init_scale, got rate"):
        grid(rate=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "expected steps of at least 1, got 0"),
        ({"seeds": []}, "expected seeds and settings, got 0 and 1"),
        ({"seeds": [1, 1]}, r"expected different seeds of at least 0, got \(1, 1\)"),
        ({"seeds": [-1]}, r"expected different seeds of at least 0, got \(-1,\)"),
        ({"evaluate_at": [3]}, r"expected evaluate_at from 0 to 2, got \(3,\)"),
        ({"probe_at": [2]}, r"expected probe_at from 0 to 1, got \(2,\)"),
        ({"evaluate": [("test", "mean")]}, "expected 'train' or 'test' with 'running' or 'batch'"),
        ({"batch_size": 300}, "expected a batch size from 1 to 200, got 300"),
        ({"data": DATA[:3]}, "expected data"),
        ({"data": (DATA[0], DATA[3], *DATA[2:])}, "expected as many labels as images, 200, got 100"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    data = change.pop("data", DATA)
    with pytest.raises(ValueError, match=message):
        train(MODELS["mlp"], data, **({"steps": 2, "seeds": [0]} | change))


def test_batches_are_epochs_of_whole_batches():
    order = batch_order(5, 50, 16)
    epochs = [torch.cat([next(order) for _ in range(3)]) for _ in range(2)]
    assert all(len(set(e.tolist())) == 48 for e in epochs)
    assert not torch.equal(*epochs)
    expected = torch.randperm(50, generator=torch.Generator().manual_seed(5))[:48]
    assert torch.equal(epochs[0], expected)


def test_every_seed_has_noise_of_its_own_that_is_not_the_draw_of_its_batches():
    def first(generator):
        return torch.rand(3, generator=generator).tolist()

    draws = [first(noise_generator(seed)) for seed in (0, 1, 2)]
    draws += [first(torch.Generator().manual_seed(seed)) for seed in (0, 1, 2)]
    assert len(set(map(tuple, draws))) == 6
    assert first(noise_generator(1)) == draws[1]


def test_the_bar_is_for_terminals_and_leaves_nothing(capsys):
    train(MODELS["mlp"], DATA, steps=2, seeds=[0])
    assert capsys.readouterr() == ("", "")
    train(MODELS["mlp"], DATA, steps=2, seeds=[0], progress=True, description="sweep")
    out, err = capsys.readouterr()
    assert out == ""
    assert "sweep" in err
    assert err.rsplit("\r", 2)[1].strip() == ""
