"""Known mistakes, written as a learner would and not as an edit of the solution."""

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


def share_averaged_variances(x, counts, means, variances, eps):
    mean, var = (np.average(t, axis=0, weights=counts) for t in (means, variances))
    return (x - mean) / np.sqrt(var + eps)


def share_by_half_a_count(x, counts, means, variances, eps):
    mean = np.mean(means, axis=0)
    var = np.average(variances + (means - mean) ** 2, axis=0, weights=counts)
    return (x - mean) / np.sqrt(var + eps)


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
