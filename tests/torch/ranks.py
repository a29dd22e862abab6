"""What the tests of SyncBatchNorm run on every rank: functions that other processes can import."""

import copy
import time
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from tensors import random_like
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from bnlib.torch import BatchNorm1d, SyncBatchNorm, convert_sync_batchnorm, sync_batch_norm


def whole_batch(shape, mean=0.0, dtype=torch.float64):
    """Draw x and dy of ``shape``, the channels of x scaled differently and moved to ``mean``."""
    scale = torch.arange(1, shape[1] + 1).view(1, -1, *[1] * (len(shape) - 2))
    like = torch.empty(shape, dtype=torch.float64)
    return (random_like(like) * scale + mean).to(dtype), random_like(like, 2).to(dtype)


def made(kind, channels, dtype=torch.float64, **kwargs):
    """Make a layer with weights that are not 1 and biases that are not 0."""
    layer = kind(channels, dtype=dtype, **kwargs)
    for i, p in enumerate(layer.parameters()):
        p.data = random_like(torch.empty(channels, dtype=dtype), 3 + i)
    return layer


def own_part(tensors, splits):
    """Return the rows of this rank of each tensor."""
    return [t.split(splits)[dist.get_rank()].clone() for t in tensors]


def total(t):
    """Sum over all ranks."""
    t = t.clone()
    dist.all_reduce(t)
    return t


def outcome(layer, x, dy, reduce=lambda t: t):
    """Return what a layer computes in two steps of training and one of evaluation, as arrays by name."""
    layer(x * 2 + 1)
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(dy)
    named = {"y": y, "dx": x.grad, "evaluated": layer.eval()(x)}
    named |= {f"d{name}": reduce(p.grad) for name, p in layer.named_parameters()}
    named |= dict(layer.named_buffers())
    return {name: t.detach().cpu().numpy() for name, t in named.items()}


def layer_outcome(shape, splits, mean, kwargs):
    """Return the outcome of SyncBatchNorm on this rank's part of the batch."""
    x, dy = own_part(whole_batch(shape, mean), splits)
    return outcome(made(SyncBatchNorm, shape[1], **kwargs), x, dy, total)


def layer_outcome_on_gpu(shape, splits, backend):
    """Return the outcome of SyncBatchNorm on GPUs: by NCCL one for each rank, by gloo one for all."""
    device = torch.device("cuda", dist.get_rank() if backend == "nccl" else 0)
    torch.cuda.set_device(device)
    group = dist.new_group(backend="nccl", device_id=device) if backend == "nccl" else None
    x, dy = (t.to(device) for t in own_part(whole_batch(shape, 100.0), splits))
    layer = made(SyncBatchNorm, shape[1], process_group=group).to(device)
    return outcome(layer, x, dy, lambda t: total(t.cpu()))


def in_dtype(dtype, shape, splits, mean):
    """Return output, gradient and running statistics in a dtype, as float64."""
    x, dy = own_part(whole_batch(shape, mean, dtype), splits)
    layer = SyncBatchNorm(shape[1])
    if dtype == torch.float64:
        layer.double()
    x = x.requires_grad_()
    y = layer(x)
    y.backward(dy)
    assert y.dtype == x.grad.dtype == dtype
    return [t.detach().double().numpy() for t in (y, x.grad, layer.running_mean, layer.running_var)]


def bits(shape, splits):
    """Return the running statistics of one batch as bytes."""
    (x,) = own_part(whole_batch(shape, 1e4, torch.float32)[:1], splits)
    layer = SyncBatchNorm(shape[1], momentum=1.0)
    layer(x)
    return layer.running_mean.numpy().tobytes() + layer.running_var.numpy().tobytes()


class Collectives(TorchDispatchMode):
    """Note the collectives that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.names.append(function._opname)
        return function(*args, **(kwargs or {}))


def collectives(mode, needs_gradient):
    """Return the names of the collectives of a forward and of a backward pass."""
    layer = SyncBatchNorm(3, track_running_stats=mode != "evaluation, nothing tracked")
    layer.train(not mode.startswith("evaluation"))
    if mode == "alone":
        layer.process_group = [dist.new_group([r]) for r in range(dist.get_world_size())][dist.get_rank()]
    x = torch.randn(4, 3, 5, requires_grad=needs_gradient)
    with Collectives() as forward:
        y = layer(x)
        if mode == "evaluation":
            sync_batch_norm(x, layer.running_mean, layer.running_var)
    with Collectives() as backward:
        y.sum().backward()
    return forward.names, backward.names


def half_of_the_group():
    """Return the outputs of SyncBatchNorm in groups of two of four ranks, and the whole batch."""
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    x, dy = own_part(whole_batch((8, 3)), [2, 2, 2, 2])
    layer = made(SyncBatchNorm, 3, process_group=groups[dist.get_rank() // 2])
    return outcome(copy.deepcopy(layer), x, dy)


def refused():
    """Return the messages of calls that every rank refuses, and check that the group then still works."""
    other = dist.new_group([0])
    calls = {
        "not in the group": lambda: sync_batch_norm(
            torch.ones(2, 3), None, None, training=True, process_group=other
        ),
        "one value": lambda: SyncBatchNorm(3)(torch.ones(1 - min(dist.get_rank(), 1), 3)),
        "rank": lambda: SyncBatchNorm(3)(torch.ones(3)),
        "channels": lambda: SyncBatchNorm(3)(torch.ones(2, 4)),
        "dtype": lambda: SyncBatchNorm(3)(torch.ones(2, 3).double()),
        "integers": lambda: SyncBatchNorm(3)(torch.ones(2, 3).long()),
        "eps": lambda: SyncBatchNorm(3, eps=-1.0)(torch.ones(2, 3)),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    SyncBatchNorm(3)(torch.randn(2, 3))
    return found


def second_derivative(upstream):
    """Return the error of differentiating a gradient penalty, and the gradient that led to it."""
    x = (torch.arange(6.0).view(3, 2) ** 2 + dist.get_rank()).requires_grad_()
    y = made(SyncBatchNorm, 2, torch.float32)(x)
    dy = torch.arange(6.0).view(3, 2)
    (dx,) = torch.autograd.grad(y, x, dy if upstream == "constant" else dy * x, create_graph=True)
    try:
        dx.square().sum().backward()
    except RuntimeError as error:
        return str(error)


def no_values_anywhere(shape):
    """Return shape of the output, and whether gradients are 0 and the running statistics as they were."""
    layer, x = SyncBatchNorm(3), torch.empty(shape, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    zero = x.grad.shape == x.shape and not layer.weight.grad.any() and not layer.bias.grad.any()
    return (
        tuple(y.shape),
        zero,
        torch.equal(layer.running_var, torch.ones(3)),
        layer.num_batches_tracked.item(),
    )


def with_a_nan(bad):
    """Return which channels are NaN where rank 0 has one bad value in channel 1."""
    x = torch.randn(4, 3)
    if dist.get_rank() == 0:
        x[2, 1] = bad
    return SyncBatchNorm(3)(x).isnan().any(0).tolist()


def arrive_late(seconds, backward):
    """Let the last rank wait before it calls the layer, in a group of a short time-out; return the errors."""
    group = dist.new_group(timeout=timedelta(seconds=1))
    layer, x = SyncBatchNorm(3, process_group=group), torch.randn(2, 3, requires_grad=True)
    late = dist.get_rank() == dist.get_world_size() - 1
    started = time.perf_counter()
    try:
        if late and not backward:
            time.sleep(seconds)
        y = layer(x)
        if late:
            time.sleep(seconds)
        y.sum().backward()
    except RuntimeError as error:
        return str(error), time.perf_counter() - started
    return None


def small_network(kind):
    """Make a network with three batch norms, the same at each call."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 4, 3),
        kind(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 6, 5),
        kind(5),
        nn.Sigmoid(),
        nn.Linear(5, 1),
        kind(1),
    ).double()


def train(model, batches, rows=slice(None), reduce=lambda t: t):
    """Train by SGD with momentum on the rows of batches; return the losses and the running statistics."""
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses = []
    for x, y in batches:
        sgd.zero_grad()
        loss = (model(x[rows]) - y[rows]).square().mean()
        loss.backward()
        sgd.step()
        losses.append(reduce(loss.detach()).item())
    return np.array(losses), [b.double().numpy() for b in model.buffers()]


def twenty_batches():
    """Draw 20 batches of 8 samples, the inputs far from 0, and targets that depend on them."""
    x, _ = whole_batch((160, 2, 8), 100.0)
    y = (x[:, :1, 0] - 100).sin() + 0.1 * x[:, 1:, 3]
    return list(zip(x.split(8), y.split(8), strict=True))


def train_on_all():
    """Train the network in DistributedDataParallel with shared statistics; return as ``train``."""
    size, rank = dist.get_world_size(), dist.get_rank()
    model = DistributedDataParallel(convert_sync_batchnorm(small_network(BatchNorm1d)))
    part = 8 // size
    return train(
        model, twenty_batches(), slice(rank * part, (rank + 1) * part), lambda loss: total(loss) / size
    )
