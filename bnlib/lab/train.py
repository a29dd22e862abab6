"""Train many small networks at once: all seeds and settings in one batched computation.

The weights of all runs are stacked; ``torch.func.vmap`` maps the network's loss over them, and one backward
pass through the sum of the losses gives every run its own gradient, since no run's loss depends on another's
weights. So a step costs the calls of one network, and fills the processor with the arithmetic of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from bnlib.lab.batches import Noise, Order, batch_order
from bnlib.lab.ensemble import Data, Ensemble, as_tensors, evaluation
from bnlib.lab.network import Loss, Network, State, Tensors
from bnlib.lab.runs import Runs, Settings, Which
from bnlib.lab.sgd import SGD, Schedule, constant

__all__ = ["Moment", "Probe", "train"]


class Moment(NamedTuple):
    """What a probe sees of one run at one step.

    Attributes:
        params: the weights before the step.
        buffers: the buffers before the step, with the noise of the step.
        x: the images of the step, shape (B, ...).
        y: their labels, shape (B,).
        gradient: of the loss with respect to each weight, without weight decay.
        next_params: the weights after the step.
        lr: the learning rate of the step, a number.
    """

    params: Tensors
    buffers: Tensors
    x: Tensor
    y: Tensor
    gradient: Tensors
    next_params: Tensors
    lr: Tensor


Probe = Callable[[Network, Moment], Any]
"""A function of one run, which is mapped over all runs; it returns a tensor of any shape."""


def train(
    make_model: Callable[[], nn.Module],
    data: Sequence[Any],
    *,
    steps: int,
    batch_size: int = 64,
    seeds: Sequence[int] = range(5),
    settings: Sequence[Settings] = (Settings(),),
    schedule: Schedule = constant,
    loss: Loss = cross_entropy,
    order: Order = batch_order,
    evaluate_at: Sequence[int] | None = None,
    evaluate: Sequence[Which] = (("test", "running"),),
    probes: Mapping[str, Probe] | None = None,
    probe_at: Sequence[int] = (),
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
    description: str | None = None,
) -> Runs:
    """Train one network for each of K settings and S seeds, all at once.

    The seed of a run determines its initial weights, its batches and its noise, whatever its settings are,
    so that runs of one seed can be compared in pairs. Each run follows, step by step, what a plain loop over
    ``order`` with ``torch.optim.SGD`` does. Where a run's loss is no longer finite, that is recorded,
    and the other runs go on as they would without it.

    Args:
        make_model: makes the module, the same but for its random initial weights at each call. Its random
            layers, if any, must be those of ``bnlib.lab.noise``.
        data: x_train, y_train, x_test and y_test, as from ``bnlib.lab.data``.
        steps: T.
        batch_size: B.
        seeds: S integers, each 0 or more.
        settings: K of them; ``grid`` makes them.
        schedule: factor of the learning rate, given step and T, such as those of ``bnlib.lab.sgd``.
        loss: a function of outputs and labels, averaged over the batch.
        order: which images each batch of a seed holds.
        evaluate_at: numbers of steps, 0 to T; None evaluates at the end only.
        evaluate: which images and statistics to evaluate with. ``"running"`` uses the running statistics,
            ``"batch"`` those of batches of B images, taken in their order.
        probes: functions of a network and a ``Moment``.
        probe_at: the steps to probe at, 0 to T - 1.
        dtype: of weights and images.
        device: to train on.
        progress: whether to show a bar on standard error; None shows it on a terminal only.
        description: a word before the bar.

    Returns:
        The losses, evaluations and probes of all runs, and their final weights.

    Raises:
        ValueError: a number or a step is out of range, or the data do not fit together.
    """
    tensors = as_tensors(data, dtype, torch.device(device))
    evaluate_at = sorted({steps} if evaluate_at is None else set(evaluate_at))
    check(steps, seeds, settings, evaluate, evaluate_at, probe_at)
    ensemble = Ensemble(make_model, settings, seeds, loss, dtype, torch.device(device))
    training = Training(ensemble, tensors, steps, batch_size, schedule, probes or {}, order)
    evaluations: list[list[tuple[Tensor, Tensor]]] = []
    probed: list[Tensors] = []
    probing = set(probe_at)
    with tqdm(
        total=steps, desc=description, leave=False, disable=None if progress is None else not progress
    ) as bar:
        for step in range(steps + 1):
            if step in evaluate_at:
                evaluations.append([evaluation(ensemble, tensors, which, batch_size) for which in evaluate])
            if step < steps:
                found = training.step(step, probe=step in probing)
                probed += [found] if step in probing else []
                bar.update()
    return collect(
        training, evaluate_at, evaluate if evaluate_at else (), evaluations, sorted(probing), probed
    )


class Training:
    """The loop's body: batches, gradients, steps and probes of all runs."""

    def __init__(
        self,
        ensemble: Ensemble,
        data: Data,
        steps: int,
        batch_size: int,
        schedule: Schedule,
        probes: Mapping[str, Probe],
        order: Order,
    ) -> None:
        self.ensemble, self.data, self.schedule, self.probes = ensemble, data, schedule, probes
        model = ensemble.network.model.train()
        self.batches = [order(seed, len(data.x_train), batch_size) for seed in ensemble.seeds]
        self.noise = Noise(model, ensemble.seeds, data.x_train[:batch_size].cpu())
        self.params = list(ensemble.params.values())
        self.optimizer = SGD(self.params, ensemble.runs)
        dtype, device = self.params[0].dtype, ensemble.device
        self.lr = torch.tensor([s.lr for s in ensemble.runs], dtype=dtype, device=device)
        self.losses = torch.empty(steps, len(self.lr), dtype=dtype, device=device)
        network = ensemble.network
        self.loss = vmap(lambda *args: network.batch_loss(*args, update=True))

    def batch(self) -> tuple[Tensor, Tensor]:
        """Gather the next batch of every run: images (R, B, ...), labels (R, B)."""
        index = torch.stack([next(b) for b in self.batches]).repeat(len(self.ensemble.settings), 1)
        flat = index.flatten().to(self.ensemble.device)
        x, y = self.data.x_train, self.data.y_train
        return (
            x.index_select(0, flat).view(*index.shape, *x.shape[1:]),
            y.index_select(0, flat).view(*index.shape, *y.shape[1:]),
        )

    def step(self, step: int, probe: bool) -> Tensors:
        """Do one step of all runs; return what the probes found, tensors (R, ...)."""
        e = self.ensemble
        x, y = self.batch()
        draws = self.noise.draw(len(e.settings))
        buffers = {**e.buffers, **{n: d.to(e.device) for n, d in draws.items()}}
        before = State(copied(e.params), copied(buffers)) if probe else None
        losses = self.loss(e.params, buffers, x, y)
        gradients = torch.autograd.grad(losses.sum(), self.params)
        factor = self.schedule(step, len(self.losses))
        self.optimizer.step(gradients, factor)
        self.losses[step] = losses.detach()
        if before is None:
            return {}
        after = {n: p.detach() for n, p in e.params.items()}
        gradient = dict(zip(e.params, gradients, strict=True))
        moment = Moment(before.params, before.buffers, x, y, gradient, after, factor * self.lr)
        return {name: vmap(partial(p, e.network))(moment) for name, p in self.probes.items()}


def copied(tensors: Tensors) -> Tensors:
    """Return copies that no gradient flows through."""
    return {name: t.detach().clone() for name, t in tensors.items()}


def collect(
    training: Training,
    evaluated_at: Sequence[int],
    which: Sequence[Which],
    evaluations: list[list[tuple[Tensor, Tensor]]],
    probed_at: Sequence[int],
    probed: list[Tensors],
) -> Runs:
    """Put together what the runs recorded."""
    e = training.ensemble

    def array(t: Tensor) -> NDArray[Any]:
        return e.by_run(t).cpu().numpy()

    which = which if evaluations else ()
    losses, accuracies = (
        {w: array(torch.stack([at[i][j] for at in evaluations], 1)) for i, w in enumerate(which)}
        for j in range(2)
    )
    return Runs(
        settings=e.settings,
        seeds=e.seeds,
        train_loss=array(training.losses.T),
        diverged_at=array(first_not_finite(training.losses, training.params)),
        evaluated_at=np.array(evaluated_at, dtype=np.int64),
        loss=losses,
        accuracy=accuracies,
        probed_at=np.array(probed_at, dtype=np.int64),
        probes={n: array(torch.stack([p[n] for p in probed], 1)) for n in training.probes} if probed else {},
        state=State(
            {n: e.by_run(t) for n, t in e.params.items()}, {n: e.by_run(t) for n, t in e.buffers.items()}
        ),
        network=e.network,
    )


def first_not_finite(losses: Tensor, params: Sequence[Tensor]) -> Tensor:
    """Return for each run the first step with a loss that is not finite, T for such weights, or else -1."""
    weights = torch.stack([p.detach().flatten(1).isfinite().all(1) for p in params]).all(0)
    bad = torch.cat([~losses.isfinite(), ~weights[None]])
    first = bad.int().argmax(0)
    return first.where(bad.any(0), -1)


def check(
    steps: int,
    seeds: Sequence[int],
    settings: Sequence[Settings],
    evaluate: Sequence[Which],
    evaluate_at: Sequence[int],
    probe_at: Sequence[int],
) -> None:
    """Raise ValueError if there is nothing to train, or a step is out of range."""
    if steps < 1:
        raise ValueError(f"expected steps of at least 1, got {steps}")
    if not seeds or not settings:
        raise ValueError(f"expected seeds and settings, got {len(seeds)} and {len(settings)}")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"expected different seeds of at least 0, got {tuple(seeds)}")
    for name, at, last in (("evaluate_at", evaluate_at, steps), ("probe_at", probe_at, steps - 1)):
        if any(not 0 <= step <= last for step in at):
            raise ValueError(f"expected {name} from 0 to {last}, got {tuple(at)}")
    for part, statistics in evaluate:
        if part not in ("train", "test") or statistics not in ("running", "batch"):
            raise ValueError(
                f"expected 'train' or 'test' with 'running' or 'batch', got {(part, statistics)}"
            )
