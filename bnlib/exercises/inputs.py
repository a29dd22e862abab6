"""Inputs on which mistakes show: means far from zero, unequal scales, odd sizes, readable numbers."""

from __future__ import annotations

import numpy as np

from bnlib.exercises.outputs import Array

__all__ = ["features", "parameters"]


def features(seed: int, *shape: int) -> Array:
    """Draw values with another mean and scale in each feature or channel, which is axis 1.

    Args:
        seed: of the random numbers.
        shape: of the result; at least two axes.

    Returns:
        float64 values, rounded to 2 decimals so that a case can be read.
    """
    rng = np.random.default_rng(seed)
    per_feature = (1, shape[1]) + (1,) * (len(shape) - 2)
    mean = rng.uniform(-6.0, 12.0, per_feature)
    scale = rng.uniform(0.8, 3.0, per_feature)
    x: Array = np.round(mean + scale * rng.standard_normal(shape), 2)
    return x


def parameters(seed: int, count: int) -> tuple[Array, Array]:
    """Draw a scale gamma and a shift beta, both far from their initial values 1 and 0.

    Args:
        seed: of the random numbers.
        count: number of features.

    Returns:
        gamma and beta, each of shape ``(count,)``, rounded to 2 decimals.
    """
    rng = np.random.default_rng(seed)
    gamma = rng.uniform(1.5, 3.0, count) * rng.choice([-1.0, 1.0], count)
    return np.round(gamma, 2), np.round(rng.uniform(-4.0, 4.0, count), 2)
