"""What keeps a batch norm in a graph of ``torch.fx`` from being folded."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from bnlib.torch.modules import Forward

Layer = (
    nn.Linear
    | nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
)
SPATIAL_AXES: dict[type[Layer], int] = {  # the number of axes of their output after (N, C)
    nn.Linear: 0,
    nn.Conv1d: 1,
    nn.Conv2d: 2,
    nn.Conv3d: 3,
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}
ALLOWED_AXES = {nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,), nn.BatchNorm3d: (5,)}
FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward, Forward.forward)


class ObstacleError(Exception):
    """A batch norm that cannot be folded; the message says why."""


class Pair(NamedTuple):
    """A batch norm and the layer before it, and their only calls in the graph."""

    batch_norm: _BatchNorm
    call: fx.Node
    layer: Layer
    layer_call: fx.Node


def find_pair(root: nn.Module, graph: fx.Graph, name: str) -> Pair:
    """Return the batch norm ``name`` and the layer to fold it into; raise ObstacleError if it cannot be.

    The number of axes counts where ``torch.fx.passes.shape_prop`` has stored the shapes in ``graph``.
    """
    batch_norm = root.get_submodule(name)
    assert isinstance(batch_norm, _BatchNorm)
    check_statistics(batch_norm)
    call = only_call(graph, name, batch_norm, "it")
    (before,) = call.all_input_nodes
    if before.op != "call_module":
        raise ObstacleError(f"it follows {describe(before)}, not a layer")
    layer_name = str(before.target)
    layer = foldable(root.get_submodule(layer_name), layer_name)
    only_call(graph, layer_name, layer, layer_name)
    if len(before.users) > 1:
        raise ObstacleError(f"the output of {layer_name} is used elsewhere too")
    check_axes(layer, batch_norm, before)
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if channels != batch_norm.num_features:
        raise ObstacleError(
            f"it has {batch_norm.num_features} features, and {layer_name} has {channels} channels"
        )
    return Pair(batch_norm, call, layer, before)


def foldable(module: nn.Module, name: str) -> Layer:
    """Return ``module`` if a batch norm can be folded into its type; raise ObstacleError if not."""
    if isinstance(module, LazyModuleMixin):
        raise ObstacleError(f"{name} before it is lazy and has not seen an input")
    if parametrize.is_parametrized(module):
        raise ObstacleError(f"the parameters of {name} are computed by torch.nn.utils.parametrize")
    if type(module) not in SPATIAL_AXES:
        kinds = "Linear, Conv or ConvTranspose"
        raise ObstacleError(f"it follows {name}, of type {type(module).__name__} and not {kinds}")
    return cast("Layer", module)


def check_statistics(batch_norm: _BatchNorm) -> None:
    """Raise ObstacleError unless ``batch_norm`` evaluates with running statistics, in a known way."""
    if isinstance(batch_norm, LazyModuleMixin):
        raise ObstacleError("it is lazy and has not seen an input")
    if parametrize.is_parametrized(batch_norm):
        raise ObstacleError("its parameters are computed by torch.nn.utils.parametrize")
    if type(batch_norm).forward not in FORWARDS:
        raise ObstacleError(f"its type {type(batch_norm).__name__} has a forward of its own")
    if batch_norm.training:
        raise ObstacleError("it is in training mode")
    if batch_norm.running_mean is None or batch_norm.running_var is None:
        raise ObstacleError("it has no running statistics")


def only_call(graph: fx.Graph, name: str, module: nn.Module, title: str) -> fx.Node:
    """Return the only call of ``module``; raise ObstacleError if it is used in another way as well."""
    calls: list[fx.Node] = [n for n in graph.nodes if n.op == "call_module" and n.target == name]
    if len(calls) != 1:
        times = f"from {len(calls)} places" if calls else "nowhere in the traced graph"
        raise ObstacleError(f"{title} is called {times}")
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith(f"{name}."):
            raise ObstacleError(f"the model reads {node.target} itself")
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    if any(hooks):
        raise ObstacleError(f"{title} has hooks")
    if "forward" in vars(module):
        raise ObstacleError(f"the forward of {title} has been replaced")
    return calls[0]


def describe(node: fx.Node) -> str:
    """Say what ``node``, which calls no module, is."""
    words = {"placeholder": "the argument", "get_attr": "the attribute", "call_method": "the method"}
    target = getattr(node.target, "__name__", node.target)
    return f"{words.get(node.op, 'the function')} {target}"


def check_axes(layer: Layer, batch_norm: _BatchNorm, node: fx.Node) -> None:
    """Raise ObstacleError unless axis 1, which the batch norm takes, is that of the layer's channels."""
    wanted = 2 + SPATIAL_AXES[type(layer)]
    kinds = f"{type(layer).__name__} and {type(batch_norm).__name__}"
    for kind, allowed in ALLOWED_AXES.items():
        if isinstance(batch_norm, kind) and wanted not in allowed:
            raise ObstacleError(f"axis 1 is not that of the channels for both {kinds}")
    meta = node.meta.get("tensor_meta")
    if meta is not None and len(meta.shape) != wanted:
        raise ObstacleError(
            f"axis 1 of an output of shape {tuple(meta.shape)} is not that of the channels for both {kinds}"
        )
