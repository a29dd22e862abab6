"""Correct answers to the exercises of chapter 11 that look different from the solutions."""

import numpy as np
import torch

import bnlib.reference as reference
from bnlib.lab import probes


def growth_by_logarithms(squares):
    steps = np.diff(np.log(squares))
    return np.exp(-steps.mean())


def growth_by_product(squares):
    factors = squares[:-1] / squares[1:]
    return np.prod(factors) ** (1 / factors.size)


def growth_of_norms(squares):
    norms = np.sqrt(squares)
    return (norms[0] / norms[-1]) ** (2 / (norms.size - 1))


def sigmoid_by_exponentials(z, c):
    return c * np.mean(np.exp(-2 * z) / (1 + np.exp(-z)) ** 4)


def sigmoid_by_tanh(z, c):
    return c * np.mean(((1 - np.tanh(z / 2) ** 2) / 4) ** 2)


def sigmoid_by_difference(z, c):
    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    return c * (((sigmoid(z + 1e-5) - sigmoid(z - 1e-5)) / 2e-5) ** 2).sum() / z.size


def layers_by_counting(m, factor):
    grown, layers = 1.0, 0
    while grown < factor:
        grown *= reference.linear_growth(m)
        layers += 1
    return layers


def layers_by_search(m, factor):
    return np.argmax(((m - 2) / (m - 3)) ** np.arange(10_000.0).clip(max=700) >= factor)


def shares_by_loop(start, added):
    found, variance = [], start
    for one in added:
        variance += one
        found.append(one / variance)
    return np.array(found)


def shares_of_the_rest(start, added):
    before = start + np.concatenate([[0.0], np.cumsum(added)[:-1]])
    return 1 - before / (before + added)


def shares_by_matrix(start, added):
    return added / (np.tril(np.ones((len(added),) * 2)) @ added + start)


def soft_rank_by_eigenvalues(H, tau):
    return np.count_nonzero(np.linalg.eigvalsh(H.T @ H / H.shape[0]) >= tau)


def soft_rank_by_norm(H, tau):
    return sum(s >= np.sqrt(tau) for s in np.linalg.svd(H / np.sqrt(len(H)))[1])


def soft_rank_by_the_lab(H, tau):
    return int(probes.soft_rank(torch.tensor(H), tau))


CORRECT = {
    "11.1": [growth_by_logarithms, growth_by_product, growth_of_norms],
    "11.2": [sigmoid_by_exponentials, sigmoid_by_tanh, sigmoid_by_difference],
    "11.3": [
        layers_by_counting,
        layers_by_search,
        lambda m, factor: -(-np.log2(factor) // np.log2((m - 2) / (m - 3))),
    ],
    "11.4": [shares_by_loop, shares_of_the_rest, shares_by_matrix],
    "11.5": [soft_rank_by_eigenvalues, soft_rank_by_norm, soft_rank_by_the_lab],
}
