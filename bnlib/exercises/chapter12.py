"""Exercises of chapter 12, *Noise as a regularizer*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features


def _noises(seed: int, seeds: int, count: int) -> Case:
    """Draw the noise of gradients at some batch sizes, near a power of the size, a row for each seed."""
    rng = np.random.default_rng(seed)
    sizes = np.cumprod(rng.integers(2, 5, count)).astype(float)
    power = rng.uniform(-1.6, -0.7, (seeds, 1))
    scatter = rng.normal(0.0, 0.2, (seeds, count))
    return case(m=sizes, noise=np.round(50.0 * sizes**power * np.exp(scatter), 4))


def _accuracies(seed: int, seeds: int) -> Case:
    """Draw the accuracies of two methods over shared seeds, in percent."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.0, 2.0, seeds)
    centers = {"train": 97.0, "test": 78.0, "other_train": 91.0, "other_test": 80.0}
    return case(
        **{
            name: np.round(center + shared + rng.normal(0.0, 1.0, seeds), 1)
            for name, center in centers.items()
        }
    )


@exercise(
    "12.1",
    "The variance of a batch mean",
    cases=[
        case(x=features(121, 5, 2), m=3),
        case(x=features(122, 9, 4), m=2),
        case(x=features(123, 7, 3), m=12),
    ],
    hints=[
        "The rows of `x` are all that can be drawn. What is the variance of a single draw from them?",
        "A single draw takes each row with the same probability: its variance is the biased one.",
        "The mean of m independent draws has 1/m of that variance.",
    ],
    explanation="""
        One draw has the variance of the N rows, divided by N because each row is equally likely. Variances
        of independent numbers add: the sum of m draws has m times as much, and dividing it by m
        divides the variance by m². So σ²/m. N does not matter, and m may even exceed it.""",
    mistakes={
        "n - 1": Mistake(
            "The variance is divided by N − 1.",
            "The rows are all that can be drawn, and not a sample of it. Look at `ddof`.",
            "var(axis=0 => var(ddof=1, axis=0",
        ),
        "standard deviation": Mistake(
            "A standard deviation is divided by m.",
            "Which of the two is asked for, and which of them adds up over independent draws?",
            "x.var( => x.std(",
        ),
        "root of m": Mistake(
            "It is divided by the root of m.",
            "That belongs to the standard deviation of the mean.",
            "/ m => / np.sqrt(m)",
        ),
        "m squared": Mistake(
            "It is divided by m².",
            "Dividing by m does that, but the sum of m draws has more variance than one of them.",
            "/ m => / m**2",
            excludes=("root of m",),
        ),
        "all rows": Mistake(
            "It is divided by the number of rows.",
            "How many numbers does the mean average?",
            "/ m => / len(x)",
        ),
        "not divided": Mistake(
            "This is the variance of a single draw.",
            "A mean of m draws varies less. By which factor?",
            " / m => ",
            excludes=("root of m", "m squared"),
        ),
        "without replacement": Mistake(
            "This is the variance when no row is drawn twice.",
            "Here the draws are independent. The other case is the next exercise.",
            "/ m => / m * (len(x) - m) / (len(x) - 1)",
            excludes=("n - 1",),
        ),
        "per sample": Mistake(
            "The variance is taken over the features of each sample.",
            "There is one batch mean for each feature: over which axis do you go?",
            "x.var(axis=0 => x.var(axis=1",
        ),
    },
)
def variance_of_mean(x: np.ndarray, m: int) -> np.ndarray:
    """Compute the variance of the mean of m rows of x, of shape (N, C), drawn with replacement."""
    return x.var(axis=0) / m


@exercise(
    "12.2",
    "Without replacement",
    cases=[
        case(x=features(124, 5, 2), m=3),
        case(x=features(125, 9, 4), m=2),
        case(x=features(126, 8, 3), m=7),
    ],
    hints=[
        "Start from the variance with replacement. For m = N there is only one batch: what must come out?",
        "For m = 1 nothing may change. The factor falls along a straight line from 1 at m = 1 to 0 at m = N.",
        "Multiply by (N − m)/(N − 1).",
    ],
    explanation="""
        No row comes twice, so a large value now makes a small one more likely later: any two draws have the
        covariance −σ²/(N − 1). That gives the factor (N − m)/(N − 1), which is 1 for m = 1 and 0 for m = N.
        With the variance divided by N − 1 in place of σ², the factor reads 1 − m/N. Mixing the two is the
        usual mistake.""",
    mistakes={
        "no correction": Mistake(
            "This is the variance with replacement.",
            "A batch of all N rows has always the same mean. Does your formula know?",
            " * (N - m) / (N - 1) => ",
        ),
        "1 - m/N": Mistake(
            "The factor is (N − m)/N, with the variance divided by N.",
            "Try m = 1: a single draw must have the whole variance. That factor goes with another `ddof`.",
            "/ (N - 1) => / N",
            excludes=("no correction",),
        ),
        "both": Mistake(
            "The variance is divided by N − 1, with the factor (N − m)/(N − 1).",
            "Try m = 1: that factor is 1 there, so the variance must be that of a single draw.",
            "var(axis=0 => var(ddof=1, axis=0",
            excludes=("1 - m/N",),
        ),
        "upside down": Mistake(
            "The factor is upside down.",
            "Does drawing without replacement make a mean more variable, or less?",
            "* (N - m) / (N - 1) => / (N - m) * (N - 1)",
            excludes=("no correction", "1 - m/N"),
        ),
        "factor squared": Mistake(
            "The factor is squared.",
            "It is already that of the variance.",
            "* (N - m) / (N - 1) => * ((N - m) / (N - 1)) ** 2",
            excludes=("no correction", "1 - m/N", "upside down"),
        ),
        "not divided by m": Mistake(
            "The mean of m rows varies less than one row.",
            "The factor comes on top of what independent draws gain.",
            " / m *  =>  * ",
            excludes=("no correction", "upside down"),
        ),
        "standard deviation": Mistake(
            "A standard deviation is taken.",
            "Which of the two is asked for?",
            "x.var( => x.std(",
        ),
        "per sample": Mistake(
            "The variance is taken over the features of each sample.",
            "There is one batch mean for each feature: over which axis do you go?",
            "x.var(axis=0 => x.var(axis=1",
        ),
    },
)
def variance_without_replacement(x: np.ndarray, m: int) -> np.ndarray:
    """Compute the variance of the mean of m different rows of x, of shape (N, C)."""
    N = len(x)
    return x.var(axis=0) / m * (N - m) / (N - 1)


@exercise(
    "12.3",
    "The slope of the noise",
    cases=[_noises(127, 2, 3), _noises(128, 3, 5), _noises(129, 5, 4)],
    hints=[
        "noise = c·mᵃ is a straight line in logarithms, log noise = log c + a·log m. Its slope is a.",
        "The slope of a least-squares line is the sum of (u − mean u)·v, divided by that of (u − mean u)².",
        "Here u is log m, of shape (K,), and v is log noise, of shape (S, K). Sum over the last axis.",
    ],
    explanation="""
        A power becomes a straight line in logarithms, of any base, as long as both have it. Least squares
        gives its slope as covariance over variance of log m. Taking the mean out of log m is what fits the
        intercept. One slope for each seed then gives an interval.""",
    mistakes={
        "no logarithms": Mistake(
            "The line is fitted to the numbers themselves.",
            "A power of m is no straight line in m. In what is it one?",
            ("u = np.log(m) => u = m", "v = np.log(noise) => v = noise"),
        ),
        "log of the noise only": Mistake(
            "Only the noise is in logarithms.",
            "A power is a line in the logarithms of both.",
            "u = np.log(m) => u = m",
            excludes=("no logarithms",),
        ),
        "two bases": Mistake(
            "The two logarithms have different bases.",
            "Any base will do, but it must be the same in both.",
            "v = np.log(noise) => v = np.log10(noise)",
            excludes=("no logarithms",),
        ),
        "against 1/m": Mistake(
            "The sign is that of the slope against 1/m.",
            "Does the noise grow or fall with m?",
            "u = np.log(m) => u = np.log(1 / m)",
            excludes=("no logarithms", "log of the noise only"),
        ),
        "through the origin": Mistake(
            "The line is forced through the origin.",
            "Noise at m = 1 need not be 1: take the mean out of log m.",
            "u = u - u.mean() => u = u * 1.0",
        ),
        "swapped": Mistake(
            "This is the slope of log m against log noise.",
            "The noise is what is explained: divide by the variation of log m.",
            "/ (u**2).sum() => / ((v - v.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)",
        ),
        "two points": Mistake(
            "Only the first and the last point count.",
            "A fit uses all of them.",
            "(u * v).sum(axis=1) / (u**2).sum() => (v[:, -1] - v[:, 0]) / (u[-1] - u[0])",
            excludes=("swapped", "through the origin"),
        ),
        "variance of the noise": Mistake(
            "It is half of the slope.",
            "`noise` is a variance already. No root is needed.",
            "np.log(noise) => np.log(np.sqrt(noise))",
            excludes=("two bases", "no logarithms"),
        ),
    },
)
def slopes(m: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Fit noise = c m^a for each of S seeds: m has shape (K,), noise (S, K); return the powers, (S,)."""
    u = np.log(m)
    v = np.log(noise)
    u = u - u.mean()
    return (u * v).sum(axis=1) / (u**2).sum()


@exercise(
    "12.4",
    "The change of a gap",
    returns=("mean", "error"),
    cases=[_accuracies(130, 3), _accuracies(131, 6), _accuracies(132, 5)],
    hints=[
        "The gap of a run is its training accuracy less its test accuracy.",
        "Runs of one seed belong together: subtract their gaps seed by seed, then average.",
        "Their standard error is their standard deviation, with `ddof=1`, over the root of S.",
    ],
    explanation="""
        A seed gives both methods the same images and the same initial weights, so what is peculiar to a
        seed cancels in the difference. Treating the two as unrelated would add both variances instead.
        The standard deviation has S − 1 in it, because the mean was estimated from the same numbers,
        and the mean of S of them varies by a root of S less.""",
    mistakes={
        "test only": Mistake(
            "The training accuracy is not used.",
            "A gap is a difference within one run.",
            ("(train - test) => (-test)", "(other_train - other_test) => (-other_test)"),
        ),
        "reversed": Mistake(
            "The sign is reversed.",
            "A gap is training less test, and the change is the gap of the first less that of the other.",
            "mean = change.mean() => mean = -change.mean()",
        ),
        "biased": Mistake(
            "The standard deviation is divided by S.",
            "Their mean was estimated from the same numbers: look at `ddof`.",
            "ddof=1 => ddof=0",
        ),
        "not over the root": Mistake(
            "This is the standard deviation of one difference.",
            "How much less does the mean of S of them vary?",
            " / np.sqrt(S) => ",
        ),
        "over S": Mistake(
            "It is divided by S instead of its root.",
            "It is the variance of a mean that falls as 1/S.",
            "/ np.sqrt(S) => / S",
            excludes=("not over the root",),
        ),
        "unpaired": Mistake(
            "The two methods are treated as unrelated.",
            "Runs of one seed share images and initial weights. What cancels in their difference?",
            "change.std(ddof=1)"
            " => np.hypot((train - test).std(ddof=1), (other_train - other_test).std(ddof=1))",
            excludes=("test only", "biased"),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then its standard error.",
            "return mean, error => return error, mean",
        ),
    },
)
def change_of_gap(
    train: np.ndarray, test: np.ndarray, other_train: np.ndarray, other_test: np.ndarray
) -> tuple[float, float]:
    """Compute the mean and the standard error of the gap less another's, of S paired runs."""
    S = len(train)
    change = (train - test) - (other_train - other_test)
    mean = change.mean()
    error = change.std(ddof=1) / np.sqrt(S)
    return mean, error


@exercise(
    "12.5",
    "Dropout before batch normalization",
    cases=[
        case(x=features(133, 6, 2), p=0.3),
        case(x=features(134, 9, 4), p=0.5),
        case(x=features(135, 5, 5), p=0.8),
    ],
    hints=[
        "Dropout multiplies by 0, or by 1/(1 − p) with probability 1 − p. What becomes of E(x) and E(x²)?",
        "E(x) stays. E(x²) is divided by 1 − p, since 1/(1 − p)² comes with probability 1 − p.",
        "Training sees E(x²)/(1 − p) − (mean of x)², evaluation the variance of x.",
    ],
    explanation="""
        The factor keeps the mean, but its square has the mean 1/(1 − p). So the variance in training is
        E(x²)/(1 − p) − c², for a feature of mean c, and BN keeps it as its running variance. In evaluation
        nothing is dropped, and the variance is that of x. The larger c is beside the standard deviation,
        the larger the shift.""",
    mistakes={
        "upside down": Mistake(
            "This is training over evaluation.",
            "The variance that BN meets in evaluation, divided by the one that it kept, is asked for.",
            "evaluated / trained => trained / evaluated",
        ),
        "p is kept": Mistake(
            "The probability `p` is taken as that to keep a value.",
            "As in PyTorch, it is the probability to drop one.",
            "/ (1 - p) => / p",
        ),
        "not scaled": Mistake(
            "What is kept is not scaled up.",
            "Dropout divides what it keeps by 1 − p, in training.",
            (
                "square / (1 - p) => square * (1 - p)",
                "x.mean(axis=0) ** 2 => ((1 - p) * x.mean(axis=0)) ** 2",
            ),
            excludes=("p is kept", "mean forgotten"),
        ),
        "mean forgotten": Mistake(
            "The mean of the feature is taken to be 0.",
            "A variance is the mean square less the square of the mean, and the mean stays.",
            "trained = square / (1 - p) - x.mean(axis=0) ** 2 => trained = x.var(axis=0) / (1 - p)",
        ),
        "mean square": Mistake(
            "The mean is not subtracted in training.",
            "A variance is the mean square less the square of the mean.",
            " - x.mean(axis=0) ** 2 => ",
            excludes=("not scaled", "mean forgotten"),
        ),
        "standard deviation": Mistake(
            "This is the ratio of standard deviations.",
            "Which of the two does the name promise?",
            "return evaluated / trained => return np.sqrt(evaluated / trained)",
        ),
        "squared": Mistake(
            "The factor 1/(1 − p) is squared, but only some values have that factor.",
            "The square of the factor is 1/(1 − p)² with probability 1 − p, and else 0.",
            "/ (1 - p) => / (1 - p) ** 2",
            excludes=("p is kept", "not scaled", "mean forgotten"),
        ),
        "unbiased": Mistake(
            "The variance in evaluation is divided by N − 1.",
            "The rows are all that there is: look at `ddof`.",
            "evaluated = x.var(axis=0 => evaluated = x.var(ddof=1, axis=0",
        ),
    },
)
def variance_shift(x: np.ndarray, p: float) -> np.ndarray:
    """Divide the variance of each feature of x, of shape (N, C), by that under dropout of probability p."""
    square = (x**2).mean(axis=0)
    trained = square / (1 - p) - x.mean(axis=0) ** 2
    evaluated = x.var(axis=0)
    return evaluated / trained
