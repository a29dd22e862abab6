"""Correct answers to the exercises of chapter 14 that look different from the solutions."""

import numpy as np


def transient_by_recursion(u, m, v, T):
    means, variances = [0.0], [0.0]
    for _ in range(T):
        means.append(u * means[-1] + m)
        variances.append(u * u * variances[-1] + v)
    return np.array(means[1:]), np.array(variances[1:])


def transient_by_sums(u, m, v, T):
    powers = u ** np.arange(T)
    return m * np.cumsum(powers), v * np.cumsum(powers**2)


def transient_stacked(u, m, v, T):
    power = np.power(u, np.arange(T) + 1)
    return np.stack([m * (power - 1) / (u - 1), v * (power**2 - 1) / (u**2 - 1)])


def shared_by_running(means, variances, momentum):
    mean, var = np.zeros(means.shape[1]), np.ones(means.shape[1])
    for _ in range(2000):
        for m, v in zip(means, variances, strict=True):
            mean = mean + momentum * (m - mean)
            var = var + momentum * (v - var)
    return mean, var


def shared_by_average(means, variances, momentum):
    weights = [(1 - momentum) ** -t for t in range(len(means))]
    return np.average(means, axis=0, weights=weights), np.average(variances, axis=0, weights=weights)


def shared_by_fixed_point(means, variances, momentum):
    kept = (1 - momentum) ** len(means)
    seen = momentum * (1 - momentum) ** np.arange(len(means))[::-1]
    return np.stack([(seen[:, None] * each).sum(0) / (1 - kept) for each in (means, variances)])


def moments_by_step(a, lengths):
    there = [a[lengths > t, t] for t in range(a.shape[1])]
    return np.stack([x.mean(0) for x in there]), np.stack([x.var(0) for x in there])


def moments_by_nan(a, lengths):
    x = np.where(np.arange(a.shape[1])[:, None] < lengths[:, None, None], a, np.nan)
    return np.nanmean(x, axis=0), np.nanvar(x, axis=0)


def moments_by_mean_square(a, lengths):
    n = (lengths > np.arange(a.shape[1])[:, None]).sum(1)[:, None]
    mean = a.sum(0) / n
    return mean, (a**2).sum(0) / n - mean**2


def padding_by_mean_square(mean, var, share):
    return share * mean, share * (var + mean**2) - (share * mean) ** 2


def padding_by_groups(mean, var, share):
    new = share * mean
    return new, share * (var + (mean - new) ** 2) + (1 - share) * new**2


def padding_by_points(mean, var, share):
    """Let a share of two points stand for the real values."""
    points = np.stack([mean - var**0.5, mean + var**0.5, 0 * mean])
    weights = np.array([share / 2, share / 2, 1 - share])
    new = weights @ points
    return new, weights @ (points - new) ** 2


def factor_by_cosh(z, gamma_h, gamma_x):
    a = z * np.hypot(gamma_h, gamma_x)
    return gamma_h**2 * np.sum(np.cosh(a) ** -4.0) / np.sum(np.tanh(a) ** 2)


def factor_by_numbers(z, gamma_h, gamma_x):
    s = (gamma_h**2 + gamma_x**2) ** 0.5
    slopes = sum((1 - np.tanh(s * v) ** 2) ** 2 for v in z)
    return gamma_h * gamma_h * slopes / sum(np.tanh(s * v) ** 2 for v in z)


def factor_by_parts(z, gamma_h, gamma_x):
    h = np.tanh(np.sqrt(np.square([gamma_h, gamma_x]).sum()) * z)
    q = h @ h / len(z)
    return np.array(gamma_h**2 * np.mean((1 - h * h) ** 2) / q)


CORRECT = {
    "14.1": [transient_by_recursion, transient_by_sums, transient_stacked],
    "14.2": [shared_by_running, shared_by_average, shared_by_fixed_point],
    "14.3": [moments_by_step, moments_by_nan, moments_by_mean_square],
    "14.4": [padding_by_mean_square, padding_by_groups, padding_by_points],
    "14.5": [factor_by_cosh, factor_by_numbers, factor_by_parts],
}
