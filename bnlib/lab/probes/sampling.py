"""The noise that a batch of few images brings into statistics and gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vmap

from bnlib.lab.network import Network, State, Tensors

__all__ = ["batch_gradients", "batch_moments", "noise"]

AT_ONCE = 16


def batch_moments(values: Tensor, batch_size: int, draws: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of random batches, drawn with replacement.

    ``Var(mean) = sigma**2 / m`` and ``E(variance) = (1 - 1/m) * sigma**2``, where ``sigma**2`` is the
    variance of the values.

    Args:
        values: shape (N, ...), one entry for each image.
        batch_size: m, at least 1.
        draws: D, number of batches.
        seed: of the draws.

    Returns:
        Means and variances, shape (D, ...) each.
    """
    batches = values[random_batches(len(values), batch_size, draws, seed)]
    return batches.mean(1), batches.var(1, correction=0)


def batch_gradients(
    network: Network, state: State, x: Tensor, y: Tensor, batch_size: int, draws: int, seed: int = 0
) -> Tensor:
    """Return the gradient of the loss of random batches, drawn with replacement, for fixed weights.

    Without batch normalization the loss is a mean over images, so the noise of the gradient falls as
    ``1 / m``.

    Args:
        network: the network, in training mode to normalize by batches.
        state: weights and buffers of one run.
        x: images, shape (N, ...).
        y: labels, shape (N,).
        batch_size: m; with batch normalization at least 2.
        draws: D, number of batches.
        seed: of the draws.

    Returns:
        All weights in one row, shape (D, P).
    """
    index = random_batches(len(x), batch_size, draws, seed)

    def gradient(buffers: Tensors, x: Tensor, y: Tensor) -> Tensor:
        found = network.gradient(state.params, buffers, x, y)
        return torch.cat([g.flatten() for g in found.values()])

    parts = []
    for some in index.split(AT_ONCE):
        buffers = {n: b.expand(len(some), *b.shape) for n, b in state.buffers.items()}
        parts.append(vmap(gradient)(buffers, x[some], y[some]))
    return torch.cat(parts)


def noise(samples: Tensor) -> Tensor:
    """Return the variance of a vector around its mean, summed over its components: an unbiased estimate.

    Args:
        samples: shape (D, ...), D at least 2.
    """
    return samples.flatten(1).var(0, correction=1).sum()


def random_batches(size: int, batch_size: int, draws: int, seed: int) -> Tensor:
    """Draw indices with replacement, shape (D, m); raise ValueError if there is nothing to draw."""
    if min(size, batch_size, draws) < 1:
        raise ValueError(f"expected images, batch size and draws above 0, got {(size, batch_size, draws)}")
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(size, (draws, batch_size), generator=generator)
