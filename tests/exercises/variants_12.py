"""Correct answers to the exercises of chapter 12 that look different from the solutions."""

from itertools import combinations

import numpy as np


def mean_by_deviations(x, m):
    d = x - np.mean(x, axis=0)
    return (d * d).sum(axis=0) / (len(x) * m)


def mean_by_moments(x, m):
    return ((x**2).mean(0) - x.mean(0) ** 2) / m


def mean_in_float32(x, m):
    return (x.astype(np.float32).std(axis=0) / np.sqrt(np.float32(m))) ** 2


def all_subsets(x, m):
    means = [x[list(rows)].mean(axis=0) for rows in combinations(range(len(x)), m)]
    return np.var(means, axis=0)


def unbiased_with_its_factor(x, m):
    return x.var(axis=0, ddof=1) / m * (1 - m / len(x))


def by_the_covariance(x, m):
    var = x.var(0)
    covariance = -var / (len(x) - 1)
    return (m * var + m * (m - 1) * covariance) / m**2


def slopes_by_polyfit(m, noise):
    return np.polyfit(np.log2(m), np.log2(noise).T, 1)[0]


def slopes_by_lstsq(m, noise):
    design = np.stack([np.log(m), np.ones(len(m))], axis=1)
    return np.linalg.lstsq(design, np.log(noise).T, rcond=None)[0][0]


def slopes_one_by_one(m, noise):
    u = np.log10(m)
    return np.array([np.cov(u, np.log10(row))[0, 1] / u.var(ddof=1) for row in noise])


def change_by_hand(train, test, other_train, other_test):
    d = (train - other_train) - (test - other_test)
    n = len(d)
    mean = sum(d) / n
    return mean, (sum((d - mean) ** 2) / (n * (n - 1))) ** 0.5


def change_as_array(train, test, other_train, other_test):
    d = train - test - other_train + other_test
    return np.array([d.mean(), np.sqrt(d.var(ddof=1) / d.size)])


def change_from_parts(train, test, other_train, other_test):
    gap, other = train - test, other_train - other_test
    covariance = np.cov(gap, other)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return gap.mean() - other.mean(), np.sqrt(variance / len(gap))


def shift_by_mean_and_variance(x, p):
    c, v = x.mean(0), x.var(0)
    return v / ((c**2 + v) / (1 - p) - c**2)


def shift_by_added_variance(x, p):
    v = np.var(x, axis=0)
    return v / (v + p / (1 - p) * np.mean(x * x, axis=0))


def shift_by_both_outcomes(x, p):
    """Enumerate: each value kept with weight 1 - p, or dropped with weight p."""
    outcomes = np.concatenate([x / (1 - p), np.zeros_like(x)])
    weights = np.repeat([1 - p, p], len(x)) / len(x)
    mean = weights @ outcomes
    return x.var(axis=0) / (weights @ (outcomes - mean) ** 2)


CORRECT = {
    "12.1": [mean_by_deviations, mean_by_moments, mean_in_float32],
    "12.2": [all_subsets, unbiased_with_its_factor, by_the_covariance],
    "12.3": [slopes_by_polyfit, slopes_by_lstsq, slopes_one_by_one],
    "12.4": [change_by_hand, change_as_array, change_from_parts],
    "12.5": [shift_by_mean_and_variance, shift_by_added_variance, shift_by_both_outcomes],
}
