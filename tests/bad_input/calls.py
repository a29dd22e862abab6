"""One good call of every public function, to be spoiled an argument at a time."""

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import bnlib.torch
from bnlib import reference
from bnlib.lab import statistics
from bnlib.torch import surgery

N, C, H, W = 6, 4, 3, 5


class Call(NamedTuple):
    """A function and arguments that it takes, made anew for each call."""

    function: Callable[..., Any]
    arguments: Callable[[], dict[str, Any]]


def array(*shape: int, positive: bool = False) -> np.ndarray:
    """Return the same random array for the same shape."""
    x = np.random.default_rng(sum(shape)).standard_normal(shape)
    return np.abs(x) + 0.5 if positive else x


def tensor(*shape: int, positive: bool = False) -> torch.Tensor:
    """Return ``array`` as a tensor."""
    return torch.from_numpy(array(*shape, positive=positive))


def made(**arguments: Any) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the arguments: what can be called makes one, the rest is constant."""
    return lambda: {k: v() if callable(v) else v for k, v in arguments.items()}


def in_arrays() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return arguments for ``bnlib.reference``."""
    x, channel = partial(array, N, C, H, W), partial(array, C)
    positive = partial(array, C, positive=True)
    column, rows = partial(array, N), partial(array, N, C)
    affine = {"weight": channel, "bias": channel, "eps": 1e-5}
    backward = {"dy": partial(array, N, C, H, W), "x": x, "weight": channel, "eps": 1e-5}
    running = {"mean": channel, "var": positive}
    renorm = {"running_mean": channel, "running_var": positive}
    bounds = {"r_max": 3.0, "d_max": 5.0}
    last = {"weight": partial(array, W), "axes": (-1,), "eps": 1e-5}
    one = {"weight": 1.5, "eps": 1e-5}
    broad = {"weight": partial(array, 1, C, 1, 1), "eps": 1e-5, "center": True}
    moments = partial(reference.moments, array(N, C), 0)
    part = partial(lambda: reference.Moments(N, *(m * s for m, s in zip(moments(), (1, N), strict=True))))
    statistics = partial(lambda: reference.RunningStatistics(array(C), array(C, positive=True)))
    return {
        "batch_norm": made(x=x, **affine),
        "batch_norm_axes": made(ndim=4),
        "batch_norm_backward": made(**backward),
        "batch_norm_backward_by_graph": made(**backward),
        "batch_norm_backward_detached": made(**backward),
        "batch_norm_inference": made(x=x, **running, **affine),
        "batch_norm_inference_backward": made(**backward, **running),
        "batch_renorm": made(x=x, **renorm, **affine, **bounds),
        "batch_renorm_backward": made(**backward, **renorm, **bounds),
        "center": made(x=x, axes=(0, 2, 3)),
        "count_ghost_batches": made(num_samples=6, ghost_batch_size=2),
        "ghost_batch_norm": made(x=x, ghost_batch_size=2, **affine),
        "ghost_batch_norm_backward": made(**backward, ghost_batch_size=2),
        "ghost_batches": made(num_samples=6, ghost_batch_size=2),
        "group_norm": made(x=x, num_groups=2, **affine),
        "group_norm_backward": made(**backward, num_groups=2),
        "hessian_vector_product": made(x=column, dy=column, v=column, **one),
        "instance_norm": made(x=x, **affine),
        "instance_norm_backward": made(**backward),
        "jacobian": made(x=column, **one),
        "jvp": made(x=column, v=column, **one),
        "linear_growth": made(batch_size=8),
        "relu_growth": made(batch_size=8),
        "layer_norm": made(x=x, bias=partial(array, W), **last),
        "layer_norm_backward": made(dy=x, x=x, **last),
        "merge": made(a=part, b=part),
        "merge_all": lambda: {"parts": [part(), part()]},
        "moments": made(x=x, axes=(0, 2, 3), unbiased=True),
        "normalize": made(x=x, axes=(0, 2, 3), bias=partial(array, 1, C, 1, 1), **broad),
        "normalize_backward": made(dy=x, x=x, axes=(0, 2, 3), **broad),
        "normalize_double_backward": made(ddx=x, dy=x, x=x, axes=(0, 2, 3), **broad),
        "one_pass_moments": made(x=x, axes=(0, 2, 3)),
        "projector": made(x=column),
        "renorm_correction": made(x=x, **renorm, **bounds, eps=1e-5),
        "rms_norm": made(x=x, **last),
        "rms_norm_backward": made(dy=x, x=x, **last),
        "shifted_one_pass_moments": made(x=x, axes=(0, 2, 3), shift=0.5),
        "softmax_cross_entropy": lambda: {"logits": rows(), "labels": np.arange(N) % C},
        "two_pass_moments": made(x=x, axes=(0, 2, 3)),
        "update_by_ghost_batches": made(running=statistics, x=rows, ghost_batch_size=2, momentum=0.1),
        "update_renorm": made(running=statistics, x=rows, momentum=0.1, eps=1e-5),
        "update_running": made(running=channel, batch=channel, momentum=0.1, convention="new"),
        "vjp": made(x=column, dy=column, **one),
        "weight_norm": made(v=rows, g=column),
        "weight_norm_backward": made(dw=rows, v=rows, g=column),
        "welford": made(values=rows, initial=part),
    }


def in_tensors() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return arguments for the functions of ``bnlib.torch``."""
    x, channel = partial(tensor, N, C, H, W), partial(tensor, C)
    running = {"running_mean": channel, "running_var": partial(tensor, C, positive=True)}
    affine = {"weight": channel, "bias": channel, "eps": 1e-5}
    moving = {"input": x, **running, "training": True, "momentum": 0.1, **affine}
    own = {name: value for name, value in moving.items() if name != "training"}
    return {
        "batch_norm": made(**moving),
        "batch_norm_act": made(**moving, residual=x),
        "sync_batch_norm": made(**moving),
        "batch_renorm": made(**moving, r_max=3.0, d_max=5.0),
        "ghost_batch_norm": made(**moving, ghost_batch_size=2),
        "group_norm": made(input=x, num_groups=2, **affine),
        "instance_norm": made(**own, use_input_stats=True),
        "layer_norm": made(
            input=x, normalized_shape=(W,), weight=partial(tensor, W), bias=partial(tensor, W), eps=1e-5
        ),
        "rms_norm": made(input=x, normalized_shape=(W,), weight=partial(tensor, W), eps=1e-5),
    }


def model() -> nn.Module:
    """Return a model with a batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(C, 3), nn.BatchNorm1d(3)).double().eval()


def of_models() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return arguments for the functions of ``bnlib.torch.surgery``."""
    batches = partial(lambda: [tensor(N, C)])
    return {
        "convert": lambda: {"model": model(), "to": "bnlib", "inplace": False},
        "fold_batch_norm": lambda: {"model": model(), "example_input": tensor(N, C), "tolerance": 1e-5},
        "recompute_statistics": lambda: {"model": model(), "loader": batches(), "progress": False},
    }


def of_results() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return arguments for the functions of ``bnlib.lab.statistics``."""
    return {
        "mean_interval": made(values=partial(array, N)),
        "bootstrap_interval": made(values=partial(array, N)),
        "paired_difference": made(first=partial(array, N), second=partial(array, N)),
        "paired_ratio": made(first=partial(array, N, positive=True), second=partial(array, N, positive=True)),
    }


TABLE: dict[ModuleType, dict[str, Callable[[], dict[str, Any]]]] = {
    reference: in_arrays(),
    bnlib.torch: in_tensors() | {"convert_sync_batchnorm": lambda: {"module": model()}},
    surgery: of_models(),
    statistics: of_results(),
}

# What takes functions, and what only builds: `test_gradcheck.py` and `test_network.py` try these.
ELSEWHERE = {"central_difference", "complex_step", "check_gradient"}


def calls() -> Iterator[tuple[str, Call]]:
    """Yield the calls by the full name of the function."""
    for module, functions in TABLE.items():
        for name, arguments in functions.items():
            yield f"{module.__name__}.{name}", Call(getattr(module, name), arguments)


CALLS = dict(calls())
