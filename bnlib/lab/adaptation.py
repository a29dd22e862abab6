"""Adapt the batch norms of a trained model to images without labels, and compare what they then see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnlib.reference.validate import check_not_negative
from bnlib.torch.surgery.copying import copy_model

__all__ = ["adapt", "disagreement"]


@torch.no_grad()
def adapt(model: nn.Module, x: Tensor, prior: float = 0.0) -> nn.Module:
    """Return a copy of a model whose running statistics are mixed with those of new images.

    ``mean = (N * old + n * new) / (N + n)``, and likewise the variance, for n images and a prior N

    Each batch norm sees what the adapted layers before it put out. With a prior of 0 the copy gives on ``x``
    what the model gives with batch statistics; with a large one it stays the model.

    Args:
        model: its batch norms have running statistics. It is not changed.
        x: new images, shape (n, ...).
        prior: N, how many images the running statistics count for.

    Returns:
        The adapted copy, in evaluation mode. Its running variances mix in the biased one of ``x``.

    Raises:
        TypeError: ``prior`` is no number.
        ValueError: ``prior`` is negative or not finite, or there are no images.

    Source: Li et al. (2016), arXiv:1603.04779, without a prior; Schneider et al. (2020), arXiv:2006.16971.
    """
    check_not_negative("prior", prior)
    if not len(x):
        raise ValueError(f"expected at least 1 image, got shape {tuple(x.shape)}")
    weight = len(x) / (len(x) + prior)
    adapted = copy_model(model).eval()

    def mix(layer: nn.Module, args: tuple[Tensor]) -> None:
        running = (layer.get_buffer("running_mean"), layer.get_buffer("running_var"))
        for old, new in zip(running, moments(args[0]), strict=True):
            old.lerp_(new, weight)

    with hooked(adapted, mix):
        adapted(x)
    return adapted


@torch.no_grad()
def disagreement(model: nn.Module, x: Tensor) -> Tensor:
    """Measure how far running statistics are from those of images, layer by layer.

    The mean over channels of ``|mean - running_mean| / running_std`` and of
    ``|log(std / running_std)|``

    Args:
        model: evaluated with running statistics; not changed.
        x: images, shape (n, ...).

    Returns:
        Shape (L, 2) for L batch norms in the order of their calls.
    """
    rows: list[Tensor] = []

    def compare(layer: nn.Module, args: tuple[Tensor]) -> None:
        mean, var = moments(args[0])
        running_mean, running_var = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
        of_mean = (mean - running_mean).abs() / running_var.sqrt()
        of_std = (var / running_var).log().abs() / 2
        rows.append(torch.stack([of_mean.mean(), of_std.mean()]))

    copied = copy_model(model).eval()
    with hooked(copied, compare):
        copied(x)
    return torch.stack(rows)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel of (N, C, ...), each of shape (C,)."""
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes, correction=0)


@contextmanager
def hooked(model: nn.Module, hook: Callable[[nn.Module, tuple[Tensor]], None]) -> Iterator[None]:
    """Call a hook before each batch norm."""
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    handles = [layer.register_forward_pre_hook(hook) for layer in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
