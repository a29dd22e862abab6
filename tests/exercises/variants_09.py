"""Correct answers to the exercises of chapter 9 that look different from the solutions."""

import math

import numpy as np

from bnlib.lab.sweeps import band


def gradient_by_sums(w, g, a):
    return g * a**-1, g * (w**2).sum() ** 0.5


def gradient_by_two_scalings(w, g, a):
    direction = w / np.linalg.norm(w)
    return [np.divide(g, a), g / (direction.ravel() @ w.ravel() / (w.ravel() @ w.ravel()))]


def gradient_in_float32(w, g, a):
    w, g = w.astype(np.float32), g.astype(np.float32)
    return g / np.float32(a), g * np.sqrt(np.sum(w * w))


def norm_step_by_step(norm, gradient_norms, eta):
    for g in gradient_norms:
        norm = math.hypot(norm, eta * g)
    return norm


def norm_of_all_sides(norm, gradient_norms, eta):
    return np.linalg.norm([norm, *(eta * gradient_norms)])


def turn_by_the_step(w, g, eta):
    """Do the step, and measure the angle between before and after."""
    v = w - eta * g
    cosine = (w * v).sum() / (np.linalg.norm(w) * np.linalg.norm(v))
    return eta / (w * w).sum(), np.arccos(cosine)


def turn_at_norm_one(w, g, eta):
    norm = np.linalg.norm(w)
    rate = eta / norm / norm
    return np.array([rate, np.arctan2(rate * norm * np.linalg.norm(g), 1.0)])


def balance_by_steps(eta, decay, gradient):
    """Walk until the norm no longer changes."""
    norm = 1.0
    for _ in range(3000):
        old, norm = norm, math.hypot((1 - eta * decay) * norm, eta * gradient / norm)
    return norm, math.acos((1 - eta * decay) * old / norm)


def balance_by_the_tangent(eta, decay, gradient):
    left = 1 - eta * decay
    norm = math.sqrt(eta * gradient / math.sqrt(1 - left**2))
    return [norm, math.atan2(eta * gradient / norm, left * norm)]


def width_by_counting(rates, losses, tolerance):
    known = {rate: loss for rate, loss in zip(rates, losses, strict=True) if not math.isnan(loss)}
    bar = min(known.values()) + tolerance
    good = [rate for rate, loss in known.items() if loss <= bar]
    return max(good) / min(good)


def width_by_the_lab(rates, losses, tolerance):
    low, high = band(rates, losses[None], tolerance)[0]
    return high / low


CORRECT = {
    "9.1": [gradient_by_sums, gradient_by_two_scalings, gradient_in_float32],
    "9.2": [norm_step_by_step, norm_of_all_sides, lambda n, g, e: np.sqrt(n * n + e**2 * (g @ g))],
    "9.3": [9, 9.0, np.float32(9), lambda: 9],
    "9.4": [
        turn_by_the_step,
        turn_at_norm_one,
        lambda w, g, e: (e / np.vdot(w, w), turn_by_the_step(w, g, e)[1]),
    ],
    "9.5": [balance_by_steps, balance_by_the_tangent, lambda e, d, g: np.array(balance_by_steps(e, d, g))],
    "9.6": [
        width_by_counting,
        width_by_the_lab,
        lambda r, x, t: np.ptp(np.log(r[x - np.nanmin(x) <= t])).__rpow__(np.e),
    ],
}
