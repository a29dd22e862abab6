"""Correct answers to the exercises of chapter 17 that look different from the solutions."""

import math

import numpy as np

from bnlib.reference import Moments, merge_all


def time_by_rate(shape, itemsize, passes, bandwidth):
    values_per_second = bandwidth / itemsize
    return passes * math.prod(shape) / values_per_second


def time_by_zeros(shape, itemsize, passes, bandwidth):
    return np.zeros(shape, f"f{itemsize}").nbytes / bandwidth * passes


def first_by_masks(x, parts):
    turn = np.arange(len(x)) % parts
    n = np.bincount(turn)
    mean = np.stack([x[turn == p].mean(0) for p in range(parts)])
    square = np.stack([n[p] * x[turn == p].var(0) for p in range(parts)])
    return n, mean, square


def first_by_padding(x, parts):
    steps = -(-len(x) // parts)
    padded = np.full((steps * parts, x.shape[1]), np.nan)
    padded[: len(x)] = x
    tiles = padded.reshape(steps, parts, -1)
    n = (~np.isnan(tiles[..., 0])).sum(0)
    return n, np.nanmean(tiles, 0), n[:, None] * np.nanvar(tiles, 0)


def first_in_a_loop(x, parts):
    n, total = [0] * parts, np.zeros((parts, x.shape[1]))
    for i, row in enumerate(x):
        n[i % parts] += 1
        total[i % parts] += row
    mean = total / np.array(n)[:, None]
    square = np.zeros_like(mean)
    for i, row in enumerate(x):
        square[i % parts] += (row - mean[i % parts]) ** 2
    return np.array(n), mean, square


def second_by_raw_moments(n, mean, square):
    m = n.sum()
    total = n @ mean / m
    return total, (square.sum(0) + n @ mean**2) / m - total**2


def second_one_by_one(n, mean, square):
    count, center, about = n[0], mean[0], square[0]
    for k in range(1, len(n)):
        both, d = count + n[k], mean[k] - center
        about = about + square[k] + d**2 * count * n[k] / both
        center, count = center + d * n[k] / both, both
    return center, about / count


def second_by_average(n, mean, square):
    total = np.average(mean, axis=0, weights=n)
    return [total, np.average(square / n[:, None] + (mean - total) ** 2, axis=0, weights=n)]


def second_by_the_reference(n, mean, square):
    found = merge_all([Moments(int(k), m, s) for k, m, s in zip(n, mean, square, strict=True)])
    return found.mean, found.m2 / found.count


def means_of_masked_tiles(x, n, block):
    tiles = -(-n // block)
    masked = np.where(np.arange(x.shape[1]) < n, x, 0)[:, : tiles * block]
    return masked.reshape(len(x), tiles, block).sum(2).sum(1) / n


CORRECT = {
    "17.1": [time_by_rate, time_by_zeros, lambda s, i, p, b: float(np.multiply.reduce(s)) * i / b * p],
    "17.2": [first_by_masks, first_by_padding, first_in_a_loop],
    "17.3": [second_by_raw_moments, second_one_by_one, second_by_average, second_by_the_reference],
    "17.4": [3 / 7, 0.43, np.float32(0.4286), lambda: 0.43],
    "17.5": [
        means_of_masked_tiles,
        lambda x, n, block: x[:, :n].mean(-1),
        lambda x, n, block: x[:, :n] @ np.full(n, 1 / n),
    ],
}
