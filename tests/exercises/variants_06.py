"""Correct answers to the exercises of chapter 6 that look different from the solutions."""

import numpy as np

import bnlib.reference as reference
from bnlib.reference import RunningStatistics, update_running


def update_by_difference(running_mean, running_var, x, momentum):
    n = len(x)
    mean = x.sum(axis=0) / n
    var = ((x - mean) ** 2).sum(axis=0) / (n - 1)
    return running_mean + momentum * (mean - running_mean), running_var + momentum * (var - running_var)


def update_by_the_reference(running_mean, running_var, x, momentum):
    return RunningStatistics(running_mean, running_var).update(x, momentum)[:2]


def update_corrected(running_mean, running_var, x, momentum):
    n = x.shape[0]
    var = n / (n - 1) * np.var(x, axis=0)
    return [
        update_running(running_mean, np.mean(x, axis=0), 1 - momentum, "old"),
        update_running(running_var, var, 1 - momentum, "old"),
    ]


def update_in_place_on_copies(running_mean, running_var, x, momentum):
    stacked = np.stack([running_mean, running_var])
    stacked *= 1 - momentum
    stacked += momentum * np.stack([x.mean(0), x.var(0, ddof=1)])
    return stacked


def steps_by_counting(momentum, share):
    steps, left = 0, 1.0
    while left > share:
        left *= 1 - momentum
        steps += 1
    return steps


def steps_by_search(momentum, share):
    shares = (1 - momentum) ** np.arange(10_000)
    return np.argmax(shares <= share)


def steps_other_base(momentum, share):
    return -(-np.log2(share) // np.log2(1 - momentum))


def evaluate_with_one_scale(x, running_mean, running_var, gamma, beta, eps):
    scale = gamma * (running_var + eps) ** -0.5
    return x * scale + (beta - running_mean * scale)


def evaluate_by_feature(x, running_mean, running_var, gamma, beta, eps):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        y[:, c] = gamma[c] * (x[:, c] - running_mean[c]) / np.sqrt(running_var[c] + eps) + beta[c]
    return y


def evaluate_in_float32(x, running_mean, running_var, gamma, beta, eps):
    x, mean, var = (a.astype(np.float32) for a in (x, running_mean, running_var))
    return gamma * (x - mean) / np.sqrt(var + np.float32(eps)) + beta


def fold_by_diagonal(W, b, mean, var, gamma, beta, eps):
    scale = np.diag(gamma / np.sqrt(var + eps))
    return scale @ W, scale @ b - scale @ mean + beta


def fold_by_probing(W, b, mean, var, gamma, beta, eps):
    """Read the linear map off its values at zero and at the unit vectors."""
    inputs = W.shape[1]
    x = np.vstack([np.zeros((1, inputs)), np.eye(inputs)])
    y = reference.batch_norm_inference(x @ W.T + b, mean, var, gamma, beta, eps=eps)
    return (y[1:] - y[0]).T, y[0]


def fold_transposed(W, b, mean, var, gamma, beta, eps):
    std = (var + eps) ** 0.5
    return (W.T * gamma / std).T, beta + gamma * (b - mean) / std


CORRECT = {
    "6.1": [
        update_by_difference,
        update_by_the_reference,
        update_corrected,
        update_in_place_on_copies,
    ],
    "6.2": [
        steps_by_counting,
        steps_by_search,
        steps_other_base,
        lambda momentum, share: np.array(np.ceil(np.log(share) / np.log1p(-momentum))),
    ],
    "6.3": [
        evaluate_with_one_scale,
        evaluate_by_feature,
        evaluate_in_float32,
        lambda x, m, v, g, b, e: reference.batch_norm_inference(x, m, v, g, b, eps=e),
    ],
    "6.4": [fold_by_diagonal, fold_by_probing, fold_transposed],
    "6.5": [(7 / 8) ** 5, 0.51, np.float32(0.5129), lambda: 0.513],
}
