"""Exercises of chapter 11, *Signal and gradient through depth*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.exercise import Case, Mistake, case, exercise


def _pre_activations(seed: int, c: float, *shape: int) -> Case:
    z = np.round(np.random.default_rng(seed).normal(0.8, 1.5, shape), 2)
    return case(z=z, c=c)


def _representation(seed: int, tau: float, samples: int, units: int) -> Case:
    """Draw a matrix whose singular values spread over two decades, off the origin."""
    rng = np.random.default_rng(seed)
    scale = np.geomspace(2.0, 0.02, units)
    mixed = (rng.normal(size=(samples, units)) * scale) @ np.linalg.qr(rng.normal(size=(units, units)))[0]
    return case(H=np.round(mixed + rng.normal(0, 0.5, units), 3), tau=tau)


@exercise(
    "11.1",
    "Growth from a list of norms",
    cases=[
        case(squares=np.array([6.0, 5.0, 1.0])),
        case(squares=np.array([0.2, 0.9, 0.7, 3.0, 2.0])),
        case(squares=np.array([40.0, 35.0, 11.0, 2.0, 2.5, 0.5])),
    ],
    hints=[
        "The gradient goes from the last entry to the first. By which factor does each layer change it?",
        "Factors multiply: `squares[0] / squares[-1]` is the growth in all. How many layers lie between?",
        "g to the power of that number of layers is the growth in all: take a root.",
    ],
    explanation="""
        A factor a layer means that factors multiply, so their average is the geometric one: the root of the
        growth in all. Between k entries lie k − 1 layers. What happens in between cancels.""",
    mistakes={
        "towards the output": Mistake(
            "This is the growth towards the output.",
            "A gradient starts at the output: from which entry to which one does it go?",
            "squares[:-1] / squares[1:] => squares[1:] / squares[:-1]",
        ),
        "one layer too many": Mistake(
            "The root is that of one layer too many.",
            "How many steps lead from the first of k entries to the last?",
            "len(factors) => len(squares)",
        ),
        "in all": Mistake(
            "This is the growth in all layers together.",
            "Which factor, applied once a layer, makes that growth?",
            "np.prod(factors) ** (1 / len(factors)) => np.prod(factors)",
            excludes=("one layer too many", "of the norm"),
        ),
        "divided": Mistake(
            "The growth is divided by the number of layers.",
            "Factors multiply. What undoes a power?",
            "** (1 / len => / (len",
            excludes=("in all", "of the norm"),
        ),
        "of the norm": Mistake(
            "This is the growth of the norm.",
            "The growth of its square is asked for, and squares are given.",
            "(1 / len => (0.5 / len",
        ),
        "arithmetic mean": Mistake(
            "The factors of the layers are averaged.",
            "A layer that doubles and one that halves leave the gradient as it was. What is their mean?",
            "np.prod(factors) ** (1 / len(factors)) => factors.mean()",
            excludes=("one layer too many", "in all", "divided", "of the norm"),
        ),
    },
)
def growth_a_layer(squares: np.ndarray) -> float:
    """Return the growth a layer, towards the input, of squared norms given from input to output."""
    factors = squares[:-1] / squares[1:]
    return np.prod(factors) ** (1 / len(factors))


@exercise(
    "11.2",
    "The factor of a sigmoid layer",
    cases=[
        _pre_activations(111, 1.0, 2, 3),
        _pre_activations(112, 2.5, 7, 4),
        _pre_activations(113, 0.4, 5, 9),
    ],
    hints=[
        "Equation (11.1): what is the slope of the sigmoid, in terms of its value?",
        "With h = 1/(1 + e⁻ᶻ) the slope is h·(1 − h).",
        "Average the squares of the slopes, over all samples and units, and multiply by c.",
    ],
    explanation="""
        Each unit passes the gradient times its slope, and squares add over the units, so the mean of the
        squared slopes counts. c is the variance of a weight times the number of units.""",
    mistakes={
        "slope not squared": Mistake(
            "The slopes are averaged.",
            "It is the square of the gradient that is followed: what does a slope do to a square?",
            "(slope**2).mean => slope.mean",
        ),
        "square of the mean": Mistake(
            "The mean is taken before the square.",
            "Which one comes first in E[φ'(z)²]?",
            "(slope**2).mean() => slope.mean() ** 2",
            excludes=("slope not squared",),
        ),
        "steepest slope": Mistake(
            "This is the bound c/16.",
            "It holds for z = 0 only. What are the slopes at the given z?",
            "(slope**2).mean() => 1 / 16",
            excludes=("slope not squared", "square of the mean", "value", "slope in z", "tanh", "sum", "BN"),
        ),
        "value": Mistake(
            "The value of the sigmoid is taken for its slope.",
            "What is the derivative?",
            "slope = h * (1 - h) => slope = h",
        ),
        "slope in z": Mistake(
            "The slope is z·(1 − z).",
            "The formula holds for the value of the sigmoid, not for its argument.",
            "slope = h * (1 - h) => slope = z * (1 - z)",
            excludes=("value",),
        ),
        "tanh": Mistake(
            "The slope is that of tanh, 1 − h².",
            "Differentiate 1/(1 + e⁻ᶻ).",
            "slope = h * (1 - h) => slope = 1 - h**2",
            excludes=("value", "slope in z"),
        ),
        "c ignored": Mistake(
            "The factor c is not used.",
            "What does the transposed weight do to a square?",
            "return c * => return 1 *",
        ),
        "c squared": Mistake(
            "The factor c is squared.",
            "It is a variance already.",
            "return c * => return c**2 *",
            excludes=("c ignored",),
        ),
        "sum": Mistake(
            "The sum is taken for the mean.",
            "c already holds the number of units.",
            "2).mean() => 2).sum()",
            excludes=("slope not squared", "square of the mean"),
        ),
        "BN": Mistake(
            "It is divided by the variance of the output.",
            "That is what BN would add. There is none here.",
            "(slope**2).mean() => (slope**2).mean() / h.var()",
            excludes=("slope not squared", "square of the mean", "sum"),
        ),
    },
)
def sigmoid_factor(z: np.ndarray, c: float) -> float:
    """Return the growth (11.1) through a sigmoid layer with pre-activations z, of shape (N, C)."""
    h = 1 / (1 + np.exp(-z))
    slope = h * (1 - h)
    return c * (slope**2).mean()


@exercise(
    "11.3",
    "Layers until a factor",
    cases=[
        case(m=8, factor=30.3),
        case(m=4, factor=20.4),
        case(m=33, factor=5.27),
        case(m=6, factor=90.8),
        case(m=17, factor=13.4),
    ],
    hints=[
        "Which factor does one linear layer with BN bring, by (11.7)?",
        "After k layers the growth is that factor to the power k: use logarithms.",
        "k is a whole number, and the growth must have been reached: round up.",
    ],
    explanation="""
        ((m − 2)/(m − 3))ᵏ ≥ factor means k ≥ log(factor)/log((m − 2)/(m − 3)). For large m the logarithm
        below is about 1/m, so k grows in proportion to the batch.""",
    mistakes={
        "direction not removed": Mistake(
            "The growth is (m − 1)/(m − 3).",
            "The Jacobian also removes a direction from the gradient. Which one?",
            "growth = (m - 2) => growth = (m - 1)",
        ),
        "one off": Mistake(
            "The growth is (m − 1)/(m − 2).",
            "How many degrees of freedom has the chi-square variable, and what does its inverse average?",
            "growth = (m - 2) / (m - 3) => growth = (m - 1) / (m - 2)",
            excludes=("direction not removed",),
        ),
        "upside down": Mistake(
            "The growth is below 1.",
            "Which of m − 2 and m − 3 is on top?",
            "growth = (m - 2) / (m - 3) => growth = (m - 3) / (m - 2)",
            excludes=("direction not removed", "one off"),
        ),
        "ReLU": Mistake(
            "This is for ReLU and large batches.",
            "The network is linear, and the batch is not large.",
            "growth = (m - 2) / (m - 3) => growth = np.pi / (np.pi - 1)",
            excludes=("direction not removed", "one off", "upside down"),
        ),
        "the norm": Mistake(
            "This is for the norm.",
            "The growth of its square is asked for.",
            "np.log(factor) => 2 * np.log(factor)",
        ),
        "rounded down": Mistake(
            "The result is rounded down.",
            "One layer fewer, is the factor reached?",
            "np.ceil => np.floor",
        ),
        "not rounded": Mistake(
            "The result is not a whole number.",
            "How many whole layers does it take?",
            "int(np.ceil(layers)) => layers",
            excludes=("rounded down",),
        ),
        "straight line": Mistake(
            "The gradient is taken to grow by the same amount in each layer.",
            "It grows by the same factor.",
            "np.log(factor) / np.log(growth) => (factor - 1) / (growth - 1)",
            excludes=("the norm",),
        ),
    },
)
def layers_until(m: int, factor: float) -> int:
    """Count the linear layers with BN that make the squared gradient grow by factor or more."""
    growth = (m - 2) / (m - 3)
    layers = np.log(factor) / np.log(growth)
    return int(np.ceil(layers))


@exercise(
    "11.4",
    "The share of each branch",
    cases=[
        case(start=2.0, added=np.array([1.0, 3.0])),
        case(start=0.5, added=np.array([0.7, 0.7, 0.7, 0.7])),
        case(start=1.3, added=np.array([2.0, 0.5, 1.5, 0.25, 4.0])),
    ],
    hints=[
        "Variances of independent parts add. What is the variance after block l?",
        "It is `start` plus the variances of the branches 1 to l: `np.cumsum`.",
        "Divide the variance of each branch by the variance after its own block.",
    ],
    explanation="""
        The variance after block l is what the network started with plus all branches up to this one. With
        equal branches v and start 1 the share is v/(1 + v·l), equation (11.8).""",
    mistakes={
        "start ignored": Mistake(
            "The start is left out.",
            "What does the first block add its branch to?",
            "start + np.cumsum => np.cumsum",
        ),
        "before the block": Mistake(
            "It is divided by the variance before the block.",
            "The share of the sum is asked for, and the branch is part of the sum.",
            "np.cumsum(added) => np.cumsum(added) - added",
        ),
        "after all blocks": Mistake(
            "It is divided by the variance at the end.",
            "A block's output does not know the blocks that follow.",
            "np.cumsum(added) => added.sum()",
            excludes=("before the block",),
        ),
        "branches do not add up": Mistake(
            "Each block starts from `start`.",
            "What have the blocks before added?",
            "np.cumsum(added) => added",
            excludes=("before the block", "after all blocks"),
        ),
        "standard deviations": Mistake(
            "This is the ratio of standard deviations.",
            "Which of the two adds up, variance or standard deviation?",
            "return added / total => return np.sqrt(added / total)",
        ),
        "the skip": Mistake(
            "This is the share of the skip connection.",
            "That of the branch is asked for.",
            "return added / total => return 1 - added / total",
            excludes=("standard deviations",),
        ),
    },
)
def shares(start: float, added: np.ndarray) -> np.ndarray:
    """Return which share of the variance after each block its own branch brought, of shape (L,)."""
    total = start + np.cumsum(added)
    return added / total


@exercise(
    "11.5",
    "Soft rank",
    cases=[
        _representation(151, 0.05, 12, 9),
        _representation(152, 0.01, 60, 25),
        _representation(153, 0.2, 30, 40),
        _representation(154, 0.002, 45, 30),
        _representation(155, 0.5, 21, 50),
        _representation(156, 0.03, 90, 35),
    ],
    hints=[
        "`np.linalg.svd(H, compute_uv=False)` gives the singular values.",
        "Each row of H is a sample: what is N?",
        "Square the values, divide by N, compare with tau, count.",
    ],
    explanation="""
        s²/N is the mean square of the samples along a singular direction, so the count is of directions in
        which the samples are large. They are not centred: what all samples share counts as one direction.""",
    mistakes={
        "not squared": Mistake(
            "The singular values are not squared.",
            "Look at (11.10): what is compared with τ?",
            "= s**2 / => = s /",
        ),
        "not divided": Mistake(
            "The squares are not divided by the number of samples.",
            "A mean square is compared with τ, not a sum.",
            " / len(H) => ",
        ),
        "divided by units": Mistake(
            "The squares are divided by the number of units.",
            "Which axis holds the samples?",
            "len(H) => H.shape[1]",
            excludes=("not divided",),
        ),
        "centred": Mistake(
            "The mean of the samples is subtracted.",
            "The definition takes H as it is.",
            "svd(H, => svd(H - H.mean(axis=0),",
        ),
        "relative": Mistake(
            "The values are compared with the largest one.",
            "τ is an absolute threshold here.",
            "squares >= tau => squares / squares.max() >= tau",
            excludes=("not divided", "divided by units"),
        ),
        "the others": Mistake(
            "The small ones are counted.",
            "Which directions does (11.10) count?",
            "squares >= tau => squares < tau",
            excludes=("relative",),
        ),
        "bound": Mistake(
            "This is the bound (11.11).",
            "The count (11.10) is asked for.",
            "int((squares >= tau).sum()) => squares.sum() ** 2 / (squares**2).sum()",
            excludes=("not divided", "divided by units", "relative", "the others"),
        ),
    },
)
def soft_rank(H: np.ndarray, tau: float) -> int:
    """Count the singular directions in which the rows of H, of shape (N, C), have mean square tau or more."""
    s = np.linalg.svd(H, compute_uv=False)
    squares = s**2 / len(H)
    return int((squares >= tau).sum())
