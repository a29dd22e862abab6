"""Batch renormalization: batch norm, corrected so that training computes what inference will.

``x_hat = (x - mu_B) / sigma_B * r + d``, ``r = sigma_B / sigma``, ``d = (mu_B - mu) / sigma``

With ``mu`` and ``sigma`` the running mean and standard deviation, ``x_hat = (x - mu) / sigma``. But ``r`` and
``d`` are constants to the gradient, which flows through ``mu_B`` and ``sigma_B`` as in batch norm; and they
are clipped, to bounds that start at batch norm and relax as the running statistics become reliable.

Standard deviations are ``sigma = sqrt(var + eps)``. They are what is averaged, but what is kept is
``var = sigma**2 - eps``, so that inference is that of batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bnlib.reference.backward import batch_norm_backward
from bnlib.reference.closed_form import Gradients
from bnlib.reference.moments import batch_norm_axes, center_nearly, variance
from bnlib.reference.normalize import batch_norm
from bnlib.reference.running import RunningStatistics, update_running
from bnlib.reference.validate import (
    Floating,
    check_affine,
    check_array,
    check_eps,
    check_like,
    check_more_than_one,
    check_parameter,
    check_renorm_bounds,
    check_type,
)


@dataclass(frozen=True)
class RenormSchedule:
    """The bounds of the correction as a function of the step: batch norm first, then relaxed linearly.

    ``r_max`` grows from 1 at ``start`` to its final value at ``r_end``, ``d_max`` from 0 at ``start`` to its
    own at ``d_end``. An end that is equal to the start makes a jump there.

    Attributes:
        r_max: final bound of the factor, which is kept between 1/r_max and r_max; at least 1.
        d_max: final bound of the term, which is kept between -d_max and d_max; at least 0.
        start: number of steps of batch norm.
        r_end: step from which ``r_max`` is final.
        d_end: step from which ``d_max`` is final.

    Raises:
        ValueError: ``r_max`` is less than 1 or ``d_max`` is negative; ``start`` is negative or after an end.

    Source: Ioffe (2017), section 4, has these defaults.
    """

    r_max: float = 3.0
    d_max: float = 5.0
    start: int = 5_000
    r_end: int = 40_000
    d_end: int = 25_000

    def __post_init__(self) -> None:
        check_renorm_bounds(self.r_max, self.d_max)
        if not 0 <= self.start <= min(self.r_end, self.d_end):
            got = f"start={self.start}, r_end={self.r_end}, d_end={self.d_end}"
            raise ValueError(f"expected 0 <= start <= r_end and start <= d_end, got {got}")

    @classmethod
    def constant(cls, r_max: float, d_max: float) -> RenormSchedule:
        """Return a schedule of the same bounds at every step; 1 and 0 are batch norm."""
        return cls(r_max, d_max, start=0, r_end=0, d_end=0)

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Return ``r_max`` and ``d_max`` at a step.

        Args:
            step: number of batches seen before this one: a number, a NumPy array or a PyTorch tensor.

        Returns:
            Two floats, or two of what ``step`` is.
        """
        r_part, d_part = (ramp(step, self.start, end) for end in (self.r_end, self.d_end))
        return 1 + (self.r_max - 1) * r_part, self.d_max * d_part


def ramp(step: Any, start: int, end: int) -> Any:
    """Return 0 up to ``start``, 1 from ``end`` on, a line between; a jump from 0 to 1 if they are equal."""
    start = min(start, end - 1)
    part = (step - start) / (end - start)
    return part.clip(0, 1) if hasattr(part, "clip") else min(max(part, 0.0), 1.0)


@np.errstate(invalid="ignore", over="ignore")
def batch_statistics(x: Floating, eps: float) -> tuple[Floating, Floating]:
    """Return the mean and the standard deviation ``sqrt(var + eps)`` of each channel, (C,), in float64."""
    check_array(x)
    axes = batch_norm_axes(x.ndim)
    check_more_than_one(x.shape, axes, "channel")
    check_eps(eps)
    x_shifted, mean, residual = center_nearly(x, axes)
    sigma = np.sqrt(variance(x_shifted, residual, axes) + eps)
    return (mean + residual).squeeze(axes), sigma.squeeze(axes)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def renorm_correction(
    x: Floating,
    running_mean: Floating,
    running_var: Floating,
    r_max: float = 3.0,
    d_max: float = 5.0,
    *,
    eps: float = 1e-5,
) -> tuple[Floating, Floating]:
    """Compute the factor and the term that take a batch normalized by itself to running statistics.

    ``r = clip(sigma_B / sigma, 1 / r_max, r_max)``, ``d = clip((mu_B - mu) / sigma, -d_max, d_max)``, with
    ``sigma_B = sqrt(var_B + eps)``, the variance being biased, and ``sigma = sqrt(running_var + eps)``

    Args:
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        running_mean: shape (C,), floating.
        running_var: shape (C,), floating.
        r_max: bound of the factor, at least 1.
        d_max: bound of the term, at least 0.
        eps: added to the variances, inside the roots.

    Returns:
        ``r`` and ``d``, of shape (C,), float64.

    Raises:
        TypeError: an array is not a floating NumPy array.
        ValueError: ``x`` has fewer than 2 axes or fewer than 2 values per channel; a statistic is not of
            shape (C,); ``r_max`` is less than 1 or ``d_max`` negative; ``eps`` is negative or not finite.

    Source: Ioffe (2017), Algorithm 1.
    """
    mu_batch, sigma_batch = batch_statistics(x, eps)
    check_parameter("running_mean", running_mean, (1,), x.shape)
    check_parameter("running_var", running_var, (1,), x.shape)
    check_renorm_bounds(r_max, d_max)
    sigma = np.sqrt(running_var.astype(np.float64) + eps)
    r = np.clip(sigma_batch / sigma, 1 / r_max, r_max)
    return r, np.clip((mu_batch - running_mean) / sigma, -d_max, d_max)


@np.errstate(invalid="ignore", over="ignore")
def batch_renorm(
    x: Floating,
    running_mean: Floating,
    running_var: Floating,
    weight: Floating | None = None,
    bias: Floating | None = None,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    eps: float = 1e-5,
) -> Floating:
    """Normalize each channel by the batch, correct towards the running statistics, then scale and shift.

    ``y = weight * ((x - mu_B) / sigma_B * r + d) + bias``, as in training: batch norm whose weight is
    ``weight * r`` and whose bias is ``weight * d + bias``

    With ``r_max=1`` and ``d_max=0`` this is batch norm. Where nothing is clipped, it is
    ``batch_norm_inference`` with the running statistics.

    Args:
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        running_mean: shape (C,), floating; before it moves towards this batch.
        running_var: the same.
        weight: gamma, shape (C,), floating; None is 1.
        bias: beta, shape (C,), floating; None is 0.
        r_max: bound of the factor ``r``, at least 1.
        d_max: bound of the term ``d``, at least 0.
        eps: added to the variances, inside the roots.

    Returns:
        A new array of the shape and dtype of ``x``.

    Raises:
        TypeError, ValueError: as ``renorm_correction``, or ``weight`` or ``bias`` is no floating array of
            shape (C,).

    Source: Ioffe (2017), Algorithm 1.
    """
    r, d = renorm_correction(x, running_mean, running_var, r_max, d_max, eps=eps)
    check_affine(weight, bias, (1,), x.shape)
    gamma = np.ones_like(r) if weight is None else weight
    beta = np.zeros_like(d) if bias is None else bias
    return batch_norm(x, gamma * r, gamma * d + beta, eps=eps)


@np.errstate(invalid="ignore", over="ignore")
def batch_renorm_backward(
    dy: Floating,
    x: Floating,
    running_mean: Floating,
    running_var: Floating,
    weight: Floating | None = None,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    eps: float = 1e-5,
) -> Gradients:
    """Compute the gradients of ``sum(dy * batch_renorm(x, ...))`` with ``r`` and ``d`` held constant.

    ``dx = weight * r / sigma_B * (dy - mean(dy) - x_hat * mean(dy * x_hat))``,
    ``dweight = sum(dy * (x_hat * r + d))``, ``dbias = sum(dy)``, with ``x_hat = (x - mu_B) / sigma_B``

    Args:
        dy: gradient with respect to the output, of the shape of ``x``; floating.
        x: shape (N, C), (N, C, L), (N, C, H, W), ...; float16, float32 or float64.
        running_mean: shape (C,), floating; before it moves towards this batch.
        running_var: the same.
        weight: gamma, shape (C,), floating; None is 1.
        r_max: bound of the factor ``r``, at least 1.
        d_max: bound of the term ``d``, at least 0.
        eps: added to the variances, inside the roots.

    Returns:
        As ``batch_norm_backward``.

    Raises:
        TypeError, ValueError: as ``batch_renorm``, or ``dy`` is not of the shape of ``x``.

    Source: Ioffe (2017), section 3, the equations of the gradients after Algorithm 1.
    """
    check_like("dy", dy, x)
    r, d = renorm_correction(x, running_mean, running_var, r_max, d_max, eps=eps)
    check_affine(weight, None, (1,), x.shape)
    dx, dfactor, dbias = batch_norm_backward(dy, x, r if weight is None else weight * r, eps=eps)
    return dx, (r * dfactor + d * dbias).astype(dbias.dtype), dbias


@np.errstate(invalid="ignore", over="ignore")
def update_renorm(
    running: RunningStatistics, x: Floating, momentum: float | None = 0.1, *, eps: float = 1e-5
) -> RunningStatistics:
    """Return the running statistics of batch renormalization after one more batch.

    ``mu += momentum * (mu_B - mu)``, ``sigma += momentum * (sigma_B - sigma)``, where
    ``sigma = sqrt(var + eps)`` and the variance of the batch is *biased*; kept is ``var = sigma**2 - eps``

    Args:
        running: the statistics so far.
        x: shape (N, C, ...); float16, float32 or float64.
        momentum: weight of the new batch, between 0 and 1; None averages all batches alike.
        eps: added to the variances, inside the roots.

    Returns:
        New statistics, of the dtype of these.

    Raises:
        TypeError, ValueError: ``running`` is of another type, ``eps`` is negative or not finite, or as
            ``RunningStatistics.update``.

    Source: Ioffe (2017), Algorithm 1; ``momentum`` is its alpha.
    """
    check_type("running", running, RunningStatistics)
    mu_batch, sigma_batch = batch_statistics(x, eps)
    check_parameter("running mean", running.mean, (1,), x.shape)
    weight = 1 / (running.count + 1) if momentum is None else momentum
    sigma = update_running(np.sqrt(running.var.astype(np.float64) + eps), sigma_batch, weight)
    var = np.maximum(sigma**2 - eps, 0).astype(running.var.dtype)
    return RunningStatistics(update_running(running.mean, mu_batch, weight), var, running.count + 1)
