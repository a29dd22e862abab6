"""Correct answers to the exercises of chapter 16 that look different from the solutions."""

import numpy as np
import torch

import bnlib.reference as reference


def statistics_of_an_array(shape, axes):
    means = np.zeros(shape).mean(axis=tuple(axes))
    return np.size(means), np.prod(shape) // np.size(means)


def statistics_one_by_one(shape, axes):
    count = m = 1
    for a, length in enumerate(shape):
        if a in axes:
            m *= length
        else:
            count *= length
    return count, m


def statistics_as_array(shape, axes):
    m = int(np.prod(np.take(shape, axes)))
    return np.array([int(np.prod(shape)) // m, m])


def groups_in_loops(x, groups, gamma, beta, eps):
    y = np.empty_like(x)
    size = x.shape[1] // groups
    for sample, out in zip(x, y, strict=True):
        for start in range(0, x.shape[1], size):
            part = sample[start : start + size]
            out[start : start + size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return y * gamma.reshape(1, -1, 1, 1) + beta.reshape(1, -1, 1, 1)


def groups_by_split(x, groups, gamma, beta, eps):
    parts = [reference.layer_norm(part, eps=eps) for part in np.split(x, groups, axis=1)]
    return gamma[:, None, None] * np.concatenate(parts, axis=1) + beta[:, None, None]


def groups_as_rows(x, groups, gamma, beta, eps):
    rows = x.reshape(len(x) * groups, -1)
    rows = rows - rows.mean(axis=1)[:, None]
    rows /= np.sqrt((rows**2).mean(axis=1) + eps)[:, None]
    return np.einsum("nchw,c->nchw", rows.reshape(x.shape), gamma) + beta[None, :, None, None]


def groups_by_pytorch(x, groups, gamma, beta, eps):
    tensors = [torch.from_numpy(a.copy()) for a in (x, gamma, beta)]
    return torch.nn.functional.group_norm(tensors[0], groups, *tensors[1:], eps).numpy()


def rms_by_lengths(x, gamma, eps):
    lengths = np.linalg.norm(x, axis=1)
    return x * gamma / np.sqrt(lengths**2 / x.shape[1] + eps)[:, None]


def rms_by_moments(x, gamma, eps):
    return x * gamma * (x.var(1) + x.mean(1) ** 2 + eps)[:, None] ** -0.5


def rms_row_by_row(x, gamma, eps):
    return np.stack([gamma * row / np.sqrt(row @ row / len(row) + eps) for row in x])


def backward_by_jacobians(dy, x, gamma, eps):
    rows = zip(gamma * dy, x, strict=True)
    return np.stack([g @ reference.jacobian(row, eps=eps) for g, row in rows])


def backward_transposed(dy, x, gamma, eps):
    x, g = x.T, (dy * gamma).T
    std = np.sqrt(x.var(0) + eps)
    x_hat = (x - x.mean(0)) / std
    return ((g - g.mean(0) - x_hat * (g * x_hat).mean(0)) / std).T


def backward_by_autograd(dy, x, gamma, eps):
    t = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.layer_norm(t, x.shape[1:], torch.tensor(gamma), eps=eps)
    y.backward(torch.tensor(dy))
    return t.grad.numpy()


def weights_row_by_row(v, g, dw):
    dv, dg = np.empty_like(v), np.empty_like(g)
    for c, row in enumerate(v):
        length = np.linalg.norm(row)
        dg[c] = dw[c] @ row / length
        dv[c] = g[c] / length * (np.eye(len(row)) - np.outer(row, row) / length**2) @ dw[c]
    return dv, dg


def weights_by_autograd(v, g, dw):
    v, g = torch.tensor(v, requires_grad=True), torch.tensor(g, requires_grad=True)
    (g[:, None] * v / v.norm(dim=1, keepdim=True)).backward(torch.tensor(dw))
    return v.grad.numpy(), g.grad.numpy()


def weights_as_in_the_paper(v, g, dw):
    norm = np.linalg.norm(v, axis=1)
    dg = np.einsum("ck,ck->c", dw, v) / norm
    return (g / norm)[:, None] * dw - (g * dg / norm**2)[:, None] * v, dg


CORRECT = {
    "16.1": [statistics_of_an_array, statistics_one_by_one, statistics_as_array],
    "16.2": [groups_in_loops, groups_by_split, groups_as_rows, groups_by_pytorch],
    "16.3": [rms_by_lengths, rms_by_moments, rms_row_by_row],
    "16.4": [backward_by_jacobians, backward_transposed, backward_by_autograd],
    "16.5": [weights_row_by_row, weights_by_autograd, weights_as_in_the_paper],
}
