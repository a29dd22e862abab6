"""Normalization as functions that PyTorch differentiates: once, twice, forward, backward, and under ``vmap``.

In plain eager mode they work in blocks (see ``blocks``). ``torch.compile`` and ``torch.export`` fuse better
than any blocking: for them the same arithmetic is written out in plain operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from bnlib.torch import blocks
from bnlib.torch.arithmetic import (
    Affine,
    Axes,
    Parameters,
    Statistics,
    apply_maps,
    compute_dtype,
    conclude,
    count,
    normalization,
    power_sums,
    subtract,
)

Gradients = tuple[Tensor | None, ...]


def normalize_over(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, axes: Axes, eps: float, center: bool = True
) -> tuple[Tensor, Statistics]:
    """Normalize ``x`` over ``axes`` by its own statistics, then scale and shift: every norm is such a choice.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``

    Args:
        x: floating tensor of any shape.
        weight: of the rank of ``x``, broadcasts to it; None is 1.
        bias: the same; None is 0.
        axes: the axes that mean and variance are taken over, not negative.
        eps: added to the variance, inside the root.
        center: subtract the mean; else it is taken as 0.

    Returns:
        ``y``, of the shape and dtype of ``x``, and its statistics, the reduced axes kept at length 1. All
        are differentiable.
    """
    if torch.compiler.is_compiling():
        z, statistics = shifted_statistics(x, axes, center)
        maps = normalization(statistics, Parameters(weight, bias), axes, eps, z.dtype)
        return apply_maps(z, maps).to(x.dtype), statistics
    function = NormalizeInTransforms if in_transforms() else Normalize
    y, residual, var, shift = function.apply(x, weight, bias, axes, eps, center)  # type: ignore[no-untyped-call]
    return y, Statistics(shift, residual, var)


def statistics_over(x: Tensor, axes: Axes) -> Statistics:
    """Return the statistics of ``x`` over ``axes``, kept at length 1, as constants: nothing flows through."""
    x = x.detach()
    if torch.compiler.is_compiling() or in_transforms():
        return shifted_statistics(x, axes, center=True)[1]
    return blocks.statistics_of(x, axes, True, blocks.Blocks(x))


def shifted_statistics(x: Tensor, axes: Axes, center: bool) -> tuple[Tensor, Statistics]:
    """Return ``x`` less a shift, and its statistics, in plain operations."""
    shift = x.detach().to(compute_dtype(x.dtype)).mean(axes, keepdim=True) if center else None
    z = subtract(x, shift)
    return z, conclude(shift, power_sums(z, axes), count(x, axes), center)


def scale_shift(x: Tensor, shift: Tensor, scale: Tensor, term: Tensor | None) -> Tensor:
    """Return ``(x - shift) * scale + term``, of the dtype of ``x``.

    The difference is taken first, so a large mean cancels nothing.

    Args:
        x: floating tensor of any shape.
        shift: of the rank of ``x``, broadcasts to it; no gradient flows to it.
        scale: of the shape of ``shift``.
        term: the same; None is 0.
    """
    if torch.compiler.is_compiling():
        return Affine(scale, term).apply(subtract(x, shift)).to(x.dtype)
    function = ScaleShiftInTransforms if in_transforms() else ScaleShift
    y: Tensor = function.apply(x, shift, scale, term)  # type: ignore[no-untyped-call]
    return y


def in_transforms() -> bool:
    """Tell whether a transform of ``torch.func`` is at work, which asks for functions of another form.

    That form serves everywhere, but a call of it takes some 40 microseconds longer.
    """
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return active is None or active()


def is_batched(dy: Tensor) -> bool:
    """Tell whether ``dy`` stands for many, as with ``is_grads_batched`` of ``torch.autograd.grad``."""
    test = getattr(torch._C._functorch, "is_legacy_batchedtensor", None)
    return test is None or test(dy)


def sum_to(total: Tensor, like: Tensor) -> Tensor:
    """Sum ``total`` over the axes where ``like`` has length 1; the result has its shape and dtype."""
    over = tuple(a for a, n in enumerate(like.shape) if n == 1 and total.shape[a] != 1)
    return (total.sum(over, keepdim=True) if over else total).to(like.dtype)


def move_to_front(batch_size: int, in_dims: tuple[int | None, ...], tensors: tuple[Any, ...]) -> list[Any]:
    """Return the tensors with the mapped dimension first; all but the first may have length 1 there."""
    pairs = zip(tensors, in_dims, strict=True)
    moved: list[Any] = [None if t is None else t[None] if d is None else t.movedim(d, 0) for t, d in pairs]
    return [moved[0].expand(batch_size, *moved[0].shape[1:]), *moved[1:]]


class NormalizeRules:
    """The derivatives of ``normalize_over``, whose outputs are y, residual, var and shift."""

    @staticmethod
    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        """Keep the input and the statistics; x_hat is computed anew, which costs less than reading it."""
        x, weight, bias, ctx.axes, ctx.eps, ctx.center = inputs
        if output[3] is not None:
            ctx.mark_non_differentiable(output[3])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, *output[1:])
        ctx.save_for_forward(x, weight, bias, *output[1:])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> Gradients:
        """Return the gradients for the input, the weight and the bias."""
        x, weight, bias, residual, var, shift = ctx.saved_tensors
        dy, d_residual, d_var, _ = upstream
        statistics, axes, eps, center = Statistics(shift, residual, var), ctx.axes, ctx.eps, ctx.center
        given = next((p for p in (weight, bias) if p is not None), None)
        shared = tuple(a for a in range(x.ndim) if given is None or given.shape[a] == 1)
        dx = dweight = dbias = None
        if dy is not None:
            whole = torch.is_grad_enabled() or in_transforms() or is_batched(dy)
            gradients = blocks.backward_whole if whole else blocks.backward
            dx, sums = gradients(dy, x, weight, statistics, axes, shared, eps, center)
            dweight = sum_to(sums.dy_x_hat, weight) if ctx.needs_input_grad[1] else None
            dbias = sum_to(sums.dy, bias) if ctx.needs_input_grad[2] else None
        for more in statistics_backward(x, statistics, axes, center, d_residual, d_var):
            dx = more if dx is None else dx + more
        return dx, dweight, dbias, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Gradients:
        """Return the tangents of the output and the statistics.

        The Jacobian of x_hat is symmetric, so the projection of the backward pass serves here too.
        """
        x, weight, _, residual, var, shift = ctx.saved_tensors
        statistics, axes, eps, center = Statistics(shift, residual, var), ctx.axes, ctx.eps, ctx.center
        z = subtract(x, shift)
        x_t, weight_t, bias_t = (None if t is None else t.to(z.dtype) for t in tangents[:3])
        x_t = torch.zeros_like(z) if x_t is None else x_t
        y_t, sums = blocks.backward_whole(x_t, x.to(z.dtype), None, statistics, axes, axes, eps, center)
        y_t = y_t if weight is None else y_t * weight
        if weight_t is not None:
            (x_hat,) = normalization(statistics, Parameters(None, None), axes, eps, z.dtype)
            y_t = y_t + weight_t * x_hat.apply(z)
        y_t = y_t if bias_t is None else y_t + bias_t
        m = count(x, axes)
        residual_t = sums.dy / m if center else torch.zeros_like(sums.dy)
        var_t = 2 / m * sums.dy_x_hat / statistics.inv_std(eps)
        return y_t.to(x.dtype), residual_t, var_t, None


def statistics_backward(
    x: Tensor,
    statistics: Statistics,
    axes: Axes,
    center: bool,
    d_residual: Tensor | None,
    d_var: Tensor | None,
) -> list[Tensor]:
    """Return what the gradients of the statistics themselves add to that of the input.

    ``mean = sum(x) / m``, so ``dx = d_mean / m``; ``var = mean((x - mean)**2)``, so
    ``dx = 2 * d_var * (x - mean) / m``. They arise when a gradient is differentiated again.
    """
    m, terms = count(x, axes), []
    if d_residual is not None and center:
        terms.append((d_residual / m).to(x.dtype).expand_as(x))
    if d_var is not None:
        terms.append((2 / m * d_var * (subtract(x, statistics.shift) - statistics.residual)).to(x.dtype))
    return terms


class Normalize(NormalizeRules, Function):
    """``normalize_over`` as an autograd function."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor | None, ...]:
        """Compute y, residual, var and shift."""
        x, weight, bias, axes, eps, center = inputs
        y, statistics = blocks.forward(x, Parameters(weight, bias), axes, eps, center)
        output = y, statistics.residual, statistics.var, statistics.shift
        Normalize.save(ctx, inputs, output)
        return output


class NormalizeInTransforms(NormalizeRules, Function):
    """``normalize_over`` as an autograd function that the transforms of ``torch.func`` accept."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Compute y, residual, var and shift."""
        x, weight, bias, axes, eps, center = inputs
        y, found = blocks.forward(x, Parameters(weight, bias), axes, eps, center)
        shift = (
            torch.zeros_like(found.var, dtype=compute_dtype(x.dtype)) if found.shift is None else found.shift
        )
        return y, found.residual, found.var, shift

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the derivatives need."""
        NormalizeRules.save(ctx, inputs, output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Map over one more axis that is not reduced: again a choice of axes."""
        tensors = move_to_front(info.batch_size, in_dims[:3], inputs[:3])
        axes, eps, center = inputs[3:]
        axes = tuple(a + 1 for a in axes)
        return NormalizeInTransforms.apply(*tensors, axes, eps, center), (0, 0, 0, 0)  # type: ignore[no-untyped-call]


class ScaleShiftRules:
    """The derivatives of ``scale_shift``."""

    @staticmethod
    def save(ctx: Any, inputs: tuple[Tensor | None, ...]) -> None:
        """Keep the inputs."""
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Gradients:
        """Return the gradients for the input, the scale and the term."""
        x, shift, scale, term = ctx.saved_tensors
        g = dy.to(scale.dtype)
        dx = (g * scale).to(x.dtype) if ctx.needs_input_grad[0] else None
        dscale = sum_to(g * subtract(x, shift), scale) if ctx.needs_input_grad[2] else None
        dterm = sum_to(g, term) if ctx.needs_input_grad[3] else None
        return dx, None, dscale, dterm

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor, shift_t: Tensor, scale_t: Tensor, term_t: Tensor | None) -> Tensor:
        """Return the tangent of the output; autograd makes zeros of tangents that are not given."""
        x, shift, scale, _ = ctx.saved_tensors
        y_t: Tensor = x_t * scale + subtract(x, shift) * scale_t
        return (y_t if term_t is None else y_t + term_t).to(x.dtype)


class ScaleShift(ScaleShiftRules, Function):
    """``scale_shift`` as an autograd function."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Compute the output."""
        ScaleShift.save(ctx, inputs)
        return blocks.scale_shift(*inputs)


class ScaleShiftInTransforms(ScaleShiftRules, Function):
    """``scale_shift`` as an autograd function that the transforms of ``torch.func`` accept."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """Compute the output."""
        return blocks.scale_shift(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the derivatives need."""
        ScaleShiftRules.save(ctx, inputs)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Map over one more axis, along which each input varies or not."""
        tensors = move_to_front(info.batch_size, in_dims, inputs)
        return ScaleShiftInTransforms.apply(*tensors), 0  # type: ignore[no-untyped-call]
