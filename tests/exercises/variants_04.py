"""Correct answers to the exercises of chapter 4 that look different from the solutions."""

import numpy as np

import bnlib.reference as reference


def parameter_gradients_by_feature(dy, x, gamma, eps):
    pairs = []
    for j in range(x.shape[1]):
        centred = x[:, j] - x[:, j].mean()
        pairs.append((dy[:, j] @ centred / np.sqrt((centred**2).mean() + eps), dy[:, j].sum()))
    dgamma, dbeta = zip(*pairs, strict=True)
    return np.array(dgamma), np.array(dbeta)


def input_gradient_by_graph(dy, x, gamma, eps):
    m = len(x)
    c = x - x.mean(0)
    r = np.sqrt((c**2).mean(0) + eps)
    dx_hat = gamma * dy
    dvar = -(dx_hat * c).sum(0) / (2 * r**3)
    dc = dx_hat / r + 2 * c * dvar / m
    return dc - dc.mean(0)


def input_gradient_by_jacobian(dy, x, gamma, eps):
    dx = np.empty_like(x)
    for j in range(x.shape[1]):
        dx[:, j] = reference.jacobian(x[:, j].copy(), weight=gamma[j], eps=eps) @ dy[:, j]
    return dx


def inference_gradients_by_slope(dy, x, running_mean, running_var, gamma, eps):
    root = (running_var + eps) ** 0.5
    return dy * (gamma / root), ((x - running_mean) * dy).sum(0) / root


def inference_gradients_in_float32(dy, x, running_mean, running_var, gamma, eps):
    dy, x = dy.astype(np.float32), x.astype(np.float32)
    inv_std = (1 / np.sqrt(running_var + eps)).astype(np.float32)
    return dy * inv_std * gamma.astype(np.float32), np.einsum("nc,nc->c", dy, (x - running_mean) * inv_std)


def numerical_gradient_in_place_on_a_copy(f, x, dy, step):
    x, dx = x.copy(), np.empty(x.shape)
    for i in np.ndindex(x.shape):
        centre = x[i]
        x[i] = centre + step
        up = (f(x) * dy).sum()
        x[i] = centre - step
        down = (f(x) * dy).sum()
        x[i] = centre
        dx[i] = (up - down) / (2 * step)
    return dx


def numerical_gradient_flat(f, x, dy, step):
    moves = step * np.eye(x.size).reshape(x.size, *x.shape)
    changes = [np.vdot(dy, f(x + move) - f(x - move)) for move in moves]
    return np.reshape(changes, x.shape) / 2 / step


CORRECT = {
    "4.1": [
        parameter_gradients_by_feature,
        lambda dy, x, g, e: reference.batch_norm_backward(dy, x, g, eps=e)[1:],
        lambda dy, x, g, e: (np.einsum("nc,nc->c", dy, reference.batch_norm(x, eps=e)), dy.sum(0)),
    ],
    "4.2": [
        input_gradient_by_graph,
        input_gradient_by_jacobian,
        lambda dy, x, g, e: reference.batch_norm_backward(dy, x, g, eps=e)[0],
    ],
    "4.3": [
        inference_gradients_by_slope,
        inference_gradients_in_float32,
        lambda dy, x, m, v, g, e: reference.batch_norm_inference_backward(dy, x, m, v, g, eps=e)[:2],
    ],
    "4.4": [numerical_gradient_in_place_on_a_copy, numerical_gradient_flat, reference.central_difference],
    "4.5": [0, 0.0, np.float64(0.0), lambda: 0],
}
