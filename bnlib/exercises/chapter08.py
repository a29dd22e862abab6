"""Exercises of chapter 8, *Covariate shift*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import choice, number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features, parameters


def _step(seed: int, *shape: int) -> Case:
    """Draw activations before a step and, with other moments, after it; some means fall, some scales too."""
    rng = np.random.default_rng(seed)
    before = features(seed, *shape)
    scale = np.where(
        np.arange(shape[1]) % 2, rng.uniform(1.4, 2.0, shape[1]), rng.uniform(0.4, 0.6, shape[1])
    )
    moved = rng.uniform(1.0, 4.0, shape[1]) * np.where(np.arange(shape[1]) % 3, -1.0, 1.0)
    center = before.mean(axis=0)
    after = center + moved + scale * (before - center) + 0.1 * rng.standard_normal(shape)
    return case(before=before, after=np.round(after, 2))


def _net(seed: int, lr: float, samples: int, inputs: int, hidden: int, outputs: int) -> Case:
    rng = np.random.default_rng(seed)
    sizes = {"x": (samples, inputs), "y": (samples, outputs), "W1": (hidden, inputs), "W2": (outputs, hidden)}
    return case(**{name: np.round(rng.normal(size=size), 2) for name, size in sizes.items()}, lr=lr)


def _noise(seed: int, eps: float, *shape: int) -> Case:
    rng = np.random.default_rng(seed)
    gamma, beta = parameters(seed, shape[1])
    noise = {"s": rng.uniform(1.3, 2.2, shape[1]), "m": rng.uniform(0.6, 1.5, shape[1])}
    return case(
        x=features(seed, *shape),
        gamma=gamma,
        beta=beta,
        **{name: np.round(value, 2) for name, value in noise.items()},
        eps=eps,
    )


@exercise(
    "8.1",
    "Shift of the moments",
    returns=("of_mean", "of_std"),
    cases=[_step(81, 4, 2), _step(82, 7, 5), _step(83, 5, 3)],
    hints=[
        "Take mean and standard deviation of each unit, before and after: four arrays of shape (C,).",
        "The distance of the means is measured in standard deviations from *before* the step.",
        "Average |μ′ − μ|/σ and |ln(σ′/σ)| over the units. `np.std` is the biased one.",
    ],
    explanation="""
        Absolute values come before the average, or units that move in opposite directions would cancel. The
        logarithm treats doubling and halving of a scale alike, and both numbers stay the same when a unit
        is measured on another scale.""",
    mistakes={
        "per sample": Mistake(
            "The moments are those of the samples, not of the units.",
            "A unit is a column: over which axis does it average?",
            (
                "before.mean(axis=0) => before.mean(axis=1)",
                "before.std(axis=0) => before.std(axis=1)",
                "after.mean(axis=0) => after.mean(axis=1)",
                "after.std(axis=0) => after.std(axis=1)",
            ),
            excludes=("n - 1", "scales cancel"),
        ),
        "not divided": Mistake(
            "The distance of the means is not divided by anything.",
            "In which unit is it to be measured?",
            "(mu_next - mu) / sigma => (mu_next - mu)",
            excludes=("new sigma", "divided by variance", "n - 1"),
        ),
        "new sigma": Mistake(
            "The distance of the means is divided by the standard deviation after the step.",
            "What did the layer above know before the step?",
            "(mu_next - mu) / sigma => (mu_next - mu) / sigma_next",
            excludes=("divided by variance",),
        ),
        "divided by variance": Mistake(
            "The distance of the means is divided by the variance.",
            "What has the unit of a mean?",
            "(mu_next - mu) / sigma => (mu_next - mu) / sigma**2",
        ),
        "signs cancel": Mistake(
            "Units whose means move in opposite directions cancel.",
            "Where does the absolute value belong, before the average or after it?",
            "np.mean(np.abs((mu_next - mu) / sigma)) => np.abs(np.mean((mu_next - mu) / sigma))",
        ),
        "scales cancel": Mistake(
            "Units that widen and units that narrow cancel.",
            "Where does the absolute value belong, before the average or after it?",
            "np.mean(np.abs(np.log(sigma_next / sigma))) => np.abs(np.mean(np.log(sigma_next / sigma)))",
        ),
        "of variances": Mistake(
            "The logarithm is that of the variances.",
            "It is twice that of the standard deviations.",
            "np.log(sigma_next / sigma) => np.log(sigma_next**2 / sigma**2)",
            excludes=("no logarithm",),
        ),
        "no logarithm": Mistake(
            "The scales are compared by their difference.",
            "Doubling and halving should count alike: which function of σ′/σ does that?",
            "np.log(sigma_next / sigma) => (sigma_next / sigma - 1)",
        ),
        "n - 1": Mistake(
            "The standard deviations are the unbiased ones.",
            "The book's σ is biased, divided by N: look at `ddof`.",
            (
                "before.std(axis=0) => before.std(ddof=1, axis=0)",
                "after.std(axis=0) => after.std(ddof=1, axis=0)",
            ),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the shift of the mean, then that of the standard deviation.",
            "return of_mean, of_std => return of_std, of_mean",
        ),
    },
)
def shift_of_moments(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Measure how far the moments of C units move, from activations of shape (N, C)."""
    mu, sigma = before.mean(axis=0), before.std(axis=0)
    mu_next, sigma_next = after.mean(axis=0), after.std(axis=0)
    of_mean = np.mean(np.abs((mu_next - mu) / sigma))
    of_std = np.mean(np.abs(np.log(sigma_next / sigma)))
    return of_mean, of_std


@exercise(
    "8.2",
    "Shift of a gradient",
    returns=("change", "cosine"),
    cases=[_net(84, 0.1, 2, 2, 2, 1), _net(85, 0.2, 5, 4, 3, 2), _net(86, 0.05, 7, 3, 5, 4)],
    hints=[
        "At the start, with h = x W1ᵀ and e = (h W2ᵀ − y)/N: G2 = eᵀ h and G1 = (e W2)ᵀ x.",
        "Then make the step of W1 alone, and compute G2′ by the same formulas from the new h.",
        "change = ‖G2′ − G2‖/‖G2‖; cosine = Σ G2·G2′ / (‖G2‖·‖G2′‖), over all entries.",
    ],
    explanation="""
        Only what lies below the second layer makes its step: W1 moves, W2 stays. The new hidden values change
        the gradient twice, as the second layer's input and through the error.""",
    mistakes={
        "own layer too": Mistake(
            "The second layer has made its step too.",
            "Which weights lie below it?",
            "h_next @ W2.T => h_next @ (W2 - lr * G2).T",
            excludes=("old error",),
        ),
        "uphill": Mistake(
            "The first layer makes its step up the gradient.",
            "Which sign has a step of gradient descent?",
            "W1 - lr * G1 => W1 + lr * G1",
        ),
        "old error": Mistake(
            "Only the input of the second layer is new; the error is that from before.",
            "The output changes with the hidden values.",
            "error_next.T @ h_next => error.T @ h_next",
            excludes=("old input",),
        ),
        "old input": Mistake(
            "Only the error is new; the input of the second layer is that from before.",
            "G2′ is a product of two things that both change.",
            "error_next.T @ h_next => error_next.T @ h",
        ),
        "summed": Mistake(
            "The loss is summed over the batch, not averaged.",
            "By what is the squared error divided?",
            (
                "(h @ W2.T - y) / len(x) => (h @ W2.T - y)",
                "W2.T - y) / len(x)\n    G2_next => W2.T - y)\n    G2_next",
            ),
        ),
        "not relative": Mistake(
            "The distance is not divided by anything.",
            "It is to be compared with the length of the gradient.",
            "norm(G2_next - G2) / norm(G2)\n => norm(G2_next - G2)\n",
            excludes=("relative to the new",),
        ),
        "relative to the new": Mistake(
            "The distance is divided by the length of the new gradient.",
            "Which one does the optimizer use?",
            "norm(G2_next - G2) / norm(G2)\n => norm(G2_next - G2) / norm(G2_next)\n",
        ),
        "difference of lengths": Mistake(
            "The lengths are subtracted, not the gradients.",
            "A gradient that turns around keeps its length.",
            "norm(G2_next - G2) => np.abs(norm(G2_next) - norm(G2))",
        ),
        "not normalized": Mistake(
            "The product of the gradients is not divided by their lengths.",
            "A cosine lies between −1 and 1.",
            "np.sum(G2 * G2_next) / (norm(G2) * norm(G2_next)) => np.sum(G2 * G2_next)",
        ),
        "angle": Mistake(
            "The second value is the angle.",
            "Its cosine is asked for.",
            "np.sum(G2 * G2_next) / (norm(G2) * norm(G2_next))"
            " => np.arccos(np.sum(G2 * G2_next) / (norm(G2) * norm(G2_next)))",
            excludes=("not normalized",),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the change, then the cosine.",
            "return change, cosine => return cosine, change",
        ),
    },
)
def gradient_shift(
    x: np.ndarray, y: np.ndarray, W1: np.ndarray, W2: np.ndarray, lr: float
) -> tuple[float, float]:
    """Measure the shift of the second layer's gradient; the loss is ||W2 W1 x - y||**2 / 2, averaged."""
    norm = np.linalg.norm
    h = x @ W1.T
    error = (h @ W2.T - y) / len(x)
    G1, G2 = (error @ W2).T @ x, error.T @ h
    h_next = x @ (W1 - lr * G1).T
    error_next = (h_next @ W2.T - y) / len(x)
    G2_next = error_next.T @ h_next
    change = norm(G2_next - G2) / norm(G2)
    cosine = np.sum(G2 * G2_next) / (norm(G2) * norm(G2_next))
    return change, cosine


@exercise(
    "8.3",
    "Shift on purpose",
    cases=[_noise(87, 0.6, 3, 2), _noise(88, 0.9, 7, 4), _noise(89, 1.5, 5, 5)],
    hints=[
        "Write the layer of chapter 2 first, with γ and β. The noise comes after all of it.",
        "output = s·(γ·x̂ + β) + m.",
    ],
    explanation="""
        Noise before the normalization would be taken out again by it, up to ε: that is the invariance
        (2.11). Between x̂ and γ, it would be multiplied by γ, which can learn to make it small. At the end,
        it acts on y, whatever γ and β have learned.""",
    mistakes={
        "before": Mistake(
            "The noise is put in before the normalization, which takes it out again.",
            "What does BN do to a x + b?",
            ("mu, var = x.mean => x = s * x + m\n    mu, var = x.mean", "return s * y + m => return y"),
            excludes=("on x_hat", "m scaled", "s ignored", "m ignored"),
        ),
        "on x_hat": Mistake(
            "The noise is put in between x̂ and γ.",
            "It follows the whole layer, γ and β included.",
            ("gamma * x_hat + beta => gamma * (s * x_hat + m) + beta", "return s * y + m => return y"),
            excludes=("m scaled", "s ignored", "m ignored", "gamma ignored"),
        ),
        "m scaled": Mistake(
            "The term m is added before the factor s is applied.",
            "Which of the two comes first?",
            "s * y + m => s * (y + m)",
            excludes=("s ignored", "m ignored"),
        ),
        "s ignored": Mistake(
            "The factor s is not used.", "The noise changes the scale of y too.", "s * y => y"
        ),
        "m ignored": Mistake("The term m is not used.", "The noise shifts y too.", "s * y + m => s * y"),
        "gamma ignored": Mistake("γ is not used.", "It scales x̂.", "gamma * x_hat => x_hat"),
        "beta ignored": Mistake("β is not used.", "It shifts the scaled x̂.", "x_hat + beta => x_hat"),
        "n - 1": Mistake(
            "The variance is the unbiased one.",
            "BN normalizes with the biased one: look at `ddof`.",
            "x.var(axis=0) => x.var(ddof=1, axis=0)",
        ),
        "eps ignored": Mistake("ε is not used.", "It belongs to the variance.", "var + eps => var"),
    },
)
def noisy_batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, s: np.ndarray, m: np.ndarray, eps: float
) -> np.ndarray:
    """Normalize x of shape (N, C), scale and shift; then scale by s and shift by m, each of shape (C,)."""
    mu, var = x.mean(axis=0), x.var(axis=0)
    x_hat = (x - mu) / np.sqrt(var + eps)
    y = gamma * x_hat + beta
    return s * y + m


@exercise(
    "8.4",
    "Where there is nothing to see",
    read=choice("Wh", "x_hat", "y", "relu(y)"),
    hints=[
        "For three of the places, think of a step that moves the moments there.",
        "γ and β are learned, so they move y and all that follows. What is left?",
    ],
    explanation="""
        x̂ has mean 0 and standard deviation 1 (up to ε) before every step and after it. A shift of the
        moments of x̂ is zero by construction, so it says nothing about the layers below.""",
    mistakes={
        "before the normalization": Mistake(
            "W h moves with W and with all layers below.", "Nothing has been normalized there.", gives="Wh"
        ),
        "after scale and shift": Mistake(
            "The moments of y are β and |γ|, which are learned.",
            "They do not depend on the weights below, but they do move.",
            gives="y",
        ),
        "after the activation": Mistake(
            "The moments of relu(y) depend on γ, β and the shape of the distribution.",
            "BN fixes two moments, and not the shape.",
            gives="relu(y)",
        ),
    },
)
def vacuous_place() -> str:
    """Name the place where no step can move the moments."""
    return "x_hat"


@exercise(
    "8.5",
    "The shift of y",
    read=number(),
    tolerance=1e-3,
    hints=[
        "What are the mean and the standard deviation of y, before the step?",
        "(8.4): |β′ − β| in standard deviations from before the step, which are |γ|.",
    ],
    explanation="""
        The mean of y is β and its standard deviation |γ|, whatever the layers below do. So the mean moves
        by 0.06 while the standard deviation before the step is 0.4: a shift of 0.15.""",
    mistakes={
        "not divided": Mistake(
            "This is the way of the mean itself.", "It is to be measured in standard deviations.", gives=0.06
        ),
        "new scale": Mistake(
            "This is divided by the standard deviation after the step.",
            "(8.1) divides by the one before.",
            gives=0.12,
        ),
        "of the scale": Mistake(
            "This is the shift of the standard deviation, by (8.2).",
            "The shift of the mean is asked for.",
            gives=float(np.log(0.5 / 0.4)),
        ),
        "nothing": Mistake(
            "The moments of x̂ do not move, but those of y do.", "Which numbers set them?", gives=0
        ),
        "divided by variance": Mistake(
            "This is divided by the variance.", "What is the standard deviation of y?", gives=0.375
        ),
        "with a sign": Mistake("A shift is not negative.", "Look at (8.1) again.", gives=-0.15),
        "gamma's way": Mistake(
            "This is what the scale has moved by, over the scale.",
            "The shift of the mean is asked for.",
            gives=0.25,
        ),
    },
)
def shift_of_output() -> float:
    """Measure the shift of the mean when gamma goes from -0.4 to -0.5 and beta from 0.30 to 0.36."""
    gamma, beta, beta_next = -0.4, 0.30, 0.36
    return abs(beta_next - beta) / abs(gamma)
