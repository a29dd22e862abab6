r"""Train the same network with batch norm by process and over all processes, at 2 samples a process.

On one machine, with 4 processes that compute on the CPU, or on a GPU each where there are that many::

    torchrun --nproc-per-node 4 -m bnlib.lab.distributed

On several machines that are alike, run the same command on each. For 2 of 4 processes, with HOST the address
of one of them and 29500 a free port there::

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-id bn --rdzv-backend c10d \
        --rdzv-endpoint HOST:29500 -m bnlib.lab.distributed

Rank 0 prints the loss and the accuracy of each network, with an interval over the seeds; ``--steps`` and
``--seeds`` make the run shorter or longer. ``python -m bnlib.lab run across_devices`` records the same for 4
processes of one machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from bnlib.lab.batches import batch_order
from bnlib.lab.data import fashion_mnist
from bnlib.lab.models import CNN, MLP
from bnlib.torch import SyncBatchNorm, convert_sync_batchnorm

__all__ = ["NETWORKS", "PARTS", "compare", "normalize_part", "train"]

STEPS = 300
NETWORKS = {"MLP": MLP, "CNN": CNN}
PARTS: Mapping[str, Mapping[str, Any]] = {
    f"{network}, {how}": {
        "network": network,
        "shared": how == "shared",
        "samples": 2,
        "steps": STEPS,
        "lr": 0.05,
    }
    for network in NETWORKS
    for how in ("by process", "shared")
}
"""Each network with the statistics of each process, and with shared ones; ``samples`` is for a process."""


def train(
    model: nn.Module, images: Tensor, labels: Tensor, *, samples: int, steps: int, lr: float, seed: int
) -> NDArray[np.float64]:
    """Train a model on all processes of the default group by plain SGD; return the losses, shape (steps,).

    The batches are those of ``batch_order`` for the seed; each process takes its ``samples`` of every one.
    Gradients are averaged by ``DistributedDataParallel``. A loss is the mean over the whole batch.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    parallel = DistributedDataParallel(model)
    sgd = torch.optim.SGD(model.parameters(), lr)
    batches = batch_order(seed, len(images), size * samples)
    losses = torch.empty(steps, dtype=torch.float64, device=images.device)
    for step in range(steps):
        own = next(batches)[rank * samples : (rank + 1) * samples].to(images.device)
        loss = cross_entropy(parallel(images[own]), labels[own])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses[step] = loss.detach()
    dist.all_reduce(losses)
    return (losses / size).cpu().numpy()


def compare(settings: Mapping[str, Any], seeds: Sequence[int]) -> Mapping[str, Any]:
    """Train a network for each seed, on all processes of the default group.

    Args:
        settings: one of ``PARTS``; ``"dtype": "float64"`` computes in that.
        seeds: S of them.

    Returns:
        ``loss_curve``, the mean training loss of each tenth of the steps, shape (S, 10); ``train_loss``,
        that of the last one; ``test_accuracy``, by the running statistics of rank 0. The same on all ranks.
    """
    where, dtype = device(), settings.get("dtype", "float32")
    x_train, y_train, x_test, y_test = (torch.from_numpy(t).to(where) for t in fashion_mnist(dtype=dtype))
    curves, accuracies = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        model = NETWORKS[settings["network"]]().to(x_train)
        if settings["shared"]:
            convert_sync_batchnorm(model)
        how = {name: settings[name] for name in ("samples", "steps", "lr")}
        losses = train(model, x_train, y_train, seed=seed, **how)
        curves.append(losses.reshape(10, -1).mean(1))
        with torch.no_grad():
            right = (model.eval()(x_test).argmax(1) == y_test).double().mean()
        dist.broadcast(right, 0)
        accuracies.append(right.item())
    curve = np.array(curves)
    return {"loss_curve": curve, "train_loss": curve[:, -1], "test_accuracy": accuracies}


def normalize_part(
    x: NDArray[np.floating[Any]], dy: NDArray[np.floating[Any]], counts: Sequence[int]
) -> dict[str, NDArray[np.floating[Any]]]:
    """Send the part of a batch that belongs to this rank through ``SyncBatchNorm``, forward and backward.

    Args:
        x: the whole batch, shape (N, C, ...).
        dy: the gradient of the loss with respect to the output, the same shape.
        counts: how many samples each rank has; N in all.

    Returns:
        ``y`` and ``dx`` of the part; ``dgamma`` and ``dbeta``, its share; the running ``mean`` and ``var``.
    """
    own, upstream = (torch.from_numpy(t).split(list(counts))[dist.get_rank()].clone() for t in (x, dy))
    layer = SyncBatchNorm(x.shape[1], dtype=own.dtype)
    y = layer(own.requires_grad_())
    y.backward(upstream)
    found = {
        "y": y,
        "dx": own.grad,
        "dgamma": layer.weight.grad,
        "dbeta": layer.bias.grad,
        "mean": layer.running_mean,
        "var": layer.running_var,
    }
    return {name: t.detach().numpy() for name, t in found.items()}


def device() -> torch.device:
    """Return where to compute: its own GPU if each process of the machine can use one, by NCCL."""
    own, processes = (int(os.environ.get(name, "0")) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if 0 < processes <= torch.cuda.device_count() and dist.is_nccl_available():
        return torch.device("cuda", own)
    return torch.device("cpu")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what ``torchrun`` started this process for."""
    from bnlib.lab.statistics import mean_interval  # loads SciPy, which no other process waits for

    parser = argparse.ArgumentParser(prog="torchrun ... -m bnlib.lab.distributed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training, a multiple of 10")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2")
    options = parser.parse_args(arguments)
    if options.steps < 10 or options.steps % 10:
        parser.error(f"expected --steps to be a positive multiple of 10, got {options.steps}")
    if options.seeds < 2:
        parser.error(f"expected at least 2 --seeds, got {options.seeds}")
    where = device()
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        for part, settings in PARTS.items():
            found = compare({**settings, "steps": options.steps}, range(options.seeds))
            if dist.get_rank() == 0:
                loss, accuracy = (mean_interval(found[name]) for name in ("train_loss", "test_accuracy"))
                print(f"{part:<16} loss {loss:.3f}   test accuracy {accuracy:.3f}", flush=True)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
