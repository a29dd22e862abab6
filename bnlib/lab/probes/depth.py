"""How signal and gradient change from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bnlib.lab.network import Network, State
from bnlib.lab.probes.places import activation_gradients, activations, block_names
from bnlib.lab.train import Moment

__all__ = ["gradient_norms", "rank_bound", "residual_share", "soft_rank"]


def gradient_norms(network: Network, moment: Moment, names: Sequence[str] | None = None) -> Tensor:
    """Return the squared norm of the gradient with respect to the output of each block, from input to output.

    With batch normalization at initialization it grows from each block to the one below by
    ``pi / (pi - 1) = 1.467`` for ReLU and a large batch, by ``(B - 2) / (B - 3)`` for linear blocks.

    Args:
        network: the network.
        moment: the step; the weights before it count.
        names: of L modules; None is all blocks.

    Returns:
        Shape (L,).

    Source: Yang et al. (2019), "A mean field theory of batch normalization", arXiv:1902.08129.
    """
    found = activation_gradients(network, moment.params, moment.buffers, moment.x, moment.y, names)
    return torch.stack([g.square().sum() for g in found.values()])


def residual_share(network: Network, state: State, x: Tensor) -> Tensor:
    """Return which share of the variance of a block's output its residual branch brings.

    ``sum_j(Var(branch_j)) / sum_j(Var(output_j))``, variances over the batch, summed over the units j. Where
    the branch of every block brings as much as the input of the first block has, the share of block l, from
    1 on, is about ``1 / (l + 1)``.

    Args:
        network: of a model whose blocks have a ``branch``.
        state: weights and buffers.
        x: shape (N, ...).

    Returns:
        Shape (L,).

    Source: De & Smith (2020), arXiv:2002.10444.
    """
    blocks = block_names(network)
    branches = [f"{name}.branch" for name in blocks]
    found = activations(network, *state, x, [*blocks, *branches])

    def variance(name: str) -> Tensor:
        return found[name].var(0, correction=0).sum()

    pairs = zip(branches, blocks, strict=True)
    return torch.stack([variance(branch) / variance(block) for branch, block in pairs])


def soft_rank(h: Tensor, threshold: float = 0.1) -> Tensor:
    """Count the directions in which a representation has a mean square of at least ``threshold``.

    ``#{i : s_i**2 / N >= threshold}``, with s the singular values of ``h``

    Args:
        h: representation, shape (N, C), not centred.
        threshold: tau, above 0.

    Returns:
        An integer from 0 to ``min(N, C)``.

    Source: after Daneshmand et al. (2020), arXiv:2003.01652.
    """
    squares: Tensor = torch.linalg.svdvals(h).square()
    return (squares / len(h) >= threshold).sum()


def rank_bound(h: Tensor) -> Tensor:
    """Return a lower bound of the rank that changes smoothly, and does not depend on the scale of ``h``.

    ``sum_i(s_i**2)**2 / sum_i(s_i**4)``, with s the singular values: n for n equal ones, 1 for a single one

    Args:
        h: representation, shape (N, C), not centred.

    Source: after Daneshmand et al. (2020), arXiv:2003.01652.
    """
    squares: Tensor = torch.linalg.svdvals(h).square()
    return squares.sum().square() / squares.square().sum()
