import numpy as np
import pytest
import torch
from torch import nn

from bnlib.lab.data import fashion_mnist
from bnlib.reference import MLP, check_gradient, softmax_cross_entropy
from bnlib.reference.network import BatchNorm, Linear, ReLU

WIDTHS = (5, 7, 6, 4)
TORCH = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
KINDS = [(norm, activation) for norm in (True, False) for activation in TORCH]


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def batch(seed=0, n=12):
    return random(n, WIDTHS[0], seed=seed), np.random.default_rng(seed).integers(0, WIDTHS[-1], n)


def twins(norm, activation):
    """Return a network and the same one in PyTorch, with weights that are neither 1 nor 0."""
    ours = MLP(WIDTHS, norm, activation, seed=3)
    modules = []
    for k in range(len(WIDTHS) - 1):
        modules.append(nn.Linear(WIDTHS[k], WIDTHS[k + 1]))
        if k < len(WIDTHS) - 2:
            modules += [nn.BatchNorm1d(WIDTHS[k + 1])] * norm + [TORCH[activation]()]
    theirs = nn.Sequential(*modules).double()
    for seed, p in enumerate(ours.parameters().values()):
        p += 0.3 * random(*p.shape, seed=seed)
    missing = theirs.load_state_dict(
        {k: torch.from_numpy(p) for k, p in ours.parameters().items()}, strict=False
    )
    assert not missing.unexpected_keys
    assert all("running" in k or "tracked" in k for k in missing.missing_keys)
    return ours, theirs


def torch_loss(theirs, x, labels):
    theirs.zero_grad()
    logits = theirs(torch.from_numpy(x))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    return logits.detach().numpy(), loss.item()


def assert_same_gradients(gradients, theirs):
    want = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert gradients.keys() == want.keys()
    for name, g in gradients.items():
        np.testing.assert_allclose(g, want[name], atol=1e-10, err_msg=name)


@pytest.mark.parametrize(("norm", "activation"), KINDS)
def test_logits_loss_and_gradients_are_pytorchs(norm, activation):
    ours, theirs = twins(norm, activation)
    x, labels = batch()
    logits, want = torch_loss(theirs, x, labels)
    loss, gradients = ours.loss_and_gradient(x, labels)
    np.testing.assert_allclose(loss, want, atol=1e-10)
    np.testing.assert_allclose(ours.forward(x, True), logits, atol=1e-10)
    assert_same_gradients(gradients, theirs)


@pytest.mark.parametrize(("norm", "activation"), KINDS)
def test_five_steps_and_inference_are_pytorchs(norm, activation):
    ours, theirs = twins(norm, activation)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3)
    for seed in range(5):
        x, labels = batch(seed)
        torch_loss(theirs, x, labels)
        optimizer.step()
        ours.loss_and_gradient(x, labels)
        ours.step(0.3)
    state = theirs.state_dict()
    for name, p in ours.parameters().items():
        np.testing.assert_allclose(p, state[name], atol=1e-10, err_msg=name)
    if norm:
        np.testing.assert_allclose(ours.layers[1].running.mean, state["1.running_mean"], atol=1e-10)
        np.testing.assert_allclose(ours.layers[4].running.var, state["4.running_var"], atol=1e-10)
        assert ours.layers[1].running.count == state["1.num_batches_tracked"]
    theirs.eval()
    x, labels = batch(9, n=1)
    logits, want = torch_loss(theirs, x, labels)
    np.testing.assert_allclose(ours.forward(x), logits, atol=1e-10)
    loss, gradients = ours.loss_and_gradient(x, labels, training=False)
    np.testing.assert_allclose(loss, want, atol=1e-10)
    assert_same_gradients(gradients, theirs)


def test_inference_moves_no_statistics_and_training_does():
    network = MLP(WIDTHS)
    before = network.layers[1].running
    network.forward(batch()[0])
    assert network.layers[1].running is before
    network.forward(batch()[0], training=True)
    assert np.abs(network.layers[1].running.mean - before.mean).min() > 0


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_with_respect_to_the_input(training, activation):
    network = MLP(WIDTHS, activation=activation)

    def backward(dy, x):
        network.forward(x, training)
        return network.backward(dy)

    report = check_gradient(lambda x: network.forward(x, training), backward, batch()[0])
    assert report.passed, str(report)
    assert not report.vacuous


def test_softmax_cross_entropy_is_pytorchs():
    logits, labels = 5 * random(8, 4), np.arange(8) % 4
    t = torch.from_numpy(logits).requires_grad_()
    want = nn.functional.cross_entropy(t, torch.from_numpy(labels))
    want.backward()
    loss, dlogits = softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(loss, want.item(), rtol=1e-14)
    np.testing.assert_allclose(dlogits, t.grad, atol=1e-15)
    np.testing.assert_allclose(dlogits.sum(1), 0, atol=1e-15)


def test_huge_logits_do_not_overflow():
    loss, dlogits = softmax_cross_entropy(np.array([[1e4, 0.0], [-1e4, 1e4]]), np.array([1, 1]))
    assert loss == 5000
    np.testing.assert_array_equal(dlogits, [[0.5, -0.5], [0, 0]])
    np.testing.assert_array_equal(
        MLP((1, 1, 1), False, "sigmoid").layers[1].forward(np.array([-1e4, 1e4]), True), [0, 1]
    )


def test_the_seed_decides_the_weights():
    one, same, other = (MLP(WIDTHS, seed=s).parameters() for s in (1, 1, 2))
    for name, p in one.items():
        np.testing.assert_array_equal(p, same[name])
    assert np.abs(one["0.weight"] - other["0.weight"]).min() > 0
    assert np.abs(one["0.weight"]).max() <= 5**-0.5


def test_the_seed_is_0_unless_given():
    for name, p in MLP(WIDTHS).parameters().items():
        np.testing.assert_array_equal(p, MLP(WIDTHS, seed=0).parameters()[name])


def test_any_number_of_layers_has_the_widths_given():
    shapes = [p.shape for name, p in MLP((3, 4, 5, 6, 7, 2), False).parameters().items() if "weight" in name]
    assert shapes == [(4, 3), (5, 4), (6, 5), (7, 6), (2, 7)]


def test_batch_norm_takes_eps_and_momentum_as_pytorch():
    ours, theirs = BatchNorm(3, eps=0.5, momentum=0.7), nn.BatchNorm1d(3, eps=0.5, momentum=0.7).double()
    for training in (True, False):
        x, dy = random(6, 3, seed=1), random(6, 3, seed=2)
        theirs.train(training).zero_grad()
        x_torch = torch.from_numpy(x).requires_grad_()
        y = theirs(x_torch)
        y.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(ours.forward(x, training), y.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(ours.backward(dy), x_torch.grad.numpy(), atol=1e-12)
        np.testing.assert_allclose(ours.gradients["weight"], theirs.weight.grad.numpy(), atol=1e-12)
        np.testing.assert_allclose(ours.running.var, theirs.running_var.numpy(), atol=1e-12)


def test_the_derivative_of_relu_at_0_is_0():
    relu = ReLU()
    relu.forward(np.array([-1.0, 0.0, 1.0]), True)
    np.testing.assert_array_equal(relu.backward(np.ones(3)), [0, 0, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype):
    network = MLP(WIDTHS, dtype=dtype)
    x, labels = batch()
    _, gradients = network.loss_and_gradient(x.astype(dtype), labels)
    network.step(0.1)
    assert {g.dtype for g in [*gradients.values(), *network.parameters().values()]} == {np.dtype(dtype)}
    assert network.forward(x.astype(dtype)).dtype == network.layers[1].running.var.dtype == dtype


def test_it_learns_to_name_clothes():
    x, y, x_test, y_test = fashion_mnist()
    x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    network, rng = MLP((196, 64, 64, 10), dtype=np.float32), np.random.default_rng(0)
    for lr in (0.1, 0.1, 0.01):
        for rows in np.array_split(rng.permutation(len(x)), len(x) // 50):
            network.loss_and_gradient(x[rows], y[rows])
            network.step(lr)
    assert np.mean(network.forward(x_test).argmax(1) == y_test) > 0.8


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MLP((3,)), ValueError, r"expected 2 widths or more, each at least 1, got \(3,\)"),
        (lambda: MLP((3, 0, 2)), ValueError, r"expected 2 widths or more, each at least 1, got \(3, 0, 2\)"),
        (
            lambda: MLP((3, 2), activation="gelu"),
            ValueError,
            "expected activation relu, sigmoid, tanh, got 'gelu'",
        ),
        (lambda: softmax_cross_entropy([[1.0]], np.zeros(1, int)), TypeError, "expected logits .*, got list"),
        (lambda: softmax_cross_entropy(random(2, 3), [0, 1]), TypeError, "expected labels .*, got list"),
        (
            lambda: softmax_cross_entropy(random(2, 3), np.zeros(2)),
            TypeError,
            "labels to be .* integers, got",
        ),
        (
            lambda: softmax_cross_entropy(random(2, 3), np.zeros(3, int)),
            ValueError,
            r"\(N,\), got \(2, 3\) and \(3,\)",
        ),
        (
            lambda: softmax_cross_entropy(random(2, 3), np.array([0, 3])),
            ValueError,
            "labels 0 to 2, got 0 to 3",
        ),
        (
            lambda: softmax_cross_entropy(random(2, 3), np.array([-1, 0])),
            ValueError,
            "labels 0 to 2, got -1 to 0",
        ),
        (
            lambda: softmax_cross_entropy(np.ones((0, 3)), np.zeros(0, int)),
            ValueError,
            r"got \(0, 3\) and \(0,\)",
        ),
        (lambda: MLP((3, 2, 2)).forward(random(1, 3), True), ValueError, "more than 1 value per channel"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_initial_weights_fill_their_interval_and_have_no_gradients():
    layer = Linear(16, 500, np.random.default_rng(0))
    for p in layer.parameters.values():
        assert -0.25 < p.min() < -0.24
        assert 0.24 < p.max() < 0.25
    assert layer.gradients == BatchNorm(3).gradients == {}
