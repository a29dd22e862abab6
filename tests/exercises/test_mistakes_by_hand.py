"""Known mistakes, written as a learner would and not as an edit of the solution."""

import math

import numpy as np
import pytest

import bnlib.reference as reference
from bnlib.exercises import check


def layer_norm(x, gamma, beta, eps):
    rows = x.T
    return ((rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps)).T * gamma + beta


def sample_variance(x, gamma, beta, eps):
    deviations = x - np.mean(x, 0)
    var = np.sum(deviations**2, 0) / (len(x) - 1)
    return deviations * (gamma / np.sqrt(eps + var)) + beta


def eps_outside_no_shift(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / (x.std(0) + eps)


def images_without_reshape(x, gamma, beta, eps):
    axes = (0, 2, 3)
    x_hat = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return x_hat * gamma + beta


def images_like_a_matrix(x, gamma, beta, eps):
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    return gamma[:, None, None] * x_hat + beta[:, None, None]


def images_layer_norm(x, gamma, beta, eps):
    return reference.normalize(x, (1, 2, 3), eps=eps) * gamma[:, None, None] + beta[:, None, None]


def images_instance_norm(x, gamma, beta, eps):
    y = np.empty_like(x)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            y[n, c] = gamma[c] * (x[n, c] - x[n, c].mean()) / np.sqrt(x[n, c].var() + eps) + beta[c]
    return y


def norm_of_uncentred(x, dy, gamma):
    """Leave the vector of ones out."""
    x_hat = reference.normalize(x, 0, eps=0.0)
    return gamma**2 / np.var(x) * np.sum((dy - x_hat * np.mean(x_hat * dy)) ** 2)


def range_of_unit_steps(H, w, steps):
    unit = H @ w / np.sqrt(np.sum((H @ w) ** 2))
    return np.ptp([(w - d * unit) @ H @ (w - d * unit) / 2 for d in [0, *steps]])


def step_by_layer(W, V, dW, dV, r):
    def step(w, g):
        return w - r * np.linalg.norm(w) * g / np.linalg.norm(g)

    return step(W, dW), step(V, dV)


def log_ratio(before, after):
    return np.mean(abs(np.log(after.std(0) / before.std(0))))


def shift_after_a_whole_step(x, y, W1, W2, lr):
    def gradients(W1, W2):
        error = x @ W1.T @ W2.T - y
        return W2.T @ error.T @ x / len(x), error.T @ (x @ W1.T) / len(x)

    first, second = gradients(W1, W2)
    moved = gradients(W1 - lr * first, W2 - lr * second)[1]
    lengths = np.linalg.norm(second), np.linalg.norm(moved)
    return np.linalg.norm(moved - second) / lengths[0], np.vdot(second, moved) / lengths[0] / lengths[1]


def groups_of_every_other_channel(x, groups, gamma, beta, eps):
    y = np.empty_like(x)
    for first in range(groups):
        part = x[:, first::groups]
        mean, var = (f(part, (1, 2, 3), keepdims=True) for f in (np.mean, np.var))
        y[:, first::groups] = (part - mean) / np.sqrt(var + eps)
    return y * gamma.reshape(-1, 1, 1) + beta.reshape(-1, 1, 1)


def groups_of_so_many_channels(x, groups, gamma, beta, eps):
    return reference.group_norm(x, x.shape[1] // groups, gamma, beta, eps=eps)


def rows_with_their_scale_outside(dy, x, gamma, eps):
    return gamma * reference.layer_norm_backward(dy, x, eps=eps)[0]


def direction_without_a_projection(v, g, dw):
    lengths = np.linalg.norm(v, axis=1)
    return (dw.T * g / lengths).T, np.sum(v * dw, 1) / lengths


def parts_of_neighbours(x, parts):
    blocks = np.array_split(x, parts)
    sizes = np.array([len(b) for b in blocks])
    means = np.stack([b.mean(0) for b in blocks])
    return sizes, means, np.stack([b.var(0) * len(b) for b in blocks])


def shared_and_pooled(means, variances, momentum):
    weights = (1 - momentum) ** -np.arange(len(means))
    mean, square = (np.average(m, axis=0, weights=weights) for m in (means, variances + means**2))
    return mean, square - mean**2


def pooled_variance(a, lengths):
    rows = np.concatenate([row[:length] for row, length in zip(a, lengths, strict=True)])
    return rows.var(0)


def factor(a):
    return np.mean((1 - np.tanh(a) ** 2) ** 2) / np.mean(np.tanh(a) ** 2)


def share_averaged_variances(x, counts, means, variances, eps):
    mean, var = (np.average(t, axis=0, weights=counts) for t in (means, variances))
    return (x - mean) / np.sqrt(var + eps)


def share_by_half_a_count(x, counts, means, variances, eps):
    mean = np.mean(means, axis=0)
    var = np.average(variances + (means - mean) ** 2, axis=0, weights=counts)
    return (x - mean) / np.sqrt(var + eps)


def recomputed_image_statistics(model, images):
    from bnlib.torch.surgery import recompute_statistics

    recompute_statistics(model, images.split(64), progress=False)
    return "batch of one", model


def folded_back(model, images):
    """Fold into the convolution, as if there were no ReLU."""
    conv, relu, pool, flatten, norm, head = model
    s = norm.weight / (norm.running_var + norm.eps).sqrt()
    conv.weight.data = s[:, None, None, None] * conv.weight
    conv.bias.data = s * (conv.bias - norm.running_mean) + norm.bias
    return "folded wrongly", type(model)(conv, relu, pool, flatten, head)


BY_HAND = [
    ("1.1", lambda x: (x - np.mean(x)) / np.std(x), ("one mean for all",)),
    ("1.1", lambda x: ((x.T - x.mean(1)) / x.std(1)).T, ("wrong axis",)),
    ("1.1", lambda x: (x - x.mean(0)) / x.std(0, ddof=1), ("n - 1",)),
    ("1.1", lambda x: x / x.std(0) ** 2, ("mean not subtracted", "divided by variance")),
    ("1.2", np.linalg.cond, ("square root",)),
    ("1.2", lambda x: np.linalg.cond(np.cov(x.T)), ("centred",)),
    ("1.2", lambda x: np.linalg.cond(x @ x.T), ("not transposed",)),
    ("1.2", lambda x: np.linalg.cond(x - x.mean(0)), ("square root", "centred")),
    ("1.2", lambda x: (x**2).sum(0).max() / (x**2).sum(0).min(), ("diagonal",)),
    ("1.3", lambda e: (1 / e.max(), 1 - e.min() / e.max()), ("1/λmax", "rate of 1/λmax")),
    (
        "1.3",
        lambda e: (
            2 / (e.min() + e.max()),
            (np.sqrt(e.max()) - np.sqrt(e.min())) / (np.sqrt(e.max()) + np.sqrt(e.min())),
        ),
        ("momentum",),
    ),
    ("1.4", 9.99, ("square root",)),
    ("2.1", layer_norm, ("per sample",)),
    ("2.1", sample_variance, ("n - 1",)),
    ("2.1", eps_outside_no_shift, ("eps outside", "beta ignored")),
    ("2.1", lambda x, gamma, beta, eps: reference.batch_norm(x, eps=eps), ("gamma ignored", "beta ignored")),
    ("2.2", [3, 1, 2], ("layer norm",)),
    ("2.2", 1, ("kept axis",)),
    ("2.2", (-1, -2), ("instance norm",)),
    ("2.3", images_without_reshape, ("along the width",)),
    ("2.3", images_like_a_matrix, ("samples only",)),
    ("2.3", images_layer_norm, ("layer norm",)),
    ("2.3", images_instance_norm, ("instance norm",)),
    ("2.4", lambda x, eps: (x.std(0), x.mean(0)), ("eps ignored",)),
    ("2.4", lambda x, eps: (x.std(0) + eps, -x.mean(0)), ("eps outside", "beta negative")),
    ("2.4", lambda x, eps: (x.mean(0), np.sqrt(x.var(0) + eps)), ("swapped",)),
    ("2.4", lambda x, eps: (1 / np.sqrt(np.var(x, 0) + eps), x.mean(0)), ("inverse",)),
    ("2.5", 1e-3, ("divided twice",)),
    ("9.1", lambda w, g, a: (a * g, g * np.sqrt(np.sum(w * w))), ("times a",)),
    ("9.1", lambda w, g, a: (g / a, g * np.sqrt((w * w).sum(1))[:, None]), ("norm of rows",)),
    ("9.2", lambda norm, g, eta: norm + eta * np.sum(g), ("lengths added",)),
    ("9.2", lambda norm, g, eta: np.hypot(norm, eta * g.sum()), ("square of the sum",)),
    ("9.3", 0.111, ("divided by 9",)),
    (
        "9.4",
        lambda w, g, eta: (eta / np.sum(w * w), eta * np.linalg.norm(g) / np.linalg.norm(w)),
        ("not arctan",),
    ),
    (
        "9.5",
        lambda eta, decay, g: ((eta * g * g / 2 / decay) ** (1 / 4), (2 * eta * decay) ** 0.5),
        ("small steps", "small angle"),
    ),
    ("9.6", lambda r, x, t: np.ptp(r[x <= np.nanmin(x) + t]), ("difference",)),
    ("10.1", norm_of_uncentred, ("no mean term",)),
    ("10.2", lambda x, mean, std: mean + std * (x - x.mean()) / x.std(ddof=1), ("n - 1",)),
    ("10.3", range_of_unit_steps, ("unit gradient",)),
    ("10.4", step_by_layer, ("each by itself",)),
    ("10.5", 10**-1, ("gradient",)),
    ("8.1", lambda a, b: (np.mean(abs(b.mean(0) - a.mean(0))), log_ratio(a, b)), ("not divided",)),
    (
        "8.1",
        lambda a, b: (np.mean(abs(b.mean(1) - a.mean(1)) / a.std(1)), log_ratio(a.T, b.T)),
        ("per sample",),
    ),
    ("8.2", shift_after_a_whole_step, ("own layer too",)),
    ("8.3", lambda x, g, b, s, m, e: reference.batch_norm(s * x + m, g, b, eps=e), ("before",)),
    ("8.4", "Y", ("after scale and shift",)),
    ("8.5", 0.06 / 0.5, ("new scale",)),
    ("11.1", lambda squares: np.exp(np.diff(np.log(squares)).mean()), ("towards the output",)),
    ("11.1", lambda squares: (squares[0] / squares[-1]) ** (1 / len(squares)), ("one layer too many",)),
    ("11.2", lambda z, c: c / 16, ("steepest slope",)),
    ("11.2", lambda z, c: c * np.mean(np.exp(-z) / (1 + np.exp(-z)) ** 2), ("slope not squared",)),
    ("11.3", lambda m, factor: int(np.log(factor) / np.log((m - 2) / (m - 3))), ("rounded down",)),
    ("11.3", lambda m, factor: np.ceil(np.log(factor) / np.log((m - 1) / (m - 2))), ("one off",)),
    ("11.4", lambda start, added: added / np.cumsum(added), ("start ignored",)),
    ("11.4", lambda start, added: added / (start + sum(added)), ("after all blocks",)),
    ("11.5", lambda H, tau: np.sum(np.linalg.svd(np.cov(H.T, ddof=0))[1] >= tau), ("centred",)),
    ("11.5", lambda H, tau: np.sum(np.linalg.eigvalsh(H.T @ H) >= tau), ("not divided",)),
    ("12.1", lambda x, m: (x.std(0, ddof=1) / np.sqrt(m)) ** 2, ("n - 1",)),
    ("12.2", lambda x, m: x.var(0) / m * (1 - m / len(x)), ("1 - m/N",)),
    ("12.2", lambda x, m: x.var(0) / m, ("no correction",)),
    ("12.3", lambda m, noise: np.polyfit(m, noise.T, 1)[0], ("no logarithms",)),
    ("12.3", lambda m, noise: np.log(noise) @ np.log(m) / (np.log(m) @ np.log(m)), ("through the origin",)),
    (
        "12.4",
        lambda a, b, c, d: ((c - d - a + b).mean(), (a - b - c + d).std(ddof=1) / len(a) ** 0.5),
        ("reversed",),
    ),
    ("12.5", lambda x, p: x.var(0) / (x.var(0) / (1 - p)), ("mean forgotten",)),
    (
        "13.1",
        lambda m: 1 / (math.sqrt(2 / m) * math.gamma(m / 2) / math.gamma((m - 1) / 2)),
        ("inverse of the mean",),
    ),
    ("13.2", lambda x, eps: (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + eps), ("unbiased",)),
    ("13.2", lambda x, eps: np.sign(x - x[::-1]), ("no epsilon",)),
    (
        "13.3",
        lambda x, mean, var, r_max, d_max, eps: (x - mean) / np.sqrt(var + eps),
        ("r unbounded", "d unbounded"),
    ),
    ("13.4", lambda momentum, n, N: momentum * n / N, ("proportional",)),
    ("13.5", np.sqrt(2 / np.pi), ("upside down",)),
    (
        "14.1",
        lambda u, m, v, T: (np.full(T, m / (1 - u)), np.full(T, v / (1 - u * u))),
        ("stationary",),
    ),
    ("14.2", lambda means, variances, momentum: (means.mean(0), variances.mean(0)), ("plain average",)),
    ("14.2", shared_and_pooled, ("pooled",)),
    ("14.3", lambda a, lengths: (a.mean(0), a.var(0)), ("padding counted",)),
    ("14.3", lambda a, lengths: (a.sum((0, 1)) / lengths.sum(), pooled_variance(a, lengths)), ("one set",)),
    ("14.4", lambda mean, var, share: (share * mean, share * var), ("between forgotten",)),
    ("14.4", lambda mean, var, share: (share * mean, share * (var + mean**2)), ("not centred",)),
    ("14.5", lambda z, h, x: (np.cosh(np.hypot(h, x) * z) ** -4.0).mean(), ("slope alone",)),
    ("14.5", lambda z, h, x: h**2 * factor(h * z), ("input ignored",)),
    ("15.1", lambda mean, var, W, b, a, c: (a * mean + c * W.sum(1), a * a * var), ("bias scaled",)),
    (
        "15.2",
        lambda m, v, new_m, new_v, n, N: ((n * m + N * new_m) / (n + N), (n * v + N * new_v) / (n + N)),
        ("weights swapped",),
    ),
    ("15.3", lambda delta, n: (delta**-2 / n, 1 / (delta**-2 + n)), ("N per image",)),
    (
        "15.4",
        lambda model, images: ("stale buffers", model),
        ("stale buffers", "still frozen", "thawed only"),
    ),
    ("15.5", lambda model, images: ("batch of one", model.eval()), ("batch of one",)),
    ("15.6", recomputed_image_statistics, ("many images",)),
    ("15.7", lambda model, images: ("stale buffers", model), ("nothing done",)),
    ("15.8", lambda model, images: ("momentum reversed", model), ("cause kept", "statistics kept")),
    ("15.9", folded_back, ("into the layer before",)),
    ("16.1", lambda shape, axes: (shape[1], math.prod(shape[a] for a in axes)), ("count is C",)),
    (
        "16.1",
        lambda shape, axes: (math.prod(shape[a] for a in set(range(len(shape))) - {*axes}), shape[0]),
        ("m is N",),
    ),
    ("16.2", groups_of_every_other_channel, ("interleaved",)),
    ("16.2", groups_of_so_many_channels, ("channels per group",)),
    (
        "16.2",
        lambda x, n, gamma, beta, eps: reference.instance_norm(x, gamma, beta, eps=eps),
        ("every channel",),
    ),
    ("16.3", lambda x, gamma, eps: reference.layer_norm(x, gamma, eps=eps), ("centred",)),
    ("16.3", lambda x, gamma, eps: x / np.sqrt(np.mean(x * x, 1) + eps)[:, None], ("gamma ignored",)),
    ("16.4", rows_with_their_scale_outside, ("gamma last",)),
    (
        "16.4",
        lambda dy, x, gamma, eps: dy * gamma / np.sqrt(x.var(1) + eps)[:, None],
        ("statistics as constants",),
    ),
    ("16.5", direction_without_a_projection, ("not projected",)),
    ("17.1", lambda shape, size, passes, speed: math.prod(shape) * passes / speed, ("itemsize ignored",)),
    ("17.1", lambda shape, size, passes, speed: size * math.prod(shape) / speed, ("one pass",)),
    ("17.2", parts_of_neighbours, ("blocks",)),
    (
        "17.3",
        lambda n, mean, square: (np.average(mean, 0, n), square.sum(0) / n.sum()),
        ("distance ignored",),
    ),
    (
        "17.3",
        lambda n, mean, square: (mean.mean(0), square.sum(0) / n.sum()),
        ("unweighted", "distance ignored"),
    ),
    ("17.4", 0.57, ("saved",)),
    ("17.5", lambda x, n, block: x[:, : n // block * block].sum(1) / n, ("whole tiles",)),
    ("17.5", lambda x, n, block: x[:, : -(-n // block) * block].sum(1) / n, ("no mask",)),
    ("17.5", lambda x, n, block: x[:, :n].sum(1) / x.shape[1], ("width",)),
    ("18.1", lambda n, mu, m2: (n @ mu / n.sum(), m2.sum(0)), ("within only",)),
    ("18.1", lambda n, mu, m2: (mu.mean(0), m2.sum(0)), ("mean of the means", "within only")),
    ("18.2", lambda dy, x_hat: (dy.sum(0), (dy * x_hat).sum(0)), ("samples only",)),
    ("18.3", lambda dy, x_hat, s, g, a, b, m: g * s * dy, ("statistics detached",)),
    (
        "18.3",
        lambda dy, x_hat, s, g, a, b, m: g * s * (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0)),
        ("own sum of dy", "own sum of dy x_hat"),
    ),
    ("18.4", share_averaged_variances, ("variances averaged",)),
    ("18.4", share_by_half_a_count, ("counts ignored in the mean",)),
    ("18.4", lambda x, n, mu, v, eps: (x - x.mean(0)) / np.sqrt(x.var(0) + eps), ("own statistics",)),
    ("18.5", 1020.5, ("one collective",)),
]


@pytest.mark.parametrize(("id", "answer", "names"), BY_HAND)
def test_mistakes_by_hand_are_named(id, answer, names):
    result = check(id, answer)
    assert not result.passed
    assert result.diagnosis == names, result
