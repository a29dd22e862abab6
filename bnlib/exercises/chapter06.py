"""Exercises of chapter 6, *Running statistics and inference*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features, parameters


def _statistics(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a running mean and a running variance, far from their initial values 0 and 1."""
    rng = np.random.default_rng(seed)
    return np.round(rng.uniform(-5.0, 9.0, count), 2), np.round(rng.uniform(1.5, 9.0, count), 2)


def _update(seed: int, momentum: float, *shape: int) -> Case:
    mean, var = _statistics(seed, shape[1])
    return case(running_mean=mean, running_var=var, x=features(seed, *shape), momentum=momentum)


def _evaluation(seed: int, eps: float, *shape: int) -> Case:
    mean, var = _statistics(seed, shape[1])
    gamma, beta = parameters(seed, shape[1])
    return case(x=features(seed, *shape), running_mean=mean, running_var=var, gamma=gamma, beta=beta, eps=eps)


def _layer(seed: int, eps: float, out: int, inputs: int) -> Case:
    rng = np.random.default_rng(seed)
    mean, var = _statistics(seed, out)
    gamma, beta = parameters(seed, out)
    weight = np.round(rng.uniform(0.5, 3.0, (out, inputs)) * rng.choice([-1.0, 1.0], (out, inputs)), 2)
    return case(
        W=weight,
        b=np.round(rng.uniform(2.0, 6.0, out), 2),
        mean=mean,
        var=var,
        gamma=gamma,
        beta=beta,
        eps=eps,
    )


@exercise(
    "6.1",
    "Update the running statistics",
    returns=("running_mean", "running_var"),
    cases=[_update(61, 0.3, 3, 2), _update(62, 0.1, 7, 4), _update(63, 0.8, 5, 5)],
    hints=[
        "Each statistic moves a fraction `momentum` of the way from its old value to that of the batch.",
        "new = (1 − momentum)·old + momentum·batch, for the mean and for the variance.",
        "The variance of the batch is the unbiased one here, divided by N − 1: look at `ddof`.",
    ],
    explanation="""
        In PyTorch `momentum` weighs the new batch, and the old value keeps the rest. The variance that is
        tracked is unbiased, `ddof=1`, because a batch varies less around its own mean than around
        that of the data. The one that normalizes the batch stays biased.""",
    mistakes={
        "momentum reversed": Mistake(
            "The old value is weighed by `momentum`.",
            "That is the convention of TensorFlow and Keras. What does PyTorch's momentum of 0.1 weigh?",
            (
                "(1 - momentum) * running_mean + momentum * mean"
                " => momentum * running_mean + (1 - momentum) * mean",
                "(1 - momentum) * running_var + momentum * var"
                " => momentum * running_var + (1 - momentum) * var",
            ),
        ),
        "biased": Mistake(
            "The running variance is the biased one, divided by N.",
            "PyTorch normalizes with that one, but tracks another: look at `ddof`.",
            "x.var(axis=0, ddof=1 => x.var(axis=0",
        ),
        "standard deviation": Mistake(
            "The running variance is fed with standard deviations.",
            "Which of the two does the name promise?",
            "x.var( => x.std(",
        ),
        "old not shrunk": Mistake(
            "The old value is kept in full, so that the statistic grows without bound.",
            "The two weights must sum to 1.",
            ("(1 - momentum) * running_mean => running_mean", "(1 - momentum) * running_var => running_var"),
            excludes=("momentum reversed", "old forgotten"),
        ),
        "old forgotten": Mistake(
            "The old value is lost.",
            "What remains of it, if the batch has the weight `momentum`?",
            (
                "= (1 - momentum) * running_mean + momentum => = momentum",
                "= (1 - momentum) * running_var + momentum => = momentum",
            ),
            excludes=("momentum reversed",),
        ),
        "batch not weighted": Mistake(
            "The batch enters with weight 1.",
            "The two weights must sum to 1.",
            ("+ momentum * mean => + mean", "+ momentum * var => + var"),
            excludes=("momentum reversed",),
        ),
        "per sample": Mistake(
            "The statistics are those of the samples, not of the features.",
            "There is one running mean for each feature: over which axis do you average?",
            ("x.mean(axis=0) => x.mean(axis=1)", "x.var(axis=0 => x.var(axis=1"),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            "return running_mean, running_var => return running_var, running_mean",
        ),
    },
)
def update(
    running_mean: np.ndarray, running_var: np.ndarray, x: np.ndarray, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move the running mean and variance, of shape (C,), towards those of x, of shape (N, C)."""
    mean = x.mean(axis=0)
    var = x.var(axis=0, ddof=1)
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * var
    return running_mean, running_var


@exercise(
    "6.2",
    "Until the start is forgotten",
    cases=[
        case(momentum=0.4, share=0.2),
        case(momentum=0.1, share=0.01),
        case(momentum=0.03, share=0.3),
        case(momentum=0.7, share=0.0005),
    ],
    hints=[
        "After T batches the share of the start value is (1 − momentum) to the power T.",
        "(1 − momentum)ᵀ = share: take logarithms of both sides and solve for T.",
        "T is a whole number of batches, and the share must have fallen far enough: round up.",
    ],
    explanation="""
        Each batch multiplies the share of the start value by 1 − momentum, so after T batches it is
        (1 − momentum)ᵀ. Logarithms turn the power into a product: T = log(share)/log(1 − momentum), in any
        base. At the whole number below that T the share is still too large, hence `ceil`.""",
    mistakes={
        "momentum reversed": Mistake(
            "The share is multiplied by `momentum` at each step.",
            "`momentum` weighs the new batch. What remains of the old value?",
            "np.log(1 - momentum) => np.log(momentum)",
        ),
        "rounded down": Mistake(
            "The result is rounded down.",
            "One batch earlier, is the share small enough?",
            "np.ceil(steps) => np.floor(steps)",
            excludes=("one more",),
        ),
        "rounded to nearest": Mistake(
            "The result is rounded to the nearest whole number.",
            "Sometimes that is a batch too early.",
            "np.ceil(steps) => np.round(steps)",
        ),
        "not rounded": Mistake(
            "The result is not a whole number.",
            "How many whole batches does it take?",
            "int(np.ceil(steps)) => steps",
        ),
        "one more": Mistake(
            "It is one batch too many.",
            "The share is (1 − momentum) after one batch, not after none.",
            "np.ceil(steps) => np.ceil(steps) + 1",
        ),
        "two bases": Mistake(
            "The two logarithms have different bases.",
            "Any base will do, but it must be the same in both.",
            "np.log(share) => np.log10(share)",
        ),
        "share of the batches": Mistake(
            "This is when the batches have a share of `share`.",
            "The share of the start value is asked for.",
            "np.log(share) => np.log(1 - share)",
            excludes=("two bases",),
        ),
        "straight line": Mistake(
            "The share is taken to fall by `momentum` at each step.",
            "It falls by that fraction of what is left.",
            "np.log(share) / np.log(1 - momentum) => (1 - share) / momentum",
        ),
    },
)
def steps_until(momentum: float, share: float) -> int:
    """Count the batches until the start value weighs no more than share."""
    steps = np.log(share) / np.log(1 - momentum)
    return int(np.ceil(steps))


@exercise(
    "6.3",
    "Evaluation mode",
    cases=[
        _evaluation(64, 0.6, 3, 2),
        _evaluation(65, 0.9, 7, 4),
        _evaluation(66, 1.5, 5, 5),
        _evaluation(67, 0.8, 1, 3),
    ],
    hints=[
        "No statistic of `x` is needed. Which numbers take the place of the batch's mean and variance?",
        "y = γ·(x − running_mean)/√(running_var + ε) + β.",
    ],
    explanation="""
        It is the forward pass with fixed numbers in the place of the batch's. They have one entry per
        feature and broadcast by themselves. The running variance is used as it is: it was made unbiased
        when it was updated. A sample's output no longer depends on the rest of the batch.""",
    mistakes={
        "batch mean": Mistake(
            "The mean of the batch is subtracted.",
            "Evaluation uses the running mean, whatever the batch.",
            "x - running_mean => x - x.mean(axis=0)",
        ),
        "batch variance": Mistake(
            "The variance of the batch is divided by.",
            "Evaluation uses the running variance, whatever the batch.",
            "running_var + eps => x.var(axis=0) + eps",
        ),
        "mean not subtracted": Mistake(
            "The mean is not subtracted.", "Which number stands for it?", "x - running_mean => x"
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(running_var + eps) => (np.sqrt(running_var) + eps)",
            excludes=("eps ignored",),
        ),
        "eps ignored": Mistake(
            "ε is not used.", "Training adds it to the variance; evaluation does too.", " + eps => "
        ),
        "divided by variance": Mistake(
            "It is divided by the variance.",
            "What has the unit of `x`?",
            "np.sqrt(running_var + eps) => (running_var + eps)",
        ),
        "gamma ignored": Mistake("γ is not used.", "It scales x̂.", "gamma * x_hat => x_hat"),
        "beta ignored": Mistake("β is not used.", "It shifts the scaled x̂.", "x_hat + beta => x_hat"),
        "beta first": Mistake(
            "β is added before the scale is applied.",
            "Which of the two comes first in the formula?",
            "gamma * x_hat + beta => gamma * (x_hat + beta)",
            excludes=("gamma ignored",),
        ),
    },
)
def evaluate(
    x: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float,
) -> np.ndarray:
    """Normalize x, of shape (N, C), by running statistics of shape (C,); then scale and shift."""
    x_hat = (x - running_mean) / np.sqrt(running_var + eps)
    return gamma * x_hat + beta


@exercise(
    "6.4",
    "Fold into a linear layer",
    returns=("weight", "bias"),
    cases=[_layer(68, 0.7, 2, 3), _layer(69, 0.4, 5, 2), _layer(70, 1.2, 4, 4)],
    hints=[
        "Write γ·(W x + b − mean)/√(var + ε) + β as one matrix times x, plus one vector.",
        "With s = γ/√(var + ε), one number per output, the matrix is W with row i multiplied by s of i.",
        "The bias is s·(b − mean) + β. To scale rows, give s the shape (out, 1): `s[:, None]`.",
    ],
    explanation="""
        Collect what multiplies x and what does not: s·W and s·(b − mean) + β, with s = γ/√(var + ε). Each
        output is one row of W, so s scales rows. A plain `s * W` would scale columns, which only fails
        aloud when W is not square.""",
    mistakes={
        "gamma ignored": Mistake("γ is not used.", "It is part of the scale.", "gamma / => 1 /"),
        "eps ignored": Mistake(
            "ε is not used.", "The folded layer must divide by what BN divides by.", "var + eps => var"
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
            excludes=("eps ignored",),
        ),
        "no root": Mistake(
            "It is divided by the variance.",
            "What does BN divide by?",
            "np.sqrt(var + eps) => (var + eps)",
            excludes=("eps outside",),
        ),
        "columns": Mistake(
            "The columns of W are scaled.",
            "A column belongs to an input, a row to an output. Which of them has its own γ?",
            "scale[:, None] * W => scale * W",
        ),
        "weight not scaled": Mistake(
            "The weight is returned as it was.", "BN scales W x too.", "scale[:, None] * W => 1 * W"
        ),
        "bias not scaled": Mistake(
            "The bias of the linear layer and the mean are not scaled.",
            "BN sees W x + b as a whole.",
            "bias = scale * (b - mean) => bias = (b - mean)",
            excludes=("old bias not scaled", "mean not scaled", "beta scaled"),
        ),
        "old bias not scaled": Mistake(
            "The bias of the linear layer is not scaled, only the mean is.",
            "BN sees W x + b as a whole.",
            "scale * (b - mean) => b - scale * mean",
        ),
        "mean not scaled": Mistake(
            "The mean is not scaled.",
            "It is subtracted before the scale is applied.",
            "scale * (b - mean) => scale * b - mean",
        ),
        "mean ignored": Mistake("The mean is not used.", "What does BN subtract?", "b - mean => b"),
        "old bias ignored": Mistake(
            "The bias of the linear layer is lost.",
            "In training BN removes it again, but here the mean was taken with it.",
            "b - mean => -mean",
        ),
        "beta ignored": Mistake(
            "β is not used.", "It is part of the new bias.", "(b - mean) + beta => (b - mean)"
        ),
        "beta scaled": Mistake(
            "β is scaled too.",
            "It is added after the scale.",
            "(b - mean) + beta => (b - mean + beta)",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the weight, then the bias.",
            "return weight, bias => return bias, weight",
        ),
    },
)
def fold_linear(
    W: np.ndarray,
    b: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Merge y = W x + b, W of shape (out, in), and the normalization after it into one linear layer."""
    scale = gamma / np.sqrt(var + eps)
    weight = scale[:, None] * W
    bias = scale * (b - mean) + beta
    return weight, bias


@exercise(
    "6.5",
    "Fewer samples, fewer layers",
    read=number(),
    tolerance=0.01,
    hints=[
        "What is the biased variance of the output of each layer in training? What does the next one keep?",
        "Each layer keeps 8/7 of the biased variance and divides by its root. Ten layers do so.",
    ],
    explanation="""
        In training each layer divides by the biased standard deviation. It keeps the unbiased variance,
        8/7 of the biased one, so in evaluation each layer divides by √(8/7) times as much, and the factors
        multiply: (7/8)⁵ = 0.513.""",
    mistakes={
        "no change": Mistake(
            "Training and evaluation do not give the same.",
            "Which variance does training divide by, and which one is kept?",
            gives=1,
        ),
        "variance": Mistake(
            "This is the ratio of the variances, or that of twenty layers.",
            "The standard deviation after ten layers is asked for.",
            gives=(7 / 8) ** 10,
        ),
        "upside down": Mistake(
            "The signal does not grow.",
            "Is the variance that is kept larger or smaller than the one used in training?",
            gives=(8 / 7) ** 5,
        ),
        "upside down variance": Mistake(
            "The signal does not grow, and the standard deviation is asked for.",
            "Is the variance that is kept larger or smaller than the one used in training?",
            gives=(8 / 7) ** 10,
        ),
        "one layer": Mistake(
            "This is the factor of one layer.", "There are ten of them.", gives=(7 / 8) ** 0.5
        ),
        "one layer, variance": Mistake(
            "This is the factor of one layer, and of its variance.",
            "There are ten layers, and the standard deviation is asked for.",
            gives=7 / 8,
        ),
        "nine layers": Mistake(
            "This is the factor of nine layers.",
            "It fits new data. On the same batch, the first layer shrinks the signal too.",
            gives=(7 / 8) ** 4.5,
        ),
        "the chapter's": Mistake(
            "This is the number of the chapter.", "Here m = 8 and there are 10 layers.", gives=(63 / 64) ** 10
        ),
        "batch of 64": Mistake("The batch has 8 samples here.", "What is m − 1?", gives=(63 / 64) ** 5),
    },
)
def shrinkage() -> float:
    """Divide the standard deviation of a batch of 8 in evaluation by that in training, after ten layers."""
    x = np.array([1.0, 2.0, 4.0, 8.0, 9.0, 3.0, 5.0, 0.0])
    trained = evaluated = x
    for _ in range(10):
        kept = trained.mean(), trained.var(ddof=1)
        trained = (trained - trained.mean()) / trained.std()
        evaluated = (evaluated - kept[0]) / np.sqrt(kept[1])
    return float(evaluated.std() / trained.std())
