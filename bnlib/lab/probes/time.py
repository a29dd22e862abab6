"""How the gradient changes from step to step of a recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor

from bnlib.lab.recurrent import RNN

__all__ = ["state_gradients"]


def state_gradients(model: RNN, x: Tensor, seed: int = 0) -> Tensor:
    """Return the squared norm of the gradient of a random linear function of the last state, by each state.

    Args:
        model: of plain cells; in training mode it normalizes by the batch ``x``.
        x: sequences of one length, shape (N, T, inputs).
        seed: of the function's coefficients, which are standard normal.

    Returns:
        Shape (T,), from the first state to the last.
    """
    h = torch.zeros(len(x), model.recurrent.in_features, dtype=x.dtype)
    states = []
    for t, driven in enumerate(model.input(x).unbind(1)):
        h, _ = model.advance(t, driven, (h, h), None)
        states.append(h)
    end = torch.randn(h.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    gradients = torch.autograd.grad((h * end).sum(), states)
    return torch.stack([g.square().sum() for g in gradients])
