"""Exercises of chapter 16, *The family of normalizers*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features, parameters


def _images(seed: int, groups: int, *shape: int) -> Case:
    """Draw images, a scale and a shift for each channel, and an epsilon that matters."""
    gamma, beta = parameters(seed + 50, shape[1])
    return case(x=features(seed, *shape), groups=groups, gamma=gamma, beta=beta, eps=0.3)


def _samples(seed: int, *shape: int) -> Case:
    """Draw samples, a scale for each feature, and an epsilon that matters."""
    return case(x=features(seed, *shape), gamma=parameters(seed + 50, shape[1])[0], eps=0.3)


def _backward(seed: int, *shape: int) -> Case:
    """Draw samples, upstream gradients, a scale for each feature, and an epsilon that matters."""
    upstream = np.round(np.random.default_rng(seed + 70).normal(0.5, 2.0, shape), 2)
    gamma = parameters(seed + 50, shape[1])[0]
    return case(dy=upstream, x=features(seed, *shape), gamma=gamma, eps=0.3)


def _weights(seed: int, units: int, inputs: int) -> Case:
    """Draw directions, lengths and an upstream gradient."""
    rng = np.random.default_rng(seed)
    v, dw = (np.round(rng.normal(0.5, 2.0, (units, inputs)), 2) for _ in range(2))
    return case(v=v, g=parameters(seed, units)[0], dw=dw)


@exercise(
    "16.1",
    "How many statistics?",
    returns=("count", "m"),
    cases=[
        case(shape=(2, 3, 4, 5), axes=(0, 2, 3)),
        case(shape=(4, 6, 5, 7), axes=(1, 2, 3)),
        case(shape=(3, 2, 5, 4), axes=(2, 3)),
        case(shape=(5, 7), axes=(0,)),
        case(shape=(2, 3, 5, 4, 7), axes=(2, 3, 4)),
    ],
    hints=[
        "Every cell belongs to one group. The cells of a group differ only in their indices along `axes`.",
        "So m is the product of the lengths along `axes`: for BN of images, N·H·W.",
        "The groups are counted by the other axes: for BN, there are C of them.",
    ],
    explanation="""
        The axes that are averaged over say how many values an average takes, the axes that stay say how many
        averages there are. Their product is the number of cells, whatever the member of the family. On images
        LN has few statistics of many values, IN many statistics of few values.""",
    mistakes={
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the number of groups, then the number of values in each.",
            "return count, m => return m, count",
        ),
        "sum of lengths": Mistake(
            "The lengths are added.",
            "A group of an image, over its height and its width, holds how many cells?",
            ("m = int(np.prod( => m = int(sum(", "count = int(np.prod( => count = int(sum("),
        ),
        "m is N": Mistake(
            "The group is taken to be as large as the batch.",
            "That is so for BN of vectors only. Which axes are averaged over here?",
            "m = int(np.prod([shape[a] for a in axes])) => m = shape[0]",
            excludes=("sum of lengths",),
        ),
        "count is C": Mistake(
            "The number of groups is that of the channels.",
            "That is so for BN. Which axes stay here?",
            "count = int(np.prod(stay)) => count = shape[1]",
            excludes=("sum of lengths",),
        ),
        "all cells": Mistake(
            "The number of groups is that of all cells.",
            "All cells of a group share one statistic.",
            "enumerate(shape) if a not in axes => enumerate(shape)",
            excludes=("sum of lengths", "count is C"),
        ),
    },
)
def count_statistics(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int]:
    """Count the groups of an array that are normalized over some axes, and the values in each."""
    m = int(np.prod([shape[a] for a in axes]))
    stay = [length for a, length in enumerate(shape) if a not in axes]
    count = int(np.prod(stay))
    return count, m


@exercise(
    "16.2",
    "Group normalization",
    cases=[
        _images(161, 2, 2, 4, 2, 3),
        _images(162, 3, 3, 6, 3, 2),
        _images(163, 2, 2, 8, 3, 4),
    ],
    hints=[
        "Give each group an axis of its own: `x.reshape(N, groups, C // groups, H, W)`.",
        "In that array, mean and variance go over the last three axes, with `keepdims=True`.",
        "Bring the result back to (N, C, H, W) before γ and β, which have one value for each channel.",
    ],
    explanation="""
        Neighbouring channels form a group, so splitting axis 1 in two is enough, and nothing has to be moved.
        The statistics belong to a sample and a group; scale and shift belong to a channel, as in BN.
        One group gives LN over the whole sample, C groups give IN.""",
    mistakes={
        "interleaved": Mistake(
            "A group takes every so many channels.",
            "Its channels are neighbours. Which of the two new axes runs faster?",
            (
                "z = x.reshape(N, groups, C // groups, H, W)"
                " => z = x.reshape(N, C // groups, groups, H, W).swapaxes(1, 2)",
                "x_hat.reshape(x.shape) => x_hat.swapaxes(1, 2).reshape(x.shape)",
            ),
        ),
        "channels per group": Mistake(
            "The number of groups is taken as that of the channels in a group.",
            "With 6 channels and `groups` 2, how many channels share a statistic?",
            "z = x.reshape(N, groups, C // groups, H, W) => z = x.reshape(N, C // groups, groups, H, W)",
            excludes=("interleaved",),
        ),
        "over the batch": Mistake(
            "The samples of the batch share their statistics.",
            "Each sample is normalized alone. Which axis must stay?",
            "axes = (2, 3, 4) => axes = (0, 2, 3, 4)",
        ),
        "every position": Mistake(
            "Each position has statistics of its own.",
            "The average goes over the channels of the group and over all positions.",
            "axes = (2, 3, 4) => axes = (2,)",
            excludes=("over the batch",),
        ),
        "every channel": Mistake(
            "Each channel has statistics of its own. This is instance normalization.",
            "The average goes over the channels of the group, too.",
            "axes = (2, 3, 4) => axes = (3, 4)",
            excludes=("over the batch", "every position", "interleaved", "channels per group"),
        ),
        "eps outside the root": Mistake(
            "Epsilon is added to the standard deviation.",
            "It belongs inside the root, as in (2.3).",
            "np.sqrt(z.var(axis=axes, keepdims=True) + eps)"
            " => (np.sqrt(z.var(axis=axes, keepdims=True)) + eps)",
        ),
        "gamma ignored": Mistake(
            "The scale γ is not used.",
            "One γ multiplies each channel, at all positions.",
            "gamma[:, None, None] * x_hat => x_hat",
        ),
        "beta ignored": Mistake(
            "The shift β is not used.",
            "One β is added to each channel, at all positions.",
            " + beta[:, None, None] => ",
        ),
        "one scale for a group": Mistake(
            "The channels of a group share the scale of the first one.",
            "Statistics belong to a group, γ and β to a channel.",
            "gamma[:, None, None] * => np.repeat(gamma[:: C // groups], C // groups)[:, None, None] *",
            excludes=("gamma ignored",),
        ),
    },
)
def group_norm(x: np.ndarray, groups: int, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """Normalize images (N, C, H, W), each sample over groups of neighbouring channels."""
    N, C, H, W = x.shape
    z = x.reshape(N, groups, C // groups, H, W)
    axes = (2, 3, 4)
    x_hat = (z - z.mean(axis=axes, keepdims=True)) / np.sqrt(z.var(axis=axes, keepdims=True) + eps)
    x_hat = x_hat.reshape(x.shape)
    return gamma[:, None, None] * x_hat + beta[:, None, None]


@exercise(
    "16.3",
    "RMS normalization",
    cases=[_samples(171, 2, 3), _samples(172, 4, 5), _samples(173, 5, 2)],
    hints=[
        "Square, average over the features of a sample, add epsilon, take the root.",
        "Nothing is subtracted, so the average of the squares is no variance.",
        "`(x**2).mean(axis=1, keepdims=True)` has shape (N, 1) and divides each row.",
    ],
    explanation="""
        Layer normalization without its mean: the sample keeps its direction, and its length becomes the root
        of the number of features, before γ. Where the mean of a sample is 0, both are the same.""",
    mistakes={
        "centred": Mistake(
            "The mean is subtracted. This is layer normalization.",
            "RMS normalization divides, and subtracts nothing.",
            (
                "return gamma * x / => return gamma * (x - x.mean(axis=1, keepdims=True)) /",
                "mean_square = (x**2).mean(axis=1, keepdims=True)"
                " => mean_square = x.var(axis=1, keepdims=True)",
            ),
        ),
        "standard deviation": Mistake(
            "It is divided by the standard deviation.",
            "The mean is not subtracted in the numerator, nor is it below.",
            "mean_square = (x**2).mean(axis=1, keepdims=True) => mean_square = x.var(axis=1, keepdims=True)",
            excludes=("centred",),
        ),
        "sum": Mistake(
            "The squares are added and not averaged.",
            "With the sum the length of a sample becomes 1. What does the mean make it?",
            "(x**2).mean( => (x**2).sum(",
            excludes=("centred", "standard deviation"),
        ),
        "over the batch": Mistake(
            "The average goes over the samples.",
            "Each sample is normalized by its own features. Which axis is that?",
            "(x**2).mean(axis=1, keepdims=True) => (x**2).mean(axis=0, keepdims=True)",
            excludes=("centred", "standard deviation", "sum"),
        ),
        "mean of absolute values": Mistake(
            "The absolute values are averaged.",
            "RMS is the root of the mean of the squares.",
            "mean_square = (x**2).mean(axis=1, keepdims=True)"
            " => mean_square = abs(x).mean(axis=1, keepdims=True) ** 2",
            excludes=("centred", "standard deviation", "sum", "over the batch"),
        ),
        "no root": Mistake(
            "The root is missing.",
            "A root mean square has the unit of x.",
            "np.sqrt(mean_square + eps) => (mean_square + eps)",
        ),
        "eps outside the root": Mistake(
            "Epsilon is added after the root.",
            "It belongs inside, as in BN.",
            "np.sqrt(mean_square + eps) => (np.sqrt(mean_square) + eps)",
            excludes=("no root",),
        ),
        "gamma ignored": Mistake(
            "The scale γ is not used.",
            "One γ multiplies each feature.",
            "gamma * x / => x /",
            excludes=("centred",),
        ),
    },
)
def rms_norm(x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    """Divide each sample of x, shape (N, C), by its root mean square; scale by gamma, shape (C,)."""
    mean_square = (x**2).mean(axis=1, keepdims=True)
    return gamma * x / np.sqrt(mean_square + eps)


@exercise(
    "16.4",
    "Layer normalization, backward",
    cases=[_backward(181, 2, 3), _backward(182, 4, 5), _backward(183, 3, 6)],
    hints=[
        "The formula of chapter 4 holds within each group. Here a group is a row: averages go along axis 1.",
        "γ differs within a row. So it meets dy before the averages: g = γ·dy.",
        "dx = (g − mean(g) − x̂·mean(g·x̂))/√(var + ε), with `keepdims=True` in every mean.",
    ],
    explanation="""
        The output is γ times x̂, so what reaches x̂ is g = γ·dy. In BN all values of a group share one γ, which
        can then be taken out of the averages. In LN a row has as many γ as features, and it cannot.
        The rest is the projector of chapter 5, applied to rows.""",
    mistakes={
        "gamma last": Mistake(
            "γ multiplies the result, as it may in BN.",
            "In a row every feature has a γ of its own. Can it be taken out of a mean over the row?",
            ("g = gamma * dy => g = dy", "return dx * inv_std => return gamma * dx * inv_std"),
            excludes=("over the batch", "statistics as constants", "not divided"),
        ),
        "gamma ignored": Mistake(
            "The scale γ is not used.",
            "What reaches x̂ is γ·dy.",
            "g = gamma * dy => g = dy",
            excludes=("gamma last",),
        ),
        "over the batch": Mistake(
            "The averages go over the samples, as in BN.",
            "In LN a group is one sample.",
            "axis = 1 => axis = 0",
        ),
        "mean kept": Mistake(
            "The mean of g is not subtracted.",
            "Shifting a whole row changes nothing, so its gradient must sum to 0.",
            " - g.mean(axis=axis, keepdims=True) => ",
            excludes=("x_hat kept",),
        ),
        "statistics as constants": Mistake(
            "Mean and variance are treated as constants.",
            "Both depend on x.",
            " - g.mean(axis=axis, keepdims=True) - x_hat * (g * x_hat).mean(axis=axis, keepdims=True) => ",
            excludes=("mean kept", "x_hat kept", "sign"),
        ),
        "x_hat kept": Mistake(
            "The part along x̂ is not subtracted.",
            "Scaling a row changes nothing, so its gradient must be orthogonal to x̂, but for ε.",
            " - x_hat * (g * x_hat).mean(axis=axis, keepdims=True) => ",
        ),
        "sign": Mistake(
            "The part along x̂ is added.",
            "A projector takes away.",
            "- x_hat * (g => + x_hat * (g",
            excludes=("x_hat kept",),
        ),
        "not divided": Mistake(
            "It is not divided by the standard deviation.",
            "Larger inputs have smaller gradients.",
            "return dx * inv_std => return dx",
        ),
        "eps ignored": Mistake(
            "Epsilon is not used.",
            "It is in the standard deviation of the forward pass.",
            "x.var(axis=axis, keepdims=True) + eps => x.var(axis=axis, keepdims=True)",
        ),
    },
)
def layer_norm_backward(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    """Compute dx of the layer norm of x, shape (N, C), from dy, of the same shape, and gamma, (C,)."""
    axis = 1
    inv_std = 1 / np.sqrt(x.var(axis=axis, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axis, keepdims=True)) * inv_std
    g = gamma * dy
    dx = g - g.mean(axis=axis, keepdims=True) - x_hat * (g * x_hat).mean(axis=axis, keepdims=True)
    return dx * inv_std


@exercise(
    "16.5",
    "The gradients of weight normalization",
    returns=("dv", "dg"),
    cases=[_weights(191, 2, 3), _weights(192, 3, 5), _weights(193, 4, 2)],
    hints=[
        "Let u = v/‖v‖ for each row. Then w = g·u, and dg is the part of dw along u.",
        "dg has shape (C,): `(dw * u).sum(axis=1)`. A change of v along u does not turn it.",
        "dv = (g/‖v‖)(dw − u·dg): what is left of dw, scaled.",
    ],
    explanation="""
        The length takes the component of dw along v, the direction takes the rest: I − uuᵀ is a projector of
        the same kind as that of BN, which loses one direction and not two. dv is orthogonal to v, so a step
        makes v longer, as in chapter 9.""",
    mistakes={
        "not projected": Mistake(
            "The gradient for v still has a part along v.",
            "Making v longer does not change w.",
            "dw - u * dg[:, None] => dw",
        ),
        "g ignored": Mistake(
            "The factor g is missing in dv.",
            "w is g times the direction.",
            "dv = g[:, None] / norm * => dv = 1 / norm *",
        ),
        "not over the norm": Mistake(
            "The gradient for v is not divided by the length of v.",
            "The longer v is, the less a step turns it.",
            "dv = g[:, None] / norm * => dv = g[:, None] *",
            excludes=("g ignored",),
        ),
        "dg not over the norm": Mistake(
            "The gradient for g is not divided by the length of v.",
            "The derivative of w with respect to g is the direction, a vector of length 1.",
            "dg = (dw * u).sum(axis=1) => dg = (dw * v).sum(axis=1)",
            excludes=("not projected",),
        ),
        "norm of the whole matrix": Mistake(
            "The length is that of the whole matrix.",
            "Each row, the weights of one unit, has a length of its own.",
            "(v**2).sum(axis=1, keepdims=True) => (v**2).sum(keepdims=True)",
        ),
        "columns": Mistake(
            "The length is taken over the columns.",
            "The weights of a unit are a row.",
            "(v**2).sum(axis=1, keepdims=True) => (v**2).sum(axis=0, keepdims=True)",
            excludes=("norm of the whole matrix",),
        ),
        "squared length": Mistake(
            "The root is missing in the length.",
            "‖v‖ is the root of the sum of the squares.",
            "norm = np.sqrt((v**2).sum(axis=1, keepdims=True)) => norm = (v**2).sum(axis=1, keepdims=True)",
            excludes=("norm of the whole matrix", "columns"),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First dv, then dg.",
            "return dv, dg => return dg, dv",
        ),
    },
)
def weight_norm_backward(v: np.ndarray, g: np.ndarray, dw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the gradients for v, shape (C, K), and g, shape (C,), from that for w = g v / ||v||."""
    norm = np.sqrt((v**2).sum(axis=1, keepdims=True))
    u = v / norm
    dg = (dw * u).sum(axis=1)
    dv = g[:, None] / norm * (dw - u * dg[:, None])
    return dv, dg
