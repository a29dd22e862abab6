"""Exercises of chapter 5, *The geometry of the Jacobian*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Mistake, case, exercise
from bnlib.exercises.inputs import features


def _feature(seed: int, m: int) -> np.ndarray:
    return features(seed, m, 1)[:, 0]


def _gradient(seed: int, m: int) -> np.ndarray:
    return np.round(0.7 + 2.0 * np.random.default_rng(seed).standard_normal(m), 2)


@exercise(
    "5.1",
    "The Jacobian as a matrix",
    cases=[
        case(x=_feature(51, 3), gamma=2.5, eps=0.5),
        case(x=_feature(52, 7), gamma=-1.7, eps=0.3),
        case(x=_feature(53, 5), gamma=3.2, eps=2.0),
    ],
    hints=[
        "Three terms: the direct effect, the way through the mean, the way through the deviation.",
        "The direct effect is `np.eye(m)`. The mean takes 1/m from every entry of it.",
        "The third term is `np.outer(x_hat, x_hat) / m`. A factor γ/√(σ² + ε) stands before all three.",
    ],
    explanation="""
        Moving x_j moves the output of sample j directly, and all outputs through the mean, by −1/m each.
        It also moves the deviation by x̂_j/m, to which output i reacts in proportion to x̂_i. Together this is
        γ/√(σ² + ε) times I − 11ᵀ/m − x̂x̂ᵀ/m, where x̂ contains ε as well.""",
    mistakes={
        "no mean term": Mistake(
            "The way through the mean is missing.",
            "Shift all of `x` by 1: what should the Jacobian say about the output?",
            "np.eye(m) - 1 / m => np.eye(m)",
        ),
        "no x_hat term": Mistake(
            "The way through the standard deviation is missing.",
            "Stretch `x`: at small ε the output should hardly move.",
            " - np.outer(x_hat, x_hat) / m) => )",
        ),
        "mean term not divided": Mistake(
            "The mean term is not divided by m.",
            "How far does the mean move with one sample?",
            "np.eye(m) - 1 / m => np.eye(m) - 1",
        ),
        "x_hat term not divided": Mistake(
            "The x̂ term is not divided by m.",
            "How far does the variance move with one sample?",
            "x_hat) / m) => x_hat))",
        ),
        "sign of the x_hat term": Mistake(
            "The x̂ term has the wrong sign.",
            "A sample far out makes σ larger: does that make the outputs larger or smaller?",
            "1 / m - np.outer => 1 / m + np.outer",
        ),
        "x for x_hat": Mistake(
            "The outer product is that of x, not of x̂.",
            "A shift of `x` must not change the Jacobian.",
            "np.outer(x_hat, x_hat) => np.outer(x, x)",
        ),
        "not scaled": Mistake(
            "The outer product is that of x − μ, which is not divided by the standard deviation.",
            "All three terms must be free of the units of `x`.",
            "(x - x.mean()) * inv_std => (x - x.mean())",
            excludes=("x for x_hat", "no x_hat term"),
        ),
        "n - 1": Mistake(
            "The variance is divided by m − 1.",
            "Batch normalization divides it by m: look at `ddof`.",
            "x.var() => x.var(ddof=1)",
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(x.var() + eps) => (np.sqrt(x.var()) + eps)",
            excludes=("eps ignored", "n - 1"),
        ),
        "eps ignored": Mistake(
            "ε is not used.", "It stands in σ² + ε, also inside x̂.", "x.var() + eps => x.var()"
        ),
        "gamma ignored": Mistake("γ is not used.", "It scales all of it.", "gamma * inv_std => inv_std"),
        "no factor 1/s": Mistake(
            "The factor 1/√(σ² + ε) before the bracket is missing.",
            "Which unit has dy/dx, if x is measured in metres?",
            "inv_std * (np.eye => (np.eye",
        ),
    },
)
def jacobian(x: np.ndarray, gamma: float, eps: float) -> np.ndarray:
    """Compute all derivatives of the batch normalization of one feature, of shape (m, m)."""
    m = len(x)
    inv_std = 1 / np.sqrt(x.var() + eps)
    x_hat = (x - x.mean()) * inv_std
    return gamma * inv_std * (np.eye(m) - 1 / m - np.outer(x_hat, x_hat) / m)


@exercise(
    "5.2",
    "The share of a gradient that is lost",
    cases=[
        case(x=_feature(54, 3), dy=_gradient(1, 3)),
        case(x=_feature(55, 8), dy=_gradient(2, 8)),
        case(x=_feature(56, 13), dy=_gradient(3, 13)),
    ],
    hints=[
        "P removes two perpendicular parts of dy. Along which two vectors?",
        "The part of dy along a vector a has the squared length (a·dy)²/(a·a). What is a·a for the two?",
        "Add (Σ dy)²/m and (x̂·dy)²/m, then divide by the squared length of dy.",
    ],
    explanation="""
        P removes the parts of dy along the vector of ones and along x̂. Both vectors have the squared length
        m, and they are perpendicular, so the squared lengths of the parts add up: (Σ dy)²/m + (x̂·dy)²/m.
        The share is that sum divided by the squared length of dy. The work grows with m, not with m².""",
    mistakes={
        "no mean": Mistake(
            "The part along the vector of ones is not counted.",
            "What becomes of the sum of a gradient?",
            "dy.sum() ** 2 + (x_hat @ dy) ** 2 => (x_hat @ dy) ** 2",
        ),
        "no x_hat": Mistake(
            "The part along x̂ is not counted.",
            "Subtracting the mean is not all that the projector does.",
            "dy.sum() ** 2 + (x_hat @ dy) ** 2 => dy.sum() ** 2",
            excludes=("n - 1", "x for x_hat", "not scaled"),
        ),
        "not divided": Mistake(
            "The squares of the products are not divided by m.",
            "The vector of ones and x̂ do not have length 1.",
            " / len(x) => ",
        ),
        "kept": Mistake(
            "This is the share that is left.",
            "Subtract it from 1.",
            "return lost / (dy @ dy) => return 1 - lost / (dy @ dy)",
        ),
        "n - 1": Mistake(
            "In x̂, the standard deviation is that with m − 1.",
            "Only with m does x̂ have the length √m.",
            "x.std() => x.std(ddof=1)",
        ),
        "x for x_hat": Mistake(
            "The product is taken with x, not with x̂.",
            "Is `x` perpendicular to the vector of ones?",
            "(x - x.mean()) / x.std() => x",
        ),
        "not scaled": Mistake(
            "The deviation x − μ is not divided by the standard deviation.",
            "Its squared length is not m.",
            "(x - x.mean()) / x.std() => (x - x.mean())",
        ),
        "not squared": Mistake(
            "The products are not squared.",
            "The share of the squared length is asked for.",
            ("dy.sum() ** 2 + => abs(dy.sum()) +", "(x_hat @ dy) ** 2 => abs(x_hat @ dy)"),
            excludes=("no mean", "no x_hat"),
        ),
        "length not squared": Mistake(
            "It is divided by the length of dy, not by its square.",
            "Multiply `dy` by 10: a share must not change.",
            "(dy @ dy) => np.sqrt(dy @ dy)",
        ),
    },
)
def lost_share(x: np.ndarray, dy: np.ndarray) -> float:
    """Compute the share of the squared length of dy that the projector removes, at eps = 0."""
    x_hat = (x - x.mean()) / x.std()
    lost = (dy.sum() ** 2 + (x_hat @ dy) ** 2) / len(x)
    return lost / (dy @ dy)


@exercise(
    "5.3",
    "What epsilon lets through",
    cases=[
        case(x=_feature(57, 3), gamma=2.5, eps=0.5),
        case(x=_feature(58, 6), gamma=-1.7, eps=3.0),
        case(x=_feature(59, 9), gamma=0.6, eps=1.3),
    ],
    hints=[
        "Multiply the Jacobian by x̂. What is x̂·x̂/m when ε is not zero?",
        "x̂·x̂/m = σ²/(σ² + ε), which leaves 1 minus that of the bracket.",
        "The factor γ/√(σ² + ε) before the bracket remains.",
    ],
    explanation="""
        The bracket I − 11ᵀ/m − x̂x̂ᵀ/m maps x̂ to (1 − x̂·x̂/m) x̂, because x̂ sums to zero. As
        x̂·x̂/m = σ²/(σ² + ε), what is left is ε/(σ² + ε), times the factor γ/√(σ² + ε).""",
    mistakes={
        "the part removed": Mistake(
            "The bracket gives σ²/(σ² + ε), which is what it takes away.",
            "It is 1 minus that.",
            "scale * eps => scale * var",
            excludes=("eps over var",),
        ),
        "the other directions": Mistake(
            "This is the eigenvalue in the directions perpendicular to x̂.",
            "Along x̂, most of it is taken away.",
            "scale * eps / (var + eps) => scale",
        ),
        "eps over var": Mistake(
            "It has ε/σ² in place of ε/(σ² + ε).",
            "See what it gives for a nearly constant feature.",
            "/ (var + eps) => / var",
        ),
        "factor missing": Mistake(
            "The factor γ/√(σ² + ε) is missing.",
            "The bracket is not yet the Jacobian.",
            "scale * eps => eps",
            excludes=("gamma ignored", "eps outside", "eps ignored", "no root"),
        ),
        "gamma ignored": Mistake("γ is not used.", "It scales all of it.", "gamma / np.sqrt => 1 / np.sqrt"),
        "n - 1": Mistake("The variance is divided by m − 1.", "Look at `ddof`.", "x.var() => x.var(ddof=1)"),
        "eps outside": Mistake(
            "In the factor, ε is added to the standard deviation.",
            "Where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
            excludes=("eps ignored", "no root"),
        ),
        "eps ignored": Mistake(
            "The factor is γ/σ, without ε.",
            "What stands before the bracket of the Jacobian?",
            "np.sqrt(var + eps) => np.sqrt(var)",
        ),
        "no root": Mistake(
            "The factor has no root.",
            "Batch normalization divides by the standard deviation.",
            "np.sqrt(var + eps) => (var + eps)",
            excludes=("eps ignored", "gamma ignored"),
        ),
    },
)
def eigenvalue_along_x_hat(x: np.ndarray, gamma: float, eps: float) -> float:
    """Compute the eigenvalue of the Jacobian that belongs to the eigenvector x_hat."""
    var = x.var()
    scale = gamma / np.sqrt(var + eps)
    return scale * eps / (var + eps)


@exercise(
    "5.4",
    "The rank of the Jacobian",
    read=number(),
    tolerance=1e-3,
    hints=[
        "The rank is the number of directions that are not lost. In which directions may x move unnoticed?",
        "A shift of the batch changes nothing. What else changes nothing, when ε is zero?",
    ],
    explanation="""
        Of the 32 directions in which a batch can move, two change nothing: along the vector of ones, which is
        a shift, and along x̂, which is a stretch. The other 30 are multiplied by γ/σ, which is not zero.""",
    mistakes={
        "full": Mistake(
            "Not all directions count.",
            "What does a shift of the whole batch change?",
            gives=32,
        ),
        "mean only": Mistake(
            "One more direction is lost.",
            "A shift is one. What does a stretch around the mean change, when ε is zero?",
            gives=31,
        ),
        "the lost ones": Mistake(
            "This is the number of directions that are lost.", "How many remain?", gives=2
        ),
        "one": Mistake("Much more than one direction remains.", "Which directions are lost?", gives=1),
        "one lost too many": Mistake(
            "Two directions are lost, not three.",
            "γ scales what remains; it does not remove a direction.",
            gives=29,
        ),
        "zero": Mistake("Not all is lost.", "That would be so for a batch of two.", gives=0),
    },
)
def rank() -> int:
    """Count the directions that the Jacobian of a batch of 32 does not lose, at eps = 0."""
    x = np.arange(32.0) ** 2
    x_hat = (x - x.mean()) / x.std()
    projector = np.eye(32) - 1 / 32 - np.outer(x_hat, x_hat) / 32
    return int(np.linalg.matrix_rank(3 / x.std() * projector))


@exercise(
    "5.5",
    "A batch of two",
    read=number(),
    tolerance=1e-3,
    hints=[
        "What are the two normalized values? Do they change when 3 becomes 3.1?",
        "How many directions are there, and how many of them does the Jacobian lose?",
    ],
    explanation="""
        At ε = 0 a batch of two is always normalized to −1 and 1 or to 1 and −1. So the output does not change
        when the inputs move a little, and all derivatives are zero. In numbers: the mean of dy is 2, so 3
        remains of 5; x̂ = (−1, 1), the mean of x̂·dy is −3, and 3 − (−1)(−3) = 0. Nothing can be learned
        through it.""",
    mistakes={
        "statistics constant": Mistake(
            "This is γ/σ·dy: it takes the mean and the deviation as constants.",
            "Both of them move with x.",
            gives=10,
        ),
        "gamma only": Mistake(
            "This is γ·dy.", "A derivative with respect to x must also go through the statistics.", gives=20
        ),
        "mean only": Mistake(
            "The part along x̂ is not removed.", "What happens to σ when 3 becomes 3.1?", gives=6
        ),
        "x_hat only": Mistake(
            "The mean of dy is not removed.", "What happens to the mean when 3 becomes 3.1?", gives=4
        ),
        "sums": Mistake("The sums are not divided by m.", "The projector takes means.", gives=-10),
        "sign": Mistake("The x̂ term has the wrong sign.", "It removes something.", gives=12),
        "unbiased": Mistake(
            "The standard deviation is that with m − 1.",
            "With m in its place, x̂ is exactly −1 and 1.",
            gives=2.12132,
        ),
    },
)
def first_gradient() -> float:
    """Compute dx of the first of two samples."""
    x, dy = np.array([3.0, 7.0]), np.array([5.0, -1.0])
    x_hat = (x - x.mean()) / x.std()
    dx = 4 / x.std() * (dy - dy.mean() - x_hat * (x_hat * dy).mean())
    return float(dx[0])
