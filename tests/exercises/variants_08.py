"""Correct answers to the exercises of chapter 8 that look different from the solutions."""

import math

import numpy as np
import torch

import bnlib.reference as reference
from bnlib.lab.probes import shift_of_moments


def shift_by_unit(before, after):
    of_mean, of_std = [], []
    for b, a in zip(before.T, after.T, strict=True):
        of_mean.append(abs(a.mean() - b.mean()) / b.std())
        of_std.append(abs(math.log(a.std() / b.std())))
    return sum(of_mean) / len(of_mean), sum(of_std) / len(of_std)


def shift_by_the_probe(before, after):
    sides = [torch.from_numpy(np.stack([h.mean(0), h.std(0)])) for h in (before, after)]
    return shift_of_moments(*sides).numpy()


def shift_by_variances(before, after):
    variances = before.var(0), after.var(0)
    moved = (after - before).mean(0)
    return [
        (abs(moved) / variances[0] ** 0.5).mean(),
        abs(np.log(variances[1]) - np.log(variances[0])).mean() / 2,
    ]


def gradients(x, y, W1, W2):
    x, y, W1, W2 = (torch.tensor(a, dtype=torch.float64) for a in (x, y, W1, W2))
    W1.requires_grad_()
    W2.requires_grad_()
    loss = (x @ W1.T @ W2.T - y).square().sum(1).mean() / 2
    return [g.numpy() for g in torch.autograd.grad(loss, [W1, W2])]


def shift_by_autograd(x, y, W1, W2, lr):
    first, second = gradients(x, y, W1, W2)
    moved = gradients(x, y, W1 - lr * first, W2)[1]
    a, b = second.ravel(), moved.ravel()
    return math.dist(a, b) / math.hypot(*a), a @ b / math.hypot(*a) / math.hypot(*b)


def shift_by_the_law_of_cosines(x, y, W1, W2, lr):
    first, second = gradients(x, y, W1, W2)
    moved = gradients(x, y, W1 - lr * first, W2)[1]
    ratio = np.linalg.norm(moved) / np.linalg.norm(second)
    unit, other = (g / np.linalg.norm(g) for g in (second, moved))
    cosine = np.vdot(unit, other)
    return np.array([np.sqrt(1 + ratio**2 - 2 * ratio * cosine), cosine])


def shift_by_einsum(x, y, W1, W2, lr):
    def error(W1):
        return (np.einsum("ni,hi,oh->no", x, W1, W2) - y) / x.shape[0]

    def second(W1):
        return np.einsum("no,ni,hi->oh", error(W1), x, W1)

    step = lr * np.einsum("no,oh,ni->hi", error(W1), W2, x)
    g, moved = second(W1), second(W1 - step)
    length, other = np.sqrt((g**2).sum()), np.sqrt((moved**2).sum())
    return np.sqrt(((moved - g) ** 2).sum()) / length, (g * moved).sum() / length / other


def noisy_by_unit(x, gamma, beta, s, m, eps):
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        x_hat = (x[:, c] - x[:, c].mean()) / np.sqrt(x[:, c].var() + eps)
        out[:, c] = s[c] * (gamma[c] * x_hat + beta[c]) + m[c]
    return out


CORRECT = {
    "8.1": [shift_by_unit, shift_by_the_probe, shift_by_variances],
    "8.2": [shift_by_autograd, shift_by_the_law_of_cosines, shift_by_einsum],
    "8.3": [
        noisy_by_unit,
        lambda x, g, b, s, m, eps: s * reference.batch_norm(x, g, b, eps=eps) + m,
        lambda x, g, b, s, m, eps: reference.batch_norm(x, s * g, s * b + m, eps=eps),
    ],
    "8.4": ["x_hat", " X_hat ", lambda: "x_hat"],
    "8.5": [0.15, 3 / 20, np.float32(0.15), lambda: 0.06 / 0.4],
}
