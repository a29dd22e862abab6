"""Exercises of chapter 7, *Convolutions*."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from bnlib.exercises.answers import number
from bnlib.exercises.exercise import Case, Mistake, case, exercise
from bnlib.exercises.inputs import features, parameters


def _layer(seed: int, eps: float, c_out: int, c_in: int, k: int) -> Case:
    rng = np.random.default_rng(seed)
    gamma, beta = parameters(seed, c_out)
    return case(
        weight=np.round(rng.normal(size=(c_out, c_in, k, k)), 2),
        bias=np.round(rng.uniform(1.0, 4.0, c_out), 2),
        mean=np.round(rng.uniform(-6.0, -2.0, c_out), 2),
        var=np.round(rng.uniform(0.5, 4.0, c_out), 2),
        gamma=gamma,
        beta=beta,
        eps=eps,
    )


@exercise(
    "7.1",
    "Fold BN into a convolution",
    returns=("folded_weight", "folded_bias"),
    cases=[_layer(71, 0.5, 2, 2, 1), _layer(72, 0.3, 4, 3, 2), _layer(73, 1.2, 3, 5, 3)],
    hints=[
        "In evaluation BN is a straight line per output channel: s·z + t. What are s and t?",
        "s = γ/√(σ² + ε). Every weight of an output channel is multiplied by its s: along which axis?",
        "The output of the convolution contains its bias: s·(… + b − μ) + β. What does not depend on x?",
    ],
    explanation="""
        BN multiplies output channel o by s = γ/√(σ² + ε), so all weights that lead to it are multiplied by s:
        axis 0 of the weight. The constant that remains is β + s·(b − μ). Folded like this, the layer does
        the same at every position, because BN acts on the finished sums.""",
    mistakes={
        "gamma ignored": Mistake("γ is not used.", "It is part of the scale.", "gamma / np => 1 / np"),
        "eps ignored": Mistake(
            "ε is not used.", "The layer divides by √(σ² + ε), in evaluation too.", "var + eps => var"
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
            excludes=("eps ignored",),
        ),
        "divided by variance": Mistake(
            "The scale divides by the variance.",
            "BN divides by a standard deviation.",
            "np.sqrt(var + eps) => (var + eps)",
        ),
        "input channels": Mistake(
            "The scale runs along the input channels of the weight.",
            "BN comes after the convolution: which axis of the weight is the output channel?",
            "scale[:, None, None, None] => scale[:, None, None]",
        ),
        "weight not scaled": Mistake(
            "The weight is left as it is.",
            "BN scales the whole output, not only its constant part.",
            "scale[:, None, None, None] * weight => weight",
            excludes=("input channels",),
        ),
        "bias ignored": Mistake(
            "The bias of the convolution is taken to be 0.",
            "It need not be: what becomes of it?",
            "bias - mean => -mean",
            excludes=("bias not scaled",),
        ),
        "bias not scaled": Mistake(
            "The bias of the convolution is not scaled.",
            "BN acts on all of z, and z contains the bias.",
            "scale * (bias - mean) => bias - scale * mean",
        ),
        "mean ignored": Mistake(
            "The running mean is not subtracted.",
            "It moves into the bias.",
            "bias - mean => bias",
            excludes=("bias ignored", "bias not scaled"),
        ),
        "beta ignored": Mistake("β is not used.", "It belongs to the constant.", "beta + scale => scale"),
    },
)
def fold_conv(
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Fold BN with fixed statistics into the convolution before it, of weight (C_out, C_in, k, k)."""
    scale = gamma / np.sqrt(var + eps)
    folded_weight = scale[:, None, None, None] * weight
    folded_bias = beta + scale * (bias - mean)
    return folded_weight, folded_bias


def _channels_last(seed: int, eps: float, n: int, h: int, w: int, c: int) -> Case:
    gamma, beta = parameters(seed, c)
    x = np.ascontiguousarray(np.moveaxis(features(seed, n, c, h, w), 1, -1))
    # Rows that differ in level make it visible which axes share a mean.
    x = np.round(x + 2.0 * np.arange(h)[:, None, None] + np.arange(n)[:, None, None, None], 2)
    return case(x=x, gamma=gamma, beta=beta, eps=eps)


@exercise(
    "7.2",
    "Channels last",
    cases=[
        _channels_last(75, 0.5, 2, 2, 1, 2),
        _channels_last(76, 0.4, 3, 5, 2, 4),
        _channels_last(77, 1.2, 3, 3, 4, 3),
    ],
    hints=[
        "There is one mean for each channel. Which axis holds the channels now, and which are averaged over?",
        "Axes 0, 1 and 2. γ and β have shape (C,): how does NumPy align them with (N, H, W, C)?",
        "Shapes are aligned from the right, so γ, β and the statistics need no reshaping here.",
    ],
    explanation="""
        All axes but the channels are averaged over, and the channels are the last axis. Broadcasting aligns
        shapes from the right, so statistics and parameters of shape (C,) fit as they are: this order
        of axes is the convenient one for BN.""",
    mistakes={
        "axes of NCHW": Mistake(
            "The axes are those for (N, C, H, W): each row of the images has its own statistics.",
            "Here the channels are the last axis.",
            ("mean(axis=(0, 1, 2) => mean(axis=(0, 2, 3)", "var(axis=(0, 1, 2) => var(axis=(0, 2, 3)"),
            excludes=("samples only", "layer norm", "instance norm"),
        ),
        "samples only": Mistake(
            "Every pixel has its own mean and variance: only axis 0 is averaged over.",
            "All positions of a channel share them.",
            ("mean(axis=(0, 1, 2) => mean(axis=(0,)", "var(axis=(0, 1, 2) => var(axis=(0,)"),
            excludes=("layer norm", "instance norm"),
        ),
        "layer norm": Mistake(
            "Each sample is normalized by itself, across its channels: this is layer normalization.",
            "Every channel has its own mean and variance, shared by the batch.",
            ("mean(axis=(0, 1, 2) => mean(axis=(1, 2, 3)", "var(axis=(0, 1, 2) => var(axis=(1, 2, 3)"),
            excludes=("instance norm",),
        ),
        "instance norm": Mistake(
            "Each sample is normalized by itself: this is instance normalization.",
            "The average over the batch is missing.",
            ("mean(axis=(0, 1, 2) => mean(axis=(1, 2)", "var(axis=(0, 1, 2) => var(axis=(1, 2)"),
        ),
        "along the rows": Mistake(
            "γ and β run along the rows of the images.",
            "Shapes are aligned from the right: which shape puts γ along the last axis?",
            ("gamma * => gamma.reshape(1, -1, 1, 1) *", "+ beta => + beta.reshape(1, -1, 1, 1)"),
        ),
        "n - 1": Mistake(
            "The variance is divided by n − 1.",
            "Batch normalization divides it by the count: look at `ddof`.",
            "x.var( => x.var(ddof=1, ",
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
            excludes=("eps ignored",),
        ),
        "eps ignored": Mistake("ε is not used.", "See what a constant channel gives.", "var + eps => var"),
        "gamma ignored": Mistake(
            "γ is not used.", "It scales x̂.", "gamma * x_hat => x_hat", excludes=("along the rows",)
        ),
        "beta ignored": Mistake(
            "β is not used.", "It shifts the scaled x̂.", "x_hat + beta => x_hat", excludes=("along the rows",)
        ),
    },
)
def batch_norm_channels_last(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """Normalize each channel of x, of shape (N, H, W, C), over the batch; then scale and shift."""
    mean = x.mean(axis=(0, 1, 2), keepdims=True)
    var = x.var(axis=(0, 1, 2), keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma * x_hat + beta


def _gradients(seed: int, eps: float, *shape: int) -> Case:
    dy = np.round(np.random.default_rng(seed + 500).normal(0.7, 2.0, shape), 2)
    return case(dy=dy, x=features(seed, *shape), eps=eps)


@exercise(
    "7.3",
    "Gradients for images",
    returns=("dgamma", "dbeta"),
    cases=[_gradients(81, 0.5, 2, 2, 1, 2), _gradients(82, 0.4, 3, 4, 5, 2), _gradients(83, 1.2, 5, 3, 2, 3)],
    hints=[
        "Which outputs does one γ act on? Its gradient collects from all of them.",
        "y = γ·x̂ + β, so each output contributes dy·x̂ to dγ and dy to dβ.",
        "Recompute x̂ from `x` and `eps`; then sum over axes 0, 2 and 3. Both results have shape (C,).",
    ],
    explanation="""
        One γ scales every value of its channel, in all samples and at all positions, so the chain rule adds
        up all their contributions dy·x̂. The same holds for β with dy. It is a sum, not a mean: the mean
        is part of the loss, if anywhere.""",
    mistakes={
        "samples only": Mistake(
            "The sums run over the samples only.",
            "One γ acts at all positions of its channel.",
            (
                "(dy * x_hat).sum(axis=(0, 2, 3) => (dy * x_hat).sum(axis=(0,)",
                "dy.sum(axis=(0, 2, 3) => dy.sum(axis=(0,)",
            ),
            excludes=("per sample",),
        ),
        "per sample": Mistake(
            "The sums leave one number per sample.",
            "There is one γ for each channel: which axis must remain?",
            (
                "(dy * x_hat).sum(axis=(0, 2, 3) => (dy * x_hat).sum(axis=(1, 2, 3)",
                "dy.sum(axis=(0, 2, 3) => dy.sum(axis=(1, 2, 3)",
            ),
        ),
        "mean": Mistake(
            "The contributions are averaged.",
            "The chain rule adds them up.",
            ("(dy * x_hat).sum( => (dy * x_hat).mean(", "dy.sum( => dy.mean("),
        ),
        "x for x_hat": Mistake(
            "The gradient of γ uses x.",
            "What is it that γ multiplies?",
            "dy * x_hat => dy * x",
            excludes=("not centred", "not divided", "eps ignored", "eps outside", "samples only statistics"),
        ),
        "not divided": Mistake(
            "The gradient of γ uses x minus its mean.",
            "What γ multiplies is also divided by √(σ² + ε).",
            "(x - mean) / np.sqrt(var + eps) => x - mean",
            excludes=("eps ignored", "eps outside"),
        ),
        "not centred": Mistake(
            "The mean is not subtracted in x̂.",
            "Compute the mean of your x̂ to see it.",
            "x - mean => x",
        ),
        "samples only statistics": Mistake(
            "The statistics of x̂ are those of each pixel.",
            "All positions of a channel share one mean and one variance.",
            ("x.mean(axis=(0, 2, 3) => x.mean(axis=(0,)", "x.var(axis=(0, 2, 3) => x.var(axis=(0,)"),
        ),
        "eps outside": Mistake(
            "ε is added to the standard deviation.",
            "It belongs to the variance: where does the root begin?",
            "np.sqrt(var + eps) => (np.sqrt(var) + eps)",
            excludes=("eps ignored",),
        ),
        "eps ignored": Mistake("ε is not used.", "x̂ divides by √(σ² + ε).", "var + eps => var"),
        "swapped": Mistake(
            "The two values are returned in the wrong order.",
            "First dγ, then dβ.",
            "return dgamma, dbeta => return dbeta, dgamma",
        ),
    },
)
def parameter_gradients(dy: np.ndarray, x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the gradients of sum(dy * (gamma * x_hat + beta)) with respect to gamma and beta."""
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    var = x.var(axis=(0, 2, 3), keepdims=True)
    x_hat = (x - mean) / np.sqrt(var + eps)
    dgamma = (dy * x_hat).sum(axis=(0, 2, 3))
    dbeta = dy.sum(axis=(0, 2, 3))
    return dgamma, dbeta


def _correlated(images: int, height: int, width: int, length: float) -> Case:
    places = np.array([(i, j) for i in range(height) for j in range(width)])
    distance = np.abs(places[:, None] - places[None]).sum(axis=-1)
    return case(images=images, rho=np.round(np.exp(-distance / length), 3))


@exercise(
    "7.4",
    "The effective sample size",
    cases=[_correlated(3, 1, 2, 1.5), _correlated(5, 2, 3, 1.0), _correlated(32, 3, 3, 2.5)],
    hints=[
        "The mean correlation ρ̄ is over pairs of *different* positions. How many such pairs are there?",
        "ρ̄ is the sum off the diagonal, divided by HW·(HW − 1). The diagonal of `rho` sums to HW.",
        "Without correlation m would be `images` times HW. Divide it by 1 + (HW − 1)·ρ̄.",
    ],
    explanation="""
        The variance of the mean of one image is σ²·Σρ/(HW)², and images are independent. Splitting off the
        diagonal gives the design effect 1 + (HW − 1)·ρ̄, by which m = N·HW is divided. In short, it is
        N·(HW)²/Σρ.""",
    mistakes={
        "ignored": Mistake(
            "All values are counted as independent.",
            "Neighbouring pixels repeat one another.",
            "1 + (HW - 1) * mean_rho => 1",
            excludes=("diagonal", "half", "HW for HW - 1", "multiplied", "whole batch", "1 forgotten"),
        ),
        "diagonal": Mistake(
            "The mean correlation includes the diagonal.",
            "Each value with itself has correlation 1: it is not a pair.",
            "(rho.sum() - HW) / (HW * (HW - 1)) => rho.mean()",
            excludes=("half",),
        ),
        "half": Mistake(
            "The mean correlation is half of what it should be.",
            "Each pair stands in `rho` twice: count the entries off the diagonal.",
            "(HW * (HW - 1)) => (2 * HW * (HW - 1))",
        ),
        "HW for HW - 1": Mistake(
            "The mean correlation is multiplied by HW.",
            "How many *other* positions does each have?",
            "1 + (HW - 1) * mean_rho => 1 + HW * mean_rho",
        ),
        "1 forgotten": Mistake(
            "The 1 of the denominator is missing.",
            "Without correlation the result must be m.",
            "(1 + (HW - 1) * mean_rho) => ((HW - 1) * mean_rho)",
            excludes=("diagonal",),
        ),
        "N ignored": Mistake(
            "The number of images is not used.",
            "This is what one image is worth.",
            "images * HW / (1 => HW / (1",
            excludes=("whole batch",),
        ),
        "multiplied": Mistake(
            "The number of values is multiplied by the design effect.",
            "Does correlation make the mean better or worse?",
            "HW / (1 => HW * (1",
        ),
        "whole batch": Mistake(
            "The whole batch is treated as one image.",
            "Values of different images are independent.",
            "(HW - 1) * mean_rho => (images * HW - 1) * mean_rho",
            excludes=("HW for HW - 1",),
        ),
    },
)
def effective_size(images: int, rho: np.ndarray) -> float:
    """Count the independent values that a batch is worth; rho holds the correlations within an image."""
    HW = len(rho)
    mean_rho = (rho.sum() - HW) / (HW * (HW - 1))
    return images * HW / (1 + (HW - 1) * mean_rho)


@exercise(
    "7.5",
    "How large a batch?",
    read=number(),
    tolerance=1e-3,
    hints=[
        "What is one image worth? Put HW = 101 into (7.4).",
        "The denominator is 1 + 100 · 0.19. How many images are worth 101 then?",
    ],
    explanation="""
        The design effect is 1 + 100 · 0.19 = 20, so an image of 101 pixels is worth 101/20, about five
        values, and 20 images are worth 101. The design effect is the number of images that do the work
        of one without correlation.""",
    mistakes={
        "ignored": Mistake(
            "One image would do if its pixels were independent.", "By what is m divided?", gives=1
        ),
        "HW for HW - 1": Mistake(
            "The mean correlation is multiplied by HW.",
            "How many *other* pixels does each have?",
            gives=20.19,
        ),
        "1 forgotten": Mistake(
            "The 1 of the denominator is missing.", "What if the correlation were 0?", gives=19
        ),
        "worth of an image": Mistake(
            "This is what one image is worth.", "How many of them make 101?", gives=5.05
        ),
        "bound": Mistake(
            "This is 1/ρ̄, the most that one image can be worth.",
            "How many images are asked for?",
            gives=5.263,
        ),
        "inverse": Mistake("This is less than one image.", "Turn it around.", gives=0.05),
        "as many as pixels": Mistake(
            "Fewer images do.", "Then each image would be worth one value only.", gives=101
        ),
    },
)
def images_needed() -> float:
    """Divide 101 by what one image of 101 pixels with a mean correlation of 0.19 is worth."""
    worth = 101 / (1 + (101 - 1) * 0.19)
    return 101 / worth
