"""Exercises of chapter 13, *Small batches*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features


def _renorm(seed: int, rows: int, count: int, r_max: float, d_max: float, eps: float) -> Case:
    """Draw a batch and running statistics, some near those of the batch and some far from them."""
    rng = np.random.default_rng(seed)
    x = features(seed, rows, count)
    far = 4.0 ** rng.uniform(-1.0, 1.0, count)
    mean = np.round(x.mean(axis=0) + far * rng.choice([-1.0, 1.0], count), 2)
    var = np.round(x.var(axis=0) * 9.0 ** rng.uniform(-1.0, 1.0, count), 2)
    return case(x=x, mean=mean, var=var, r_max=r_max, d_max=d_max, eps=eps)


@exercise(
    "13.1",
    "The inverse of the standard deviation",
    cases=[case(m=4), case(m=3), case(m=9), case(m=40)],
    hints=[
        "(13.5) has it, with the gamma function; `math.gamma` computes that.",
        "Try m = 4: Γ(1) = 1 and Γ(3/2) = √π/2, so the factor is √2 · 2/√π, about 1.6.",
    ],
    explanation="""
        The sum of squared distances from the mean of m normal values is σ*² times a chi-square variable
        with m − 1 degrees of freedom, and the biased variance is 1/m of it. The mean of the inverse root of
        such a variable is Γ((m − 2)/2)/(√2 Γ((m − 1)/2)). At m = 2 the integral diverges: two values can
        be arbitrarily close.""",
    mistakes={
        "unbiased": Mistake(
            "This is the factor for the unbiased variance.",
            "BN divides the sum of squares by m.",
            "sqrt(m / 2) => sqrt((m - 1) / 2)",
        ),
        "inverse of the mean": Mistake(
            "This is the inverse of the mean of σ/σ*.",
            "The mean of an inverse is larger than the inverse of the mean.",
            "gamma((m - 2) / 2) / gamma((m - 1) / 2) => gamma((m - 1) / 2) / gamma(m / 2)",
        ),
        "upside down": Mistake(
            "The fraction is upside down.",
            "Is the result above 1?",
            "gamma((m - 2) / 2) / gamma((m - 1) / 2) => gamma((m - 1) / 2) / gamma((m - 2) / 2)",
            excludes=("inverse of the mean",),
        ),
        "root forgotten": Mistake(
            "The root of m/2 is missing.",
            "The factor must tend to 1 for large m.",
            "sqrt(m / 2) => (m / 2)",
            excludes=("unbiased",),
        ),
        "root of m": Mistake(
            "The 2 under the root is missing.",
            "The factor must tend to 1 for large m.",
            "sqrt(m / 2) => sqrt(m)",
            excludes=("unbiased", "root forgotten"),
        ),
        "not halved": Mistake(
            "The arguments of Γ are not halved.",
            "Look at (13.5) again: m − 2 and m − 1 are both divided by 2.",
            "gamma((m - 2) / 2) / gamma((m - 1) / 2) => gamma(m - 2) / gamma(m - 1)",
            excludes=("inverse of the mean", "upside down"),
        ),
    },
)
def inverse_std_factor(m: int) -> float:
    """Compute the mean of the true standard deviation over that of a batch of m normal values."""
    from math import gamma, sqrt

    return sqrt(m / 2) * (gamma((m - 2) / 2) / gamma((m - 1) / 2))


@exercise(
    "13.2",
    "What two values leave",
    cases=[
        case(x=features(131, 2, 3), eps=0.5),
        case(x=features(132, 2, 2), eps=2.0),
        case(x=features(133, 2, 6), eps=0.1),
    ],
    hints=[
        "The mean of two values lies halfway between them. How far is each from it?",
        "With d half of their difference, both squared distances are d². So is the biased variance.",
        "The first row is d / √(d² + ε), and the second the same with the other sign.",
    ],
    explanation="""
        Each value is half the difference away from the mean, and the biased variance is that half, squared.
        So nothing is left of x but d, and for |d| far above √ε nothing is left of d but its sign.""",
    mistakes={
        "not halved": Mistake(
            "The whole difference is taken for d.",
            "How far is each of two values from the point halfway between them?",
            "(x[0] - x[1]) / 2 => (x[0] - x[1])",
        ),
        "unbiased": Mistake(
            "The variance is the unbiased one.",
            "For two values that is twice the biased one, which BN divides by.",
            "np.sqrt(d**2 + eps) => np.sqrt(2 * d**2 + eps)",
        ),
        "epsilon outside": Mistake(
            "Epsilon is outside the root.",
            "BN adds it to the variance.",
            "np.sqrt(d**2 + eps) => (np.sqrt(d**2) + eps)",
            excludes=("unbiased",),
        ),
        "no epsilon": Mistake(
            "Epsilon is missing.",
            "Without it, all outputs are −1 or 1.",
            "d**2 + eps => d**2",
            excludes=("epsilon outside", "unbiased", "not halved"),
        ),
        "not rooted": Mistake(
            "The division is by the variance.",
            "BN divides by the standard deviation.",
            "np.sqrt(d**2 + eps) => (d**2 + eps)",
            excludes=("epsilon outside", "unbiased", "no epsilon"),
        ),
        "rows swapped": Mistake(
            "The two rows are swapped.",
            "The larger of the two values gets the larger output.",
            "[x_hat, -x_hat] => [-x_hat, x_hat]",
        ),
        "same sign": Mistake(
            "Both rows have the same sign.",
            "The outputs of a batch have mean 0.",
            "[x_hat, -x_hat] => [x_hat, x_hat]",
            excludes=("rows swapped",),
        ),
    },
)
def normalize_two(x: np.ndarray, eps: float) -> np.ndarray:
    """Normalize a batch of two, of shape (2, C), from the differences alone."""
    d = (x[0] - x[1]) / 2
    x_hat = d / np.sqrt(d**2 + eps)
    return np.stack([x_hat, -x_hat])


@exercise(
    "13.3",
    "Batch renormalization",
    cases=[
        _renorm(134, 4, 5, 1.5, 0.5, 0.1),
        _renorm(135, 3, 6, 2.0, 1.0, 0.5),
        _renorm(136, 6, 8, 3.0, 2.0, 0.01),
        _renorm(137, 2, 9, 1.2, 5.0, 0.2),
    ],
    hints=[
        "Without the bounds, the result is (x − running mean) / √(running variance + ε). What r and d do so?",
        "r = σ_B/σ and d = (μ_B − μ)/σ, with the running σ below the line in both.",
        "`np.clip(r, 1 / r_max, r_max)` and `np.clip(d, -d_max, d_max)`; then multiply by r, and add d.",
    ],
    explanation="""
        r turns the batch's standard deviation into the running one, and d moves the mean. With no bounds the
        output is that of evaluation. The bounds keep it near BN while the running statistics are not to be
        trusted. The factor r comes first, then d.""",
    mistakes={
        "r upside down": Mistake(
            "The factor r is upside down.",
            "The division by σ_B is to be undone.",
            "sigma_batch / sigma, => sigma / sigma_batch,",
        ),
        "d by the batch": Mistake(
            "The term d is divided by the standard deviation of the batch.",
            "d comes after r, so it is in units of the running one.",
            "mean) / sigma, => mean) / sigma_batch,",
        ),
        "d reversed": Mistake(
            "The term d has the wrong sign.",
            "A batch above the running mean must come out above 0.",
            "(mu_batch - mean) => (mean - mu_batch)",
        ),
        "r unbounded below": Mistake(
            "The factor r has no lower bound.",
            "It is kept between 1/r_max and r_max.",
            "1 / r_max, r_max => 0, r_max",
        ),
        "r unbounded": Mistake(
            "The factor r is not bounded.",
            "It is kept between 1/r_max and r_max.",
            "1 / r_max, r_max => 0, np.inf",
            excludes=("r unbounded below", "unbiased"),
        ),
        "d unbounded": Mistake(
            "The term d is not bounded.",
            "It is kept between −d_max and d_max.",
            "-d_max, d_max => -np.inf, np.inf",
        ),
        "d before r": Mistake(
            "The factor r multiplies d too.",
            "First the factor, then the term.",
            "/ sigma_batch * r + d => / sigma_batch * r + d * r",
        ),
        "no r": Mistake(
            "The factor r is not used.",
            "The standard deviation needs its correction as well.",
            "/ sigma_batch * r + d => / sigma_batch + d",
            excludes=("r upside down", "r unbounded below", "r unbounded", "d before r"),
        ),
        "unbiased": Mistake(
            "The variance of the batch is divided by m − 1.",
            "BN normalizes by the biased one: look at `ddof`.",
            "x.var(axis=0 => x.var(ddof=1, axis=0",
        ),
        "no epsilon in the running": Mistake(
            "Epsilon is missing under the running variance.",
            "Both standard deviations have it.",
            "np.sqrt(var + eps) => np.sqrt(var)",
        ),
    },
)
def renormalize(
    x: np.ndarray, mean: np.ndarray, var: np.ndarray, r_max: float, d_max: float, eps: float
) -> np.ndarray:
    """Batch renormalize x, of shape (m, C), towards a running mean and variance, without scale and shift."""
    mu_batch = x.mean(axis=0)
    sigma_batch = np.sqrt(x.var(axis=0) + eps)
    sigma = np.sqrt(var + eps)
    r = np.clip(sigma_batch / sigma, 1 / r_max, r_max)
    d = np.clip((mu_batch - mean) / sigma, -d_max, d_max)
    return (x - mu_batch) / sigma_batch * r + d


@exercise(
    "13.4",
    "A momentum for small batches",
    cases=[case(momentum=0.1, n=2, N=32), case(momentum=0.5, n=16, N=64), case(momentum=0.3, n=30, N=20)],
    hints=[
        "After one batch, the share 1 − α of the old running mean is left. After two, its square.",
        "N images are N/n batches of n. After those, as much must be left as after one batch of N.",
        "Solve (1 − a)^(N/n) = 1 − α for a.",
    ],
    explanation="""
        N images are one batch of N, which leaves 1 − α of what was there, or N/n batches of n, which leave
        (1 − a)^(N/n). The two are equal for a = 1 − (1 − α)^(n/N). For small α this is about α·n/N. Then the
        running mean averages over as many images as before, and is about as precise.""",
    mistakes={
        "proportional": Mistake(
            "The momentum is multiplied by n/N.",
            "That is close for small ones only. What is left after several batches?",
            "1 - (1 - momentum) ** (n / N) => momentum * (n / N)",
        ),
        "upside down": Mistake(
            "The exponent is N/n.",
            "With smaller batches each one must count less.",
            "(n / N) => (N / n)",
        ),
        "what is left": Mistake(
            "This is what is left of the old value.",
            "The momentum is the weight of the new batch.",
            "1 - (1 - momentum) => (1 - momentum)",
            excludes=("proportional",),
        ),
        "power of the momentum": Mistake(
            "The momentum itself is raised to a power.",
            "What multiplies from batch to batch is what is left.",
            "1 - (1 - momentum) ** => momentum **",
            excludes=("proportional", "what is left"),
        ),
        "root": Mistake(
            "The root of n/N is taken.",
            "Ask for what is left after N images, not for the noise of the running mean.",
            "(n / N) => np.sqrt(n / N)",
            excludes=("upside down",),
        ),
    },
)
def momentum_for(momentum: float, n: int, N: int) -> float:
    """Compute the momentum at which batches of n leave as much of the old as one of N does per N images."""
    return 1 - (1 - momentum) ** (n / N)


@exercise(
    "13.5",
    "After ReLU",
    read=number(),
    tolerance=2e-3,
    hints=[
        "In training every output is −1 or 1. What is the mean of what ReLU lets pass?",
        "In evaluation the value is standard normal, and the mean after ReLU is half of E|z| = √(2/π).",
    ],
    explanation="""
        In training half of the values are 1 and the others become 0: the mean is 1/2. In evaluation it is
        1/√(2π), about 0.399. So the next layer has learned with a mean that is √(2π)/2 = 1.253 times as
        large as the one it meets.""",
    mistakes={
        "upside down": Mistake(
            "This is evaluation over training.", "Training over evaluation is asked for.", gives=0.798
        ),
        "training": Mistake("This is the mean in training.", "Divide by that in evaluation.", gives=0.5),
        "evaluation": Mistake("This is the mean in evaluation.", "It goes below the line.", gives=0.399),
        "equal": Mistake(
            "The means before ReLU are equal, both 0.",
            "ReLU keeps one half of each distribution. Do the halves have the same mean?",
            gives=1,
        ),
        "no half": Mistake("In training only half of the values pass.", "The other half is −1.", gives=2.507),
        "half of the evaluation": Mistake(
            "In evaluation too only half of the values pass.",
            "Both means count the zeros.",
            gives=0.627,
        ),
        "variance": Mistake("This is the ratio of squares.", "The ratio of means is asked for.", gives=1.571),
    },
)
def after_relu() -> float:
    """Divide the mean after ReLU in training, in batches of two, by that in evaluation, for normal data."""
    return 0.5 / (1 / np.sqrt(2 * np.pi))
