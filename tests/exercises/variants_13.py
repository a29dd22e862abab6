"""Correct answers to the exercises of chapter 13 that look different from the solutions."""

import math

import numpy as np
from scipy import stats
from scipy.special import beta, gammaln

from bnlib.reference import batch_norm, batch_renorm


def inverse_by_logarithms(m):
    return np.exp(gammaln((m - 2) / 2) - gammaln((m - 1) / 2)) * (m / 2) ** 0.5


def inverse_by_beta(m):
    return math.sqrt(m / (2 * math.pi)) * beta((m - 2) / 2, 0.5)


def inverse_by_integration(m):
    chi = stats.chi(m - 1)
    return math.sqrt(m) * chi.expect(lambda s: 1 / s)


def two_by_definition(x, eps):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)


def two_by_broadcast(x, eps):
    d = np.diff(x, axis=0) / 2
    return np.array([[-1.0], [1.0]]) * d / np.hypot(d, eps**0.5)


def two_by_reference(x, eps):
    return batch_norm(x, eps=eps)


def renorm_by_reference(x, mean, var, r_max, d_max, eps):
    return batch_renorm(x, mean, var, r_max=r_max, d_max=d_max, eps=eps)


def renorm_by_minimum(x, mean, var, r_max, d_max, eps):
    a, b = (x.var(0) + eps) ** 0.5, (var + eps) ** 0.5
    r = np.minimum(np.maximum(a / b, 1 / r_max), r_max)
    d = np.maximum(np.minimum((x.mean(0) - mean) / b, d_max), -d_max)
    return d + r * (x - x.mean(0)) / a


def renorm_by_logarithms(x, mean, var, r_max, d_max, eps):
    log_r = 0.5 * (np.log(x.var(0) + eps) - np.log(var + eps))
    r = np.exp(np.clip(log_r, -np.log(r_max), np.log(r_max)))
    d = d_max * np.clip((x.mean(0) - mean) / np.sqrt(var + eps) / d_max, -1, 1)
    return batch_norm(x, eps=eps) * r + d


def momentum_by_logarithms(momentum, n, N):
    return -np.expm1(n / N * np.log1p(-momentum))


def momentum_by_bisection(momentum, n, N):
    low, high = 0.0, 1.0
    for _ in range(60):
        a = (low + high) / 2
        if (1 - a) ** (N / n) > 1 - momentum:
            low = a
        else:
            high = a
    return a


def momentum_by_root(momentum, n, N):
    return 1 - math.pow(math.pow(1 - momentum, n), 1 / N)


CORRECT = {
    "13.1": [inverse_by_logarithms, inverse_by_beta, inverse_by_integration],
    "13.2": [two_by_definition, two_by_broadcast, two_by_reference],
    "13.3": [renorm_by_reference, renorm_by_minimum, renorm_by_logarithms],
    "13.4": [momentum_by_logarithms, momentum_by_bisection, momentum_by_root],
    "13.5": [math.sqrt(math.pi / 2), 1.2533, np.float32(1.2533), lambda: 1.25331],
}
