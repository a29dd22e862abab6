"""Exercises of chapter 17, *On the GPU*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features


def _parts(seed: int, parts: int, channels: int) -> Case:
    rng = np.random.default_rng(seed)
    return case(
        n=rng.permutation(np.arange(3, 3 + 2 * parts, 2)).astype(float),
        mean=np.round(rng.uniform(-5.0, 9.0, (parts, channels)), 2),
        square=np.round(rng.uniform(2.0, 9.0, (parts, channels)), 2),
    )


@exercise(
    "17.1",
    "The least time",
    cases=[
        case(shape=(2, 3, 5, 7), itemsize=4, passes=3, bandwidth=1e3),
        case(shape=(32, 64, 56, 56), itemsize=2, passes=2, bandwidth=4e12),
        case(shape=(4096, 512), itemsize=4, passes=5, bandwidth=1.5e12),
    ],
    hints=[
        "How many bytes is one tensor? How many times does a tensor of that size cross the memory bus?",
        "Values times bytes a value times passes, divided by bytes per second.",
    ],
    explanation="""
        The tensor has `prod(shape)` values of `itemsize` bytes, and each pass moves all of them once. What
        is computed on the way does not appear: with so few operations a byte, the traffic hides it.""",
    mistakes={
        "itemsize ignored": Mistake(
            "Each value is taken to be one byte.",
            "How large is a float32?",
            "np.prod(shape) * itemsize => np.prod(shape)",
        ),
        "one pass": Mistake(
            "The tensor is moved once.",
            "Which argument says how often?",
            "values * passes => values",
        ),
        "positions ignored": Mistake(
            "Only the first two axes are counted.",
            "Height and width hold values too.",
            "np.prod(shape) => np.prod(shape[:2])",
        ),
        "bits": Mistake(
            "Bits are divided by bytes per second.",
            "In which unit is the bandwidth?",
            "* itemsize => * 8 * itemsize",
            excludes=("itemsize ignored",),
        ),
        "multiplied": Mistake(
            "It is multiplied by the bandwidth.",
            "A faster memory takes less time.",
            "/ bandwidth => * bandwidth",
        ),
        "microseconds": Mistake(
            "The result is in microseconds.",
            "Seconds are asked for.",
            "return values => return 1e6 * values",
        ),
    },
)
def least_time(shape: tuple[int, ...], itemsize: int, passes: int, bandwidth: float) -> float:
    """Return the seconds that so many passes over a tensor take at least, bandwidth in bytes per second."""
    values = np.prod(shape) * itemsize
    return values * passes / bandwidth


@exercise(
    "17.2",
    "The first stage",
    returns=("n", "mean", "square"),
    cases=[
        case(x=features(171, 7, 2), parts=3),
        case(x=features(172, 10, 3), parts=4),
        case(x=features(173, 9, 4), parts=2),
    ],
    hints=[
        "Part p holds the rows p, p + parts, p + 2·parts, ...: a slice with a step.",
        "For each part: how many rows, the mean of each column, the sum of squares about that mean.",
        "Collect three lists, and stack each: shapes (parts,), (parts, C), (parts, C).",
    ],
    explanation="""
        `x[p::parts]` are the rows of program p: at each step all programs together read one stretch of
        memory. Each has a mean of its own, and the squares are about *that* mean: this is what the merge
        expects. The parts differ in size, so the sizes belong to the result.""",
    mistakes={
        "blocks": Mistake(
            "Each part is a block of neighbouring rows.",
            "Row 0 belongs to part 0, row 1 to part 1, and so on, in turns.",
            "[x[p::parts] for p in range(parts)] => np.array_split(x, parts)",
        ),
        "common mean": Mistake(
            "The squares are about the mean of all rows.",
            "A program knows only its own rows.",
            "(r - r.mean(axis=0)) ** 2 => (r - x.mean(axis=0)) ** 2",
        ),
        "raw squares": Mistake(
            "The squares are not about the mean.",
            "They cancel if the mean is large: chapter 3.",
            "(r - r.mean(axis=0)) ** 2 => r**2",
            excludes=("common mean",),
        ),
        "variance": Mistake(
            "The squares are averaged.",
            "Their sum is asked for.",
            "2).sum(axis=0) for r in rows]) => 2).mean(axis=0) for r in rows])",
        ),
        "sum": Mistake(
            "The sums are returned in place of the means.",
            "Divide by the size of the part.",
            "mean = np.array([r.mean(axis=0) => mean = np.array([r.sum(axis=0)",
        ),
        "equal sizes": Mistake(
            "All parts are taken to be of one size.",
            "Some have a row more than others.",
            "[len(r) for r in rows] => [len(x) / parts for r in rows]",
        ),
    },
)
def first_stage(x: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return size, mean and squares about it of the parts of x (M, C), whose rows are dealt in turns."""
    rows = [x[p::parts] for p in range(parts)]
    n = np.array([len(r) for r in rows])
    mean = np.array([r.mean(axis=0) for r in rows])
    square = np.array([((r - r.mean(axis=0)) ** 2).sum(axis=0) for r in rows])
    return n, mean, square


@exercise(
    "17.3",
    "The second stage",
    returns=("mean", "var"),
    cases=[_parts(174, 2, 1), _parts(175, 3, 2), _parts(176, 5, 4)],
    hints=[
        "The mean of all is the mean of the means, each weighed by its n.",
        "The sum of squares about the mean of all is `square` plus n·(mean of the part − mean of all)².",
        "Sum over the parts, axis 0, and divide by the number of all values. n needs the shape (parts, 1).",
    ],
    explanation="""
        Within a part the squares about its own mean are known; about the mean of all they are larger by n
        times the squared distance of the two means. Dropping that term is right only where all parts have
        the same mean. The variance is biased, as normalizing asks.""",
    mistakes={
        "unweighted": Mistake(
            "All parts count alike in the mean.",
            "A part of 9 values counts three times as much as one of 3.",
            "(n[:, None] * mean).sum(axis=0) / n.sum() => mean.mean(axis=0)",
        ),
        "distance ignored": Mistake(
            "The distance between the means is left out.",
            "What is the variance, if each part is constant and they differ?",
            "square + n[:, None] * (mean - total) ** 2 => square",
        ),
        "distance unweighted": Mistake(
            "The squared distance of a part is counted once.",
            "Each of its n values is that far away.",
            "n[:, None] * (mean - total) ** 2 => (mean - total) ** 2",
            excludes=("distance ignored",),
        ),
        "unbiased": Mistake(
            "The variance is the unbiased one.",
            "Which one normalizes?",
            ".sum(axis=0) / n.sum()\n    return => .sum(axis=0) / (n.sum() - 1)\n    return",
        ),
        "not divided": Mistake(
            "It is the sum of squares, not the variance.",
            "By what is it divided?",
            ".sum(axis=0) / n.sum()\n    return => .sum(axis=0)\n    return",
            excludes=("unbiased",),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            "return total, var => return var, total",
        ),
    },
)
def second_stage(n: np.ndarray, mean: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge sizes (P,), means (P, C) and squares about them (P, C) to mean and biased variance (C,)."""
    total = (n[:, None] * mean).sum(axis=0) / n.sum()
    var = (square + n[:, None] * (mean - total) ** 2).sum(axis=0) / n.sum()
    return total, var


@exercise(
    "17.4",
    "What fusion saves",
    read=number(),
    tolerance=0.01,
    hints=[
        "Count the tensors that each operation reads and writes: BN 2, if it reads its input once.",
        "The addition moves 3 tensors, ReLU 2. How many does one kernel move that does everything?",
    ],
    explanation="""
        Apart they move 2 + 3 + 2 = 7 tensors: what one writes, the next one reads again. Fused, x and the
        shortcut are read and y is written: 3 tensors, 3/7 of the traffic.""",
    mistakes={
        "upside down": Mistake(
            "This is how many times *more* the separate operations move.",
            "The share that is left is asked for.",
            gives=7 / 3,
        ),
        "saved": Mistake("This is the share that is saved.", "What is left?", gives=4 / 7),
        "shortcut forgotten": Mistake(
            "The fused kernel has to read the shortcut too.", "How many tensors go in?", gives=2 / 7
        ),
        "addition of two": Mistake(
            "The addition reads two tensors and writes a third.",
            "How many does it move?",
            gives=3 / 6,
        ),
        "in place": Mistake("Even in place, ReLU reads and writes.", "What does it move?", gives=3 / 5),
    },
)
def fused_share() -> float:
    """Divide the tensors that BN, shortcut and ReLU move in one kernel by those that they move apart."""
    apart = (1 + 1) + (2 + 1) + (1 + 1)
    fused = 2 + 1
    return fused / apart


@exercise(
    "17.5",
    "A kernel for every length",
    cases=[
        case(x=features(177, 2, 10).astype(np.float32), n=5, block=4),
        case(x=features(178, 3, 9).astype(np.float32), n=3, block=8),
        case(x=features(179, 2, 18).astype(np.float32), n=16, block=4),
        case(x=features(180, 4, 12).astype(np.float32), n=9, block=2),
    ],
    hints=[
        "With n = 5 and tiles of 4: where do the tiles have to start, and what does the second one hold?",
        "`range(0, n, BLOCK)` reaches the last value. Its tile goes on behind it.",
        "`tl.load(..., mask=at < n, other=0.0)` reads where the mask is true, and is 0 elsewhere.",
    ],
    explanation="""
        The last tile starts before n and goes on behind it, where the values do not count. The mask leaves
        these places unread, and `other` says what stands there: 0, which a sum does not notice. The number
        of values is n, not that of all places.""",
    mistakes={
        "whole tiles": Mistake(
            "The last tile is left out if it is not full.",
            "Which values lie behind the last multiple of the block?",
            "range(0, n, block) => range(0, n - block + 1, block)",
        ),
        "no mask": Mistake(
            "The last tile counts values behind the first n.",
            "Which places of a tile are to be read?",
            "min(start + block, n) => start + block",
            excludes=("whole tiles",),
        ),
        "padded length": Mistake(
            "The sum is divided by the places of all tiles.",
            "Masked places hold no value.",
            "total / n => total / (-(-n // block) * block)",
        ),
        "width": Mistake(
            "The sum is divided by the length of the rows.",
            "How many values of a row count?",
            "total / n => total / x.shape[1]",
            excludes=("padded length",),
        ),
        "sum": Mistake(
            "It is the sum.",
            "By what is it divided?",
            "total / n => total",
            excludes=("padded length", "width"),
        ),
        "last tile": Mistake(
            "Only the last tile is kept.",
            "The tiles have to be added up.",
            "total = total + => total =",
            excludes=("whole tiles",),
        ),
    },
)
def row_means(x: np.ndarray, n: int, block: int) -> np.ndarray:
    """Return the mean of the first n values of each row of x (C, W), from tiles of ``block`` values."""
    total = np.zeros(len(x))
    for start in range(0, n, block):
        total = total + x[:, start : min(start + block, n)].sum(axis=1)
    return total / n
