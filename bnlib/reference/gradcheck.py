"""Check a backward pass against numerical derivatives, and say when the check could not have failed.

``f`` maps an array to an array; its gradient is that of ``sum(dy * f(x))`` for a given ``dy``. Everything is
done in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnlib.reference.validate import Floating, check_array, check_like

Function = Callable[[NDArray[Any]], NDArray[Any]]
Backward = Callable[[Floating, Floating], Floating]
Method = Literal["central", "complex"]

NOISE: dict[Method, float] = {"central": 1e-9, "complex": 1e-15}
"""Rounding and truncation of a numerical gradient, relative to its usual size."""


def central_difference(f: Function, x: Floating, dy: Floating, step: float = 6e-6) -> Floating:
    """Differentiate ``sum(dy * f(x))`` by central differences, one element of ``x`` at a time.

    ``dx_i = sum(dy * (f(x + h e_i) - f(x - h e_i))) / (2 h)``

    The truncation error is ``O(h**2)`` and rounding adds ``O(u / h)``, so that the best step is near the cube
    root of ``u``, the rounding unit: 6e-6 for values of size 1.

    Args:
        f: the function; is given float64 arrays of the shape of ``x``.
        x: where to differentiate; any shape, floating.
        dy: gradient with respect to ``f(x)``, of its shape; floating.
        step: ``h``, positive; scale it with ``x``.

    Returns:
        The gradient, float64, of the shape of ``x``.

    Raises:
        TypeError: ``x`` or ``dy`` is not a floating NumPy array.
        ValueError: ``f(x)`` and ``dy`` differ in shape; ``step`` is not positive.
    """

    def slope(at: NDArray[Any], i: tuple[int, ...]) -> float:
        centre = at[i]
        at[i] = up = centre + step
        high = f(at.copy())
        at[i] = down = centre - step
        change = high - f(at.copy())
        at[i] = centre
        return float(np.sum(dy * change) / (up - down))

    return _each_element(slope, f, x.astype(np.float64) if isinstance(x, np.ndarray) else x, x, dy, step)


def complex_step(f: Function, x: Floating, dy: Floating, step: float = 1e-20) -> Floating:
    """Differentiate ``sum(dy * f(x))`` by a step along the imaginary axis, one element of ``x`` at a time.

    ``dx_i = sum(dy * imag(f(x + i h e_i))) / h``

    No difference is taken, so nothing cancels, and with a tiny step the result is exact to rounding. ``f``
    must be analytic: made of arithmetic, roots, exp and the like. ``abs``, conjugates and ``np.var``, which
    squares the modulus, lose the derivative without an error.

    Args:
        f: the function; is given complex128 arrays of the shape of ``x``.
        x: where to differentiate; any shape, floating.
        dy: gradient with respect to ``f(x)``, of its shape; floating.
        step: ``h``, positive.

    Returns:
        The gradient, float64, of the shape of ``x``.

    Raises:
        TypeError: ``x`` or ``dy`` is not a floating NumPy array; ``f`` of a complex array is not complex.
        ValueError: ``f(x)`` and ``dy`` differ in shape; ``step`` is not positive.

    Source: Squire & Trapp (1998), "Using complex variables to estimate derivatives of real functions".
    """

    def slope(at: NDArray[Any], i: tuple[int, ...]) -> float:
        centre = at[i]
        at[i] = centre + 1j * step
        y = f(at.copy())
        at[i] = centre
        if not np.iscomplexobj(y):
            raise TypeError(f"expected a complex result of f for a complex input, got {y.dtype}")
        return float(np.sum(dy * y.imag) / step)

    return _each_element(slope, f, x.astype(np.complex128) if isinstance(x, np.ndarray) else x, x, dy, step)


def _each_element(
    slope: Callable[[NDArray[Any], tuple[int, ...]], float],
    f: Function,
    at: NDArray[Any],
    x: Floating,
    dy: Floating,
    step: float,
) -> Floating:
    """Return ``slope`` at every index of ``x``, after the checks that both methods share."""
    check_array(x)
    check_array(dy, "dy")
    if not step > 0:
        raise ValueError(f"expected a positive step, got {step}")
    y = f(x.astype(np.float64))
    if y.shape != dy.shape:
        raise ValueError(f"expected dy of the shape of f(x), {y.shape}, got {dy.shape}")
    dx = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        dx[i] = slope(at, i)
    return dx


@dataclass(frozen=True)
class GradientReport:
    """Say how a gradient compares with the numerical one, and whether the comparison means anything.

    Attributes:
        passed: the largest error is at most ``tolerance``.
        max_relative_error: the largest difference, divided by the largest element of the gradient.
        tolerance: what is allowed of it.
        where: index of the largest difference.
        expected: the numerical gradient there.
        got: the gradient there.
        upstream: where ``dy`` came from, in words.
        method: ``"central"`` or ``"complex"``.
        warnings: why passing would mean little; empty for a check worth its name.
    """

    passed: bool
    max_relative_error: float
    tolerance: float
    where: tuple[int, ...]
    expected: float
    got: float
    upstream: str
    method: Method
    warnings: tuple[str, ...] = ()

    @property
    def vacuous(self) -> bool:
        """Whether there is a warning, so that passing means little."""
        return bool(self.warnings)

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        verdict += ", but the check is vacuous" if self.passed and self.vacuous else ""
        lines = [
            f"{verdict}: largest relative error {self.max_relative_error:.1e}, allowed {self.tolerance:.1e}",
            f"  at {self.where}: expected {self.expected:.6g}, got {self.got:.6g}",
            f"  numerical gradient: {self.method}; dy: {self.upstream}",
            *(f"  warning: {w}" for w in self.warnings),
        ]
        return "\n".join(lines)


def check_gradient(
    f: Function,
    backward: Backward,
    x: Floating,
    *,
    seed: int = 0,
    dy: Floating | None = None,
    method: Method = "central",
    tolerance: float = 1e-6,
) -> GradientReport:
    """Compare ``backward(dy, x)`` with the numerical gradient of ``sum(dy * f(x))``.

    Errors are divided by the largest element of the numerical gradient, or, should that be nearly zero, by
    the size below which the numerical gradient is noise. ``dy`` is random unless given. Give one to see what
    a check with it is worth: the sum of the outputs has ``np.ones``, the sum of their squares ``2 * f(x)``.

    Args:
        f: the function, given float64 arrays, or complex128 ones if ``method`` is ``"complex"``.
        backward: takes ``dy`` and ``x``, returns the gradient with respect to ``x``.
        x: where to check; any shape, floating.
        seed: of the standard normal ``dy``; it may be the one that ``x`` was drawn from.
        dy: gradient with respect to ``f(x)``, instead of a random one.
        method: ``"central"`` differences or ``"complex"`` step.
        tolerance: the largest relative error that passes.

    Returns:
        A report; it prints as a few lines.

    Raises:
        TypeError: ``x``, ``dy`` or the gradient is not a floating NumPy array.
        ValueError: shapes differ; there are no elements; ``method`` is another word.
    """
    check_array(x)
    if method not in NOISE:
        raise ValueError(f"expected method 'central' or 'complex', got {method!r}")
    x = x.astype(np.float64)
    y = f(x.copy())
    if not (x.size and y.size):
        raise ValueError(f"expected x and f(x) to have elements, got shapes {x.shape} and {y.shape}")
    upstream = "given" if dy is not None else f"standard normal, seed {seed}"
    if dy is None:
        # A stream of its own: x is often drawn from the same seed, and dy = x is parallel to the output.
        dy = np.asarray(np.random.default_rng([seed, 1]).standard_normal(y.shape))
    want = central_difference(f, x, dy, 6e-6 * _spread(x)) if method == "central" else complex_step(f, x, dy)
    got = backward(dy.copy(), x.copy())
    check_like("the gradient", got, x)
    least = NOISE[method] / tolerance * _usual_size(dy, y, x)
    scale = max(float(np.abs(want).max()), least)
    error = np.abs(got - want) / (scale or 1.0)
    error[~np.isfinite(error)] = np.inf
    where = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
    return GradientReport(
        passed=bool(error[where] <= tolerance),
        max_relative_error=float(error[where]),
        tolerance=tolerance,
        where=where,
        expected=float(want[where]),
        got=float(got[where]),
        upstream=upstream,
        method=method,
        warnings=_warnings(dy, y, want, least),
    )


def _spread(a: Floating) -> float:
    """Return the standard deviation of ``a``; if that is 0 its largest magnitude; if that is 0 too, 1."""
    return float(a.std() or np.abs(a).max()) or 1.0


def _usual_size(dy: Floating, y: Floating, x: Floating) -> float:
    """Return the size that the units alone suggest for the gradient: that of dy * y / x."""
    root_mean_square = float(np.linalg.norm(dy)) / float(np.sqrt(dy.size))
    return root_mean_square * _spread(y) / _spread(x)


def _warnings(dy: Floating, y: Floating, want: Floating, least: float) -> tuple[str, ...]:
    """Return the reasons why a wrong gradient, such as zero, could pass."""
    found: list[str] = []
    dy_centered, y_centered = dy - dy.mean(), y - y.mean()
    size = np.linalg.norm(dy_centered)
    if size <= 1e-6 * np.linalg.norm(dy):
        found.append("dy is constant: the sum of normalized outputs does not depend on x")
    elif abs(np.sum(dy_centered * y_centered)) > 0.999 * size * np.linalg.norm(y_centered):
        found.append("dy is parallel to the output: the sum of squares of normalized outputs is constant")
    if np.abs(want).max() <= least:
        found.append("the numerical gradient is nearly zero: a gradient of zero would hardly be noticed")
    return tuple(found)
