import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import (
    batch_norm,
    batch_norm_backward,
    batch_norm_backward_detached,
    central_difference,
    check_gradient,
    complex_step,
)

EPS = 1e-5


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def plain(x):
    """Batch normalization by a formula that complex numbers go through."""
    x_centered = x - x.mean(0)
    return x_centered / np.sqrt((x_centered**2).mean(0) + EPS)


def backward(dy, x):
    return batch_norm_backward(dy, x, eps=EPS)[0]


def zero(dy, x):
    return np.zeros_like(x)


X = random(6, 3)


# Numerical derivatives


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_both_differentiate_a_cubic_into_any_shape(seed, n):
    a, x = random(4, n, seed=seed), random(n, 2, seed=seed + 1)
    dy = random(4, 2, seed=seed + 2)
    want = 3 * x**2 * (a.T @ dy)
    np.testing.assert_allclose(central_difference(lambda x: a @ x**3, x, dy), want, atol=1e-7)
    np.testing.assert_allclose(complex_step(lambda x: a @ x**3, x, dy), want, rtol=1e-12, atol=1e-14)


def test_the_complex_step_is_exact_and_the_central_difference_is_not():
    dy = random(6, 3, seed=1)
    want = backward(dy, X)
    assert np.abs(complex_step(plain, X, dy) - want).max() < 1e-14
    assert 1e-14 < np.abs(central_difference(plain, X, dy) - want).max() < 1e-8


def test_the_error_of_the_central_difference_is_of_second_order():
    dy, want = random(6, 3, seed=1), backward(random(6, 3, seed=1), X)
    coarse, fine = (np.abs(central_difference(plain, X, dy, h) - want).max() for h in (4e-2, 1e-2))
    assert 15 < coarse / fine < 17


def test_the_steps_are_float64_and_leave_x_alone():
    x = X.astype(np.float32)
    before = x.copy()

    def f(v):
        assert v.dtype == np.float64
        v += 1  # spoils its argument
        return v**2

    np.testing.assert_allclose(
        central_difference(f, x, np.ones(x.shape)), 2 * (x.astype(float) + 1), atol=1e-8
    )
    np.testing.assert_array_equal(x, before)


def test_nothing_to_differentiate():
    assert central_difference(np.sin, np.empty((0, 2)), np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("numerical", [central_difference, complex_step])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0], np.ones(1)), TypeError, "expected x to be a NumPy array of .*, got list"),
        ((np.ones(1), [1.0]), TypeError, "expected dy to be a NumPy array of .*, got list"),
        ((np.ones(2), np.ones(3)), ValueError, r"expected dy of the shape of f\(x\), \(2,\), got \(3,\)"),
        ((np.ones(2), np.ones(2), 0.0), ValueError, "expected a positive step, got 0.0"),
        ((np.ones(2), np.ones(2), -1.0), ValueError, "expected a positive step, got -1.0"),
    ],
)
def test_errors(numerical, arguments, error, message):
    with pytest.raises(error, match=message):
        numerical(np.square, *arguments)


def test_a_function_that_drops_the_imaginary_part_is_refused():
    with pytest.raises(TypeError, match="expected a complex result of f for a complex input, got float64"):
        complex_step(np.abs, X, X)


# Reports


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize("seed", range(5))
def test_a_right_gradient_passes(method, seed):
    report = check_gradient(plain, backward, X, seed=seed, method=method)
    assert report.passed
    assert not report.vacuous
    assert report.max_relative_error < {"central": 1e-8, "complex": 1e-13}[method]
    assert str(report).startswith("passed: largest relative error")


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize(
    "wrong",
    [
        zero,
        lambda dy, x: batch_norm_backward_detached(dy, x)[0],
        lambda dy, x: 1.001 * backward(dy, x),
        lambda dy, x: backward(dy, x) + 1e-4,
        lambda dy, x: backward(dy, x) * np.sqrt(5 / 6),
        lambda dy, x: -backward(dy, x),
    ],
)
def test_a_wrong_gradient_fails(method, wrong):
    report = check_gradient(plain, wrong, X, method=method)
    assert not report.passed
    assert str(report).startswith("failed: ")


def test_the_report_says_where():
    def wrong(dy, x):
        dx = backward(dy, x)
        dx[4, 1] += 0.5
        return dx

    report = check_gradient(plain, wrong, X)
    assert report.where == (4, 1)
    np.testing.assert_allclose(report.got - report.expected, 0.5, atol=1e-8)
    assert "at (4, 1): expected" in str(report)


def test_the_report_in_full():
    report = check_gradient(lambda x: x**2, lambda dy, x: 2.5 * x * dy, np.array([4.0, 1.0]), dy=np.ones(2))
    assert str(report) == (
        "failed: largest relative error 2.5e-01, allowed 1.0e-06\n"
        "  at (0,): expected 8, got 10\n"
        "  numerical gradient: central; dy: given\n"
        "  warning: dy is constant: the sum of normalized outputs does not depend on x"
    )
    exact = check_gradient(lambda x: 2 * x, lambda dy, x: 2 * dy, X, method="complex")
    assert exact.method == "complex"
    assert "numerical gradient: complex; dy: standard normal, seed 0" in str(exact)


def test_an_error_as_large_as_what_is_allowed_passes():
    def f(x):
        return 4 * x

    def off(dy, x):
        return 5 * dy

    x, dy = np.array([1.0, -1.0]), np.array([1.0, -2.0])
    error = check_gradient(f, off, x, dy=dy, method="complex").max_relative_error
    assert error == 0.25
    assert check_gradient(f, off, x, dy=dy, method="complex", tolerance=error).passed
    assert not check_gradient(f, off, x, dy=dy, method="complex", tolerance=0.2499).passed


def test_a_function_that_is_constant_has_the_gradient_zero():
    def f(x):
        return np.zeros(3, x.dtype)

    passes = check_gradient(f, zero, np.zeros(2), method="complex")
    assert passes.passed
    assert passes.max_relative_error == 0
    assert check_gradient(f, lambda dy, x: x + 0.5, np.zeros(2), method="complex").max_relative_error > 0.4


def test_nan_is_a_failure_and_has_a_place():
    def wrong(dy, x):
        dx = backward(dy, x)
        dx[2, 0] = np.nan
        return dx

    report = check_gradient(plain, wrong, X)
    assert not report.passed
    assert report.where == (2, 0)
    assert report.max_relative_error == np.inf


def test_dy_is_not_x_though_drawn_from_the_same_seed():
    # dy = x is parallel to the output in every channel, and zero would nearly pass.
    assert check_gradient(plain, zero, X, dy=X, tolerance=1e-3).expected < 1e-4
    assert abs(check_gradient(plain, zero, X, seed=0).expected) > 0.1


def test_the_seed_decides_dy():
    seen = []

    def record(dy, x):
        seen.append(dy)
        return backward(dy, x)

    for seed in (3, 3, 4):
        check_gradient(plain, record, X, seed=seed)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.abs(seen[0] - seen[2]).min() > 0
    assert "dy: standard normal, seed 4" in str(check_gradient(plain, backward, X, seed=4))


# Checks that could not fail


def test_the_sum_of_outputs_passes_zero_and_says_so():
    report = check_gradient(plain, zero, X, dy=np.ones_like(X))
    assert report.passed
    assert report.vacuous
    assert str(report).startswith("passed, but the check is vacuous")
    assert "warning: dy is constant" in str(report)
    assert "warning: the numerical gradient is nearly zero" in str(report)


@pytest.mark.parametrize("scale", [2.0, -0.1])
def test_the_sum_of_squares_is_called_vacuous(scale):
    report = check_gradient(plain, zero, X, dy=scale * plain(X))
    assert "warning: dy is parallel to the output" in str(report)
    assert "nearly zero" in str(report)
    assert check_gradient(plain, backward, X, dy=scale * plain(X)).passed


def test_a_constant_per_channel_is_seen_by_its_zero_gradient():
    report = check_gradient(plain, zero, X, dy=np.tile([1.0, -2.0, 3.0], (6, 1)))
    assert report.passed
    assert report.warnings == (
        "the numerical gradient is nearly zero: a gradient of zero would hardly be noticed",
    )


def test_two_samples_are_vacuous_even_with_a_random_dy():
    x = 1e3 * random(2, 3)
    assert check_gradient(plain, zero, x).vacuous
    assert check_gradient(plain, backward, x).passed


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(scale):
    def f(x):
        return batch_norm(x, eps=EPS * scale**2)

    def scaled(dy, x):
        return batch_norm_backward(dy, x, eps=EPS * scale**2)[0]

    def step(x):  # the same function of values of size 1
        return f(x * scale)

    report = check_gradient(step, lambda dy, x: scale * scaled(dy, x * scale), X)
    assert report.passed
    assert not report.vacuous
    tiny = check_gradient(
        lambda x: scale * f(scale * x), lambda dy, x: scale * scale * scaled(dy, x * scale), X
    )
    assert tiny.passed
    assert not tiny.vacuous


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_x_do_not_matter(scale):
    def f(x):
        return batch_norm(x, eps=EPS * scale**2)

    report = check_gradient(f, lambda dy, x: batch_norm_backward(dy, x, eps=EPS * scale**2)[0], scale * X)
    assert report.passed
    assert not report.vacuous


def test_dy_parallel_to_an_output_with_a_mean_of_its_own():
    def f(x):
        return 2 * x + 30

    report = check_gradient(f, lambda dy, x: 2 * dy, X, dy=3 * X + 5)
    assert report.warnings[0].startswith("dy is parallel to the output")
    assert not check_gradient(f, lambda dy, x: 2 * dy, X).warnings


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
def test_dy_that_is_nearly_constant_is_called_so_in_any_units(size):
    dy = size * (1 + 1e-8 * random(6, 3, seed=4))
    assert check_gradient(plain, zero, X, dy=dy).warnings[0].startswith("dy is constant")
    dy = size * (1 + 1e-4 * random(6, 3, seed=4))
    assert not any(w.startswith("dy is") for w in check_gradient(plain, backward, X, dy=dy).warnings)


def test_a_dy_of_zeros_is_constant_and_its_errors_are_absolute():
    report = check_gradient(plain, lambda dy, x: np.full_like(x, 0.5), X, dy=np.zeros_like(X))
    assert report.max_relative_error == 0.5
    assert [w.partition(":")[0] for w in report.warnings] == [
        "dy is constant",
        "the numerical gradient is nearly zero",
    ]


def test_a_constant_output_is_parallel_to_nothing():
    report = check_gradient(lambda x: np.full(3, 2.0), zero, X)
    assert [w.partition(":")[0] for w in report.warnings] == ["the numerical gradient is nearly zero"]


@pytest.mark.parametrize(("x", "spread"), [([1.0, 7.0], 3.0), ([-4.0, -4.0], 4.0), ([0.0, 0.0], 1.0)])
def test_the_step_is_a_share_of_the_spread_of_x(x, spread):
    seen = []

    def f(x):
        seen.append(x)
        return x**2

    check_gradient(f, lambda dy, x: 2 * x * dy, np.array(x))
    steps = {round(float(abs(at - x).max()) / 6e-6, 6) for at in seen}
    assert steps == {0.0, spread}


def test_refused():
    for x, f in [(np.empty((0, 3)), np.square), (X, lambda x: x[:0])]:
        with pytest.raises(ValueError, match=r"expected x and f\(x\) to have elements, got shapes"):
            check_gradient(f, backward, x)
    with pytest.raises(ValueError, match="expected method 'central' or 'complex', got 'forward'"):
        check_gradient(plain, backward, X, method="forward")
    with pytest.raises(ValueError, match=r"expected the gradient of the shape of x, \(6, 3\), got \(3,\)"):
        check_gradient(plain, lambda dy, x: dy.sum(0), X)
    with pytest.raises(TypeError, match="expected the gradient to be a NumPy array"):
        check_gradient(plain, lambda dy, x: None, X)
    with pytest.raises(TypeError, match="expected x to be a NumPy array"):
        check_gradient(plain, backward, [1.0])
