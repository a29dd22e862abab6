"""Which images and which noise a run sees at each step: a matter of its seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bnlib.lab.noise import NoiseLayer

__all__ = ["Noise", "Order", "batch_order", "noise_generator", "order_by_class", "sorted_in_batches"]

Order = Callable[[int, int, int], Iterator[Tensor]]
"""Given a seed, the number of images and the batch size, yields the indices of the batches, without end."""


def batch_order(seed: int, size: int, batch_size: int) -> Iterator[Tensor]:
    """Yield the indices of one batch after the other, without end.

    Each epoch is a new permutation of all images, drawn by a generator that starts at ``seed``; what is left
    over after the last whole batch is skipped.

    Args:
        seed: of the run.
        size: number of images.
        batch_size: B, at most ``size``.

    Yields:
        Integers 0 to ``size - 1``, shape (B,).

    Raises:
        ValueError: ``batch_size`` is below 1 or above ``size``.
    """
    if not 1 <= batch_size <= size:
        raise ValueError(f"expected a batch size from 1 to {size}, got {batch_size}")
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(size, generator=generator)
        yield from order[: size // batch_size * batch_size].view(-1, batch_size)


def order_by_class(labels: Tensor, classes: int) -> Order:
    """Return an order like ``batch_order`` whose batches hold a few classes each.

    Each epoch shuffles the images, deals out every class in blocks of ``batch_size / classes`` images,
    shuffles the blocks, and joins ``classes`` blocks to a batch. Two of them may be of one class. So every
    image comes once in an epoch, but for what is left over. With ``classes`` equal to the batch size, blocks
    of one image, this is a plain shuffle.

    Args:
        labels: of all images, shape (N,).
        classes: number of blocks in a batch, which divides the batch size.

    Raises:
        ValueError: as ``batch_order``; ``classes`` does not divide the batch size, or the order is asked for
            another number of images than there are labels.
    """

    def order(seed: int, size: int, batch_size: int) -> Iterator[Tensor]:
        if size != len(labels):
            raise ValueError(f"expected as many images as labels, {len(labels)}, got {size}")
        if not (1 <= classes <= batch_size <= size and batch_size % classes == 0):
            got = f"{classes} and {batch_size}"
            raise ValueError(f"expected classes that divide a batch size of at most {size}, got {got}")
        generator, block = torch.Generator().manual_seed(seed), batch_size // classes
        while True:
            shuffled = torch.randperm(size, generator=generator)
            by_label = shuffled[torch.argsort(labels[shuffled], stable=True)]
            blocks = by_label[: size // block * block].view(-1, block)
            mixed = blocks[torch.randperm(len(blocks), generator=generator)]
            yield from mixed[: len(blocks) // classes * classes].view(-1, batch_size)

    return order


def sorted_in_batches(labels: Tensor) -> Order:
    """Return the order of ``batch_order``, each batch sorted by class: neighbours in a batch are alike.

    Args:
        labels: of all images, shape (N,).
    """

    def order(seed: int, size: int, batch_size: int) -> Iterator[Tensor]:
        for index in batch_order(seed, size, batch_size):
            yield index[torch.argsort(labels[index], stable=True)]

    return order


def noise_generator(seed: int) -> torch.Generator:
    """Return the generator of a run's noise, which is unlike the one of its batches."""
    (state,) = np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


class Noise:
    """Draws what the noise layers of a model need at each step, one generator for each seed.

    Args:
        model: in training mode; one forward pass tells the shapes.
        seeds: S of them.
        x: a batch of the shape that all steps have.
    """

    def __init__(self, model: nn.Module, seeds: Sequence[int], x: Tensor) -> None:
        self.layers = {n: m for n, m in model.named_modules() if isinstance(m, NoiseLayer)}
        self.generators = [noise_generator(seed) for seed in seeds]
        if self.layers:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                model(x)

    def draw(self, repeat: int) -> dict[str, Tensor]:
        """Return the buffers ``draws`` of all layers, for S seeds in turn, ``repeat`` times."""
        drawn: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        for generator in self.generators:
            for name, layer in self.layers.items():
                assert layer.seen is not None
                drawn[name].append(layer.draw(layer.seen, generator))
        return {f"{name}.draws": torch.stack(d * repeat) for name, d in drawn.items()}
