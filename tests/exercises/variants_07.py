"""Correct answers to the exercises of chapter 7 that look different from the solutions."""

import numpy as np

import bnlib.reference as reference


def fold_by_loop(weight, bias, mean, var, gamma, beta, eps):
    weight, bias = weight.copy(), bias.copy()
    for o in range(len(weight)):
        s = gamma[o] / (var[o] + eps) ** 0.5
        weight[o] *= s
        bias[o] = s * bias[o] + beta[o] - s * mean[o]
    return weight, bias


def fold_by_probing(weight, bias, mean, var, gamma, beta, eps):
    def line(z):
        return reference.batch_norm_inference(z, mean, var, gamma, beta, eps=eps)

    taps = np.moveaxis(weight, 0, 1)
    return np.moveaxis(line(taps) - line(0 * taps), 1, 0), line(bias[None])[0]


def fold_with_einsum(weight, bias, mean, var, gamma, beta, eps):
    scale = gamma * (var + eps) ** -0.5
    return np.einsum("o,oikl->oikl", scale, weight), beta + scale * bias - scale * mean


def fold_float32(*all):
    *arrays, eps = all
    weight, bias, mean, var, gamma, beta = (a.astype(np.float32) for a in arrays)
    scale = gamma / np.sqrt(var + np.float32(eps))
    return weight * scale.reshape(-1, 1, 1, 1), (bias - mean) * scale + beta


def last_by_moving(x, gamma, beta, eps):
    return np.moveaxis(reference.batch_norm(np.moveaxis(x, -1, 1), gamma, beta, eps=eps), 1, -1)


def last_as_a_matrix(x, gamma, beta, eps):
    rows = x.reshape(-1, x.shape[-1])
    rows = gamma * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + beta
    return rows.reshape(x.shape)


def last_by_channel(x, gamma, beta, eps):
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        one = x[..., c]
        y[..., c] = gamma[c] * (one - one.mean()) / np.sqrt(one.var() + eps) + beta[c]
    return y


def gradients_by_reference(dy, x, eps):
    return reference.batch_norm_backward(dy, x, eps=eps)[1:]


def gradients_by_einsum(dy, x, eps):
    x_hat = reference.normalize(x, (0, 2, 3), eps=eps)
    return np.einsum("nchw,nchw->c", dy, x_hat), np.einsum("nchw->c", dy)


def gradients_by_channel(dy, x, eps):
    dgamma, dbeta = [], []
    for c in range(x.shape[1]):
        one = x[:, c]
        dgamma.append(np.sum(dy[:, c] * (one - one.mean())) / np.sqrt(one.var() + eps))
        dbeta.append(dy[:, c].sum())
    return np.array(dgamma), np.array(dbeta)


def size_by_pairs(images, rho):
    pairs = [rho[i, j] for i in range(len(rho)) for j in range(len(rho)) if i != j]
    return images * len(rho) / (1 + (len(rho) - 1) * np.mean(pairs))


CORRECT = {
    "7.1": [fold_by_loop, fold_by_probing, fold_with_einsum, fold_float32],
    "7.2": [last_by_moving, last_as_a_matrix, last_by_channel],
    "7.3": [gradients_by_reference, gradients_by_einsum, gradients_by_channel],
    "7.4": [
        size_by_pairs,
        lambda images, rho: images * len(rho) ** 2 / rho.sum(),
        lambda images, rho: images / rho.mean(),
        lambda images, rho: np.float32(images / (np.ones(len(rho)) @ rho @ np.ones(len(rho)) / rho.size)),
    ],
    "7.5": [20, 20.0, np.float64(20), lambda: 1 + 100 * 0.19],
}
