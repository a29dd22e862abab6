"""Exercises of chapter 9, *Learning rates and scale invariance*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise


def _weights(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights and a gradient orthogonal to them."""
    rng = np.random.default_rng(seed)
    w, g = rng.normal(0.0, 2.0, shape), rng.normal(0.0, 0.7, shape)
    return w, g - w * (w * g).sum() / (w * w).sum()


def _gradient(seed: int, a: float, *shape: int) -> Case:
    w, g = _weights(seed, *shape)
    return case(w=w, g=g, a=a)


def _step(seed: int, eta: float, *shape: int) -> Case:
    w, g = _weights(seed, *shape)
    return case(w=w, g=g, eta=eta)


def _sweep(seed: int, tolerance: float, *missing: int) -> Case:
    """Draw a valley of losses over nine rates, some of them NaN."""
    rng = np.random.default_rng(seed)
    rates = np.round(10.0 ** np.linspace(-3, 1, 9), 4)
    losses = np.round(0.2 + 0.12 * (np.arange(9) - rng.uniform(2.5, 5.5)) ** 2, 3)
    losses[list(missing)] = np.nan
    return case(rates=rates, losses=losses, tolerance=tolerance)


@exercise(
    "9.1",
    "The gradient elsewhere on the ray",
    returns=("scaled", "unit"),
    cases=[_gradient(91, 3.0, 2, 3), _gradient(92, 0.4, 4, 2), _gradient(93, 7.0, 3, 3)],
    hints=[
        "The loss is the same at w and at a·w. How much must w change, and how much a·w, for the same turn?",
        "At a·w the gradient is g/a. Which a makes the norm of a·w equal to 1?",
        "a = 1/‖w‖. The norm is that of all entries together: `np.linalg.norm` of a matrix, without `axis`.",
    ],
    explanation="""
        The loss is constant along the ray, so a change of a·w has to be a times as large to have the same
        effect: the gradient is g/a. The weights of norm 1 are w/‖w‖, which is a = 1/‖w‖; their gradient
        is g times ‖w‖. The whole matrix is one vector here.""",
    mistakes={
        "times a": Mistake(
            "The gradient is multiplied by a.",
            "Longer weights turn less for the same change. Does the slope grow or shrink with a?",
            "scaled = g / a => scaled = g * a",
        ),
        "divided by a²": Mistake(
            "The gradient is divided by a².",
            "That is what happens to the turn of a step. The gradient itself has one factor less.",
            "scaled = g / a => scaled = g / a**2",
        ),
        "unchanged": Mistake(
            "The gradient is returned as if it did not depend on a.",
            "The loss does not depend on a. Does its slope?",
            "scaled = g / a => scaled = g",
        ),
        "divided by the norm": Mistake(
            "The gradient at norm 1 is divided by the norm of w.",
            "The weights become 1/‖w‖ times as long. What is a?",
            "unit = g * norm => unit = g / norm",
            excludes=("squared norm", "norm of g"),
        ),
        "squared norm": Mistake(
            "The gradient at norm 1 has the squared norm as a factor.",
            "The gradient has one factor of the norm, the turn of a step two.",
            "unit = g * norm => unit = g * norm**2",
        ),
        "norm of rows": Mistake(
            "Each row has its own norm.",
            "The weights are taken as one vector here, so there is one norm.",
            "np.linalg.norm(w) => np.linalg.norm(w, axis=1, keepdims=True)",
            excludes=("norm of g",),
        ),
        "norm of g": Mistake(
            "The gradient is divided by its own norm.",
            "The weights are to have norm 1, not the gradient.",
            "unit = g * norm => unit = g / np.linalg.norm(g)",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the gradient at a·w, then the one at norm 1.",
            "return scaled, unit => return unit, scaled",
        ),
    },
)
def gradient_elsewhere(w: np.ndarray, g: np.ndarray, a: float) -> tuple[np.ndarray, np.ndarray]:
    """From the gradient g at the weights w, compute that at a w and that at w / ||w||."""
    norm = np.linalg.norm(w)
    scaled = g / a
    unit = g * norm
    return scaled, unit


@exercise(
    "9.2",
    "How far the norm grows",
    cases=[
        case(norm=2.0, gradient_norms=np.array([3.0, 1.0, 0.5]), eta=0.5),
        case(norm=0.7, gradient_norms=np.array([5.0, 4.0, 2.5, 2.0, 1.5]), eta=0.2),
        case(norm=5.0, gradient_norms=np.array([0.8, 0.3]), eta=4.0),
    ],
    hints=[
        "The step is orthogonal to the weights. What does Pythagoras say about one step?",
        "‖w‖² grows by η²‖g‖² at each step, so add these up for all steps.",
        "The sum of squares is asked for its root at the end: the norm, not its square.",
    ],
    explanation="""
        The gradient is orthogonal to the weights, so old weights and step are the two short sides of a right
        triangle: the squares add up, step after step. No step can make the weights shorter.""",
    mistakes={
        "lengths added": Mistake(
            "The lengths of the steps are added to the norm.",
            "That holds if the steps point along w. Which way do they point?",
            "np.sqrt(norm**2 + (steps**2).sum()) => norm + steps.sum()",
        ),
        "eta not squared": Mistake(
            "The learning rate is not squared.",
            "The length of a step is η‖g‖. Which part of it is squared?",
            "steps = eta * gradient_norms => steps = np.sqrt(eta) * gradient_norms",
            excludes=("eta ignored",),
        ),
        "eta ignored": Mistake(
            "The learning rate is not used.",
            "How long is a step?",
            "steps = eta * gradient_norms => steps = gradient_norms",
        ),
        "square of the sum": Mistake(
            "The steps are added before they are squared.",
            "Pythagoras holds for each step, not for the whole way as if it were one straight step.",
            "(steps**2).sum() => steps.sum() ** 2",
        ),
        "no root": Mistake(
            "This is the square of the norm.",
            "The norm itself is asked for.",
            "np.sqrt(norm**2 + (steps**2).sum()) => (norm**2 + (steps**2).sum())",
            excludes=("lengths added",),
        ),
        "start ignored": Mistake(
            "The norm at the start is left out.", "What was there before the first step?", "norm**2 + => 0 +"
        ),
        "mean": Mistake("The squares are averaged.", "Every step adds its own.", ".sum() => .mean()"),
    },
)
def grown_norm(norm: float, gradient_norms: np.ndarray, eta: float) -> float:
    """Compute the norm of scale-invariant weights after steps of SGD with gradients of the given norms."""
    steps = eta * gradient_norms
    return np.sqrt(norm**2 + (steps**2).sum())


@exercise(
    "9.3",
    "The same path on another scale",
    read=number(),
    tolerance=0.01,
    hints=[
        "Which combination of η and ‖w‖ decides by how much a step turns the weights?",
        "The effective rate is η/‖w‖². The norm is three times as large; what keeps the quotient?",
    ],
    explanation="""
        Only η/‖w‖² matters for the direction. Three times the norm is nine times its square, so η must be
        nine times as large. The weights then stay three times as long for ever.""",
    mistakes={
        "times 3": Mistake(
            "A factor of 3 makes up for the length of the weights alone.",
            "The gradient is three times smaller as well.",
            gives=3,
        ),
        "no change": Mistake(
            "The function of the network is the same, but not its path.",
            "The gradient at 3w is a third of that at w, and has to turn weights three times as long.",
            gives=1,
        ),
        "divided by 3": Mistake(
            "The rate must grow, not shrink.", "Longer weights are harder to turn.", gives=1 / 3
        ),
        "divided by 9": Mistake(
            "This is upside down.", "Are longer weights harder or easier to turn?", gives=1 / 9
        ),
        "times 81": Mistake(
            "This is the fourth power.",
            "The fourth power belongs to the equilibrium with weight decay.",
            gives=81,
        ),
        "root": Mistake("This is the square root of 3.", "Look at the exponent of ‖w‖.", gives=3**0.5),
    },
)
def other_scale() -> float:
    """Return the factor of the learning rate that makes up for weights three times as long."""
    rate, norm = 0.2, 1.5
    effective = rate / norm**2
    return effective * (3 * norm) ** 2 / rate


@exercise(
    "9.4",
    "By how much a step turns",
    returns=("rate", "angle"),
    cases=[_step(94, 0.5, 2, 3), _step(95, 6.0, 4, 3), _step(96, 30.0, 3, 2)],
    hints=[
        "Draw w, and at its tip the step −η·g at a right angle. Which angle lies between w and w − η·g?",
        "The effective rate is η/‖w‖². The tangent of the angle is the step divided by the weights.",
        "angle = arctan(η‖g‖/‖w‖), in radians; ‖w‖ and ‖g‖ are norms of all entries.",
    ],
    explanation="""
        Weights and step are the two short sides of a right triangle, so the tangent of the angle is
        η‖g‖/‖w‖. It is below 90° for any η. With the gradient at norm 1 in place of g, the tangent is the
        effective rate times its norm.""",
    mistakes={
        "norm not squared": Mistake(
            "The effective rate has ‖w‖ where it should have its square.",
            "One factor comes from the gradient, which is smaller at longer weights; where is the other?",
            "rate = eta / norm**2 => rate = eta / norm",
        ),
        "not arctan": Mistake(
            "This is the tangent of the angle.",
            "The two agree for small steps only. What undoes the tangent?",
            "np.arctan(step / norm) => step / norm",
        ),
        "arcsin": Mistake(
            "The step is taken for the side opposite the angle, with w as the longest side.",
            "The longest side of the triangle is the new w.",
            "np.arctan(step / norm) => np.arcsin(np.minimum(step / norm, 1))",
        ),
        "degrees": Mistake(
            "The angle is in degrees.",
            "Radians are asked for.",
            "angle = np.arctan(step / norm) => angle = np.degrees(np.arctan(step / norm))",
            excludes=("not arctan", "arcsin", "upside down"),
        ),
        "upside down": Mistake(
            "The quotient in the tangent is upside down.",
            "A larger step turns further.",
            "np.arctan(step / norm) => np.arctan(norm / step)",
        ),
        "eta ignored": Mistake(
            "The angle lacks η.",
            "How long is the step?",
            "step = eta * np.linalg.norm(g) => step = np.linalg.norm(g)",
        ),
        "norm squared in the angle": Mistake(
            "The angle has the square of ‖w‖, but the gradient at w.",
            "The square belongs with the gradient at norm 1. Here g is the gradient at w itself.",
            "np.arctan(step / norm) => np.arctan(step / norm**2)",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the effective rate, then the angle.",
            "return rate, angle => return angle, rate",
        ),
    },
)
def turn(w: np.ndarray, g: np.ndarray, eta: float) -> tuple[float, float]:
    """Compute the effective rate at w, and the angle in radians between w and w - eta g."""
    norm = np.linalg.norm(w)
    step = eta * np.linalg.norm(g)
    rate = eta / norm**2
    angle = np.arctan(step / norm)
    return rate, angle


@exercise(
    "9.5",
    "Where decay and growth balance",
    returns=("norm", "angle"),
    cases=[
        case(eta=0.5, decay=0.4, gradient=3.0),
        case(eta=2.0, decay=0.3, gradient=0.5),
        case(eta=0.8, decay=0.05, gradient=7.0),
    ],
    hints=[
        "Weights of norm r become (1 − ηλ)r long along w, and gain η·gradient/r across. When is r the same?",
        "r² = (1 − ηλ)²r² + η²·gradient²/r². Solve for r to the fourth power.",
        "r⁴ = η·gradient²/(λ(2 − ηλ)). In the triangle, what is left of w over the new w is the cosine.",
    ],
    explanation="""
        What decay takes from the square of the norm, growth must add: (1 − (1 − ηλ)²)r² = η²·gradient²/r².
        The bracket is ηλ(2 − ηλ). In the triangle of the step, the long side is r again and one short side
        (1 − ηλ)r, so the cosine is 1 − ηλ: the gradient does not matter.""",
    mistakes={
        "small steps": Mistake(
            "The norm is the approximation for small ηλ.",
            "Here ηλ is not small. What is the square of 1 − ηλ?",
            "(decay * (2 - product)) => (2 * decay)",
        ),
        "small angle": Mistake(
            "The angle is the approximation for small ηλ.",
            "Here ηλ is not small. Which side of the triangle is 1 − ηλ times the other?",
            "np.arccos(1 - product) => np.sqrt(2 * product)",
        ),
        "square root": Mistake(
            "The norm is a square root; this is its square.",
            "The gradient shrinks with the norm too. Which power of the norm appears?",
            "** 0.25 => ** 0.5",
            excludes=("no root",),
        ),
        "no root": Mistake(
            "This is the fourth power of the norm.", "The norm itself is asked for.", "** 0.25 => ** 1"
        ),
        "gradient not squared": Mistake(
            "The gradient is not squared.",
            "The squares of the sides add up.",
            "gradient**2 => gradient",
        ),
        "no 2": Mistake(
            "A factor of 2 is missing.",
            "Multiply out 1 − (1 − ηλ)².",
            "(decay * (2 - product)) => decay",
            excludes=("small steps",),
        ),
        "eta and decay exchanged": Mistake(
            "In the norm, η and λ are exchanged.",
            "Does stronger decay make the weights longer?",
            "(eta * gradient**2 / (decay => (decay * gradient**2 / (eta",
            excludes=("small steps", "no 2", "gradient not squared"),
        ),
        "angle without decay": Mistake(
            "The angle is that of a step without decay.",
            "The step starts from weights that decay has shortened to 1 − ηλ.",
            "np.arccos(1 - product) => np.arctan(eta * gradient / norm**2)",
            excludes=("small steps", "square root", "no root", "gradient not squared", "no 2"),
        ),
        "cosine": Mistake(
            "This is the cosine of the angle.",
            "What undoes the cosine?",
            "np.arccos(1 - product) => 1 - product",
        ),
        "degrees": Mistake(
            "The angle is in degrees.",
            "Radians are asked for.",
            "angle = np.arccos(1 - product) => angle = np.degrees(np.arccos(1 - product))",
            excludes=("small angle", "angle without decay", "cosine"),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the norm, then the angle.",
            "return norm, angle => return angle, norm",
        ),
    },
)
def equilibrium(eta: float, decay: float, gradient: float) -> tuple[float, float]:
    """Compute the norm that decay and growth hold in balance, and the angle in radians of each step there."""
    product = eta * decay
    norm = (eta * gradient**2 / (decay * (2 - product))) ** 0.25
    angle = np.arccos(1 - product)
    return norm, angle


@exercise(
    "9.6",
    "Read the band from a sweep",
    cases=[_sweep(97, 0.3), _sweep(98, 0.9), _sweep(99, 0.6, 6, 7, 8), _sweep(90, 0.4, 7)],
    hints=[
        "Which rate is best? Some losses are NaN: those runs overflowed, and count as worse than any other.",
        "Usable are the rates whose loss is at most the best one plus the tolerance.",
        "`losses <= np.nanmin(losses) + tolerance` picks them; a comparison with NaN is False.",
    ],
    explanation="""
        The best loss sets the bar, and the tolerance says how far above it still counts as trained. NaN fails
        any comparison, so overflowed runs drop out by themselves, once `nanmin` has kept them out of the bar.
        Rates live on a logarithmic scale, so the width of a band is a quotient.""",
    mistakes={
        "difference": Mistake(
            "The width is a difference.",
            "From 0.01 to 0.1 and from 1 to 10 should be equally wide.",
            "usable.max() / usable.min() => usable.max() - usable.min()",
        ),
        "decades": Mistake(
            "This is the width in powers of ten.",
            "The factor itself is asked for.",
            "usable.max() / usable.min() => np.log10(usable.max() / usable.min())",
            excludes=("difference", "from the best rate"),
        ),
        "tolerance as a share": Mistake(
            "The tolerance is taken as a share of the best loss.",
            "It is to be added.",
            "np.nanmin(losses) + tolerance => np.nanmin(losses) * (1 + tolerance)",
        ),
        "below the tolerance": Mistake(
            "The losses themselves are compared with the tolerance.",
            "The tolerance counts from the best loss.",
            "np.nanmin(losses) + tolerance => tolerance",
            excludes=("tolerance as a share", "NaN in the minimum"),
        ),
        "all that did not overflow": Mistake(
            "Every rate that did not overflow counts.",
            "A run can end with a finite loss and have learned nothing.",
            "rates[losses <= np.nanmin(losses) + tolerance] => rates[~np.isnan(losses)]",
            excludes=("tolerance as a share", "below the tolerance", "NaN in the minimum"),
        ),
        "NaN in the minimum": Mistake(
            "The best loss is NaN where a run overflowed.",
            "`min` returns NaN if there is one. Which function leaves it out?",
            "np.nanmin(losses) => np.min(losses)",
        ),
        "from the best rate": Mistake(
            "This is the distance from the best rate to the largest usable one.",
            "Rates below the best count as well.",
            "/ usable.min() => / rates[np.nanargmin(losses)]",
        ),
    },
)
def band_width(rates: np.ndarray, losses: np.ndarray, tolerance: float) -> float:
    """Divide the largest by the smallest rate whose final loss is within tolerance of the best."""
    usable = rates[losses <= np.nanmin(losses) + tolerance]
    return usable.max() / usable.min()
