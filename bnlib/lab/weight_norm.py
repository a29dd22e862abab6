"""Weight normalization for the models of the lab, in a form that ``torch.func.vmap`` can map over."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["WeightNorm", "weight_normalized"]

Model = TypeVar("Model", bound=nn.Module)


class WeightNorm(nn.Module):
    """A parametrization ``w = g * v / ||v||``, one length for each unit.

    ``torch.nn.utils.parametrizations.weight_norm`` computes the same, but has no rule for ``vmap``.

    Source: Salimans & Kingma (2016), arXiv:1602.07868.
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Return the weight, of the shape of ``v``, (C, ...), from the lengths ``g``, (C,)."""
        factor = g / v.flatten(1).norm(dim=1)
        w: Tensor = v * factor.view(-1, *[1] * (v.ndim - 1))
        return w

    def right_inverse(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lengths of the weight vectors, and the vectors themselves as directions."""
        return w.flatten(1).norm(dim=1), w


def weight_normalized(model: Model) -> Model:
    """Give every linear map and convolution of a model weight normalization, but those of its ``head``.

    The model computes what it did before: each ``g`` starts as the length of its weight vector. The method's
    own start, from the statistics of a first batch, is not used.

    Args:
        model: changed in place, and returned.

    Raises:
        ValueError: there is nothing to normalize.
    """
    chosen = [
        module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and name.partition(".")[0] != "head"
    ]
    if not chosen:
        raise ValueError(f"expected linear maps or convolutions before the head, got {model}")
    for module in chosen:
        parametrize.register_parametrization(module, "weight", WeightNorm())
    return model
