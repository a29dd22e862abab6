"""Exercises of chapter 4, *The backward pass*."""

# mypy: disable-error-code="no-any-return,no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features, parameters


def _upstream(seed: int, *shape: int) -> np.ndarray:
    """Draw an upstream gradient whose mean is not zero, readable at 2 decimals."""
    return np.round(0.6 + np.random.default_rng(seed).standard_normal(shape), 2)


def _batch(seed: int, eps: float, *shape: int) -> Case:
    gamma, _ = parameters(seed, shape[1])
    return case(dy=_upstream(seed + 100, *shape), x=features(seed, *shape), gamma=gamma, eps=eps)


def _running_batch(seed: int, eps: float, *shape: int) -> Case:
    x = features(seed, *shape)
    gamma, shift = parameters(seed, shape[1])
    var = np.round(np.random.default_rng(seed).uniform(0.5, 4.0, shape[1]), 2)
    mean = np.round(x.mean(axis=0) + shift, 2)
    dy = _upstream(seed + 100, *shape)
    return case(dy=dy, x=x, running_mean=mean, running_var=var, gamma=gamma, eps=eps)


@dataclass(frozen=True)
class _Function:
    """A function that is shown to the learner by its formula."""

    formula: str
    compute: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.compute(x)

    def __repr__(self) -> str:
        return self.formula


_NORMALIZE_COLUMNS = _Function(
    "x -> (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 0.3)",
    lambda x: (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 0.3),
)
_NORMALIZE_ALL = _Function(
    "x -> 1.7 * (x - x.mean()) / np.sqrt(x.var() + 0.5)",
    lambda x: np.array(1.7 * (x - x.mean()) / np.sqrt(x.var() + 0.5)),
)
_CUBE_OF_SUMS = _Function(
    "x -> (x + x.sum(axis=-1, keepdims=True)) ** 3",
    lambda x: np.array((x + x.sum(axis=-1, keepdims=True)) ** 3),
)


@exercise(
    "4.1",
    "Gradients of scale and shift",
    returns=("dgamma", "dbeta"),
    cases=[_batch(51, 0.5, 3, 2), _batch(52, 0.3, 7, 4), _batch(53, 1.5, 5, 5)],
    hints=[
        "γ and β of a feature act on all samples of the batch. What does that mean for their gradients?",
        "In y = γ·x̂ + β, the derivative of y with respect to γ is x̂, and with respect to β it is 1.",
        "Multiply dy by x̂ before you add up over the batch. For β, add up dy itself.",
    ],
    explanation="""
        Each feature has one γ and one β, which all N samples use, so the gradients of the samples add up:
        sums over axis 0, not means. γ itself does not occur, because y is linear in it.""",
    mistakes={
        "wrong axis": Mistake(
            "The sums run over the features.",
            "There is one γ and one β for each feature. Which axis must go?",
            ("x_hat).sum(axis=0) => x_hat).sum(axis=1)", "dy.sum(axis=0) => dy.sum(axis=1)"),
            excludes=("one for all",),
        ),
        "one for all": Mistake(
            "All entries are added up to one number.",
            "There is one γ and one β for each feature: look at `axis`.",
            ("x_hat).sum(axis=0) => x_hat).sum()", "dy.sum(axis=0) => dy.sum()"),
        ),
        "dgamma averaged": Mistake(
            "The gradient of γ is averaged over the batch.",
            "The chain rule adds what comes back from each sample.",
            "x_hat).sum( => x_hat).mean(",
        ),
        "dbeta averaged": Mistake(
            "The gradient of β is averaged over the batch.",
            "The chain rule adds what comes back from each sample.",
            "dy.sum( => dy.mean(",
        ),
        "x for x_hat": Mistake(
            "In dγ, dy is multiplied by x itself.",
            "What does γ multiply in the forward pass?",
            "dy * x_hat => dy * x",
        ),
        "only centred": Mistake(
            "In dγ, dy is multiplied by the centred x, not divided by the deviation.",
            "What does γ multiply in the forward pass?",
            "dy * x_hat => dy * (x - mean)",
        ),
        "gamma times": Mistake(
            "The gradient of γ contains γ.",
            "y is linear in γ. What is the derivative of a·γ with respect to γ?",
            "dgamma = (dy => dgamma = (gamma * dy",
            excludes=("wrong axis", "one for all"),
        ),
        "n - 1": Mistake(
            "The variance is divided by n − 1.",
            "Batch normalization divides it by n while training: look at `ddof`.",
            "x.var( => x.var(ddof=1, ",
            excludes=("x for x_hat", "only centred"),
        ),
        "eps ignored": Mistake(
            "ε is not used.",
            "x̂ is the one of the forward pass, with its ε.",
            "var + eps => var",
            excludes=("x for x_hat", "only centred"),
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
            excludes=("x for x_hat", "only centred", "eps ignored"),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First dγ, then dβ.",
            "return dgamma, dbeta => return dbeta, dgamma",
        ),
    },
)
def parameter_gradients(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the gradients of scale and shift for dy and x of shape (N, C)."""
    mean = x.mean(axis=0)
    var = x.var(axis=0)
    x_hat = (x - mean) / np.sqrt(var + eps)
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dgamma, dbeta


@exercise(
    "4.2",
    "The gradient of the input",
    cases=[_batch(61, 0.5, 3, 2), _batch(62, 0.3, 7, 4), _batch(63, 1.5, 5, 5)],
    hints=[
        "Start with x̂, as in the forward pass. Then two things are subtracted from dy.",
        "Subtract the mean of dy, and x̂ times the mean of dy·x̂. Both are means over the batch.",
        "The whole difference is multiplied by γ/√(σ² + ε), one factor for each column.",
    ],
    explanation="""
        x acts on the output directly and through μ and σ². The direct path gives dy, the path through μ
        subtracts its mean, and the path through σ² subtracts its part along x̂. ε occurs in x̂ and in
        the factor in front, and nowhere else.""",
    mistakes={
        "detached": Mistake(
            "The mean and the variance are treated as constants.",
            "They depend on x, too. Which two terms come from that?",
            "centred - along => dy",
            excludes=("mean term missing", "sum of dy"),
        ),
        "x_hat term missing": Mistake(
            "The variance is treated as a constant: the term with x̂ is missing.",
            "What does a larger x do to σ²?",
            "centred - along => centred",
            excludes=("mean term missing",),
        ),
        "mean term missing": Mistake(
            "The mean is treated as a constant: the mean of dy is not subtracted.",
            "What does a larger x do to μ?",
            "dy - dy.mean(axis=0) => dy",
        ),
        "sign": Mistake(
            "The term with x̂ is added.",
            "The sum over the batch of dx·x̂ should be small. Which sign makes it so?",
            "centred - along => centred + along",
        ),
        "gamma missing": Mistake(
            "γ is not used.", "It multiplies x̂ on the way forward. And back?", "gamma * inv_std => inv_std"
        ),
        "inv_std missing": Mistake(
            "The result is not divided by √(σ² + ε).",
            "Stretch x by 10: the output stays as it is. What must happen to dx?",
            "gamma * inv_std * (centred => gamma * (centred",
            excludes=("gamma missing",),
        ),
        "sum of dy": Mistake(
            "The sum of dy is subtracted, not its mean.",
            "Each sample moves μ by one m-th of its own motion.",
            "dy - dy.mean( => dy - dy.sum(",
            excludes=("mean term missing",),
        ),
        "sum of dy x_hat": Mistake(
            "The factor of x̂ is a sum, not a mean.",
            "Where is the 1/m of the variance?",
            "(dy * x_hat).mean( => (dy * x_hat).sum(",
            excludes=("detached", "x_hat term missing"),
        ),
        "exact projection": Mistake(
            "The factor of x̂ is divided by the sum of x̂², which is less than m.",
            "ε is a constant and does not enter the derivative of the variance.",
            "(dy * x_hat).mean(axis=0) => (dy * x_hat).sum(axis=0) / (x_hat**2).sum(axis=0)",
            excludes=("detached", "x_hat term missing", "inv_std missing", "eps ignored"),
        ),
        "n - 1": Mistake(
            "The variance is divided by n − 1.",
            "Batch normalization divides it by n while training: look at `ddof`.",
            "x.var( => x.var(ddof=1, ",
        ),
        "eps ignored": Mistake(
            "ε is not used.",
            "The forward pass has it under the root.",
            "x.var(axis=0) + eps => x.var(axis=0)",
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            ("1 / np => 1 / (np", "axis=0) + eps) => axis=0)) + eps)"),
            excludes=("eps ignored",),
        ),
        "per sample": Mistake(
            "The means of dy and dy·x̂ run over the features of a sample.",
            "The statistics are those of the batch, and so are these means.",
            (
                "dy.mean(axis=0) => dy.mean(axis=1, keepdims=True)",
                "x_hat).mean(axis=0) => x_hat).mean(axis=1, keepdims=True)",
            ),
            excludes=("detached", "mean term missing", "x_hat term missing"),
        ),
    },
)
def input_gradient(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    """Find the gradient of the input of batch normalization for dy and x of shape (N, C)."""
    inv_std = 1 / np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) * inv_std
    centred = dy - dy.mean(axis=0)
    along = x_hat * (dy * x_hat).mean(axis=0)
    return gamma * inv_std * (centred - along)


@exercise(
    "4.3",
    "Backward in evaluation mode",
    returns=("dx", "dgamma"),
    cases=[_running_batch(71, 0.5, 3, 2), _running_batch(72, 0.3, 7, 4), _running_batch(73, 1.5, 5, 5)],
    hints=[
        "With fixed statistics each output depends on one input. What is its slope?",
        "y is a straight line in x with slope γ/√(running variance + ε). So dx is dy times that.",
        "dγ is the sum over the batch of dy·x̂, with the x̂ of the running statistics.",
    ],
    explanation="""
        Nothing flows through constants, so dx is dy times the slope of a straight line, and no sample
        depends on another. x̂ is the one that the forward pass used, with the running statistics.""",
    mistakes={
        "training": Mistake(
            "This is the backward pass of training, with the statistics of the batch.",
            "In evaluation the forward pass used others, and they are constants.",
            (
                "running_var + eps => x.var(axis=0) + eps",
                "x - running_mean => x - x.mean(axis=0)",
                "inv_std * dy => inv_std * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))",
            ),
        ),
        "training formula": Mistake(
            "The two terms that come from the statistics of a batch are subtracted.",
            "Does the running mean change when x does?",
            "inv_std * dy => inv_std * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))",
        ),
        "batch statistics": Mistake(
            "The statistics are those of the batch.",
            "Which ones did the forward pass use?",
            ("running_var + eps => x.var(axis=0) + eps", "x - running_mean => x - x.mean(axis=0)"),
            excludes=("training formula",),
        ),
        "centred dy": Mistake(
            "The mean of dy is subtracted in dx.",
            "Does the running mean change when x does?",
            "inv_std * dy => inv_std * (dy - dy.mean(axis=0))",
        ),
        "gamma missing": Mistake(
            "γ is missing in dx.", "It is part of the slope of y.", "dx = gamma * inv_std => dx = inv_std"
        ),
        "gamma in dgamma": Mistake(
            "The gradient of γ contains γ.",
            "y is linear in γ. What is the derivative of a·γ with respect to γ?",
            "dgamma = (dy => dgamma = (gamma * dy",
        ),
        "x for x_hat": Mistake(
            "In dγ, dy is multiplied by x itself.",
            "What does γ multiply in the forward pass?",
            "dy * x_hat => dy * x",
        ),
        "no root": Mistake(
            "It is divided by the variance plus ε, without the root.",
            "Compare with the forward pass.",
            "np.sqrt(running => (running",
        ),
        "eps ignored": Mistake(
            "ε is not used.", "The forward pass has it under the root.", "_var + eps => _var"
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            ("1 / np => 1 / (np", " + eps) => ) + eps)"),
            excludes=("eps ignored", "no root"),
        ),
        "mean for sum": Mistake(
            "The gradient of γ is averaged over the batch.",
            "The chain rule adds what comes back from each sample.",
            "x_hat).sum( => x_hat).mean(",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First dx, then dγ.",
            "return dx, dgamma => return dgamma, dx",
        ),
    },
)
def inference_gradients(
    dy: np.ndarray,
    x: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    gamma: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the gradients of input and scale, for x of shape (N, C), with fixed statistics."""
    inv_std = 1 / np.sqrt(running_var + eps)
    x_hat = (x - running_mean) * inv_std
    dx = gamma * inv_std * dy
    dgamma = (dy * x_hat).sum(axis=0)
    return dx, dgamma


@exercise(
    "4.4",
    "A numerical gradient",
    cases=[
        case(f=_NORMALIZE_COLUMNS, x=features(81, 3, 2), dy=_upstream(181, 3, 2), step=0.5),
        case(f=_NORMALIZE_ALL, x=features(82, 2, 3)[0], dy=_upstream(182, 3), step=0.25),
        case(f=_CUBE_OF_SUMS, x=np.round(features(83, 2, 2, 3) / 4, 2), dy=_upstream(183, 2, 2, 3), step=0.4),
    ],
    hints=[
        "For each entry of x, evaluate f twice: with this entry moved up, and with it moved down.",
        "One entry of x acts on all outputs: multiply the whole change of f by dy and add it all up.",
        "The two points are 2·step apart. Take care not to change x itself: move a copy.",
    ],
    explanation="""
        The change of the loss is the change of all outputs, each weighted by its dy. The two points lie
        symmetrically about x, so the error of second order cancels; they are 2·step apart.""",
    mistakes={
        "forward difference": Mistake(
            "This is a forward difference: from x to x + step.",
            "Where should the second point lie, so that x is in the middle?",
            ("f(x - move) => f(x)", "/ (2 * step) => / step"),
            excludes=("forward over two steps", "one step"),
        ),
        "forward over two steps": Mistake(
            "The difference is taken from x to x + step, and then divided by two steps.",
            "Where should the second point lie?",
            "f(x - move) => f(x)",
            excludes=("one step",),
        ),
        "backward difference": Mistake(
            "This is a backward difference: from x − step to x.",
            "Where should the first point lie, so that x is in the middle?",
            ("f(x + move) => f(x)", "/ (2 * step) => / step"),
            excludes=("one step", "forward over two steps"),
        ),
        "one step": Mistake(
            "The difference is divided by one step.",
            "How far apart are the two points?",
            "/ (2 * step) => / step",
        ),
        "dy ignored": Mistake(
            "The outputs are summed without dy.",
            "For a sum of normalized outputs the gradient is zero. How does the loss depend on them?",
            "dy * change => change",
        ),
        "own output only": Mistake(
            "Only the output at the same place is looked at.",
            "One entry of x acts on all outputs of its channel.",
            "(dy * change).sum() => (dy * change)[i]",
        ),
        "mean": Mistake(
            "The changes are averaged.", "The chain rule adds them.", "change).sum( => change).mean("
        ),
        "all moved": Mistake(
            "All entries of x are moved at once.",
            "A partial derivative moves one entry and holds the others.",
            "move[i] = => move[...] =",
        ),
        "sign": Mistake(
            "The sign is wrong.",
            "Up minus down.",
            "(2 * step) => (-2 * step)",
        ),
        "not divided": Mistake(
            "The change is not divided by the distance.",
            "A slope is a change per distance.",
            ".sum() / (2 * step) => .sum()",
        ),
    },
)
def numerical_gradient(f, x: np.ndarray, dy: np.ndarray, step: float) -> np.ndarray:
    """Differentiate the sum of dy * f(x) with respect to each entry of x by central differences."""
    dx = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        move = np.zeros(x.shape)
        move[i] = step
        change = f(x + move) - f(x - move)
        dx[i] = (dy * change).sum() / (2 * step)
    return dx


@exercise(
    "4.5",
    "The bias before the norm",
    read=number(),
    tolerance=1e-3,
    hints=[
        "What happens to the output of the layer when b grows? Remember exercise 2.5.",
        "The derivative is the sum of dx over the batch. What is left of dy after its mean is subtracted?",
    ],
    explanation="""
        b moves x and the mean of the batch alike, and cancels in x − μ. The loss does not depend on it, so
        its derivative is zero, whatever γ, σ and dy are. The formula agrees: dx sums to zero.""",
    mistakes={
        "detached": Mistake(
            "This is γ/σ times the sum of dy: it treats the mean of the batch as a constant.",
            "The mean moves with b. What happens to x − μ?",
            gives=8,
        ),
        "as without the norm": Mistake(
            "The sum of dy is the derivative with respect to β, after the norm.",
            "This bias is added before it.",
            gives=12,
        ),
        "gamma times": Mistake(
            "γ times the sum of dy leaves out that the mean moves with b.", "What happens to x − μ?", gives=24
        ),
        "mean of detached": Mistake(
            "γ/σ times the mean of dy treats the mean of the batch as a constant.",
            "What happens to x − μ when b grows?",
            gives=2,
        ),
        "mean": Mistake(
            "The mean of dy is what BN subtracts.", "What is left of dy after that, in sum?", gives=3
        ),
        "over sigma": Mistake(
            "The sum of dy over σ leaves out that the mean moves with b.", "What happens to x − μ?", gives=4
        ),
    },
)
def gradient_of_bias() -> float:
    """Sum the gradient of the input over a batch whose dy sums to 12."""
    x_hat = np.array([-1.0, -1.0, 1.0, 1.0])
    dy = np.array([1.0, 2.0, 4.0, 5.0])
    dx = 2 / 3 * (dy - dy.mean() - x_hat * (dy * x_hat).mean())
    return float(dx.sum())
