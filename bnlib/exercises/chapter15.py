"""Exercises of chapter 15, *Distribution shift*."""

# mypy: disable-error-code="no-any-return,no-untyped-def"

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from bnlib.exercises.clinic import DIAGNOSES, folding, treatment
from bnlib.exercises.exercise import Case, Fresh, Mistake, case, exercise
from bnlib.exercises.patients import before_export, images, patient


def _light(seed: int, a: float, c: float, channels: int, pixels: int) -> Case:
    rng = np.random.default_rng(seed)
    mean, b = np.round(rng.uniform(1.0, 6.0, (2, channels)), 2)
    return case(
        mean=mean,
        var=np.round(rng.uniform(1.5, 9.0, channels), 2),
        W=np.round(rng.uniform(-1.0, 3.0, (channels, pixels)), 2),
        b=b,
        a=a,
        c=c,
    )


def _two(seed: int, channels: int, n: int, N: int) -> Case:
    rng = np.random.default_rng(seed)
    old, new = np.round(rng.uniform(-5.0, 9.0, (2, channels)), 2)
    old_var, new_var = np.round(rng.uniform(1.5, 9.0, (2, channels)), 2)
    return case(old_mean=old, old_var=old_var, new_mean=new, new_var=new_var, n=n, N=N)


def _models(make: Any) -> list[Case]:
    return [case(model=Fresh(make), images=Fresh(images))]


def _wrong(right: str, reasons: Mapping[str, str]) -> dict[str, Mistake]:
    """Make a mistake of each other diagnosis, with the reason why it does not fit."""
    assert {right, *reasons} == set(DIAGNOSES)
    return {
        word: Mistake(
            f"The diagnosis “{word}” does not fit.",
            reason,
            f'diagnosis = "{right}" => diagnosis = "{word}"',
        )
        for word, reason in reasons.items()
    }


@exercise(
    "15.1",
    "Statistics in another light",
    returns=("mean", "var"),
    cases=[_light(151, 0.5, 0.4, 2, 3), _light(152, 2.5, -0.3, 4, 2), _light(153, -1.4, 1.2, 3, 3)],
    hints=[
        "Insert x' = a·x + c into z' = W x' + b, and look for z = W x + b in it.",
        "z' = a·z + (1 − a)·b + c·(sum of the weights of the row).",
        "A mean follows the whole line. A variance knows neither shift nor sign: it is multiplied by a².",
    ],
    explanation="""
        W(a x + c) + b = a(W x + b) + (1 − a) b + c·(row sums of W). The bias does not scale with the light,
        so the part (1 − a) b remains. All of it is one line for each channel, the same for all images, and
        that is what normalizing removes.""",
    mistakes={
        "variance not squared": Mistake(
            "The variance is multiplied by a.",
            "What has the unit of z, and what of z²?",
            "a**2 * var => a * var",
        ),
        "variance kept": Mistake(
            "The variance stays as it was.", "Half the contrast is half the spread.", "a**2 * var => 1 * var"
        ),
        "bias scaled": Mistake(
            "The bias is scaled with the light.",
            "It is added after the weights, whatever the image. What of it is in the old mean?",
            " + (1 - a) * b => ",
        ),
        "bias added": Mistake(
            "The bias is counted twice.",
            "The old mean holds it already, once.",
            "(1 - a) * b => b",
            excludes=("bias scaled",),
        ),
        "one shift for all": Mistake(
            "The shift is c itself.",
            "The input is shifted by c in each pixel. What do the weights of a row make of that?",
            "c * W.sum(axis=1) => c",
        ),
        "columns": Mistake(
            "The weights are summed over the channels.",
            "A row of W belongs to a channel.",
            "W.sum(axis=1) => W.sum(axis=0)",
            excludes=("one shift for all",),
        ),
        "mean of the weights": Mistake(
            "The weights of a row are averaged.",
            "Each pixel adds its share: sum them.",
            "W.sum( => W.mean(",
            excludes=("one shift for all",),
        ),
        "shift scaled": Mistake(
            "The shift is multiplied by a.",
            "Contrast comes first, then light is added.",
            "c * W.sum => a * c * W.sum",
        ),
        "mean not scaled": Mistake(
            "The old mean is not scaled.", "z' = a·z + …: what is its mean?", "a * mean => 1 * mean"
        ),
    },
)
def in_another_light(
    mean: np.ndarray, var: np.ndarray, W: np.ndarray, b: np.ndarray, a: float, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find mean and variance, shape (C,), of W (a x + c) + b from those of W x + b; W is (C, pixels)."""
    mean = a * mean + (1 - a) * b + c * W.sum(axis=1)
    var = a**2 * var
    return mean, var


@exercise(
    "15.2",
    "Mix old and new statistics",
    returns=("mean", "var"),
    cases=[_two(154, 2, 3, 7), _two(155, 4, 16, 4), _two(156, 3, 1, 2)],
    hints=[
        "The old statistics count like N images, the new ones like n.",
        "Divide by the sum of the counts: the weight of the new is n/(N + n).",
        "Mean and variance are mixed alike, each with its own kind.",
    ],
    explanation="""
        It is the running average of chapter 6 with the momentum n/(N + n). The variances are mixed as they
        are. Merging two sets of numbers would add the distance of their means, as chapter 3 does, but here
        the old images are not part of what is normalized: the mix only makes a small sample less noisy.""",
    mistakes={
        "weights swapped": Mistake(
            "The weights are exchanged.",
            "With n large, which of the two should win?",
            "w = n / (N + n) => w = N / (N + n)",
        ),
        "half and half": Mistake(
            "The counts are not used.", "One image should count less than 1000.", "w = n / (N + n) => w = 0.5"
        ),
        "old forgotten": Mistake(
            "Only the new statistics count.",
            "That is N = 0.",
            "w = n / (N + n) => w = 1.0",
        ),
        "not normalized": Mistake(
            "The weights do not sum to 1.",
            "Divide by all images, not by the old ones.",
            "w = n / (N + n) => w = n / N",
            excludes=("weights swapped",),
        ),
        "merged": Mistake(
            "The distance of the two means is added to the variance.",
            "That is the variance of both sets together. Only one of them is to be normalized.",
            "w * new_var => w * new_var + w * (1 - w) * (old_mean - new_mean) ** 2",
            excludes=("not normalized", "old forgotten"),
        ),
        "standard deviations": Mistake(
            "The standard deviations are mixed.",
            "Which of the two is asked for?",
            "var = (1 - w) * old_var + w * new_var"
            " => var = ((1 - w) * np.sqrt(old_var) + w * np.sqrt(new_var)) ** 2",
            excludes=("old forgotten", "not normalized", "merged", "variance kept"),
        ),
        "variance kept": Mistake(
            "The variance is the old one.",
            "Both statistics shift, and both are mixed.",
            "var = (1 - w) * old_var + w * new_var => var = 1 * old_var",
            excludes=("merged",),
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First the mean, then the variance.",
            "return mean, var => return var, mean",
        ),
    },
)
def mix(
    old_mean: np.ndarray, old_var: np.ndarray, new_mean: np.ndarray, new_var: np.ndarray, n: int, N: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mix statistics of shape (C,): the old count like N images, the new like n."""
    w = n / (N + n)
    mean = (1 - w) * old_mean + w * new_mean
    var = (1 - w) * old_var + w * new_var
    return mean, var


@exercise(
    "15.3",
    "The best prior",
    returns=("N", "error"),
    cases=[case(delta=0.5, n=3), case(delta=2.0, n=5), case(delta=0.1, n=40), case(delta=0.3, n=1)],
    hints=[
        "With w the weight of the new mean, the expected error is (1 − w)²δ² + w²/n.",
        "Its derivative in w is zero at w = nδ²/(1 + nδ²). Compare with n/(N + n).",
        "So N = 1/δ², and the error there is δ²/(1 + nδ²).",
    ],
    explanation="""
        Two estimates with independent errors are best weighed by the inverse of their squared errors, δ² for
        the old mean and 1/n for the new. The weights 1/δ² : n say that the old mean is worth 1/δ² images,
        however many new ones there are. The inverse errors add: 1/δ² + n.""",
    mistakes={
        "not squared": Mistake(
            "The distance δ is not squared.",
            "Errors are squared here, and so is the distance of the old mean.",
            (
                "N = 1 / delta**2 => N = 1 / delta",
                "error = 1 / (1 / delta**2 + n) => error = 1 / (1 / delta + n)",
            ),
        ),
        "N not squared": Mistake(
            "The error is right, but δ is not squared in `N`.",
            "The error of the old mean is δ², as that of one image is 1.",
            "N = 1 / delta**2 => N = 1 / delta",
        ),
        "N inverted": Mistake(
            "The prior grows with the shift.",
            "The further off the old mean is, the less it should count.",
            "N = 1 / delta**2 => N = delta**2",
        ),
        "N per image": Mistake(
            "The prior is divided by n.",
            "The best N does not depend on n: write out both weights.",
            "N = 1 / delta**2 => N = 1 / delta**2 / n",
        ),
        "new alone": Mistake(
            "The error is that of the new mean alone.",
            "The old one is good for something, too.",
            "error = 1 / (1 / delta**2 + n) => error = 1 / (0 + n)",
        ),
        "old alone": Mistake(
            "The error is that of the old mean alone.",
            "New images improve on it.",
            "error = 1 / (1 / delta**2 + n) => error = 1 / (1 / delta**2 + 0)",
            excludes=("new alone",),
        ),
        "errors added": Mistake(
            "The two errors are added.",
            "Two estimates together are better than either.",
            "error = 1 / (1 / delta**2 + n) => error = delta**2 + 1 / n",
        ),
        "root": Mistake(
            "The root of the error is returned.",
            "The expected squared error is asked for.",
            "return N, error => return N, np.sqrt(error)",
        ),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First N, then the error.",
            "return N, error => return error, N",
            excludes=("root",),
        ),
    },
)
def best_prior(delta: float, n: int) -> tuple[float, float]:
    """Find the N for which the mixed mean has the least expected squared error over var, and that error."""
    N = 1 / delta**2
    error = 1 / (1 / delta**2 + n)
    return N, error


_KEPT = "Its answers in evaluation mode are as wrong as before."


@exercise(
    "15.4",
    "Patient A",
    read=treatment,
    cases=_models(partial(patient, "A")),
    hints=[
        "Which reading is abnormal in A alone?",
        "A new batch has the weight 0, although 200 batches were seen: how far did the statistics come?",
        "Give `layer.momentum` a usual value, then call `recompute_statistics` with batches of `images`.",
    ],
    explanation="""
        With batch statistics all answers are right, so the weights are well and the running statistics are
        not. They are neither 0 and 1 nor those of the data, and no new batch moves them: they stopped early,
        and the weights went on. Recomputing cures the symptom, a momentum above 0 the cause.""",
    mistakes={
        **_wrong(
            "frozen too early",
            {
                "eval mode forgotten": "The model is in evaluation mode, and company changes nothing.",
                "momentum reversed": "A new batch would then weigh about 0.9, and here it weighs nothing.",
                "batch of one": "Normalized image by image it is wrong, and with batch statistics right.",
                "folded wrongly": "Its batch norms are still there: it has running statistics to read.",
                "stale buffers": "It has seen batches, and new ones would still weigh 0.1.",
            },
        ),
        "still frozen": Mistake(
            "New batches still have no weight.",
            "The statistics will fall behind again when training goes on: what stops them?",
            "layer.momentum = 0.1 => layer.momentum = 0.0",
        ),
        "thawed only": Mistake(
            _KEPT,
            "The statistics are still the old ones: let it see images.",
            "recompute_statistics(model, images.split(64), progress=False) => pass",
        ),
        "momentum too large": Mistake(
            "Now each new batch replaces nearly all that was known.",
            "PyTorch's momentum weighs the new batch.",
            "layer.momentum = 0.1 => layer.momentum = 0.9",
            excludes=("still frozen",),
        ),
    },
)
def treat_a(model, images):
    """Return the diagnosis and the repaired model."""
    from bnlib.torch.surgery import recompute_statistics

    diagnosis = "frozen too early"
    for layer in model:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.1
    recompute_statistics(model, images.split(64), progress=False)
    return diagnosis, model


@exercise(
    "15.5",
    "Patient B",
    read=treatment,
    cases=_models(partial(patient, "B")),
    hints=[
        "Its running statistics fit the data. Why does it not use them?",
        "The same image gets another answer in other company. In which mode is that so?",
        "One call of a method of `model` is enough.",
    ],
    explanation="""
        Running statistics and weights are well. But the model is in training mode, so it normalizes by the
        batch that it is given: 128 images at once go well, one at a time does not. It also goes on to move
        its statistics with every image that it answers.""",
    mistakes={
        **_wrong(
            "eval mode forgotten",
            {
                "momentum reversed": "A new batch weighs 0.1, and the running statistics fit the data.",
                "frozen too early": "The running statistics fit the data, and new batches move them.",
                "batch of one": "It is wrong image by image. Trained that way, it would be right.",
                "folded wrongly": "Its batch norms are still there, and in evaluation mode all is well.",
                "stale buffers": "The running statistics fit the data.",
            },
        ),
        "still training": Mistake(
            "The model is still in training mode.",
            "Its answer to an image depends on the others.",
            "model.eval() => model.train()",
        ),
    },
)
def treat_b(model, images):
    """Return the diagnosis and the repaired model."""
    diagnosis = "eval mode forgotten"
    model.eval()
    return diagnosis, model


@exercise(
    "15.6",
    "Patient C",
    read=treatment,
    cases=_models(partial(patient, "C")),
    hints=[
        "In which way of normalizing is this patient alone right?",
        "Its weights know images that were normalized one by one. No statistics of many images replace that.",
        "Exchange each batch norm for `nn.GroupNorm(C, C, eps)`: it normalizes each channel of each image.",
        "Hand weight and bias over: `own.weight, own.bias = layer.weight, layer.bias`.",
    ],
    explanation="""
        Batches of one image make every image its own reference. The running variance is then the mean
        variance within an image, and lacks the variance between images. Fresh statistics do not help: the
        weights never met a difference in brightness. What was trained is instance norm, so make it that.""",
    mistakes={
        **_wrong(
            "batch of one",
            {
                "eval mode forgotten": "It is in evaluation mode, and batch statistics of 128 go wrong too.",
                "momentum reversed": "A new batch weighs 0.1, and batch statistics of 128 go wrong too.",
                "frozen too early": "New batches move its statistics, and those of 128 images do not help.",
                "folded wrongly": "Its batch norms are still there: it has running statistics to read.",
                "stale buffers": "It has seen 9600 batches, and statistics of 128 images do not help.",
            },
        ),
        "many images": Mistake(
            "It still normalizes by statistics of many images, old or new.",
            "Its weights were trained on images that were normalized one by one.",
            "model[i] = own => pass",
        ),
    },
)
def treat_c(model, images):
    """Return the diagnosis and the repaired model."""
    from torch import nn

    diagnosis = "batch of one"
    for i, layer in enumerate(model):
        if isinstance(layer, nn.BatchNorm2d):
            own = nn.GroupNorm(layer.num_features, layer.num_features, layer.eps)
            own.weight, own.bias = layer.weight, layer.bias
            model[i] = own
    return diagnosis, model


@exercise(
    "15.7",
    "Patient D",
    read=treatment,
    cases=_models(partial(patient, "D")),
    hints=[
        "How many batches did its statistics see?",
        "A batch norm that has seen none holds the mean 0 and the variance 1.",
        "The weights are well: call `recompute_statistics` with batches of `images`.",
    ],
    explanation="""
        No batch was seen, yet with batch statistics all answers are right: the weights came from elsewhere
        and the buffers did not. `load_state_dict(..., strict=False)` hides such a loss. Recomputing them
        from unlabelled images is enough; copying them from the original is as good where that exists.""",
    mistakes={
        **_wrong(
            "stale buffers",
            {
                "eval mode forgotten": "The model is in evaluation mode, and company changes nothing.",
                "momentum reversed": "A new batch weighs 0.1.",
                "frozen too early": "It has seen no batch at all, and new ones would move its statistics.",
                "batch of one": "Normalized image by image it is wrong, and with batch statistics right.",
                "folded wrongly": "Its batch norms are still there: it has running statistics to read.",
            },
        ),
        "nothing done": Mistake(
            _KEPT,
            "Its statistics do not fit its weights: let it see images.",
            "recompute_statistics(model, images.split(64), progress=False) => pass",
        ),
        "left in training": Mistake(
            "The model is left in training mode.",
            "Its answer to an image depends on the others.",
            "return diagnosis, model => return diagnosis, model.train()",
            excludes=("nothing done",),
        ),
    },
)
def treat_d(model, images):
    """Return the diagnosis and the repaired model."""
    from bnlib.torch.surgery import recompute_statistics

    diagnosis = "stale buffers"
    recompute_statistics(model, images.split(64), progress=False)
    return diagnosis, model


@exercise(
    "15.8",
    "Patient E",
    read=treatment,
    cases=_models(partial(patient, "E")),
    hints=[
        "Which reading is abnormal in E alone?",
        "A new batch weighs 0.99: the running statistics are those of the last batch, of two images.",
        "Set `layer.momentum` to what was meant, then call `recompute_statistics` with batches of `images`.",
    ],
    explanation="""
        Keras's momentum of 0.99 weighs the old value, PyTorch's the new batch. So 0.99 was copied, and 0.01
        was meant. The statistics are those of the last batch, which may be small and odd. Recompute them, and
        correct the momentum, or the next batch spoils them again.""",
    mistakes={
        **_wrong(
            "momentum reversed",
            {
                "eval mode forgotten": "The model is in evaluation mode, and company changes nothing.",
                "frozen too early": "A new batch moves its statistics, and by a lot.",
                "batch of one": "Normalized image by image it is wrong, and with batch statistics right.",
                "folded wrongly": "Its batch norms are still there: it has running statistics to read.",
                "stale buffers": "It has seen 201 batches, and its statistics are near those of the data.",
            },
        ),
        "cause kept": Mistake(
            "The momentum is as it was, and one small batch will spoil the statistics.",
            "What is the weight of a new batch?",
            "layer.momentum = 0.01 => layer.momentum = 0.99",
        ),
        "statistics kept": Mistake(
            _KEPT,
            "The statistics are still those of two images: let it see more.",
            "recompute_statistics(model, images.split(64), progress=False) => pass",
        ),
        "frozen": Mistake(
            "Now new batches do not count at all.",
            "What does PyTorch's momentum weigh?",
            "layer.momentum = 0.01 => layer.momentum = 0.0",
            excludes=("cause kept",),
        ),
    },
)
def treat_e(model, images):
    """Return the diagnosis and the repaired model."""
    from bnlib.torch.surgery import recompute_statistics

    diagnosis = "momentum reversed"
    for layer in model:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.01
    recompute_statistics(model, images.split(64), progress=False)
    return diagnosis, model


@exercise(
    "15.9",
    "Patient F",
    read=folding,
    cases=_models(before_export),
    hints=[
        "It has no batch norm, and no mode or company changes its answers.",
        "Between the convolution and the batch norm lies a ReLU, and ReLU(s·z + t) is not s·ReLU(z) + t.",
        "With y = s·x + t for each channel, the linear layer after it gives V(s·x + t) + b. Collect terms.",
        "Its new weight has the columns of V times s, and its new bias is b + V t.",
    ],
    explanation="""
        In evaluation BN is y = s·x + t, and nothing lies between it and the linear head, so it folds
        forward: V(s·x + t) + b = (V diag(s)) x + (V t + b). Here s scales columns. The bias uses the weights
        as they were. Folding back into the convolution would need ReLU to be linear.""",
    mistakes={
        **_wrong(
            "folded wrongly",
            {
                "eval mode forgotten": "No mode changes its answers: there is no batch norm left.",
                "momentum reversed": "There are no running statistics left that could move.",
                "frozen too early": "There are no running statistics left that could freeze.",
                "batch of one": "Company changes nothing, and there is no batch norm left.",
                "stale buffers": "It has no buffers.",
            },
        ),
        "into the layer before": Mistake(
            "The batch norm is folded into the convolution, across the ReLU.",
            "That is the fault itself. Which layer has nothing between it and the batch norm?",
            (
                "head.bias.data = head.bias + head.weight @ t => conv.bias.data = s * conv.bias + t",
                "head.weight.data = head.weight * s => conv.weight.data = conv.weight * s.view(-1, 1, 1, 1)",
            ),
        ),
        "bias from new weights": Mistake(
            "The new bias is computed with weights that are scaled already.",
            "V(s·x + t): is t scaled by s?",
            "head.weight @ t => head.weight @ (s * t)",
        ),
        "shift lost": Mistake(
            "The bias of the head is as before.",
            "What becomes of t?",
            "head.bias + head.weight @ t => head.bias + 0",
            excludes=("old bias lost", "mean ignored", "bias from new weights"),
        ),
        "old bias lost": Mistake(
            "The old bias of the head is lost.",
            "The head adds it after its weights.",
            "head.bias + head.weight @ t => 0 + head.weight @ t",
        ),
        "weight kept": Mistake(
            "The weights of the head are as before.",
            "What becomes of s?",
            "head.weight * s => head.weight * 1",
        ),
        "eps ignored": Mistake(
            "ε is not used.",
            "The batch norm adds it to the variance.",
            "(norm.running_var + norm.eps) => norm.running_var",
        ),
        "mean ignored": Mistake(
            "The running mean is not used.",
            "What does BN subtract?",
            "norm.bias - s * norm.running_mean => norm.bias",
        ),
        "gamma ignored": Mistake("γ is not used.", "It is part of s.", "s = norm.weight / => s = 1 /"),
        "not removed": Mistake(
            "The batch norm is still there.",
            "Its work is done by the head now; leave it out.",
            "flatten, head) => flatten, norm, head)",
        ),
    },
)
def treat_f(model, images):
    """Return the diagnosis and the model without its batch norm, folded rightly."""
    from torch import nn

    diagnosis = "folded wrongly"
    conv, relu, pool, flatten, norm, head = model
    s = norm.weight / (norm.running_var + norm.eps) ** 0.5
    t = norm.bias - s * norm.running_mean
    head.bias.data = head.bias + head.weight @ t
    head.weight.data = head.weight * s
    return diagnosis, nn.Sequential(conv, relu, pool, flatten, head)
