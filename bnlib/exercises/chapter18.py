"""Exercises of chapter 18, *Across devices*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features, parameters


def _workers(seed: int, channels: int, *counts: int) -> list[np.ndarray]:
    """Draw the values of each worker, whose means differ."""
    shift = np.random.default_rng(seed).uniform(-3.0, 3.0, (len(counts), 1, channels))
    x = features(seed, sum(counts), channels)
    return [part + s for part, s in zip(np.split(x, np.cumsum(counts)[:-1]), shift, strict=True)]


def _messages(seed: int, channels: int, *counts: int) -> Case:
    parts = _workers(seed, channels, *counts)
    means = np.stack([part.mean(axis=0) for part in parts])
    m2s = np.stack([part.var(axis=0) * len(part) for part in parts])
    return case(counts=np.array(counts), means=means, m2s=m2s)


def _share(seed: int, channels: int, *counts: int) -> Case:
    """Draw what the first worker knows after the sums have come back, and what it does not need."""
    x, dy = (np.concatenate(_workers(seed + i, channels, *counts)) for i in range(2))
    gamma, _ = parameters(seed, channels)
    inv_std = 1 / np.sqrt(x.var(axis=0) + 0.3)
    x_hat = (x - x.mean(axis=0)) * inv_std
    return case(
        dy=dy[: counts[0]],
        x_hat=x_hat[: counts[0]],
        inv_std=inv_std,
        gamma=gamma,
        sum_dy=dy.sum(axis=0),
        sum_dy_x_hat=(dy * x_hat).sum(axis=0),
        m=len(x),
    )


def _upstream(seed: int, *shape: int) -> Case:
    return case(dy=features(seed, *shape), x_hat=np.round(features(seed + 1, *shape) / 7, 2))


def _sharing(seed: int, eps: float, channels: int, *counts: int) -> Case:
    parts = _workers(seed, channels, *counts)
    return case(
        x=parts[0],
        counts=np.array(counts),
        means=np.stack([part.mean(axis=0) for part in parts]),
        variances=np.stack([part.var(axis=0) for part in parts]),
        eps=eps,
    )


@exercise(
    "18.1",
    "Merge three workers",
    returns=("mean", "m2"),
    cases=[_messages(181, 1, 2, 3, 5), _messages(182, 2, 4, 1, 9), _messages(183, 3, 7, 6, 2)],
    hints=[
        "The mean of all values weighs each worker by how many values it has.",
        "Every distance from the common mean splits into one within the worker and one between the means.",
        "Worker r adds m2ᵣ + mᵣ(μᵣ − μ)². To multiply rows, give the counts the shape (3, 1).",
    ],
    explanation="""
        By (18.1) the mean is weighted by the counts. By (18.2) the sums of squares add up, and each worker
        contributes its count times the squared distance of its mean from the common one. A
        worker with a single value has m2 = 0 and matters all the same.""",
    mistakes={
        "mean of the means": Mistake(
            "Every worker has the same weight in the mean.",
            "Which worker has seen more values?",
            "(m * means).sum(axis=0) / m.sum() => means.mean(axis=0)",
        ),
        "within only": Mistake(
            "The means of the workers differ, and that is left out of the sum of squares.",
            "Distances are measured from the common mean now.",
            "m2s + m * (means - mean) ** 2 => m2s",
            excludes=("between only", "between not weighted"),
        ),
        "between only": Mistake(
            "What the workers sent as sums of squares is lost.",
            "Values differ within a worker, too.",
            "m2s + m * => m * ",
        ),
        "between not weighted": Mistake(
            "The distance of each mean counts once, not once for each value.",
            "How many values are that far away?",
            "m * (means => (means",
        ),
        "variance": Mistake(
            "It is divided by the number of values.",
            "The sum of the squares is asked for.",
            "2).sum(axis=0) => 2).sum(axis=0) / m.sum()",
            excludes=("within only",),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the sum of squares.",
            "return mean, m2 => return m2, mean",
        ),
    },
)
def merge_three(counts: np.ndarray, means: np.ndarray, m2s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge counts, of shape (3,), with means and sums of squared distances, of shape (3, C)."""
    m = counts[:, None]
    mean = (m * means).sum(axis=0) / m.sum()
    m2 = (m2s + m * (means - mean) ** 2).sum(axis=0)
    return mean, m2


@exercise(
    "18.2",
    "What a worker sends back",
    returns=("sum_dy", "sum_dy_x_hat"),
    cases=[_upstream(184, 3, 2), _upstream(186, 4, 3, 2), _upstream(188, 5, 4)],
    hints=[
        "The gradient (18.5) needs two sums over all values. Each worker adds its own part.",
        "They are those of dy and of dy·x̂, one number a channel each.",
        "Channels are axis 1: sum over axis 0 and over all axes from 2 on.",
    ],
    explanation="""
        All that a worker needs from the others are two sums a channel, so it sends its parts of these two.
        They are also its parts of dβ and dγ. A mean would not do: workers may have unequal
        numbers of values.""",
    mistakes={
        "means": Mistake(
            "These are means, not sums.",
            "Means of unequal workers do not add up.",
            ("dy.sum(axis) => dy.mean(axis)", "(dy * x_hat).sum(axis) => (dy * x_hat).mean(axis)"),
        ),
        "x_hat alone": Mistake(
            "The second sum leaves out dy.",
            "It is the derivative with respect to γ.",
            "(dy * x_hat) => (x_hat)",
        ),
        "squared": Mistake(
            "The second sum is that of dy².", "Which two are multiplied?", "dy * x_hat => dy * dy"
        ),
        "one number": Mistake(
            "The channels are summed, too.",
            "Each channel is normalized by itself.",
            "(0, *range(2, dy.ndim)) => None",
            excludes=("samples only", "not over the samples"),
        ),
        "samples only": Mistake(
            "The positions are not summed.",
            "A channel of an image has one mean over samples and positions.",
            "(0, *range(2, dy.ndim)) => 0",
        ),
        "not over the samples": Mistake(
            "The sum runs over the channels.",
            "Axis 1 is the one that stays.",
            "(0, *range(2, dy.ndim)) => (1, *range(2, dy.ndim))",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the sum of dy.",
            "return sum_dy, sum_dy_x_hat => return sum_dy_x_hat, sum_dy",
        ),
    },
)
def message(dy: np.ndarray, x_hat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum dy and dy x̂, of shape (N, C, ...), over all axes but the channels."""
    axis = (0, *range(2, dy.ndim))
    sum_dy = dy.sum(axis)
    sum_dy_x_hat = (dy * x_hat).sum(axis)
    return sum_dy, sum_dy_x_hat


@exercise(
    "18.3",
    "The backward pass of a worker",
    cases=[_share(190, 1, 2, 3), _share(192, 2, 3, 4, 1), _share(194, 4, 5, 9)],
    hints=[
        "Start from the gradient of chapter 4. Which of its sums reach beyond this worker?",
        "dx = γ/√(σ² + ε) · (dy − sum_dy/m − x̂·sum_dy_x_hat/m), with sums and m over all workers.",
    ],
    explanation="""
        It is the formula of one process. Mean and variance depend on the values of all workers, so the two
        sums and the count are those of all. What is left, dy and x̂, is known here.""",
    mistakes={
        "own sum of dy": Mistake(
            "The mean of dy is taken over this worker alone.",
            "Whose values has the common mean been computed from?",
            "sum_dy / m => dy.mean(axis=0)",
            excludes=("own count",),
        ),
        "own sum of dy x_hat": Mistake(
            "The mean of dy·x̂ is taken over this worker alone.",
            "Whose values has the common variance been computed from?",
            "sum_dy_x_hat / m => (dy * x_hat).mean(axis=0)",
            excludes=("own count",),
        ),
        "own count": Mistake(
            "The sums of all workers are divided by the count of this one.",
            "`m` counts the values of all.",
            ("sum_dy / m => sum_dy / len(dy)", "sum_dy_x_hat / m => sum_dy_x_hat / len(dy)"),
        ),
        "not divided": Mistake(
            "The sums are not divided by m.",
            "The gradient takes means of them.",
            ("sum_dy / m => sum_dy", "sum_dy_x_hat / m => sum_dy_x_hat"),
            excludes=("own sum of dy", "own sum of dy x_hat", "own count"),
        ),
        "statistics detached": Mistake(
            "Mean and variance are treated as constants.",
            "They depend on every value.",
            "dy - sum_dy / m - x_hat * sum_dy_x_hat / m => dy",
            excludes=("own sum of dy", "own sum of dy x_hat", "own count", "not divided", "no x_hat"),
        ),
        "no x_hat": Mistake(
            "The last term does not depend on the value.",
            "It is the part of dy along x̂ that is taken away.",
            "x_hat * sum => sum",
        ),
        "gamma ignored": Mistake("γ is not used.", "It scales what comes from above.", "gamma * => 1 *"),
        "inv_std ignored": Mistake(
            "It is not divided by the standard deviation.",
            "x̂ changes by that much less than x.",
            "* inv_std => * 1",
        ),
    },
)
def worker_backward(
    dy: np.ndarray,
    x_hat: np.ndarray,
    inv_std: np.ndarray,
    gamma: np.ndarray,
    sum_dy: np.ndarray,
    sum_dy_x_hat: np.ndarray,
    m: int,
) -> np.ndarray:
    """Return dx of one worker, of shape (N, C), given the sums, of shape (C,), over all m values."""
    return gamma * inv_std * (dy - sum_dy / m - x_hat * sum_dy_x_hat / m)


@exercise(
    "18.4",
    "Find the bug",
    cases=[_sharing(196, 0.4, 1, 2, 3), _sharing(197, 0.7, 2, 5, 1, 3), _sharing(198, 0.9, 3, 3, 8)],
    hints=[
        "What does the code return if every worker has a variance of 0, but each another mean?",
        "How far is each worker's mean from the common one, and where does that show in the code?",
        "σ² = Σ mᵣ (σᵣ² + (μᵣ − μ)²)/m, and μ = Σ mᵣ μᵣ/m.",
    ],
    explanation="""
        Variances do not average. By (18.2) the variance of all values is the mean of those within the
        workers plus the variance of the workers' means, and each worker weighs as much as it has
        values. The code leaves out the second part.""",
    mistakes={
        "variances averaged": Mistake(
            "The variances of the workers are averaged.",
            "How far the means of the workers lie apart has to show in the variance.",
            "variances + (means - mean) ** 2 => variances",
        ),
        "counts ignored in the mean": Mistake(
            "Every worker has the same weight in the mean.",
            "They may have unequal numbers of values.",
            "(weights * means).sum(axis=0) => means.mean(axis=0)",
        ),
        "counts ignored in the variance": Mistake(
            "Every worker has the same weight in the variance.",
            "They may have unequal numbers of values.",
            "(weights * spread).sum(axis=0) => spread.mean(axis=0)",
        ),
        "own statistics": Mistake(
            "The worker normalizes by its own mean and variance.",
            "Then nothing would have to be sent.",
            "(x - mean) / np.sqrt(var + eps) => (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)",
            excludes=(
                "variances averaged",
                "counts ignored in the mean",
                "counts ignored in the variance",
            ),
        ),
        "eps ignored": Mistake("ε is not used.", "It is added to the variance.", "var + eps => var"),
    },
)
def share(
    x: np.ndarray, counts: np.ndarray, means: np.ndarray, variances: np.ndarray, eps: float
) -> np.ndarray:
    """Normalize x, of shape (N, C), by the statistics of all workers; means and variances are (P, C)."""
    weights = counts[:, None] / counts.sum()
    mean = (weights * means).sum(axis=0)
    spread = variances + (means - mean) ** 2
    var = (weights * spread).sum(axis=0)
    return (x - mean) / np.sqrt(var + eps)


@exercise(
    "18.5",
    "The price of fifty layers",
    read=number(),
    tolerance=0.1,
    hints=[
        "How many collectives does one layer add to a training step?",
        "Each costs the latency and the time of its bytes. Which of the two is the larger, and by how much?",
        "2 · 50 · (20 + 8·2·256/10 000) microseconds: a GB/s is 1000 bytes in a microsecond.",
    ],
    explanation="""
        Two collectives a layer, so 100 in all. The latency makes 2000 microseconds. The 4096 bytes take 0.4
        microseconds each time, 41 in all, which is 2 %. Whoever wants to save must send fewer messages,
        not shorter ones.""",
    mistakes={
        "one collective": Mistake(
            "Each layer is counted with one collective.", "The gradient needs one, too.", gives=1020
        ),
        "bytes only": Mistake("The latency is left out.", "Each message waits for it.", gives=41),
        "both in one": Mistake(
            "All layers send one message together.",
            "A layer needs its statistics before the next one can compute.",
            gives=61,
        ),
    },
)
def price() -> float:
    """Count the microseconds that sharing adds to a step."""
    return 2 * 50 * (20 + 8 * 2 * 256 / 10_000)
