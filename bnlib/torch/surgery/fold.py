"""Fold batch norms of evaluation into the layers before them: the same outputs from fewer layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.batchnorm import _BatchNorm

from bnlib.reference.validate import check_not_negative
from bnlib.torch.arithmetic import wide_dtype
from bnlib.torch.surgery.copying import copy_model
from bnlib.torch.surgery.obstacles import Layer, ObstacleError, find_pair
from bnlib.torch.validate import check_module

__all__ = ["Fold", "Folding", "Refusal", "fold_batch_norm"]

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}


class Fold(NamedTuple):
    """A batch norm that is no more, and the layer that does its work.

    Attributes:
        batch_norm: the name that the batch norm had in the model.
        layer: the name of the layer, which has a new weight and bias.
    """

    batch_norm: str
    layer: str


class Refusal(NamedTuple):
    """A batch norm that ``fold_batch_norm`` kept.

    Attributes:
        batch_norm: its name in the model.
        reason: why it cannot be folded.
    """

    batch_norm: str
    reason: str


class Folding(NamedTuple):
    """What ``fold_batch_norm`` returns; printed, it lists what was folded and what was not.

    Attributes:
        model: the folded model.
        folded: the batch norms that were folded, in the order of their calls.
        refused: those that were not, in the same order; those that are never called come last.
    """

    model: fx.GraphModule
    folded: tuple[Fold, ...]
    refused: tuple[Refusal, ...]

    def __repr__(self) -> str:
        lines = [f"{len(self.folded)} folded"]
        lines += [f"  {f.batch_norm} into {f.layer}" for f in self.folded]
        if self.refused:
            lines += [f"{len(self.refused)} refused"]
            lines += [f"  {r.batch_norm}: {r.reason}" for r in self.refused]
        return "\n".join(lines)


def fold_batch_norm(
    model: nn.Module,
    example_input: Tensor | tuple[Any, ...] | None = None,
    *,
    tolerance: float | None = None,
) -> Folding:
    """Fold each batch norm in evaluation mode into the ``Linear``, ``Conv`` or ``ConvTranspose`` before it.

    ``weight' = s * weight``, ``bias' = s * (bias - running_mean) + beta``,
    ``s = gamma / sqrt(running_var + eps)``, by output channel, in float64

    In exact arithmetic the outputs are equal. In the dtype of the layer they differ by rounding: by some
    ``u * |running_mean| / sqrt(running_var + eps)``, where u is its unit roundoff, since the mean is then
    subtracted after the product and not before.

    A batch norm that cannot be folded stays, with the reason. It has to be in evaluation mode, with running
    statistics, and neither it nor the layer may have hooks, computed parameters or a second use. The channels
    have to be axis 1 of the layer's output: without ``example_input``, a ``BatchNorm1d`` after ``Linear`` is
    taken to get (N, C), and one after ``Conv1d`` (N, C, L).

    Args:
        model: a module that ``torch.fx`` can trace, in the mode that it is to stay in. It is not changed.
        example_input: the argument of ``model``, or a tuple of its arguments. With it, the number of axes
            is looked up, and the floating outputs before and after are compared.
        tolerance: the largest difference of the outputs, relative to their largest value or to 1 if that is
            larger. None is 1e-10 for float64, 1e-5 for float32, 1e-2 for float16, 1e-1 for bfloat16.

    Returns:
        The folded copy, a ``torch.fx.GraphModule`` of the modules that ``model`` calls, by the same names;
        what was folded; and what was not.

    Raises:
        TypeError: ``model`` is not a module; ``example_input`` is neither a tensor nor a tuple; ``tolerance``
            is no number.
        ValueError: ``model`` is itself a batch norm, has hooks of its own, cannot be traced, or fails for
            ``example_input``; ``tolerance`` is negative or not finite.
        RuntimeError: the outputs for ``example_input`` differ by more than ``tolerance``.

    Source: Jacob et al. (2017), section 3.2; chapters 6 and 7 of this course.
    """
    check_module(model)
    if tolerance is not None:
        check_not_negative("tolerance", tolerance)
    args = None if example_input is None else as_arguments(example_input)
    root = copy_model(model)
    graph = trace(root)
    if args is not None:
        try:
            before = run(model, args)
        except Exception as error:
            raise ValueError(
                f"expected example_input that model takes, got an error from it: {error}"
            ) from error
        store_shapes(root, graph, args)
    folded, refused = fold_all(root, graph)
    result = fx.GraphModule(root, graph, type(model).__name__)
    for name, module in result.named_modules():
        module.training = root.get_submodule(name).training
    if args is not None:
        compare(before, run(result, args), tolerance)
    return Folding(result, folded, refused)


def as_arguments(example_input: object) -> tuple[Any, ...]:
    """Return the arguments of the model; raise TypeError if there is neither one nor a tuple of them."""
    if isinstance(example_input, tuple):
        return example_input
    if not isinstance(example_input, Tensor):
        got = type(example_input).__name__
        raise TypeError(f"expected example_input to be a tensor or a tuple of arguments, got {got}")
    return (example_input,)


class BatchNormTracer(fx.Tracer):
    """A tracer that does not look into batch norms, whichever package they come from."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether the graph holds a call of ``m`` rather than what it does."""
        return isinstance(m, _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def trace(root: nn.Module) -> fx.Graph:
    """Return the graph of ``root``; raise ValueError if it has none."""
    name = type(root).__name__
    if isinstance(root, _BatchNorm):
        raise ValueError(f"expected a model with layers before its batch norms, got {name} alone")
    if root._forward_hooks or root._forward_pre_hooks:
        raise ValueError(f"expected a model without hooks of its own, which a graph leaves out, got {name}")
    try:
        return BatchNormTracer().trace(root)
    except Exception as error:  # whatever the model's own code raises when it is given no numbers
        raise ValueError(
            f"expected a model that torch.fx can trace, got {name}: {type(error).__name__}: {error}"
        ) from error


def fold_all(root: nn.Module, graph: fx.Graph) -> tuple[tuple[Fold, ...], tuple[Refusal, ...]]:
    """Fold what can be folded, in ``root`` and its ``graph``, in the order of the calls."""
    names = {name: None for name, module in root.named_modules() if isinstance(module, _BatchNorm)}
    called = [str(node.target) for node in graph.nodes if node.op == "call_module" and node.target in names]
    folded, refused = [], []
    for name in dict.fromkeys([*called, *names]):
        try:
            pair = find_pair(root, graph, name)
            weight, bias = folded_parameters(pair.layer, pair.batch_norm)
        except ObstacleError as obstacle:
            refused.append(Refusal(name, str(obstacle)))
            continue
        # New ones: other modules may share the old.
        pair.layer.weight, pair.layer.bias = weight, bias
        pair.call.replace_all_uses_with(pair.layer_call)
        graph.erase_node(pair.call)
        folded.append(Fold(name, str(pair.layer_call.target)))
    return tuple(folded), tuple(refused)


def folded_parameters(layer: Layer, batch_norm: _BatchNorm) -> tuple[nn.Parameter, nn.Parameter]:
    """Return the weight and bias of both together; raise ObstacleError if their dtype cannot hold them."""
    old, old_bias = layer.weight, layer.bias

    def widen(t: Tensor | None, default: float) -> Tensor:
        t = torch.full((batch_norm.num_features,), default) if t is None else t.detach()
        return t.to(old.device, wide_dtype(old))

    mean, var = widen(batch_norm.running_mean, 0), widen(batch_norm.running_var, 1)
    gamma, beta, bias = widen(batch_norm.weight, 1), widen(batch_norm.bias, 0), widen(old_bias, 0)
    scale = gamma * torch.rsqrt(var + batch_norm.eps)
    weight = scale_channels(layer, widen(old, 0), scale).to(old.dtype)
    bias = (scale * (bias - mean) + beta).to(old.dtype)
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise ObstacleError(f"the folded weight or bias is not finite in {old.dtype}")
    learned = old.requires_grad if old_bias is None else old_bias.requires_grad
    return nn.Parameter(weight, old.requires_grad), nn.Parameter(bias, learned)


def scale_channels(layer: Layer, weight: Tensor, scale: Tensor) -> Tensor:
    """Multiply each output channel of ``weight`` by its number in ``scale``, of shape (C,)."""
    rest = [1] * (weight.ndim - 2)
    if not isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return weight * scale.view(-1, 1, *rest)
    inputs = weight.shape[0] // layer.groups
    by_group = scale.view(layer.groups, 1, -1).expand(-1, inputs, -1)
    return weight * by_group.reshape(weight.shape[0], -1, *rest)


@contextmanager
def repeatable(model: nn.Module) -> Iterator[None]:
    """Draw the same random numbers in each such context and after it."""
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices), torch.no_grad():
        yield


def run(model: nn.Module, args: tuple[Any, ...]) -> list[Tensor]:
    """Return the floating tensors that a copy of ``model`` returns for copies of ``args``."""
    found: list[Tensor] = []

    def keep(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            found.append(value)
        return value

    with repeatable(model):
        map_aggregate(copy_model(model)(*copies(args)), keep)
    return found


def store_shapes(root: nn.Module, graph: fx.Graph, args: tuple[Any, ...]) -> None:
    """Store the shape of each result with its node in ``graph``; ``root`` stays as it is."""
    with repeatable(root):
        ShapeProp(fx.GraphModule(copy_model(root), graph)).propagate(*copies(args))


def copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return ``args`` with copies of its tensors, which a model may change."""
    return map_aggregate(args, lambda a: a.detach().clone() if isinstance(a, Tensor) else a)


def compare(before: list[Tensor], after: list[Tensor], tolerance: float | None) -> None:
    """Raise RuntimeError unless the outputs agree."""
    for old, new in zip(before, after, strict=True):
        relative = TOLERANCES[old.dtype] if tolerance is None else tolerance
        finite = old[old.isfinite()].double().abs()
        size = max(1.0, finite.max().item()) if finite.numel() else 1.0
        try:
            torch.testing.assert_close(new, old, rtol=0, atol=relative * size, equal_nan=True)
        except AssertionError as error:
            raise RuntimeError(
                f"expected outputs that agree to {relative:g} of {size:g}, their largest value or 1; {error}"
            ) from None
