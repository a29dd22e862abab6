"""Exchange the batch norms of ``torch.nn`` for those of ``bnlib.torch`` anywhere in a model, and back."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from bnlib.torch import modules
from bnlib.torch.distributed import SyncBatchNorm
from bnlib.torch.surgery.copying import copy_model
from bnlib.torch.validate import check_module

__all__ = ["Change", "Conversion", "Skip", "convert"]

Types = dict[type[nn.Module], type[nn.Module]]

PLAIN: Types = {
    nn.BatchNorm1d: modules.BatchNorm1d,
    nn.BatchNorm2d: modules.BatchNorm2d,
    nn.BatchNorm3d: modules.BatchNorm3d,
}
LAZY: Types = {
    nn.LazyBatchNorm1d: modules.LazyBatchNorm1d,
    nn.LazyBatchNorm2d: modules.LazyBatchNorm2d,
    nn.LazyBatchNorm3d: modules.LazyBatchNorm3d,
}
TO_BNLIB: Types = {**PLAIN, **LAZY}
TO_TORCH: Types = {new: old for old, new in TO_BNLIB.items()}
TO_SYNC: Types = dict.fromkeys([*PLAIN, *PLAIN.values(), nn.SyncBatchNorm], SyncBatchNorm)
EXCHANGES = {"bnlib": TO_BNLIB, "torch": TO_TORCH, "sync": TO_SYNC}


class Change(NamedTuple):
    """A layer of which ``convert`` changed the type.

    Attributes:
        name: the name of the layer in the model, "" for the model itself. A layer that is used more than once
            is named once.
        old: its type before.
        new: its type now.
    """

    name: str
    old: type[nn.Module]
    new: type[nn.Module]


class Skip(NamedTuple):
    """A batch norm that ``convert`` left alone.

    Attributes:
        name: the name of the layer in the model, "" for the model itself.
        type: its type.
        reason: why it was left alone.
    """

    name: str
    type: type[nn.Module]
    reason: str


class Conversion(NamedTuple):
    """What ``convert`` returns; printed, it lists the changes.

    Attributes:
        model: the converted model.
        changed: the layers of another type than before, in the order of ``model.named_modules()``.
        skipped: the batch norms that were left alone. Those of the wanted type already are in neither list.
    """

    model: nn.Module
    changed: tuple[Change, ...]
    skipped: tuple[Skip, ...]

    def __repr__(self) -> str:
        lines = [f"{len(self.changed)} changed"]
        lines += [f"  {title(c.name)}: {public_name(c.old)} -> {public_name(c.new)}" for c in self.changed]
        if self.skipped:
            lines += [f"{len(self.skipped)} skipped"]
            lines += [f"  {title(s.name)}: {public_name(s.type)}, {s.reason}" for s in self.skipped]
        return "\n".join(lines)


def convert(
    model: nn.Module,
    to: Literal["bnlib", "torch", "sync"] = "bnlib",
    inplace: bool = False,
    *,
    process_group: Any = None,
) -> Conversion:
    """Exchange ``torch.nn.BatchNorm1d/2d/3d`` and their lazy forms for those of ``bnlib.torch``, or back.

    A layer becomes one of the other type and stays the same object: parameters, buffers, hooks, modes, names
    and all references to it stay as they are, and an optimizer goes on with the parameters that it holds.

    Args:
        model: any module; it may be a batch norm itself.
        to: ``"bnlib"`` or ``"torch"``, the package to take the layers from, or ``"sync"``: then those of
            both packages and ``torch.nn.SyncBatchNorm`` become ``bnlib.torch.SyncBatchNorm``.
        inplace: convert ``model`` itself; else a deep copy, which shares nothing with it.
        process_group: for ``"sync"``, the group that all its layers communicate in; None is the default
            one, or the one that a layer has.

    Returns:
        The model, the changes, and the batch norms that were skipped: other subclasses, since their own
        code would be lost; for ``"sync"``, lazy ones; otherwise, those that share statistics between
        processes.

    Raises:
        TypeError: ``model`` is not a ``torch.nn.Module``.
        ValueError: ``to`` is another word, or there is a ``process_group`` for none but ``"sync"``.
    """
    check_module(model)
    if to not in tuple(EXCHANGES):
        raise ValueError(f"expected to to be 'bnlib', 'torch' or 'sync', got {to!r}")
    if process_group is not None and to != "sync":
        raise ValueError(f"expected process_group with to='sync' only, got it with {to!r}")
    exchange = EXCHANGES[to]
    model = model if inplace else copy_model(model)
    changed, skipped = [], []
    for name, module in model.named_modules():
        old = type(module)
        if old in exchange:
            module.__class__ = exchange[old]
            changed.append(Change(name, old, exchange[old]))
        elif isinstance(module, _BatchNorm) and old not in exchange.values():
            skipped.append(Skip(name, old, reason_to_skip(module)))
        if to == "sync" and isinstance(module, SyncBatchNorm):
            own = getattr(module, "process_group", None)
            module.process_group = own if process_group is None else process_group
    return Conversion(model, tuple(changed), tuple(skipped))


def reason_to_skip(module: nn.Module) -> str:
    """Say why a batch norm of another type is left alone."""
    if isinstance(module, LazyModuleMixin):
        return "which has not seen an input"
    if isinstance(module, (nn.SyncBatchNorm, SyncBatchNorm)):
        return "which shares statistics between processes"
    if parametrize.is_parametrized(module):
        return "whose parameters are computed by torch.nn.utils.parametrize"
    return "a subclass, whose own code would be lost"


def title(name: str) -> str:
    """Return ``name``, or words for the model itself, whose name is empty."""
    return name or "(the model)"


def public_name(cls: type) -> str:
    """Return the name that a type is imported by, without the modules inside the two packages."""
    return f"{cls.__module__.split('.modules')[0]}.{cls.__qualname__}"
