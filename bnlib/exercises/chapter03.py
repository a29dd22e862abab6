"""Exercises of chapter 3, *Computing the moments*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features


def _far_from_zero() -> Case:
    """Make integers near 2**29, whose squares float64 rounds to multiples of 64.

    In one pass, any order of summation gives a variance of exactly 0.
    """
    offsets = np.array([[0, 3, 2], [1, 0, 4], [3, 1, 0], [4, 0, 2]])
    return case(x=2.0**29 + offsets)


@exercise(
    "3.1",
    "A variance that survives a large mean",
    cases=[
        case(x=features(301, 3, 2)),
        _far_from_zero(),
        case(x=features(302, 7, 4)),
        case(x=features(303, 5, 5)),
    ],
    hints=[
        "The mean of the squares minus the square of the mean cancels. What does the definition (2.2) say?",
        "First compute the mean of each column, then the distances from it. Squares come last.",
        "Average the squared distances over axis 0, the samples: their sum divided by m, the length of `x`.",
    ],
    explanation="""
        Two passes: the mean first, then the mean of the squared distances from it. The distances of numbers
        that lie close together are exact, so nothing cancels when their squares are added. The
        formula with the mean of the squares gives 0 on the columns near 2²⁹: their squares are
        near 2⁵⁸, where float64 numbers are 64 apart.""",
    mistakes={
        "one pass": Mistake(
            "Near 2²⁹ it gives 0, as does the mean of the squares minus the square of the mean.",
            "Subtract the mean before you square, and stay in float64: float32 makes these columns constant.",
            (
                "np.sum((x - mean) ** 2 => (np.sum(x**2",
                "axis=0) / len(x) => axis=0) - len(x) * mean**2) / len(x)",
            ),
        ),
        "n - 1": Mistake(
            "The sum is divided by m − 1.", "The biased variance divides by m.", "/ len(x) => / (len(x) - 1)"
        ),
        "not divided": Mistake(
            "This is the sum of the squared distances.",
            "A variance is their mean.",
            "axis=0) / len(x) => axis=0)",
        ),
        "mean not subtracted": Mistake(
            "This is the mean of the squares.",
            "From where are distances measured?",
            "(x - mean) ** 2 => x**2",
            excludes=("one mean for all",),
        ),
        "absolute": Mistake(
            "The distances are not squared, only their signs removed.",
            "This is the mean absolute deviation. The variance averages squares.",
            "(x - mean) ** 2 => np.abs(x - mean)",
        ),
        "root": Mistake(
            "This is the standard deviation.",
            "The variance is its square.",
            "return var => return np.sqrt(var)",
        ),
        "per sample": Mistake(
            "There is one variance for each row.",
            "Features are columns: over which axis do you average?",
            (
                "x.mean(axis=0) => x.mean(axis=1, keepdims=True)",
                "2, axis=0) / len(x) => 2, axis=1) / x.shape[1]",
            ),
            excludes=("one pass",),
        ),
        "one mean for all": Mistake(
            "All columns share one mean.", "Name the axis of the mean.", "x.mean(axis=0) => x.mean()"
        ),
    },
)
def variance(x: np.ndarray) -> np.ndarray:
    """Average the squared distances from the mean in each column of x, of shape (m, C)."""
    mean = x.mean(axis=0)
    var = np.sum((x - mean) ** 2, axis=0) / len(x)
    return var


def _step(seed: int, count: int, channels: int) -> Case:
    x = features(seed, count + 1, channels)
    seen = x[:count] if count else np.zeros((1, channels))
    return case(count=count, mean=seen.mean(axis=0), m2=count * seen.var(axis=0), x=x[count].copy())


@exercise(
    "3.2",
    "One step of Welford",
    returns=("count", "mean", "m2"),
    cases=[_step(311, 2, 1), _step(312, 0, 2), _step(313, 1, 3), _step(314, 6, 3)],
    hints=[
        "The count comes first: it includes the new sample.",
        "δ is the distance of `x` from the old mean. The mean moves by δ over the new count.",
        "`m2` grows by the product of two distances of `x`: from the old mean and from the new one.",
    ],
    explanation="""
        With δ taken from the old mean, (3.6) moves the mean and (3.7) adds δ times the distance from the
        new mean. The product is δ²(n − 1)/n: less than δ², because the mean moves towards the new value,
        and 0 for the first one. New values are returned; the arguments stay as they were.""",
    mistakes={
        "old mean twice": Mistake(
            "The sum `m2` grows by the square of the distance from the old mean.",
            "One of the two factors is the distance from the new mean.",
            "delta * (x - mean) => delta * delta",
        ),
        "new mean twice": Mistake(
            "The sum `m2` grows by the square of the distance from the new mean.",
            "One of the two factors is the distance from the old mean.",
            "delta * (x - mean) => (x - mean) ** 2",
        ),
        "count not increased first": Mistake(
            "The distance δ is divided by the old count.",
            "How many samples does the new mean average over? See what happens at the first.",
            "delta / count => delta / (count - 1)",
        ),
        "count unchanged": Mistake(
            "The count is returned as it was.",
            "There is one sample more.",
            "return count, => return count - 1,",
        ),
        "halfway": Mistake(
            "The mean moves halfway to the new sample.",
            "That is right for the second sample only. What is the weight of one among n?",
            "delta / count => delta / 2",
        ),
        "mean stays": Mistake(
            "The mean does not move.",
            "It moves towards the new sample.",
            "mean + delta / count => mean",
            excludes=("old mean twice", "new mean twice", "wrong direction"),
        ),
        "wrong direction": Mistake(
            "The mean moves away from the new sample.",
            "What is the sign of δ if the sample is above the mean?",
            "mean + delta => mean - delta",
        ),
        "m2 restarted": Mistake(
            "The sum `m2` forgets what it was.", "It is a sum over all samples.", "m2 + delta * => delta *"
        ),
        "divided": Mistake(
            "What is added to `m2` is divided by the count.",
            "`m2` is a sum, and becomes a variance only at the end.",
            "(x - mean)\n => (x - mean) / count\n",
        ),
        "swapped": Mistake(
            "The mean and `m2` are returned in the wrong order.",
            "Return them in the order in which they come in.",
            "count, mean, m2\n => count, m2, mean\n",
        ),
    },
)
def welford_step(
    count: int, mean: np.ndarray, m2: np.ndarray, x: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray]:
    """Update the count, the mean and the sum of squared distances with one sample x, of shape (C,)."""
    count = count + 1
    delta = x - mean
    mean = mean + delta / count
    m2 = m2 + delta * (x - mean)
    return count, mean, m2


def _pair(seed: int, count_a: int, count_b: int, channels: int) -> Case:
    a, b = features(seed, count_a, channels), features(seed + 1, count_b, channels)
    return case(
        count_a=count_a,
        mean_a=a.mean(axis=0),
        var_a=a.var(axis=0),
        count_b=count_b,
        mean_b=b.mean(axis=0),
        var_b=b.var(axis=0),
    )


@exercise(
    "3.3",
    "Merge two batches",
    returns=("mean", "var"),
    cases=[_pair(321, 3, 2, 1), _pair(323, 4, 9, 3), _pair(325, 8, 1, 2), _pair(327, 5, 6, 4)],
    hints=[
        "The larger batch counts for more. What share of all samples does each hold?",
        "Each variance misses the distance from its own mean to the common one: see (3.1) with c = μ.",
        "Average the two variances by share, then add the product of both shares times δ².",
    ],
    explanation="""
        Divide (3.9) by n. The variance of the whole is the weighted average of the variances within the
        batches, plus the variance between them, which is δ² times both shares. Averaging the variances
        alone forgets that two narrow batches far apart make one wide batch.""",
    mistakes={
        "between forgotten": Mistake(
            "The distance between the two means is left out of the variance.",
            "Imagine two batches without any spread, at 0 and at 10.",
            "within + between => within",
            excludes=("one share missing", "no shares", "not squared"),
        ),
        "variances unweighted": Mistake(
            "The variances are averaged as if the batches were of equal size.",
            "Which share of the samples has each?",
            "share_a * var_a + share_b * var_b => (var_a + var_b) / 2",
        ),
        "means unweighted": Mistake(
            "The means are averaged as if the batches were of equal size.",
            "Which share of the samples has each?",
            "share_a * mean_a + share_b * mean_b => (mean_a + mean_b) / 2",
        ),
        "one share missing": Mistake(
            "Only one share multiplies δ², that of b.",
            "What is left of δ² if a is almost empty, and what if b is?",
            "share_a * share_b * delta => share_b * delta",
        ),
        "no shares": Mistake(
            "All of δ² is added to the variance.",
            "No sample is further than a part of δ from the common mean, if it is at the mean of its batch.",
            "share_a * share_b * delta => delta",
        ),
        "not squared": Mistake(
            "The distance between the means is not squared.",
            "A variance has the unit of a square, and no sign.",
            "delta**2 => delta",
        ),
        "n - 1 in the result": Mistake(
            "The result is the unbiased variance.",
            "The biased one divides by n.",
            "within + between => (within + between) * count / (count - 1)",
        ),
        "n - 1 in the parts": Mistake(
            "The given variances are taken for unbiased ones.",
            "They are biased: multiply each by n, not by n − 1, to get the sum of squares.",
            (
                "share_a * var_a => (share_a - 1 / count) * var_a",
                "share_b * var_b => (share_b - 1 / count) * var_b",
            ),
        ),
        "shares exchanged": Mistake(
            "The mean of a has the weight of b, and the other way round.",
            "The common mean is nearer to the larger batch.",
            ("share_a * mean_a => share_b * mean_a", "share_b * mean_b => share_a * mean_b"),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            ("return mean, => return", "within + between\n => within + between, mean\n"),
        ),
    },
)
def merge(
    count_a: int, mean_a: np.ndarray, var_a: np.ndarray, count_b: int, mean_b: np.ndarray, var_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the mean and the biased variance of two batches together."""
    count = count_a + count_b
    share_a, share_b = count_a / count, count_b / count
    delta = mean_b - mean_a
    mean = share_a * mean_a + share_b * mean_b
    within = share_a * var_a + share_b * var_b
    between = share_a * share_b * delta**2
    return mean, within + between


@exercise(
    "3.4",
    "The grid at a mean of 1000",
    read=number(),
    tolerance=1e-3,
    hints=[
        "Both terms of the difference are float32 numbers near 1000². How far apart are such numbers?",
        "Between 2ᵏ and 2ᵏ⁺¹ they are 2ᵏ⁻²³ apart. Which powers of two enclose 1,000,001?",
    ],
    explanation="""
        Both terms are near 1,000,000, between 2¹⁹ = 524,288 and 2²⁰ = 1,048,576, where float32 numbers are
        2¹⁹⁻²³ = 1/16 apart. So is their difference a multiple of 1/16: of a variance of 1, no more
        than four binary digits are left, before any rounding error of the sums.""",
    mistakes={
        "mean of ten thousand": Mistake(
            "That is the step for a mean of 10,000.", "Where does the square of 1000 lie?", gives=8
        ),
        "not squared": Mistake(
            "This is the distance of float32 numbers near 1000.",
            "The formula subtracts squares.",
            gives=2.0**-14,
        ),
        "near one": Mistake(
            "This is the distance of float32 numbers just above 1.",
            "The variance is near 1, but it is computed as a difference of larger numbers.",
            gives=2.0**-23,
        ),
        "half": Mistake(
            "This is half the distance, the largest error of rounding once.",
            "How far is one float32 number from the next?",
            gives=2.0**-5,
        ),
        "power above": Mistake(
            "This is the distance of numbers above 2²⁰.",
            "The square of 1000 lies just below that.",
            gives=2.0**-3,
        ),
        "relative": Mistake(
            "This is the unit roundoff times the square of 1000, not a power of two.",
            "The grid changes at powers of two only. Between which of them are we?",
            gives=2.0**-24 * 1e6,
        ),
        "epsilon": Mistake(
            "This is 2⁻²³ times the square of 1000, not a power of two.",
            "The grid changes at powers of two only. Between which of them are we?",
            gives=2.0**-23 * 1e6,
        ),
    },
)
def grid_step() -> float:
    """Measure the distance from one float32 number to the next, near the mean of the squares."""
    return float(np.spacing(np.float32(1000.0**2 + 1)))
