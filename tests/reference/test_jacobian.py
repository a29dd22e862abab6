import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnlib.reference import hessian_vector_product, jacobian, jvp, normalize, projector, vjp

EPS = st.sampled_from([0.0, 1e-5, 0.1, 10.0])
WEIGHT = st.floats(-3, 3)


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def features(draw):
    """Draw a vector of 3 values or more, none of them close together."""
    m, rng = draw(st.integers(3, 12)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return 10 * rng.standard_normal() + rng.permutation(m) + 0.3 * rng.random(m)


def forward(x, weight=1.0, eps=1e-5):
    x_centered = x - x.mean()
    return weight * x_centered / (x_centered**2).mean().__add__(eps) ** 0.5


@given(features(), WEIGHT, EPS)
def test_columns_are_jvps_and_rows_are_vjps(x, weight, eps):
    matrix, basis = jacobian(x, weight=weight, eps=eps), np.eye(len(x))
    columns = np.stack([jvp(x, e, weight=weight, eps=eps) for e in basis], axis=1)
    rows = np.stack([vjp(x, e, weight=weight, eps=eps) for e in basis])
    np.testing.assert_allclose(columns, matrix, atol=1e-12)
    np.testing.assert_allclose(rows, matrix, atol=1e-12)


@given(features(), WEIGHT, EPS)
def test_pytorch_agrees(x, weight, eps):
    want = torch.autograd.functional.jacobian(lambda t: forward(t, weight, eps), torch.from_numpy(x))
    np.testing.assert_allclose(jacobian(x, weight=weight, eps=eps), want, atol=1e-12)


@given(features(), WEIGHT, EPS)
def test_finite_differences_agree(x, weight, eps):
    h = 1e-5
    change = [forward(x + h * e, weight, eps) - forward(x - h * e, weight, eps) for e in np.eye(len(x))]
    np.testing.assert_allclose(jacobian(x, weight=weight, eps=eps), np.array(change).T / (2 * h), atol=1e-8)


@given(features(), WEIGHT, EPS)
def test_symmetric_and_blind_to_a_shift(x, weight, eps):
    matrix = jacobian(x, weight=weight, eps=eps)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix @ np.ones(len(x)), 0, atol=1e-12)


@given(features(), WEIGHT.filter(lambda w: abs(w) > 1e-3), st.sampled_from([1e-5, 0.1, 10.0]))
def test_eigenvalues(x, weight, eps):
    matrix = jacobian(x, weight=weight, eps=eps)
    scale, kept = weight / np.sqrt(x.var() + eps), eps / (x.var() + eps)
    x_hat = normalize(x, 0, eps=eps)
    np.testing.assert_allclose(matrix @ x_hat, scale * kept * x_hat, rtol=1e-6, atol=1e-12)
    want = scale * np.array([0, kept, *[1] * (len(x) - 2)])
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.sort(want), atol=1e-10)


@given(features())
def test_the_projector_projects(x):
    p = projector(x)
    np.testing.assert_array_equal(p, p.T)
    np.testing.assert_allclose(p @ p, p, atol=1e-12)
    assert np.linalg.matrix_rank(p, tol=1e-9) == len(x) - 2
    np.testing.assert_allclose(np.trace(p), len(x) - 2, atol=1e-12)
    np.testing.assert_allclose(p @ np.ones(len(x)), 0, atol=1e-12)
    np.testing.assert_allclose(p @ normalize(x, 0, eps=0), 0, atol=1e-11)
    np.testing.assert_allclose(jacobian(x, eps=0) * x.std(), p, atol=1e-12)


@given(features(), st.sampled_from([0.1, 10.0]))
def test_with_eps_it_is_not_quite_a_projector(x, eps):
    scaled = jacobian(x, eps=eps) * np.sqrt(x.var() + eps)
    assert np.linalg.matrix_rank(scaled, tol=1e-9) == len(x) - 1
    assert np.abs(scaled @ scaled - scaled).max() > 1e-4


def test_two_values_have_no_derivative_without_eps():
    x = np.array([1.0, 4.0])
    np.testing.assert_allclose(projector(x), 0, atol=1e-15)
    np.testing.assert_allclose(
        jacobian(x, eps=2.25), [[0.5 / 18**0.5, -0.5 / 18**0.5]] * np.array([[1], [-1]])
    )


@given(features(), WEIGHT, EPS)
def test_the_hessian_product_is_pytorchs(x, weight, eps):
    dy, v = random(len(x), seed=1), random(len(x), seed=2)
    _, want = torch.autograd.functional.hvp(
        lambda t: (torch.from_numpy(dy) * forward(t, weight, eps)).sum(),
        torch.from_numpy(x),
        torch.from_numpy(v),
    )
    np.testing.assert_allclose(hessian_vector_product(x, dy, v, weight=weight, eps=eps), want, atol=1e-11)


@given(features(), WEIGHT, EPS)
def test_the_hessian_product_is_how_the_gradient_moves(x, weight, eps):
    dy, v, h = random(len(x), seed=1), random(len(x), seed=2), 1e-5
    kw = {"weight": weight, "eps": eps}
    want = (vjp(x + h * v, dy, **kw) - vjp(x - h * v, dy, **kw)) / (2 * h)
    np.testing.assert_allclose(hessian_vector_product(x, dy, v, **kw), want, atol=1e-7)


@given(features(), EPS)
def test_the_hessian_is_symmetric(x, eps):
    dy, basis = random(len(x), seed=1), np.eye(len(x))
    hessian = np.array([hessian_vector_product(x, dy, e, eps=eps) for e in basis])
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    np.testing.assert_allclose(hessian.sum(0), 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_is_that_of_x(dtype):
    x, v = random(6, dtype=dtype), random(6, dtype=dtype, seed=1)
    for got in (jacobian(x, weight=2.0), projector(x), jvp(x, v), vjp(x, v), hessian_vector_product(x, v, v)):
        assert got.dtype == dtype


def test_large_means():
    x = random(16, dtype=np.float32) + np.float32(1e6)
    np.testing.assert_allclose(jacobian(x), jacobian(x.astype(np.float64)), atol=1e-5)


def test_equal_values_have_no_projector():
    assert np.isnan(projector(np.full(4, 2.0))).all()
    np.testing.assert_allclose(jacobian(np.full(4, 2.0), eps=0.25), 2 * (np.eye(4) - 0.25))


X = random(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jacobian(random(4, 2)), ValueError, r"expected one feature of shape \(m,\), got \(4, 2\)"),
        (lambda: projector(random(4, 2)), ValueError, r"expected one feature of shape \(m,\), got \(4, 2\)"),
        (lambda: jvp(random(4, 2), random(4, 2)), ValueError, "expected one feature"),
        (lambda: vjp(random(4, 2), random(4, 2)), ValueError, "expected one feature"),
        (lambda: hessian_vector_product(random(4, 2), X, X), ValueError, "expected one feature"),
        (
            lambda: jacobian(np.ones(1)),
            ValueError,
            r"more than 1 value per feature, got input of shape \(1,\)",
        ),
        (lambda: jacobian([1.0, 2.0]), TypeError, "expected x to be a NumPy array of .*, got list"),
        (lambda: jacobian(X, eps=-1), ValueError, "expected eps to be finite and at least 0, got -1"),
        (lambda: jvp(X, np.ones(3)), ValueError, r"expected v of the shape of x, \(4,\), got \(3,\)"),
        (lambda: vjp(X, np.ones(3)), ValueError, r"expected dy of the shape of x, \(4,\), got \(3,\)"),
        (lambda: hessian_vector_product(X, np.ones(3), X), ValueError, "expected dy of the shape of x"),
        (lambda: hessian_vector_product(X, X, np.ones(3)), ValueError, "expected v of the shape of x"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
