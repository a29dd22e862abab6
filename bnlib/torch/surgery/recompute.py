"""Replace the running statistics of a model by those of a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from tqdm import tqdm

from bnlib.reference import Moments, merge
from bnlib.torch.arithmetic import count, wide_dtype
from bnlib.torch.validate import check_module

__all__ = ["Recomputation", "recompute_statistics"]


class Recomputation(NamedTuple):
    """What ``recompute_statistics`` has done.

    Attributes:
        recomputed: the names of the batch norms that have new statistics.
        unreached: the names of those that no batch came to, and that are as before.
        batches: the number of batches.
        samples: the number of samples: the length along axis 0 of what the first batch norm in each batch
            was given.
    """

    recomputed: tuple[str, ...]
    unreached: tuple[str, ...]
    batches: int
    samples: int


def recompute_statistics(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], object] | None = None,
    total: int | None = None,
    progress: bool = True,
) -> Recomputation:
    """Replace all running statistics by the mean and the *unbiased* variance over all samples.

    The running statistics of training lag behind the weights; these do not. On data of another kind than that
    of training, this is AdaBN.

    During the pass, batch norms normalize by their batch, as in training, and all other modules are in
    evaluation mode. The moments of unequal batches are merged in float64, so that every value counts alike;
    those of the first batch norm are the moments of the whole data set, however it is cut into batches.
    ``num_batches_tracked`` stays as it is. If anything interrupts the pass, no statistic has changed.

    Args:
        model: any module with batch norms that track statistics. Its modes and hooks stay as they are.
        loader: any iterable of batches, which is run through once. A batch is a tensor, or a tuple or list
            that starts with one, unless ``forward`` knows what to do with it. Each batch needs more than one
            value per channel.
        forward: runs the model on a batch, ``forward(model, batch)``, without gradients. By default the model
            is called with the tensor, on the device and, if floating, in the dtype of its first parameter.
        total: the number of batches, for the progress bar; by default ``len(loader)`` where it has one.
        progress: whether to show a progress bar on stderr.

    Returns:
        The names of the layers, and the numbers of batches and samples.

    Raises:
        TypeError: ``model`` is not a module, ``loader`` is not an iterable of batches, or a batch holds no
            tensor where one is expected.
        ValueError: the model has no batch norm that tracks statistics, or a lazy one that has not seen any
            input; ``loader`` is empty; a batch has a single value per channel; a statistic is not finite.

    Source: Wu & Johnson (2021), section 3; Li et al. (2016); the merging of moments: Chan, Golub & LeVeque
    (1979).
    """
    check_module(model)
    if isinstance(loader, Tensor) or not hasattr(loader, "__iter__"):
        raise TypeError(f"expected loader to be an iterable of batches, got {type(loader).__name__}")
    layers = tracking_batch_norms(model)
    run = forward_first if forward is None else forward
    batches = samples = 0
    with normalizing_by_batch(model, layers), collecting(layers) as collected:
        for batch in tqdm(loader, "statistics", total, unit="batch", disable=not progress, ncols=79):
            collected.rows = None
            with torch.no_grad():
                run(model, batch)
            batches, samples = batches + 1, samples + (collected.rows or 0)
    if not batches:
        raise ValueError("expected loader to yield at least one batch, got none")
    moments = collected.moments
    write([pair for name, m in moments.items() for pair in new_statistics(name, layers[name], m)])
    recomputed = tuple(name for name in layers if name in moments)
    return Recomputation(recomputed, tuple(name for name in layers if name not in moments), batches, samples)


def tracking_batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms that have running statistics, by name; raise ValueError if there are none."""
    named = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    lazy = [name for name, m in named.items() if isinstance(m, LazyModuleMixin)]
    if lazy:
        raise ValueError(f"expected batch norms that have seen an input, got lazy ones: {', '.join(lazy)}")
    tracking = {name: m for name, m in named.items() if m.running_mean is not None}
    if not tracking:
        raise ValueError(
            f"expected a model with batch norms that track statistics, got {type(model).__name__} with none"
        )
    return tracking


def forward_first(model: nn.Module, batch: object) -> None:
    """Call ``model`` with the tensor that ``batch`` is or starts with."""
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(x, Tensor):
        raise TypeError(
            "expected a batch to be a tensor, or a tuple or list that starts with one, "
            f"got {type(x).__name__}; for other batches give forward"
        )
    like = next(chain(model.parameters(), model.buffers()))
    model(x.to(like.device, like.dtype if x.is_floating_point() else None))


@contextmanager
def normalizing_by_batch(model: nn.Module, layers: dict[str, _BatchNorm]) -> Iterator[None]:
    """Let ``layers`` normalize by their batch and track nothing, and all other modules evaluate."""
    modes = [(module, module.training) for module in model.modules()]
    tracking = [(layer, layer.track_running_stats) for layer in layers.values()]
    buffers = [(b, b.clone()) for layer in layers.values() for b in layer.buffers(recurse=False)]
    try:
        for module, _ in modes:
            module.training = False
        for layer in layers.values():
            layer.training, layer.track_running_stats = True, False
        yield
    finally:
        for module, training in modes:
            module.training = training
        for layer, tracks in tracking:
            layer.track_running_stats = tracks
        for buffer, before in buffers:  # a subclass may have updated them all the same
            buffer.copy_(before)


class Collected:
    """The moments of all that came to some batch norms, by their names.

    Attributes:
        moments: float64, each of shape (C,).
        rows: the length along axis 0 of the first input since it was None.
    """

    def __init__(self) -> None:
        self.moments: dict[str, Moments] = {}
        self.rows: int | None = None

    def add(self, name: str, x: Tensor) -> None:
        """Merge the moments of ``x``, of shape (N, C, ...), into those of the layer ``name``."""
        if self.rows is None:
            self.rows = len(x)
        if not x.numel():
            return
        axes = (0, *range(2, x.ndim))
        wide = x.detach().to(wide_dtype(x))
        mean = wide.mean(axes, keepdim=True)
        m2 = (wide - mean).square_().sum(axes)  # three times as fast on the CPU as torch.var_mean
        batch = Moments(count(x, axes), mean.flatten().cpu().double().numpy(), m2.cpu().double().numpy())
        self.moments[name] = merge(self.moments[name], batch) if name in self.moments else batch


@contextmanager
def collecting(layers: dict[str, _BatchNorm]) -> Iterator[Collected]:
    """Collect the moments of the input of each layer, by a hook that comes after all others."""
    collected = Collected()

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        return lambda _, args, kwargs: collected.add(name, args[0] if args else kwargs["input"])

    handles = []
    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_pre_hook(hook(name), with_kwargs=True))
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def new_statistics(name: str, layer: _BatchNorm, moments: Moments) -> list[tuple[Tensor, Tensor]]:
    """Return the running statistics of ``layer``, each with its new value; raise ValueError unless finite."""
    pairs = []
    for key, value in (("running_mean", moments.mean), ("running_var", moments.unbiased_var)):
        buffer = layer.get_buffer(key)
        new = torch.as_tensor(value).to(buffer)
        bad = new[~new.isfinite()]
        if len(bad):
            title = f"{name}.{key}".lstrip(".")
            raise ValueError(f"expected a {title} that is finite in {buffer.dtype}, got {bad[0].item()}")
        pairs.append((buffer, new))
    return pairs


def write(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Copy each second tensor to the first; if that is interrupted, put back what was there."""
    before = [(target, target.clone()) for target, _ in pairs]
    try:
        for target, value in pairs:
            target.copy_(value)
    except BaseException:
        for target, value in before:
            target.copy_(value)
        raise
