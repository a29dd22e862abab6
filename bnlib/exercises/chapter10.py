"""Exercises of chapter 10, *Smoothness of the loss*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features


def _feature(seed: int, m: int) -> np.ndarray:
    return features(seed, m, 1)[:, 0]


def _gradient(seed: int, m: int) -> np.ndarray:
    return np.round(0.9 + 2.0 * np.random.default_rng(seed).standard_normal(m), 2)


def _quadratic(seed: int, count: int, steps: list[float]) -> Case:
    rng = np.random.default_rng(seed)
    root = rng.integers(-2, 3, (count, count)).astype(float) + 2 * np.eye(count)
    return case(H=root @ root.T, w=np.round(rng.uniform(0.5, 2.0, count), 1), steps=np.array(steps))


def _weights(seed: int, r: float, inputs: int, hidden: int, outputs: int) -> Case:
    rng = np.random.default_rng(seed)
    W, V, dW, dV = (
        np.round(scale * rng.standard_normal(shape), 2)
        for scale, shape in (
            (3.0, (hidden, inputs)),
            (0.6, (outputs, hidden)),
            (0.4, (hidden, inputs)),
            (1.5, (outputs, hidden)),
        )
    )
    return case(W=W, V=V, dW=dW, dV=dV, r=r)


@exercise(
    "10.1",
    "The squared norm of the gradient",
    cases=[
        case(x=_feature(101, 3), dy=_gradient(1, 3), gamma=2.5),
        case(x=_feature(102, 7), dy=_gradient(2, 7), gamma=-1.7),
        case(x=_feature(103, 6), dy=_gradient(3, 6), gamma=0.4),
    ],
    hints=[
        "Three terms: the squared norm of dy, and what it loses along the vector of ones and along x̂.",
        "The inner product with the vector of ones is `dy.sum()`, that with x̂ is `x_hat @ dy`.",
        "Both inner products are squared, divided by m and subtracted; then multiply by γ²/σ².",
    ],
    explanation="""
        The Jacobian is γ/σ times a projector, so the squared norm of its product with dy is γ²/σ² times the
        inner product of dy with what is left of it. Along the vector of ones, whose norm is √m,
        dy has the component `dy.sum() / √m`, and along x̂, whose norm is √m too, `x_hat @ dy / √m`.""",
    mistakes={
        "no mean term": Mistake(
            "Nothing is lost along the vector of ones.",
            "Which gradient does BN pass down if all entries of `dy` are equal?",
            "dy.sum() ** 2 + (x_hat => (x_hat",
        ),
        "no x_hat term": Mistake(
            "Nothing is lost along x̂.",
            "Which gradient does BN pass down if `dy` is a multiple of x̂?",
            " + (x_hat @ dy) ** 2 => ",
        ),
        "mean for sum": Mistake(
            "The mean of dy stands where its sum belongs.",
            "What is the inner product of `dy` and the vector of ones?",
            "dy.sum() => dy.mean()",
            excludes=("no mean term",),
        ),
        "sum not squared": Mistake(
            "The sum of dy is not squared.",
            "The terms must have the unit of `dy` squared.",
            "dy.sum() ** 2 => dy.sum()",
            excludes=("no mean term",),
        ),
        "product not squared": Mistake(
            "The inner product with x̂ is not squared.",
            "The terms must have the unit of `dy` squared.",
            "(x_hat @ dy) ** 2 => (x_hat @ dy)",
            excludes=("no x_hat term",),
        ),
        "not divided by m": Mistake(
            "The lost terms are not divided by m.",
            "The vector of ones and x̂ are no unit vectors: what are their norms?",
            "** 2) / m => ** 2)",
            excludes=("product not squared", "no x_hat term"),
        ),
        "added": Mistake(
            "The two terms are added.",
            "Does a projector make a vector longer or shorter?",
            "dy @ dy - lost => dy @ dy + lost",
        ),
        "x not scaled": Mistake(
            "The inner product is that with x − μ, not with x̂.",
            "The bracket must not depend on the units of `x`.",
            "(x - x.mean()) / x.std() => (x - x.mean())",
            excludes=("no x_hat term",),
        ),
        "gamma not squared": Mistake(
            "γ is not squared.", "What does a squared norm do when the vector doubles?", "gamma**2 => gamma"
        ),
        "sigma not squared": Mistake(
            "It is divided by σ, not by σ².",
            "What does a squared norm do when the vector doubles?",
            "/ x.var() => / x.std()",
        ),
        "n - 1": Mistake(
            "The variance is divided by m − 1.",
            "Batch normalization divides it by m: look at `ddof`.",
            ("/ x.std() => / x.std(ddof=1)", "x.var() => x.var(ddof=1)"),
            excludes=("sigma not squared", "x not scaled"),
        ),
    },
)
def squared_norm(x: np.ndarray, dy: np.ndarray, gamma: float) -> float:
    """Compute the squared norm of the gradient that batch normalization passes down, at eps = 0."""
    m = len(x)
    x_hat = (x - x.mean()) / x.std()
    lost = (dy.sum() ** 2 + (x_hat @ dy) ** 2) / m
    return gamma**2 / x.var() * (dy @ dy - lost)


@exercise(
    "10.2",
    "A gradient that gets lost",
    cases=[
        case(x=_feature(104, 3), mean=-1.5, std=0.4),
        case(x=_feature(105, 6), mean=2.0, std=3.0),
        case(x=_feature(106, 9), mean=0.7, std=1.6),
    ],
    hints=[
        "Which directions does the projector take to zero?",
        "dy must be a multiple of the vector of ones plus one of x̂. Which of them sets its mean, which "
        "its standard deviation?",
    ],
    explanation="""
        The projector takes exactly the plane of the vector of ones and x̂ to zero. So dy = a·1 + b·x̂. As x̂ has
        mean 0 and standard deviation 1, a is the mean of dy, and |b| its standard deviation; b is positive
        if dy grows with x.""",
    mistakes={
        "falls with x": Mistake(
            "The gradient falls where x grows.",
            "Which sign has the multiple of x̂?",
            "mean + std => mean - std",
            excludes=("mean ignored",),
        ),
        "mean ignored": Mistake(
            "The mean of the result is 0.",
            "A constant is lost too: add one.",
            "mean + std * x_hat => std * x_hat",
        ),
        "constant": Mistake(
            "The result is constant.",
            "It gets lost, but what is its standard deviation?",
            "std * x_hat => 0 * x_hat",
            excludes=("falls with x", "std ignored", "variance", "x not scaled"),
        ),
        "std ignored": Mistake(
            "The standard deviation of the result is always 1.",
            "x̂ has standard deviation 1. What has the one asked for?",
            "std * x_hat => x_hat",
            excludes=("falls with x",),
        ),
        "variance": Mistake(
            "The standard deviation of the result is the square of the one asked for.",
            "By which factor does the standard deviation of x̂ grow when you multiply it by 3?",
            "std * x_hat => std**2 * x_hat",
            excludes=("falls with x", "std ignored"),
        ),
        "n - 1": Mistake(
            "The standard deviation of x is that with m − 1.",
            "Batch normalization divides by m: look at `ddof`.",
            "x.std() => x.std(ddof=1)",
            excludes=("constant", "x not scaled"),
        ),
        "x not centred": Mistake(
            "The mean of x is not subtracted.",
            "The mean of the result must be `mean`.",
            "(x - x.mean()) => x",
            excludes=("constant",),
        ),
        "x not scaled": Mistake(
            "The result contains x − μ, not x̂.",
            "The standard deviation of the result must be `std`.",
            "(x - x.mean()) / x.std() => (x - x.mean())",
        ),
    },
)
def lost_gradient(x: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Make a gradient dy with a given mean and standard deviation, growing with x, for which dx is zero."""
    x_hat = (x - x.mean()) / x.std()
    return mean + std * x_hat


@exercise(
    "10.3",
    "Variation of the loss",
    cases=[
        _quadratic(107, 2, [0.02, 0.3]),
        _quadratic(108, 3, [0.01, 0.02, 0.04]),
        _quadratic(109, 4, [6.0, 0.3, 0.1]),
    ],
    hints=[
        "The gradient of ½ wᵀHw is Hw, for a symmetric H. It is computed once, at w.",
        "Collect the losses at w and at every w − d·g; the range is the largest less the smallest.",
    ],
    explanation="""
        All points lie on one line, along the gradient at w. The range counts how far the loss moves in
        either direction: a step may lower it, and a longer one raise it above its start. A small range alone
        is therefore no merit; it is also small where nothing happens.""",
    mistakes={
        "uphill": Mistake(
            "The points lie uphill.", "A step of descent goes against the gradient.", "w - d => w + d"
        ),
        "unit gradient": Mistake(
            "The gradient is divided by its norm.",
            "The points are w − d·g: a long gradient makes a long step.",
            "g = H @ w => g = H @ w / np.linalg.norm(H @ w)",
        ),
        "start not counted": Mistake(
            "The loss at w itself is left out.",
            "The first point of the line is the start.",
            "(0.0, *steps) => steps",
        ),
        "no half": Mistake("The loss lacks its ½.", "It is ½ wᵀHw.", "@ p / 2 => @ p"),
        "decrease only": Mistake(
            "This is how far the loss falls below its start.",
            "It may also rise above it. What is the largest of all losses?",
            "max(losses) - => losses[0] -",
        ),
        "increase only": Mistake(
            "This is how far the loss rises above its start.",
            "It may also fall below it. What is the smallest of all losses?",
            "- min(losses) => - losses[0]",
            excludes=("uphill", "decrease only"),
        ),
        "one after the other": Mistake(
            "Each point is taken from the gradient at a new place.",
            "The direction stays the gradient at w.",
            "w - d * g for => w - d * H @ (w - d * g) for",
            excludes=("uphill", "unit gradient", "start not counted"),
        ),
    },
)
def loss_range(H: np.ndarray, w: np.ndarray, steps: np.ndarray) -> float:
    """Compute the range of half of w @ H @ w, over w and the points at all steps along the gradient."""
    g = H @ w
    points = [w - d * g for d in (0.0, *steps)]
    losses = [p @ H @ p / 2 for p in points]
    return max(losses) - min(losses)


@exercise(
    "10.4",
    "A fair step",
    returns=("W", "V"),
    cases=[_weights(110, 0.1, 2, 3, 2), _weights(111, 0.5, 4, 3, 2), _weights(112, 0.02, 3, 5, 4)],
    hints=[
        "Write W = a·θ with a = ‖W‖. By the chain rule, the gradient with respect to θ is a·dW.",
        "Take the two gradients with respect to θ as one long vector. Its norm is the root of the sum of all "
        "squares. θ moves by r times the unit vector.",
        "Back to W: its step is a times that of θ.",
    ],
    explanation="""
        In relative weights θ = W/‖W‖ the gradient is ‖W‖·dW. The step has the length r there, over
        both matrices together, and returning to W multiplies it by ‖W‖ again. Multiply W by 10: dW falls to a
        tenth, ‖W‖²·dW grows tenfold, and the step is the same fraction of W.""",
    mistakes={
        "uphill": Mistake(
            "The step goes uphill.", "Descent subtracts.", ("W - r => W + r", "V - r => V + r")
        ),
        "gradient not relative": Mistake(
            "The gradient is not that with respect to the relative weights.",
            "W = ‖W‖·θ: what does the chain rule say about the gradient with respect to θ?",
            ("G, K = a * dW => G, K = dW", ", b * dV => , dV"),
        ),
        "step not scaled back": Mistake(
            "The step is that of the relative weights.",
            "θ moves by that much; how far does W = ‖W‖·θ move?",
            ("r * a * G => r * G", "r * b * K => r * K"),
        ),
        "not normalized": Mistake(
            "The step is proportional to the length of the gradient.",
            "Its length must be r, whatever the gradient.",
            ("G / length, => G,", "K / length => K"),
            excludes=("gradient not relative", "step not scaled back"),
        ),
        "each by itself": Mistake(
            "Each matrix moves by the fraction r of its own norm.",
            "Together they do: there is one length, of all gradients.",
            ("G / length, => G / np.linalg.norm(G),", "K / length => K / np.linalg.norm(K)"),
            excludes=("not normalized", "gradient not relative", "no root", "only W"),
        ),
        "no root": Mistake(
            "The length has no root.",
            "What is the norm of a vector?",
            "length = np.sqrt( => length = (",
            excludes=("not normalized", "spectral norm"),
        ),
        "only W": Mistake(
            "The length counts the first matrix alone.",
            "All weights are taken as one vector.",
            " + (K**2).sum() => ",
            excludes=("not normalized",),
        ),
        "spectral norm": Mistake(
            "The norm of a matrix is its largest singular value.",
            "Take the root of the sum of all squared entries.",
            ("norm(W), => norm(W, 2),", "norm(V) => norm(V, 2)"),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First W, then V.",
            ("return W - r * a * G => return V - r * b * K", ", V - r * b * K => , W - r * a * G"),
            excludes=(
                "uphill",
                "step not scaled back",
                "not normalized",
                "each by itself",
            ),
        ),
    },
)
def fair_step(
    W: np.ndarray, V: np.ndarray, dW: np.ndarray, dV: np.ndarray, r: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move two weights against their gradients by the fraction r of their norms."""
    a, b = np.linalg.norm(W), np.linalg.norm(V)
    G, K = a * dW, b * dV
    length = np.sqrt((G**2).sum() + (K**2).sum())
    return W - r * a * G / length, V - r * b * K / length


@exercise(
    "10.5",
    "Ten times the weights",
    read=number(),
    tolerance=1e-3,
    hints=[
        "The outputs do not change. What happens to the gradient when w must move ten times as far for the "
        "same effect?",
        "The gradient is a tenth, and it changes by a tenth as much over ten times the way.",
    ],
    explanation="""
        The loss depends on the direction of w alone. At ten times the weights the gradient is a tenth, and a
        way that turns the weights by the same angle is ten times as long. So the change of the gradient per
        way is a hundredth. Nothing about the network has become better.""",
    mistakes={
        "gradient": Mistake(
            "This is the factor of the gradient.",
            "The smoothness is the change of the gradient per way. How long is the way?",
            gives=0.1,
        ),
        "no change": Mistake(
            "The function is the same, its second derivatives are not.",
            "How far must ten times the weights move for the same turn?",
            gives=1,
        ),
        "upside down": Mistake(
            "The loss becomes smoother.",
            "Does a given step turn long weights more or less than short ones?",
            gives=100,
        ),
        "upside down, gradient": Mistake(
            "The loss becomes smoother, not rougher.",
            "Does a given step turn long weights more or less than short ones?",
            gives=10,
        ),
        "third power": Mistake(
            "That is one power too many.",
            "The gradient brings one factor, the way another.",
            gives=0.001,
        ),
    },
)
def factor_of_smoothness() -> float:
    """Divide the effective smoothness of a scale-invariant loss at 10 w by that at w."""

    def gradient(w: np.ndarray) -> np.ndarray:  # of the loss w[0] / |w|
        return np.array([w[1], -w[0]]) * w[1] / (w @ w) ** 1.5

    def smoothness(w: np.ndarray, d: float = 1e-6) -> float:
        g = gradient(w)
        return np.linalg.norm(gradient(w - d * g) - g) / (d * np.linalg.norm(g))

    w = np.array([2.0, 1.0])
    return smoothness(10 * w) / smoothness(w)
