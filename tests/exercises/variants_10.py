"""Correct answers to the exercises of chapter 10 that look different from the solutions."""

import numpy as np

from bnlib.reference import projector, vjp


def norm_by_entries(x, dy, gamma):
    deviations = x - np.mean(x)
    var = np.mean(deviations**2)
    centred = dy - dy.mean()
    along = deviations @ dy / np.sqrt(len(x) * var)
    return gamma * gamma / var * (centred @ centred - along**2)


def norm_in_float32(x, dy, gamma):
    x, dy = x.astype(np.float32), dy.astype(np.float32)
    u = (x - x.mean()) / np.linalg.norm(x - x.mean())
    return np.float32(gamma) ** 2 / x.var() * (dy @ dy - len(x) * dy.mean() ** 2 - (u @ dy) ** 2)


def lost_in_place(x, mean, std):
    dy = x - x.mean()
    dy *= std / np.sqrt((dy**2).mean())
    dy += mean
    return dy


def range_by_formula(H, w, steps):
    """A quadratic loss along its gradient is a parabola in d."""
    d = np.concatenate([[0.0], steps])
    g = H @ w
    return np.ptp(w @ H @ w / 2 - d * (g @ g) + d**2 / 2 * (g @ H @ g))


def range_in_a_loop(H, w, steps):
    gradient = H.dot(w)
    low = high = w.dot(H).dot(w) / 2
    for step in steps:
        moved = w - step * gradient
        loss = moved.dot(H).dot(moved) / 2
        low, high = min(low, loss), max(high, loss)
    return high - low


def step_by_weights(W, V, dW, dV, r):
    """In units of the weights: the squared norms are the factors of the gradients."""
    a2, b2 = (W**2).sum(), (V**2).sum()
    factor = r / (a2 * (dW**2).sum() + b2 * (dV**2).sum()) ** 0.5
    return W - factor * a2 * dW, V - factor * b2 * dV


def step_of_one_vector(W, V, dW, dV, r):
    sizes = np.concatenate([np.full(w.size, np.linalg.norm(w)) for w in (W, V)])
    w, g = (np.concatenate([first.ravel(), second.ravel()]) for first, second in ((W, V), (dW, dV)))
    theta, relative = w / sizes, sizes * g
    moved = sizes * (theta - r * relative / np.linalg.norm(relative))
    return [moved[: W.size].reshape(W.shape), moved[W.size :].reshape(V.shape)]


def step_with_stated_norm(W, V, dW, dV, r):
    gradients = [np.linalg.norm(w, "fro") * g for w, g in ((W, dW), (V, dV))]
    length = np.hypot(*(np.linalg.norm(g) for g in gradients))
    return tuple(w - r / length * np.linalg.norm(w) * g for w, g in zip((W, V), gradients, strict=True))


CORRECT = {
    "10.1": [
        norm_by_entries,
        norm_in_float32,
        lambda x, dy, gamma: (vjp(x, dy, weight=gamma, eps=0.0) ** 2).sum(),
        lambda x, dy, gamma: gamma**2 / x.var() * dy @ projector(x) @ dy,
    ],
    "10.2": [
        lost_in_place,
        lambda x, mean, std: np.full(len(x), mean) + std * (x - x.mean()) / np.std(x),
        lambda x, mean, std: std / x.std() * x + (mean - std * x.mean() / x.std()),
    ],
    "10.3": [
        range_by_formula,
        range_in_a_loop,
        lambda H, w, steps: np.ptp([p @ H @ p / 2 for p in [w, *(w - d * H @ w for d in steps)]]),
    ],
    "10.4": [step_by_weights, step_of_one_vector, step_with_stated_norm],
    "10.5": [0.01, 1 / 100, np.float32(0.01), lambda: 10.0**-2],
}
