"""Exercises of chapter 14, *Recurrent networks*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.exercise import Case, Mistake, case, exercise


def _steps(seed: int, steps: int, features: int, momentum: float) -> Case:
    """Draw the mean and the variance of each feature at each step, and a momentum."""
    rng = np.random.default_rng(seed)
    means = np.round(rng.normal(2.0, 3.0, (steps, features)), 2)
    variances = np.round(rng.uniform(0.5, 6.0, (steps, features)), 2)
    return case(means=means, variances=variances, momentum=momentum)


def _padded(seed: int, lengths: list[int], features: int) -> Case:
    """Draw sequences of the given lengths, 0 after their ends."""
    rng = np.random.default_rng(seed)
    a = np.round(rng.normal(4.0, 1.5, (len(lengths), max(lengths), features)), 1)
    for row, length in zip(a, lengths, strict=True):
        row[length:] = 0.0
    return case(a=a, lengths=np.array(lengths))


def _draws(seed: int, count: int, gamma_h: float, gamma_x: float) -> Case:
    """Draw from the standard normal distribution."""
    z = np.round(np.random.default_rng(seed).standard_normal(count), 2)
    return case(z=z, gamma_h=gamma_h, gamma_x=gamma_x)


@exercise(
    "14.1",
    "A transient",
    returns=("mean", "var"),
    cases=[
        case(u=0.5, m=3.0, v=2.0, T=3),
        case(u=-0.7, m=-2.0, v=0.6, T=4),
        case(u=0.9, m=0.8, v=5.0, T=5),
    ],
    hints=[
        "Write the first states down: e₁, then u·e₁ + e₂, then u²·e₁ + u·e₂ + e₃.",
        "The mean is m times 1 + u + u² + …, with t terms: a geometric series.",
        "In the variance each factor counts squared: v times 1 + u² + u⁴ + …, again with t terms.",
    ],
    explanation="""
        The state at step t is the sum of t inputs, the one of k steps ago with the factor uᵏ. Means add, and
        so do variances of independent inputs, but with squared factors. Both sums are geometric, with the
        ratios u and u². The first is (1 − uᵗ)/(1 − u). For large t the power vanishes, and what is left is
        the stationary distribution.""",
    mistakes={
        "stationary": Mistake(
            "These are the values after very many steps.",
            "The state starts at 0. How many inputs has it seen at step t?",
            (
                "m * (1 - u**t) / (1 - u) => m * np.ones(T) / (1 - u)",
                "v * (1 - u ** (2 * t)) / (1 - u**2) => v * np.ones(T) / (1 - u**2)",
            ),
        ),
        "factors not squared": Mistake(
            "The factors of the variance are not squared.",
            "What is the variance of u·e?",
            "(1 - u ** (2 * t)) / (1 - u**2) => (1 - u**t) / (1 - u)",
            excludes=("stationary", "v squared"),
        ),
        "one step early": Mistake(
            "The first entry is that of the state 0.",
            "Steps count from 1: the first state has already seen an input.",
            "np.arange(1, T + 1) => np.arange(T)",
            excludes=("stationary",),
        ),
        "standard deviation": Mistake(
            "The second value is a standard deviation.",
            "Which of the two does its name promise?",
            "return mean, var => return mean, np.sqrt(var)",
            excludes=("mean square", "swapped"),
        ),
        "mean square": Mistake(
            "The second value is the mean square.",
            "A variance is the mean square less the square of the mean.",
            "return mean, var => return mean, var + mean**2",
            excludes=("swapped",),
        ),
        "v squared": Mistake(
            "The variance of the input is squared.",
            "`v` is a variance already.",
            "v * (1 - u ** (2 * t)) => v**2 * (1 - u ** (2 * t))",
            excludes=("stationary",),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            "return mean, var => return var, mean",
        ),
    },
)
def transient(u: float, m: float, v: float, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and variance at steps 1 to T of h_t = u h_(t-1) + e_t, where e has mean m, variance v."""
    t = np.arange(1, T + 1)
    mean = m * (1 - u**t) / (1 - u)
    var = v * (1 - u ** (2 * t)) / (1 - u**2)
    return mean, var


@exercise(
    "14.2",
    "One layer for all steps",
    returns=("running_mean", "running_var"),
    cases=[_steps(141, 3, 2, 0.1), _steps(142, 4, 3, 0.3), _steps(143, 5, 2, 0.25)],
    hints=[
        "Each call keeps 1 − momentum of the old value. How much of step t is left when the batch is over?",
        "T − t calls follow after step t: its weight is proportional to (1 − momentum) to the power T − t.",
        "After very many batches the start is forgotten, and the weights of the T steps sum to 1.",
    ],
    explanation="""
        Each call multiplies what is there by 1 − momentum, so that within a batch step t ends with the
        weight momentum·(1 − momentum)ᵀ⁻ᵗ. Earlier batches bring the same T values, only smaller by one
        factor for all, so the weights keep these proportions; their sum is 1. The variance is averaged like
        the mean: what the means differ by from step to step is in neither.""",
    mistakes={
        "plain average": Mistake(
            "All steps have the same weight.",
            "The last call moves the running statistics last. What remains of the first one?",
            "(1 - momentum) ** np.arange(T - 1, -1, -1) => np.ones(T)",
            excludes=("first step first", "momentum reversed", "one batch", "last step"),
        ),
        "first step first": Mistake(
            "The first step has the largest weight.",
            "Which step was seen last?",
            "np.arange(T - 1, -1, -1) => np.arange(T)",
            excludes=("last step",),
        ),
        "momentum reversed": Mistake(
            "The old value is weighed by `momentum`.",
            "`momentum` weighs the new batch. What remains of the old value?",
            "(1 - momentum) ** => momentum **",
            excludes=("one batch", "last step"),
        ),
        "pooled": Mistake(
            "The variance includes what the means differ by.",
            "The layer averages variances. It never sees two steps together.",
            "var = weights @ variances => var = weights @ (variances + (means - mean) ** 2)",
            excludes=("one batch", "last step"),
        ),
        "one batch": Mistake(
            "These are the statistics after one batch, from a start of 0.",
            "Here the batch has been seen many times: the weights sum to 1.",
            "weights / weights.sum() => momentum * weights",
            excludes=("last step",),
        ),
        "last step": Mistake(
            "Only the last step counts.",
            "It has the largest weight, but the earlier ones are not forgotten.",
            (
                "mean = weights @ means => mean = means[-1]",
                "var = weights @ variances => var = variances[-1]",
            ),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            "return mean, var => return var, mean",
        ),
    },
)
def shared_statistics(
    means: np.ndarray, variances: np.ndarray, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the running statistics of a BN that is called for T steps, of moments (T, C), many times."""
    T = len(means)
    weights = (1 - momentum) ** np.arange(T - 1, -1, -1)
    weights = weights / weights.sum()
    mean = weights @ means
    var = weights @ variances
    return mean, var


@exercise(
    "14.3",
    "Only what goes on",
    returns=("mean", "var"),
    cases=[_padded(144, [3, 1, 3], 1), _padded(145, [4, 2, 4, 3], 2), _padded(146, [2, 5, 3, 5, 5], 3)],
    hints=[
        "A sequence of length 3 takes part in the steps 0, 1 and 2: compare `np.arange(T)` with the lengths.",
        "With w = 1 where a sequence goes on and 0 elsewhere, n is the sum of w over the sequences.",
        "The mean is the sum of w·a over n, the variance the sum of w·(a − mean)² over n.",
    ],
    explanation="""
        A mask turns sums over the batch into sums over those sequences that go on. It is needed three times:
        in the count, in the mean, and in the squared deviations, as a padded 0 deviates from the mean too.
        The shapes are (N, T, 1) for the mask, (T, 1) for the count and (T, C) for the moments.""",
    mistakes={
        "padding counted": Mistake(
            "The zeros after the end of a sequence count.",
            "Which sequences are still there at step t?",
            "w = alive[..., None] => w = np.ones((*alive.shape, 1))",
            excludes=("divided by N", "one step more", "zeros deviate"),
        ),
        "divided by N": Mistake(
            "The sums are divided by the number of all sequences.",
            "How many of them go on at step t?",
            "n = w.sum(axis=0) => n = len(a)",
            excludes=("one set",),
        ),
        "one step more": Mistake(
            "Each sequence counts one step too many.",
            "Steps are numbered from 0: which is the last one of a sequence of length 3?",
            " < lengths =>  <= lengths",
        ),
        "zeros deviate": Mistake(
            "The zeros after the end of a sequence count in the variance.",
            "They deviate from the mean too: the mask is needed in both sums.",
            "(w * (a - mean) ** 2) => ((a - mean) ** 2)",
            excludes=("divided by N",),
        ),
        "n - 1": Mistake(
            "The variance is divided by n − 1.",
            "BN normalizes with the biased one.",
            "(a - mean) ** 2).sum(axis=0) / n => (a - mean) ** 2).sum(axis=0) / (n - 1)",
            excludes=("one set",),
        ),
        "one set": Mistake(
            "There is one set of moments for all steps.",
            "Each step has its own: over which axis do you sum?",
            (
                "n = w.sum(axis=0) => n = w.sum()",
                "mean = (w * a).sum(axis=0) => mean = (w * a).sum(axis=(0, 1))",
                "** 2).sum(axis=0) => ** 2).sum(axis=(0, 1))",
            ),
        ),
        "standard deviation": Mistake(
            "The second value is a standard deviation.",
            "Which of the two does its name promise?",
            "return mean, var => return mean, np.sqrt(var)",
            excludes=("swapped",),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            "return mean, var => return var, mean",
        ),
    },
)
def step_moments(a: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the biased moments (T, C) of each step of a, (N, T, C), over the sequences that go on."""
    alive = np.arange(a.shape[1]) < lengths[:, None]
    w = alive[..., None]
    n = w.sum(axis=0)
    mean = (w * a).sum(axis=0) / n
    var = (w * (a - mean) ** 2).sum(axis=0) / n
    return mean, var


@exercise(
    "14.4",
    "What padding does",
    returns=("mean", "var"),
    cases=[
        case(mean=np.array([2.0, -3.0]), var=np.array([1.5, 0.4]), share=0.25),
        case(mean=np.array([0.5, 4.0, -1.0]), var=np.array([2.0, 3.0, 0.7]), share=0.6),
        case(mean=np.array([6.0]), var=np.array([5.0]), share=0.9),
    ],
    hints=[
        "The batch has two groups: real values with their mean and variance, and zeros.",
        "The mean is share·mean. For the variance take the mean square, share·(var + mean²).",
        "Subtract the square of the new mean.",
    ],
    explanation="""
        The zeros add nothing to the sums, only to the count. So the mean is p·μ and the mean square
        p(σ² + μ²). Their difference is p·σ² + p(1 − p)μ²: the law of total variance with two groups. The
        first term shrinks; the second grows with the distance of the mean from 0.""",
    mistakes={
        "between forgotten": Mistake(
            "The distance between the real values and the zeros is missing from the variance.",
            "Even if all real values were alike, the batch would hold two different numbers.",
            " + share * (1 - share) * mean**2 => ",
            excludes=("not centred",),
        ),
        "not centred": Mistake(
            "The square of the new mean is not subtracted.",
            "A variance is the mean square less the square of the mean.",
            "share * (1 - share) * mean**2 => share * mean**2",
        ),
        "share of padding": Mistake(
            "The share is taken as that of the padding.",
            "It is that of the real values.",
            (
                "counted_mean = share => counted_mean = (1 - share)",
                "counted_var = share => counted_var = (1 - share)",
            ),
            excludes=("mean kept", "variance kept", "share squared", "not centred"),
        ),
        "share squared": Mistake(
            "The share of the variance is squared.",
            "The real values are not scaled. They are only a part of the batch.",
            "share * var => share**2 * var",
            excludes=("variance kept",),
        ),
        "mean kept": Mistake(
            "The mean is that of the real values.",
            "The zeros count in it too.",
            "share * mean\n => mean\n",
        ),
        "variance kept": Mistake(
            "The variance of the real values enters in full.",
            "They are only a part of the batch.",
            "share * var => var",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            "return counted_mean, counted_var => return counted_var, counted_mean",
        ),
    },
)
def with_padding(mean: np.ndarray, var: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and variance of a batch of which a share has the given moments and the rest is 0."""
    counted_mean = share * mean
    counted_var = share * var + share * (1 - share) * mean**2
    return counted_mean, counted_var


@exercise(
    "14.5",
    "The gradient through one step",
    cases=[_draws(147, 5, 1.0, 0.6), _draws(148, 8, 0.4, 0.7), _draws(149, 7, 1.7, 0.5)],
    hints=[
        "What is the standard deviation s of the sum of two independent terms, with γ_h and γ_x?",
        "h = tanh(s z), and the slope of tanh there is 1 − h².",
        "γ_h² times the mean of the squared slope, divided by the mean of h².",
    ],
    explanation="""
        Backwards, the gradient meets the slope of tanh, then BN, which multiplies by γ_h and divides by the
        standard deviation of U h, and then Uᵀ. The size of U cancels, and what remains of the standard
        deviation is that of h. So saturation makes the slope small, but it is the size of h, of order s, that
        the slope is compared with.""",
    mistakes={
        "slope alone": Mistake(
            "This is the slope of tanh alone.",
            "BN divides by the standard deviation of U h, which is that of h times the size of U.",
            "gamma_h**2 * (slope**2).mean() / (h**2).mean() => (slope**2).mean()",
            excludes=(
                "gamma not squared",
                "not divided",
                "variance of a",
                "both gammas",
                "slope not squared",
            ),
        ),
        "slope not squared": Mistake(
            "The slope is not squared.",
            "The factor of the squared gradient is asked for.",
            "(slope**2).mean() => slope.mean()",
        ),
        "not divided": Mistake(
            "It is not divided by the mean square of h.",
            "By what does BN divide U h?",
            " / (h**2).mean() => ",
            excludes=("variance of a",),
        ),
        "variance of a": Mistake(
            "It is divided by the variance of the pre-activation.",
            "BN divides by the standard deviation of U h, and h is what comes after tanh.",
            "/ (h**2).mean() => / s**2",
            excludes=("both gammas",),
        ),
        "gammas added": Mistake(
            "The standard deviations of the two terms are added.",
            "Of independent terms it is the variances that add.",
            "np.sqrt(gamma_h**2 + gamma_x**2) => gamma_h + gamma_x",
        ),
        "input ignored": Mistake(
            "The term of the input is missing.",
            "The pre-activation is a sum of two normalized terms.",
            "np.sqrt(gamma_h**2 + gamma_x**2) => gamma_h",
            excludes=("gammas added", "both gammas", "variance of a"),
        ),
        "gamma not squared": Mistake(
            "γ_h is not squared.",
            "The factor of the squared gradient is asked for.",
            "gamma_h**2 * (slope => gamma_h * (slope",
            excludes=("both gammas",),
        ),
        "both gammas": Mistake(
            "Both γ count in the numerator.",
            "The gradient goes back through the term of h alone.",
            "gamma_h**2 * (slope => s**2 * (slope",
        ),
    },
)
def gradient_factor(z: np.ndarray, gamma_h: float, gamma_x: float) -> float:
    """Compute the factor of the squared gradient from step to step, by standard normal draws z."""
    s = np.sqrt(gamma_h**2 + gamma_x**2)
    h = np.tanh(s * z)
    slope = 1 - h**2
    return gamma_h**2 * (slope**2).mean() / (h**2).mean()
