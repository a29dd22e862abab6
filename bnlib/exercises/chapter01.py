"""Exercises of chapter 1, *Why normalize?*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Mistake, case, exercise
from bnlib.exercises.inputs import features


@exercise(
    "1.1",
    "Standardize the features",
    cases=[case(x=features(1, 3, 2)), case(x=features(2, 7, 4)), case(x=features(3, 5, 5))],
    hints=[
        "A feature is a column of `x`. Which axis must you average over to keep one number per column?",
        "Take mean and variance over axis 0. Subtract the one, then divide by the root of the other.",
    ],
    explanation="""
        Averaging over axis 0 leaves one mean and one variance a feature. They have shape (d,), which
        broadcasts against (n, d) from the right, so no reshape is needed. The variance is the mean of the
        squared deviations, divided by n, so that the result has variance 1 exactly.""",
    mistakes={
        "wrong axis": Mistake(
            "It standardizes each row.",
            "Features are columns: think again about the axis to average over.",
            ("mean(axis=0 => mean(keepdims=True, axis=1", "var(axis=0 => var(keepdims=True, axis=1"),
        ),
        "one mean for all": Mistake(
            "All features share one mean.", "Name the axis.", ("mean(axis=0 => mean(", "var(axis=0 => var(")
        ),
        "n - 1": Mistake(
            "It divides the variance by n − 1.", "Look at `ddof`.", "var(axis=0 => var(ddof=1, axis=0"
        ),
        "mean not subtracted": Mistake(
            "It does not subtract the mean.", "Compute the mean of your result.", "x - mean => x"
        ),
        "divided by variance": Mistake(
            "It divides by the variance.", "Which quantity has the unit of `x`?", "np.sqrt(var) => var"
        ),
    },
)
def standardize(x: np.ndarray) -> np.ndarray:
    """Give every column of x, of shape (n, d), mean 0 and variance 1."""
    mean = x.mean(axis=0)
    var = x.var(axis=0)
    return (x - mean) / np.sqrt(var)


@exercise(
    "1.2",
    "The condition number of least squares",
    cases=[case(x=features(11, 5, 2)), case(x=features(12, 9, 3)), case(x=features(13, 15, 4) / 4)],
    hints=[
        "The Hessian is H = XᵀX/n. What are its shape, and the largest and smallest curvature?",
        "The curvatures are the eigenvalues of H. H is symmetric: `np.linalg.eigvalsh` finds them.",
        "Divide the largest eigenvalue by the smallest.",
    ],
    explanation="""
        H is symmetric, so its eigenvalues are real and `eigvalsh` is the right routine. Dividing H by n
        scales all eigenvalues alike and cancels in the ratio. `np.linalg.cond(x)` is the square root
        of the answer: the singular values of X are the roots of the eigenvalues of XᵀX.""",
    mistakes={
        "square root": Mistake(
            "This is the square root of the condition number.",
            "It is that of X itself. How do the singular values of X relate to the eigenvalues of XᵀX?",
            "np.linalg.eigvalsh(hessian) => np.sqrt(np.linalg.eigvalsh(hessian))",
        ),
        "inverse": Mistake(
            "The ratio is upside down.",
            "A condition number is at least 1.",
            "eigenvalues.max() / eigenvalues.min() => eigenvalues.min() / eigenvalues.max()",
        ),
        "centred": Mistake(
            "The mean of X is subtracted first: this is the condition number of the covariance.",
            "The Hessian takes X as it is. That the mean matters is the point of this chapter.",
            "x.T @ x => (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))",
        ),
        "not transposed": Mistake(
            "XXᵀ is used, which compares samples and is singular.",
            "The Hessian compares features; which shape should it have?",
            "x.T @ x => x @ x.T",
        ),
        "diagonal": Mistake(
            "The diagonal of H is used for its eigenvalues.",
            "They agree only if the features are uncorrelated and of mean zero.",
            "np.linalg.eigvalsh(hessian) => np.diag(hessian)",
        ),
    },
)
def condition_number(x: np.ndarray) -> float:
    """Divide the largest curvature of least squares on x, of shape (n, d), by the smallest."""
    hessian = x.T @ x / len(x)
    eigenvalues = np.linalg.eigvalsh(hessian)
    return float(eigenvalues.max() / eigenvalues.min())


@exercise(
    "1.3",
    "The best step size",
    returns=("eta", "rate"),
    cases=[
        case(eigenvalues=np.array([4.0, 1.0, 2.5, 3.75])),
        case(eigenvalues=np.array([0.5, 30.0, 12.0])),
        case(eigenvalues=np.array([7.0, 0.2, 0.9, 6.0, 1.1])),
    ],
    hints=[
        "A step η multiplies the error along an eigenvector by 1 − ηλ. Which λ give the largest factor?",
        "The best η makes |1 − ηλ| equal at the smallest and the largest eigenvalue. Solve for η.",
        "1 − η·λmin = η·λmax − 1 gives η. Put it into 1 − η·λmin, and write the result with κ = λmax/λmin.",
    ],
    explanation="""
        The error shrinks per step by max |1 − ηλ|, which is attained at λmin or at λmax. A smaller η makes
        the first worse, a larger η the second, so the best η makes them equal: 1 − η·λmin = η·λmax − 1.
        Hence η = 2/(λmin + λmax), and the factor is (κ − 1)/(κ + 1).""",
    mistakes={
        "1/λmax": Mistake(
            "The step is 1/λmax.",
            "This is safe, but the slowest direction gains from a larger one.",
            "2 / (smallest + largest) => 1 / largest",
        ),
        "2/λmax": Mistake(
            "The step is 2/λmax.",
            "There the steepest direction no longer converges: it oscillates for ever.",
            "2 / (smallest + largest) => 2 / largest",
        ),
        "half the step": Mistake(
            "The step is half of the best one.",
            "Solve 1 − η·λmin = η·λmax − 1 once more.",
            "2 / (smallest => 1 / (smallest",
            excludes=("2/λmax",),
        ),
        "mean eigenvalue": Mistake(
            "The step is one over the mean of all eigenvalues.",
            "Only the smallest and the largest eigenvalue limit the rate.",
            "2 / (smallest + largest) => 1 / eigenvalues.mean()",
        ),
        "rate of 1/λmax": Mistake(
            "The rate is that of the step 1/λmax.",
            "Put the best step into |1 − ηλ|.",
            "(kappa - 1) / (kappa + 1) => 1 - 1 / kappa",
        ),
        "momentum": Mistake(
            "The rate has √κ in place of κ.",
            "That is the rate with momentum; here there is none.",
            "kappa = largest / smallest => kappa = np.sqrt(largest / smallest)",
        ),
        "unsorted": Mistake(
            "The first and the last eigenvalue are taken for the smallest and the largest.",
            "The eigenvalues come in any order.",
            "eigenvalues.min(), eigenvalues.max() => eigenvalues[0], eigenvalues[-1]",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the step, then the rate.",
            "return eta, rate => return rate, eta",
        ),
    },
)
def best_step(eigenvalues: np.ndarray) -> tuple[float, float]:
    """Find the step size that shrinks the error fastest, and the factor per step."""
    smallest, largest = eigenvalues.min(), eigenvalues.max()
    kappa = largest / smallest
    eta = 2 / (smallest + largest)
    rate = (kappa - 1) / (kappa + 1)
    return eta, rate


@exercise(
    "1.4",
    "How many more steps?",
    read=number(),
    tolerance=0.3,
    hints=[
        "Each step multiplies the error by (κ − 1)/(κ + 1). How many steps make it ten times smaller?",
        "For large κ the logarithm of that factor is about −2/κ. How many such terms make log(1/10)?",
    ],
    explanation="""
        A step multiplies the error by (κ − 1)/(κ + 1), and log((κ − 1)/(κ + 1)) ≈ −2/κ. To reach a given
        accuracy takes a number of steps proportional to κ: a hundred times the condition number costs
        a hundred times the steps. The exact ratio is 100.3.""",
    mistakes={
        "square root": Mistake(
            "The steps grow with κ, not with its square root.", "√κ is what momentum achieves.", gives=10
        ),
        "logarithm": Mistake(
            "The steps do not grow with the logarithm of κ.",
            "The logarithm is in the accuracy: log(1/ε) of them are needed for an error ε.",
            gives=3,
        ),
        "decades": Mistake(
            "2 is the number of powers of ten by which the condition number grows.",
            "Work out the number of steps for each κ, then divide.",
            gives=2,
        ),
        "no change": Mistake(
            "The number of steps does depend on the condition number.",
            "Compare (κ − 1)/(κ + 1) for κ = 10 and κ = 1000.",
            gives=1,
        ),
        "square": Mistake(
            "The steps do not grow with the square of κ.", "Expand the rate for large κ.", gives=10_000
        ),
        "difference": Mistake(
            "This is the difference of the two condition numbers, not a factor.",
            "Work out the number of steps for each κ, then divide.",
            gives=990,
        ),
    },
)
def more_steps() -> float:
    """Divide the steps needed at a condition number of 1000 by those needed at 10."""

    def steps(kappa: float) -> float:
        return float(-1 / np.log((kappa - 1) / (kappa + 1)))

    return steps(1000) / steps(10)
