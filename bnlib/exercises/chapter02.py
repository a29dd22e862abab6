"""Exercises of chapter 2, *The forward pass*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import axes, number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features, parameters


def _batch(seed: int, eps: float, *shape: int) -> Case:
    gamma, beta = parameters(seed, shape[1])
    return case(x=features(seed, *shape), gamma=gamma, beta=beta, eps=eps)


@exercise(
    "2.1",
    "Batch normalization of a matrix",
    cases=[_batch(21, 0.5, 3, 2), _batch(22, 0.3, 7, 4), _batch(23, 1.5, 5, 5)],
    hints=[
        "Each column of `x` has its own mean and variance. Over which axis are they computed?",
        "x̂ = (x − μ)/√(σ² + ε), with the variance divided by N. Then scale and shift x̂.",
        "The output is γ·x̂ + β; γ and β have one entry per column and broadcast by themselves.",
    ],
    explanation="""
        The statistics are taken over axis 0, the samples, so each feature has one mean and one variance.
        The variance is the biased one, divided by N. ε stands inside the root, so that a constant feature
        gives 0 and not 0/0. Scale first, then shift: β is then the mean of the output.""",
    mistakes={
        "n - 1": Mistake(
            "The variance is divided by n − 1.",
            "Batch normalization divides it by n while training: look at `ddof`.",
            "x.var(axis=0 => x.var(ddof=1, axis=0",
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
            excludes=("eps ignored",),
        ),
        "eps ignored": Mistake("ε is not used.", "See what a constant feature gives.", "var + eps => var"),
        "per sample": Mistake(
            "Each sample is normalized across its features: this is layer normalization.",
            "Batch normalization compares the samples of a batch, one feature at a time. Which axis is that?",
            (
                "x.mean(axis=0) => x.mean(axis=1, keepdims=True)",
                "x.var(axis=0) => x.var(axis=1, keepdims=True)",
            ),
        ),
        "gamma ignored": Mistake("γ is not used.", "It scales x̂.", "gamma * x_hat => x_hat"),
        "beta ignored": Mistake("β is not used.", "It shifts the scaled x̂.", "x_hat + beta => x_hat"),
        "beta first": Mistake(
            "β is added before the scale is applied.",
            "Which of the two comes first, if β is to be the mean of the output?",
            "gamma * x_hat + beta => gamma * (x_hat + beta)",
            excludes=("gamma ignored",),
        ),
        "divided by variance": Mistake(
            "It is divided by the variance.", "What has the unit of `x`?", "np.sqrt(var + eps) => (var + eps)"
        ),
        "mean not subtracted": Mistake(
            "The mean is not subtracted.", "Compute the mean of your x̂ to see it.", "x - mean => x"
        ),
    },
)
def batch_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """Normalize each column of x, of shape (N, C), over the batch; then scale and shift."""
    mean = x.mean(axis=0)
    var = x.var(axis=0)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma * x_hat + beta


@exercise(
    "2.2",
    "Which axes?",
    read=axes(4),
    hints=[
        "There is one mean for each channel. Which axes must go, so that one number per channel remains?",
        "The mean has shape (C,). Of (N, C, H, W), every axis but C is averaged over.",
    ],
    explanation="""
        One mean and one variance a channel means that all axes but the channel axis are averaged over:
        the samples, the rows and the columns. A position in an image counts like another sample.""",
    mistakes={
        "samples only": Mistake(
            "Averaging over the samples only gives every pixel its own mean.",
            "All positions of a channel share one mean and one variance.",
            gives=(0,),
        ),
        "layer norm": Mistake(
            "These are the axes of layer normalization: each sample by itself.",
            "Batch normalization averages over the batch.",
            gives=(1, 2, 3),
        ),
        "instance norm": Mistake(
            "These are the axes of instance normalization: each channel of each sample by itself.",
            "Batch normalization averages over the batch too.",
            gives=(2, 3),
        ),
        "kept axis": Mistake(
            "Axis 1 is the one that is kept.",
            "Name those that are averaged over.",
            gives=(1,),
        ),
        "samples and channels": Mistake(
            "The channels would be mixed.", "Every channel has its own mean and variance.", gives=(0, 1)
        ),
        "all": Mistake(
            "One mean for the whole array is too few.", "How many channels are there?", gives=(0, 1, 2, 3)
        ),
        "channels last": Mistake(
            "These are the axes for shape (N, H, W, C).",
            "Here the channels are axis 1.",
            gives=(0, 1, 2),
        ),
    },
)
def reduced_axes() -> tuple[int, ...]:
    """Name the axes of (N, C, H, W) over which batch normalization averages."""
    return (0, 2, 3)


@exercise(
    "2.3",
    "Batch normalization of images",
    cases=[_batch(31, 0.5, 2, 2, 1, 2), _batch(32, 0.4, 3, 4, 5, 2), _batch(33, 1.2, 5, 3, 2, 3)],
    hints=[
        "The mean of each channel is taken over three axes. `mean` accepts a tuple of axes, and `keepdims`.",
        "γ has shape (C,). Against (N, C, H, W) it would broadcast along W. Which shape puts it along C?",
        "With `keepdims=True` the mean has shape (1, C, 1, 1). Give γ and β that shape too.",
    ],
    explanation="""
        Broadcasting aligns shapes from the right, so a plain (C,) lines up with W. With `keepdims=True`
        the statistics have shape (1, C, 1, 1), and γ and β are reshaped to the same.""",
    mistakes={
        "samples only": Mistake(
            "Every pixel has its own mean and variance: only axis 0 is averaged over.",
            "All positions of a channel share them.",
            ("mean(axis=(0, 2, 3) => mean(axis=(0,)", "var(axis=(0, 2, 3) => var(axis=(0,)"),
            excludes=("instance norm", "layer norm"),
        ),
        "instance norm": Mistake(
            "Each sample is normalized by itself: this is instance normalization.",
            "The average over the batch is missing.",
            ("mean(axis=(0, 2, 3) => mean(axis=(2, 3)", "var(axis=(0, 2, 3) => var(axis=(2, 3)"),
        ),
        "layer norm": Mistake(
            "Each sample is normalized across its channels: this is layer normalization.",
            "Every channel has its own mean and variance, shared by the batch.",
            ("mean(axis=(0, 2, 3) => mean(axis=(1, 2, 3)", "var(axis=(0, 2, 3) => var(axis=(1, 2, 3)"),
        ),
        "along the width": Mistake(
            "γ and β run along the width of the image, not along the channels.",
            "Shapes are aligned from the right: which shape puts γ along axis 1?",
            ("gamma.reshape(1, -1, 1, 1) => gamma", "beta.reshape(1, -1, 1, 1) => beta"),
        ),
        "n - 1": Mistake(
            "The variance is divided by n − 1.",
            "Batch normalization divides it by the count: look at `ddof`.",
            "x.var( => x.var(ddof=1, ",
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
        ),
        "gamma ignored": Mistake(
            "γ is not used.", "It scales x̂.", "return gamma.reshape(1, -1, 1, 1) * x_hat => return x_hat"
        ),
        "beta ignored": Mistake(
            "β is not used.", "It shifts the scaled x̂.", "x_hat + beta.reshape(1, -1, 1, 1) => x_hat"
        ),
    },
)
def batch_norm_images(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """Normalize each channel of x, of shape (N, C, H, W), over the batch; then scale and shift."""
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    var = x.var(axis=(0, 2, 3), keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma.reshape(1, -1, 1, 1) * x_hat + beta.reshape(1, -1, 1, 1)


@exercise(
    "2.4",
    "Parameters that undo the normalization",
    returns=("gamma", "beta"),
    cases=[
        case(x=features(41, 3, 2), eps=0.6),
        case(x=features(42, 8, 3), eps=0.25),
        case(x=features(43, 5, 5), eps=2.0),
    ],
    hints=[
        "Batch normalization gives γ·(x − μ)/√(σ² + ε) + β. Which γ and β make this equal to x, for every x?",
        "γ must cancel the denominator, all of it. Then β must put back what was subtracted.",
    ],
    explanation="""
        γ·(x − μ)/√(σ² + ε) + β = x holds for every sample if γ = √(σ² + ε) and β = μ. So a layer with batch
        normalization can represent whatever the same layer without it can, on one batch.""",
    mistakes={
        "eps ignored": Mistake(
            "γ leaves out ε.", "It must cancel the whole denominator.", "var(axis=0) + eps => var(axis=0)"
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "In the denominator it stands inside the root.",
            ("gamma = np => gamma = (np", "axis=0) + eps) => axis=0)) + eps)"),
            excludes=("eps ignored",),
        ),
        "no root": Mistake(
            "γ is the variance plus ε, without the root.",
            "What is the denominator?",
            "np.sqrt(x => (x",
            excludes=("eps outside",),
        ),
        "n - 1": Mistake(
            "The variance is divided by n − 1.",
            "Batch normalization divides it by n.",
            "x.var( => x.var(ddof=1, ",
        ),
        "per sample": Mistake(
            "The statistics are those of the samples, not of the features.",
            "γ and β have one entry per feature: over which axis do you average?",
            ("x.var(axis=0) => x.var(axis=1)", "x.mean(axis=0) => x.mean(axis=1)"),
        ),
        "inverse": Mistake(
            "γ is upside down.", "It multiplies x̂, so it must undo a division.", " + eps) =>  + eps) ** -1"
        ),
        "beta negative": Mistake(
            "β has the wrong sign.", "The mean was subtracted: what puts it back?", "beta = x => beta = -x"
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First γ, then β.",
            "return gamma, beta => return beta, gamma",
        ),
    },
)
def identity_parameters(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the scale and shift with which batch normalization returns x, of shape (N, C)."""
    gamma = np.sqrt(x.var(axis=0) + eps)
    beta = x.mean(axis=0)
    return gamma, beta


@exercise(
    "2.5",
    "A batch in other units",
    read=number(),
    tolerance=1e-3,
    hints=[
        "What happens to the mean of the batch, and to its standard deviation?",
        "The mean becomes 1000·μ + 5 and the standard deviation 1000·σ. Put both into x̂.",
    ],
    explanation="""
        The shift moves the mean by as much and cancels in x − μ. The factor multiplies x − μ and σ
        alike and cancels in the quotient. With ε = 0 the output is exactly the same: batch
        normalization does not see the units of its input.""",
    mistakes={
        "not divided": Mistake(
            "The output does not grow with the input.", "By what is x − μ divided?", gives=1000
        ),
        "divided twice": Mistake("The output does not shrink.", "x − μ grows as well as σ.", gives=0.001),
        "shift too": Mistake(
            "Neither the factor nor the shift remains.", "What becomes of the mean, and of σ?", gives=1005
        ),
        "shift only": Mistake("The shift does not remain.", "What becomes of the mean?", gives=5),
        "nothing left": Mistake(
            "The output does not vanish.",
            "The factor by which it changes is asked for, not the change.",
            gives=0,
        ),
    },
)
def change_of_output() -> float:
    """Divide the output for 1000 x + 5 by the output for x, with eps = 0."""

    def normalize(x: np.ndarray) -> np.ndarray:
        return (x - x.mean()) / x.std()

    x = np.array([1.0, 2.0, 4.0])
    return float((normalize(1000 * x + 5) / normalize(x)).mean())
