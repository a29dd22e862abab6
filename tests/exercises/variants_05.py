"""Correct answers to the exercises of chapter 5 that look different from the solutions."""

import numpy as np

import bnlib.reference as reference


def jacobian_by_rows(x, gamma, eps):
    m, x_hat = len(x), reference.normalize(x, 0, eps=eps)
    J = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            J[i, j] = (i == j) - 1 / m - x_hat[i] * x_hat[j] / m
    return J * gamma / (np.mean(x**2) - np.mean(x) ** 2 + eps) ** 0.5


def jacobian_by_complex_step(x, gamma, eps):
    def forward(z):
        d = z - z.mean()
        return gamma * d / np.sqrt((d * d).mean() + eps)

    return np.stack([forward(x + e).imag for e in 1e-30j * np.eye(len(x))], axis=1) * 1e30


def jacobian_from_two_projectors(x, gamma, eps):
    m = len(x)
    C = np.identity(m) - np.full((m, m), 1 / m)
    d = C @ x
    var = d @ d / m
    return (gamma / np.sqrt(var + eps) * (C - d[:, None] * d / (m * (var + eps)))).astype(np.float32)


def lost_share_by_matrix(x, dy):
    g = reference.projector(x) @ dy
    return 1 - (g @ g) / (dy @ dy)


def lost_share_by_means(x, dy):
    x_hat = (x - np.mean(x)) / np.std(x)
    return (dy.mean() ** 2 + (x_hat * dy).mean() ** 2) / (dy**2).mean()


def lost_share_by_angles(x, dy):
    ones, d = np.ones(len(x)), x - x.mean()
    cosines = [a @ dy / np.linalg.norm(a) / np.linalg.norm(dy) for a in (ones, d)]
    return np.float32(cosines[0] ** 2 + cosines[1] ** 2)


def lost_share_by_backward(x, dy):
    dx = x.std() * reference.vjp(x, dy, eps=0.0)
    return 1 - np.linalg.norm(dx) ** 2 / np.linalg.norm(dy) ** 2


def eigenvalue_by_quotient(x, gamma, eps):
    J, x_hat = reference.jacobian(x, weight=gamma, eps=eps), reference.normalize(x, 0, eps=eps)
    return x_hat @ J @ x_hat / (x_hat @ x_hat)


def eigenvalue_by_power(x, gamma, eps):
    return gamma * eps * (np.std(x) ** 2 + eps) ** -1.5


def eigenvalue_by_difference(x, gamma, eps):
    x_hat = reference.normalize(x, 0, eps=eps)
    return np.array(gamma / np.sqrt(x.var() + eps) * (1 - (x_hat**2).mean()))


CORRECT = {
    "5.1": [jacobian_by_rows, jacobian_by_complex_step, jacobian_from_two_projectors],
    "5.2": [lost_share_by_matrix, lost_share_by_means, lost_share_by_angles, lost_share_by_backward],
    "5.3": [eigenvalue_by_quotient, eigenvalue_by_power, eigenvalue_by_difference],
    "5.4": [30, 30.0, np.int64(30), lambda: 30],
    "5.5": [0, 0.0, -1e-16, np.array([0.0]), lambda: 0],
}
