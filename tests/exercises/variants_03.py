"""Correct answers to the exercises of chapter 3 that look different from the solutions."""

import math

import numpy as np

import bnlib.reference as reference


def variance_shifted(x):
    d = x - x[0]
    return (d * d).mean(axis=0) - d.mean(axis=0) ** 2


def variance_by_column(x):
    columns = []
    for column in x.T:
        mean = math.fsum(column) / len(column)
        columns.append(math.fsum((value - mean) ** 2 for value in column) / len(column))
    return np.array(columns)


def variance_in_place_on_a_copy(x):
    x = x.copy()
    x -= x.mean(axis=0, keepdims=True)
    return np.einsum("mc,mc->c", x, x) / x.shape[0]


def step_by_merge(count, mean, m2, x):
    one = reference.Moments(1, x, np.zeros_like(x))
    return tuple(reference.merge(reference.Moments(count, mean, m2), one))


def step_by_weights(count, mean, m2, x):
    n = count + 1
    return n, (count * mean + x) / n, m2 + (x - mean) ** 2 * count / n


def step_in_float32(count, mean, m2, x):
    mean, m2, x = (np.array(value, np.float32) for value in (mean, m2, x))
    old = x - mean
    mean += old / np.float32(count + 1)
    m2 += old * (x - mean)
    return [count + 1, mean, m2]


def merge_sums(count_a, mean_a, var_a, count_b, mean_b, var_b):
    n = count_a + count_b
    delta = mean_b - mean_a
    m2 = var_a * count_a + var_b * count_b + delta**2 * count_a * count_b / n
    return mean_a + delta * count_b / n, m2 / n


def merge_second_moments(count_a, mean_a, var_a, count_b, mean_b, var_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    square = (count_a * (var_a + mean_a**2) + count_b * (var_b + mean_b**2)) / n
    return mean, square - mean**2


def merge_from_the_common_mean(count_a, mean_a, var_a, count_b, mean_b, var_b):
    weights = np.array([count_a, count_b])
    means, variances = np.stack([mean_a, mean_b]), np.stack([var_a, var_b])
    mean = np.average(means, axis=0, weights=weights)
    return [mean, np.average(variances + (means - mean) ** 2, axis=0, weights=weights)]


CORRECT = {
    "3.1": [
        variance_shifted,
        variance_by_column,
        variance_in_place_on_a_copy,
        lambda x: reference.moments(x, 0)[1],
        lambda x: np.diag(np.atleast_2d(np.cov(x.T, ddof=0))),
    ],
    "3.2": [step_by_merge, step_by_weights, step_in_float32],
    "3.3": [merge_sums, merge_second_moments, merge_from_the_common_mean],
    "3.4": [0.0625, 1 / 16, np.float32(0.0625), lambda: 2.0**-4],
}
