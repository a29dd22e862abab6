"""For each exercise, correct answers that look different from the solution."""

import numpy as np
import variants_03
import variants_04
import variants_05
import variants_06
import variants_07
import variants_08
import variants_09
import variants_10
import variants_11
import variants_12
import variants_13
import variants_14
import variants_15
import variants_16
import variants_17
import variants_18

import bnlib.reference as reference


def scores(x):
    out = np.empty_like(x)
    for j in range(x.shape[1]):
        out[:, j] = (x[:, j] - np.mean(x[:, j])) / np.std(x[:, j])
    return out


def standardize_in_place_on_a_copy(x):
    x = x.copy()
    x -= x.mean(axis=0)
    x /= np.sqrt((x**2).mean(axis=0))
    return x


def one_pass(x, gamma, beta, eps):
    mean = x.sum(axis=0) / len(x)
    var = (x * x).sum(axis=0) / len(x) - mean**2
    scale = gamma / np.sqrt(var + eps)
    return x * scale + (beta - mean * scale)


def batch_norm_in_place_on_a_copy(x, gamma, beta, eps):
    y = np.array(x)
    y -= np.mean(y, axis=0)
    y *= gamma * (np.mean(y**2, axis=0) + eps) ** -0.5
    y += beta
    return y


def batch_norm_float32(x, gamma, beta, eps):
    x = x.astype(np.float32)
    mean, var = x.mean(axis=0), x.var(axis=0)
    return gamma.astype(np.float32) * (x - mean) / np.sqrt(var + np.float32(eps)) + beta.astype(np.float32)


def batch_norm_keepdims(x, gamma, beta, eps):
    return gamma * (x - x.mean(0, keepdims=True)) / np.sqrt(x.var(0, keepdims=True) + eps) + beta


def images_by_channel(x, gamma, beta, eps):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        y[:, c] = gamma[c] * (x[:, c] - x[:, c].mean()) / np.sqrt(x[:, c].var() + eps) + beta[c]
    return y


def images_as_a_matrix(x, gamma, beta, eps):
    rows = np.moveaxis(x, 1, -1)
    flat = one_pass(rows.reshape(-1, x.shape[1]), gamma, beta, eps)
    return np.moveaxis(flat.reshape(rows.shape), -1, 1)


def images_channels_last(x, gamma, beta, eps):
    x = x.transpose(0, 2, 3, 1)
    x = gamma * (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + eps) + beta
    return x.transpose(0, 3, 1, 2)


def best_step_sorted(eigenvalues):
    ordered = sorted(eigenvalues)
    eta = 1 / ((ordered[0] + ordered[-1]) / 2)
    return eta, 1 - eta * ordered[0]


def best_step_as_array(eigenvalues):
    low, high = min(eigenvalues), max(eigenvalues)
    return np.array([2 / (low + high), (high - low) / (high + low)])


def best_step_as_list(eigenvalues):
    eta = 2 / (np.min(eigenvalues) + np.max(eigenvalues))
    return [float(eta), float(np.abs(1 - eta * eigenvalues).max())]


def identity_by_hand(x, eps):
    mean = x.sum(axis=0) / x.shape[0]
    var = ((x - mean) ** 2).sum(axis=0) / x.shape[0]
    return (var + eps) ** 0.5, mean


def identity_stacked(x, eps):
    return np.stack([np.sqrt(np.std(x, axis=0) ** 2 + eps), np.mean(x, axis=0)])


def identity_in_float32(x, eps):
    x = x.astype(np.float32)
    return np.sqrt(x.var(0) + eps), x.mean(0)


CORRECT = {
    "1.1": [
        scores,
        standardize_in_place_on_a_copy,
        lambda x: (x - x.mean(0, keepdims=True)) / x.std(0, keepdims=True),
        lambda x: reference.normalize(x, (0,), eps=0.0),
        lambda x: ((x.T - x.mean(0)[:, None]) / x.std(0)[:, None]).T,
        lambda x: ((x.astype(np.float32) - x.mean(0)) / x.std(0)).astype(np.float32),
    ],
    "1.2": [
        lambda x: np.linalg.cond(x.T @ x),
        lambda x: np.linalg.cond(x) ** 2,
        lambda x: np.divide(*np.linalg.svd(x / len(x) ** 0.5, compute_uv=False)[[0, -1]]) ** 2,
        lambda x: (lambda values: max(values) / min(values))(np.linalg.eigvals(x.T @ x)),
        lambda x: np.float32(np.linalg.cond(np.einsum("ni,nj->ij", x, x))),
    ],
    "1.3": [best_step_sorted, best_step_as_array, best_step_as_list],
    "1.4": [100, 99.7, np.float32(100.3), np.array([110.0]), lambda: 100],
    "2.1": [
        one_pass,
        batch_norm_in_place_on_a_copy,
        batch_norm_float32,
        batch_norm_keepdims,
        lambda x, g, b, e: reference.batch_norm(x, g, b, eps=e),
    ],
    "2.2": [(0, 2, 3), [3, 0, 2], {0, -1, -2}, (-4, -2, -1), np.array([0, 2, 3])],
    "2.3": [
        images_by_channel,
        images_as_a_matrix,
        images_channels_last,
        lambda x, g, b, e: reference.batch_norm(x, g, b, eps=e),
    ],
    "2.4": [identity_by_hand, identity_stacked, identity_in_float32],
    "2.5": [1, 1.0, np.float64(1.0), lambda: 1],
    **variants_03.CORRECT,
    **variants_04.CORRECT,
    **variants_05.CORRECT,
    **variants_06.CORRECT,
    **variants_07.CORRECT,
    **variants_10.CORRECT,
    **variants_09.CORRECT,
    **variants_08.CORRECT,
    **variants_11.CORRECT,
    **variants_12.CORRECT,
    **variants_13.CORRECT,
    **variants_14.CORRECT,
    **variants_15.CORRECT,
    **variants_16.CORRECT,
    **variants_18.CORRECT,
    **variants_17.CORRECT,
}
