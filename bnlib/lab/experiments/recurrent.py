"""How normalizations do in recurrent networks, for sequences of one length and of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnlib.lab.data import fashion_mnist
from bnlib.lab.layers import Norm
from bnlib.lab.network import Network, State
from bnlib.lab.records import Record
from bnlib.lab.recurrent import RNN, StepBatchNorm1d
from bnlib.lab.registry import experiment
from bnlib.lab.runs import Runs, grid
from bnlib.lab.sgd import linear
from bnlib.lab.train import train

Array = NDArray[Any]

STEPS = 14
"""Steps of time: an image is cut into 14 strips, one row of 14 pixels each, or two rows of 28."""

LOW, HIGH = [0.01, 0.03, 0.1], [0.03, 0.1, 0.3]
METHODS: Mapping[str, Mapping[str, Any]] = {
    "none": {"norm": "none", "per_step": False, "gamma": 1.0, "lr": LOW},
    "LN, gamma 1": {"norm": "layer", "per_step": False, "gamma": 1.0, "lr": LOW},
    "LN, gamma 0.1": {"norm": "layer", "per_step": False, "gamma": 0.1, "lr": HIGH},
    "shared BN, gamma 0.1": {"norm": "batch", "per_step": False, "gamma": 0.1, "lr": HIGH},
    "BN, gamma 0.1": {"norm": "batch", "per_step": True, "gamma": 0.1, "lr": HIGH},
    "BN, gamma 1": {"norm": "batch", "per_step": True, "gamma": 1.0, "lr": HIGH},
}
CELLS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"cell": "plain", "hidden": 48},
    "LSTM": {"cell": "lstm", "hidden": 32, "lr": [0.1, 0.3, 1.0]},
}
LENGTHS: Mapping[str, Mapping[str, Any]] = {
    "equal": {"train_lengths": [14, 14], "test_lengths": [14, 14]},
    "unequal": {"train_lengths": [4, 11], "test_lengths": [4, 14]},
}
SHARED: Mapping[str, Any] = {
    "full": True,
    "train": 50_000,
    "validation": 2000,
    "test": 4000,
    "batch_size": 64,
    "steps": 300,
}


def parts() -> dict[str, dict[str, Any]]:
    """Return the settings of all parts, by the name that ``part_name`` gives.

    The LSTM has one initial gamma for each method, the usual one.
    """
    return {
        part_name(cell, lengths, method): {**SHARED, **METHODS[method], **CELLS[cell], **LENGTHS[lengths]}
        for cell in CELLS
        for lengths in LENGTHS
        for method in METHODS
        if cell == "plain" or method not in ("LN, gamma 0.1", "BN, gamma 1")
    }


def part_name(cell: str, lengths: str, method: str) -> str:
    """Return the name of a part: "LSTM, unequal, BN, gamma 0.1"."""
    return f"{cell}, {lengths}, {method}"


class Sequences(NamedTuple):
    """Images as sequences of strips, with their labels.

    Attributes:
        x: shape (N, 14, inputs), NaN after the end of a sequence.
        y: labels, shape (N,).
        lengths: shape (N,).
    """

    x: Tensor
    y: Tensor
    lengths: Tensor


@experiment("recurrent", parts=parts(), seeds=5)
def recurrent(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Accuracy of recurrent networks that read images strip by strip, by normalization and lengths.

    Fashion-MNIST at 28x28, two rows a step. Of an image the first L of 14 strips are read, L drawn once for
    each image, uniformly from a range, which for training may end before the one for testing. SGD with
    batches of 64, momentum 0.9 and a rate that falls to 0 along a line. A norm stands on ``W x_t + b``, one
    on ``U h`` and, in an LSTM, one on the cell. Seeds share images and lengths; they differ in initial
    weights and batches.

    Metrics, each of shape (S, K, ...) for K rates, NaN for a run that overflows:
        train_loss: mean over the last tenth of the steps.
        validation_accuracy: by running statistics, lengths as in training.
        accuracy: on test images, by running statistics, for each test length.
        batch_accuracy: the same by the statistics of batches of 64.
        offset, spread: of what the norms of ``U h`` give out at each step in evaluation before gamma and
            beta, for test images: the root mean square over units of the mean, and of the standard
            deviation; shape (S, K, 14); NaN without BN.
    """
    training, validation, test = sequences(settings)
    runs = train(
        maker(settings, training),
        (training.x, training.y, validation.x, validation.y),
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seeds=seeds,
        settings=grid(lr=settings["lr"], momentum=0.9),
        schedule=linear,
        progress=False,
    )
    found = {
        "train_loss": runs.final_loss(settings["steps"] // 10).T,
        "validation_accuracy": runs.accuracy["test", "running"][..., -1].T,
    }
    each = [
        [measure(runs, k, s, test, settings) for k in range(len(runs.settings))] for s in range(len(seeds))
    ]
    for name in each[0][0]:
        found[name] = np.array([[run[name] for run in row] for row in each])
    return found


def maker(settings: Mapping[str, Any], sequences: Sequences) -> partial[RNN]:
    """Return a function that makes the network of a part; its layer norm is PyTorch's, the faster here."""
    kind = settings["norm"]
    norm: Norm = (lambda channels, positions: nn.LayerNorm(channels)) if kind == "layer" else kind
    return partial(
        RNN,
        settings["hidden"],
        norm,
        place="both",
        cell=settings["cell"],
        steps=settings["train_lengths"][1] if settings["per_step"] else None,
        gamma=settings["gamma"],
        inputs=sequences.x.shape[2],
    )


def sequences(settings: Mapping[str, Any]) -> tuple[Sequences, Sequences, Sequences]:
    """Return training, validation and test sequences; validation images are the last training images."""
    data = fashion_mnist(full=settings["full"])
    return (
        cut(data.x_train, data.y_train, slice(None, settings["train"]), settings["train_lengths"], 0),
        cut(data.x_train, data.y_train, slice(-settings["validation"], None), settings["train_lengths"], 1),
        cut(data.x_test, data.y_test, slice(None, settings["test"]), settings["test_lengths"], 2),
    )


def cut(images: Array, labels: Array, which: slice, lengths: Sequence[int], seed: int) -> Sequences:
    """Turn images (N, 14 r, W) into sequences of 14 strips of r rows, of lengths drawn from a range."""
    x, y = torch.as_tensor(images[which]), torch.as_tensor(labels[which])
    x = x.reshape(len(x), STEPS, -1)
    drawn = np.random.default_rng(seed).integers(lengths[0], lengths[1], len(x), endpoint=True)
    length = torch.from_numpy(drawn)
    there = torch.arange(STEPS) < length[:, None]
    return Sequences(x.where(there[..., None], torch.nan), y, length)


def measure(runs: Runs, k: int, s: int, test: Sequences, settings: Mapping[str, Any]) -> dict[str, Array]:
    """Return what a finished run does on test sequences: the metrics of one seed at one rate."""
    state = runs.run(k, s)
    first, last = settings["test_lengths"]
    right = {
        statistics: (answers(runs.network, state, test.x, statistics, rows) == test.y).double()
        for statistics, rows in (("running", 500), ("batch", settings["batch_size"]))
    }
    by_length = {
        statistics: np.array([float(r[test.lengths == n].mean()) for n in range(first, last + 1)])
        for statistics, r in right.items()
    }
    offset, spread = step_moments(runs.model(k, s), test.x)
    found = {
        "accuracy": by_length["running"],
        "batch_accuracy": by_length["batch"],
        "offset": offset,
        "spread": spread,
    }
    return {name: v * np.nan for name, v in found.items()} if runs.diverged[k, s] else found


@torch.no_grad()
def answers(network: Network, state: State, x: Tensor, statistics: str, rows: int) -> Tensor:
    """Return the label that each sequence gets, in batches of ``rows``; shape (N,)."""
    with network.normalizing_by(statistics):
        return torch.cat([network.outputs(*state, part).argmax(1) for part in x.split(rows)])


@torch.no_grad()
def step_moments(model: Any, x: Tensor) -> tuple[Array, Array]:
    """Return for each step the rms over units of mean and standard deviation after the norms of ``U h``.

    Before gamma and beta, over the sequences that go on; NaN unless these norms are batch norms.
    """
    norm = model.norm
    if not isinstance(norm, StepBatchNorm1d):
        return np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    states, found = model.states(x), []
    for t in range(x.shape[1]):
        mean, var = norm.running(t)
        before = states[:, t - 1] if t else torch.zeros_like(states[:, 0])
        a = model.recurrent(before[~x[:, t, 0].isnan()])
        x_hat = (a - mean) / (var + norm.eps).sqrt()
        found.append([m.square().mean().sqrt() for m in (x_hat.mean(0), x_hat.std(0, correction=0))])
    offset, spread = (np.array(column) for column in zip(*found, strict=True))
    return offset, spread


class Chosen(NamedTuple):
    """The results of a method at one initial gamma and one rate, for S seeds, accuracies in percent.

    Attributes:
        part: its name.
        lr: the rate.
        accuracy: by running statistics, shape (S, V) for V test lengths.
        batch_accuracy: by batch statistics, likewise.
        offset, spread: for each step, shape (S, 14).
        lengths: the V test lengths.
        trained: which of these were met in training, shape (V,).
    """

    part: str
    lr: float
    accuracy: Array
    batch_accuracy: Array
    offset: Array
    spread: Array
    lengths: Array
    trained: Array

    @property
    def usual(self) -> Array:
        """Return the accuracy by running statistics, averaged over the lengths met in training; (S,)."""
        usual: Array = self.accuracy[:, self.trained].mean(1)
        return usual


def choose(record: Record, cell: str, lengths: str, method: str) -> Chosen:
    """Choose initial gamma and rate of a method: the best mean validation accuracy over all seeds.

    Args:
        record: of this experiment.
        cell: a name in ``CELLS``.
        lengths: a name in ``LENGTHS``.
        method: "none", "LN", "shared BN" or "BN".

    Raises:
        ValueError: no part is of that kind, or some run overflows at every rate.
    """
    start = part_name(cell, lengths, method)
    means = {
        (part, k): mean
        for part in record.settings
        if part == start or part.startswith(f"{start}, ")
        for k, mean in enumerate(record.metric(part, "validation_accuracy").mean(axis=0))
        if not np.isnan(mean)
    }
    if not means:
        raise ValueError(f"expected a part {start!r} with a rate at which no run overflows, got none")
    part, k = max(means, key=lambda found: means[found])
    settings = record.settings[part]
    first, last = settings["test_lengths"]
    tested = np.arange(first, last + 1)
    accuracy, batch, offset, spread = (
        record.metric(part, name)[:, k] for name in ("accuracy", "batch_accuracy", "offset", "spread")
    )
    trained = tested <= settings["train_lengths"][1]
    rate = settings["lr"][k]
    return Chosen(part, rate, 100 * accuracy, 100 * batch, offset, spread, tested, trained)
