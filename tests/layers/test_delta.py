"""The Delta Operator: the matrix, its actions, and its regimes."""

import math

import autograd.numpy as anp
import numpy as np
import pytest

from mgt_np import (
    delta_apply,
    delta_determinant,
    delta_eigenvalues,
    delta_operator,
    delta_regime,
    delta_singular_values,
    delta_update,
    grad,
    unit_direction,
)

BETAS = (-0.5, 0.0, 0.3, 1.0, 1.7, 2.0, 3.0)


def unit(rng, *shape):
    k = rng.standard_normal(shape)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


def norm(k):
    return np.linalg.norm(k, axis=-1, keepdims=True)


def test_the_two_placements_of_eps_are_their_formulas(rng):
    k = rng.standard_normal((2, 5, 8))
    for eps in (1e-5, 0.3):
        inside, outside = (
            unit_direction(k, eps=eps, placement=where) for where in ("inside", "outside")
        )
        np.testing.assert_allclose(inside, k / np.sqrt(norm(k) ** 2 + eps**2), rtol=1e-14)
        np.testing.assert_allclose(outside, k / (norm(k) + eps), rtol=1e-14)
        assert np.array_equal(unit_direction(k, eps=eps), inside)
        np.testing.assert_allclose(unit_direction(k[1, 2], eps=eps), inside[1, 2], rtol=1e-15)
    assert np.array_equal(unit_direction(k), unit_direction(k, eps=1e-5))


@pytest.mark.parametrize("length", [0.1, 1.0, 100.0])
def test_how_near_the_length_is_to_one(length, rng):
    k, eps = length * unit(rng, 50, 8), 1e-3
    missing = 1.0 - norm(unit_direction(k, eps=eps))
    np.testing.assert_allclose(missing, eps**2 / (2 * length**2), rtol=1e-4, atol=1e-15)
    missing = 1.0 - norm(unit_direction(k, eps=eps, placement="outside"))
    assert np.all(missing <= eps / length)
    np.testing.assert_allclose(missing, eps / length, rtol=2e-2)


@pytest.mark.parametrize("placement", ["inside", "outside"])
def test_a_zero_direction_stays_zero_and_its_operator_is_the_identity(placement):
    k = np.stack([np.zeros(4), np.ones(4)])
    direction = unit_direction(k, placement=placement)
    assert not np.any(direction[0])
    assert np.array_equal(delta_operator(direction, 1.5)[0], np.eye(4))


@pytest.mark.parametrize("placement", ["inside", "outside"])
def test_without_eps_every_direction_has_length_one_but_zero_has_none(placement, rng):
    k = rng.standard_normal((3, 5, 8))
    k[:, :, 0] = 0.0  # one feature that is zero everywhere makes no zero vector
    direction = unit_direction(k, eps=0.0, placement=placement)
    np.testing.assert_allclose(norm(direction), 1.0, rtol=1e-15)
    k[1, 3] = 0.0
    with pytest.raises(ValueError, match="expected k ≠ 0 for eps=0, got a zero vector"):
        unit_direction(k, eps=0.0, placement=placement)


def test_under_jit_no_direction_is_nan():
    jax = pytest.importorskip("jax")
    assert np.all(np.isnan(jax.jit(lambda k: unit_direction(k, eps=0.0))(jax.numpy.zeros(3))))


@pytest.mark.parametrize("beta", BETAS)
def test_the_matrix_acts_on_k_and_leaves_what_is_orthogonal(beta, rng):
    """DDL, eq. 2.4."""
    k = unit(rng, 8)
    A = delta_operator(k, beta)
    np.testing.assert_allclose(A, np.eye(8) - beta * np.outer(k, k), atol=1e-16)
    np.testing.assert_allclose(A @ k, (1.0 - beta) * k, atol=1e-15)
    x = rng.standard_normal(8)
    x -= k * (k @ x)
    np.testing.assert_allclose(A @ x, x, atol=1e-14)


def test_the_regimes_of_the_theorem(rng):
    """β = 0 leaves everything, β = 1 is a projection on k⊥, β = 2 a reflection."""
    k = unit(rng, 8)
    assert np.array_equal(delta_operator(k, 0.0), np.eye(8))
    P, H = delta_operator(k, 1.0), delta_operator(k, 2.0)
    np.testing.assert_allclose(P @ P, P, atol=1e-15)
    np.testing.assert_allclose(P @ k, 0.0, atol=1e-15)
    np.testing.assert_allclose(H @ H, np.eye(8), atol=1e-15)
    assert np.linalg.det(H) == pytest.approx(-1.0, rel=1e-14)


def test_leading_axes_of_k_and_beta(rng):
    """DDL, eqs 2.4 and 2.5, one matrix after the other."""
    k, beta = unit(rng, 2, 3, 5), rng.standard_normal((2, 3))
    X, v = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((2, 3, 4))
    A = delta_operator(k, beta)
    applied, updated = delta_apply(X, k, beta), delta_update(X, k, v, beta)
    for i in np.ndindex(2, 3):
        expected = np.eye(5) - beta[i] * np.outer(k[i], k[i])
        np.testing.assert_allclose(A[i], expected, atol=1e-15)
        np.testing.assert_allclose(applied[i], expected @ X[i], atol=1e-14)
        written = expected @ X[i] + beta[i] * np.outer(k[i], v[i])
        np.testing.assert_allclose(updated[i], written, atol=1e-14)
    number = delta_apply(X, k, 1.5)
    np.testing.assert_allclose(number, delta_apply(X, k, np.full((2, 3), 1.5)), atol=1e-15)


def test_applying_is_linear_in_X(rng):
    k, X, Y = unit(rng, 5), *rng.standard_normal((2, 5, 4))
    left = delta_apply(2.0 * X - 3.0 * Y, k, 1.7)
    right = 2.0 * delta_apply(X, k, 1.7) - 3.0 * delta_apply(Y, k, 1.7)
    np.testing.assert_allclose(left, right, atol=1e-14)
    assert np.array_equal(delta_apply(X, k, 0.0), X)


@pytest.mark.parametrize("beta", BETAS)
def test_the_error_along_k_shrinks_by_one_minus_beta(beta, rng):
    k, X, v = unit(rng, 5), rng.standard_normal((5, 4)), rng.standard_normal(4)
    before, after = k @ X - v, k @ delta_update(X, k, v, beta) - v
    np.testing.assert_allclose(after, (1.0 - beta) * before, atol=1e-14)


def test_limits_of_the_update(rng):
    k, X, v = unit(rng, 5), rng.standard_normal((5, 4)), rng.standard_normal(4)
    np.testing.assert_allclose(k @ delta_update(X, k, v, 1.0), v, atol=1e-15)
    assert np.array_equal(delta_update(X, k, v, 0.0), X)
    np.testing.assert_allclose(delta_update(X, k, 0.0 * v, 1.7), delta_apply(X, k, 1.7), atol=1e-15)


def test_closed_forms_of_the_spectrum(rng):
    """DDL, theorem 3.1 and corollary 3.2."""
    beta = np.array([[-0.5, 0.0, 1.0], [1.5, 2.0, 3.0]])
    assert delta_eigenvalues(beta, 4)[1, 2].tolist() == [1.0, 1.0, 1.0, -2.0]
    assert delta_singular_values(beta, 4)[1, 2].tolist() == [1.0, 1.0, 1.0, 2.0]
    assert delta_determinant(beta).tolist() == [[1.5, 1.0, 0.0], [-0.5, -1.0, -2.0]]
    assert delta_eigenvalues(beta, 1).shape == (2, 3, 1)
    assert delta_eigenvalues(0.25, 2).tolist() == [1.0, 0.75]
    assert delta_singular_values(2, 2).tolist() == [1.0, 1.0]
    assert float(delta_determinant(2)) == -1.0


@pytest.mark.parametrize("beta", BETAS)
def test_singular_values_and_determinant_are_those_of_the_matrix(beta, rng):
    A = delta_operator(unit(rng, 7), beta)
    values = np.sort(delta_singular_values(beta, 7))[::-1]
    np.testing.assert_allclose(np.linalg.svdvals(A), values, atol=1e-14)
    assert float(delta_determinant(beta)) == pytest.approx(np.linalg.det(A), abs=1e-13)
    orthogonal = np.allclose(A @ A.T, np.eye(7), atol=1e-12)
    assert orthogonal == (beta in (0.0, 2.0))
    assert (np.max(values) > 1.0) == (not 0.0 <= beta <= 2.0)


@pytest.mark.parametrize(
    ("beta", "regime"),
    [
        (0.0, "identity"),
        (1e-7, "identity"),
        (-1e-6, "identity"),
        (1.0, "projection"),
        (1 - 1e-7, "projection"),
        (2.0, "reflection"),
        (2 + 1e-7, "reflection"),
        (1.1e-6, "contraction"),
        (0.5, "contraction"),
        (1.99, "contraction"),
        (-2e-6, "amplification"),
        (-math.inf, "amplification"),
        (2.1, "overreflection"),
        (math.inf, "overreflection"),
        (1, "projection"),
    ],
)
def test_regimes(beta, regime):
    assert delta_regime(beta) == regime
    assert delta_regime(np.asarray(float(beta))) == regime


def test_the_width_of_a_regime_and_arrays_of_them(library):
    assert delta_regime(0.05, atol=0.1) == "identity"
    assert delta_regime(0.05, atol=0.0) == "contraction"
    assert delta_regime(2.0, atol=0.0) == "reflection"
    beta = library.asarray(np.array([[0.0, 0.5], [-1.0, 2.0]]))
    assert delta_regime(beta) == [["identity", "contraction"], ["amplification", "reflection"]]
    assert delta_regime(np.empty((0, 2))) == []


def test_no_number_has_no_regime():
    for beta in (math.nan, np.array([0.0, math.nan])):
        with pytest.raises(ValueError, match="expected beta to be a number, got NaN"):
            delta_regime(beta)
    with pytest.raises(TypeError, match=r"expected beta to be an? .*, got '1\.0'"):
        delta_regime("1.0")


def test_wrong_widths_are_named():
    X, k = np.ones((8, 3)), np.ones(7)
    with pytest.raises(ValueError, match="X has 8 features on axis −2, k has 7"):
        delta_apply(X, k, 1.0)
    with pytest.raises(ValueError, match="X has 8 features on axis −2, k has 7"):
        delta_update(X, k, np.ones(3), 1.0)
    with pytest.raises(ValueError, match="X has 3 values on axis −1, v has 4"):
        delta_update(X, np.ones(8), np.ones(4), 1.0)
    with pytest.raises(ValueError, match=r"expected X \(\.\.\. d≥1 m\), got shape \(8,\)"):
        delta_apply(np.ones(8), np.ones(8), 1.0)
    with pytest.raises(ValueError, match=r"expected X \(\.\.\. d≥1 m\), got shape \(8,\)"):
        delta_update(np.ones(8), np.ones(8), np.ones(3), 1.0)
    with pytest.raises(ValueError, match=r"expected v \(#\.\.\. m\), got shape \(\)"):
        delta_update(X, np.ones(8), np.ones(()), 1.0)
    no_vector = np.ones(())
    for function in (
        lambda k: unit_direction(k),
        lambda k: delta_operator(k, 1.0),
        lambda k: delta_apply(X, k, 1.0),
        lambda k: delta_update(X, k, np.ones(3), 1.0),
    ):
        with pytest.raises(ValueError, match=r"expected k \(.+\), got shape \(\)"):
            function(no_vector)


def test_no_result_grows_beyond_its_first_argument(rng):
    X, k = rng.standard_normal((8, 3)), unit(rng, 2, 8)
    for function in (
        lambda: delta_operator(k[0], np.ones(2)),
        lambda: delta_apply(X, k, 1.0),
        lambda: delta_update(X, k[0], np.ones(3), np.ones(2)),
        lambda: delta_update(X, k[0], np.ones((2, 3)), 1.0),
    ):
        with pytest.raises(ValueError, match=r"with \.\.\. = \(\) as in"):
            function()


@pytest.mark.parametrize("placement", ["inside", "outside"])
@pytest.mark.parametrize("size", [1e20, 1e-30])
def test_a_direction_has_no_scale(size, placement, rng):
    """Squares of 1e20 and 1e-30 are ∞ and 0 in float32; the direction and its slope are not."""
    k, R = (rng.standard_normal((3, 6)) for _ in range(2))
    small = (size * k).astype("float32")

    def direction(k):
        return unit_direction(k, eps=0.1 * size, placement=placement)

    def slope(k):
        return grad(lambda k: anp.sum(direction(k) * R.astype(k.dtype)))(k)

    for function in (direction, slope):
        got, expected = function(small), function(small.astype("float64"))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))


@pytest.mark.parametrize("placement", ["inside", "outside"])
def test_the_slope_at_no_direction_is_one_over_eps(placement, rng):
    R = rng.standard_normal(4)
    slope = grad(lambda k: anp.sum(R * unit_direction(k, eps=0.25, placement=placement)))(
        np.zeros(4)
    )
    np.testing.assert_allclose(slope, R / 0.25, rtol=1e-14)


def test_beta_may_be_a_number_of_numpy(rng):
    k = unit(rng, 5).astype("float32")
    for beta in (np.float64(1.5), np.float32(1.5), np.asarray(1.5, dtype="float32")):
        assert delta_operator(k, beta).dtype == np.float32
        np.testing.assert_array_equal(delta_operator(k, beta), delta_operator(k, 1.5))
        assert delta_eigenvalues(beta, np.int64(2)).tolist() == [1.0, -0.5]
    with pytest.raises(TypeError, match=r"delta_operator: expected beta to be an? .*, got None"):
        delta_operator(k, None)


def test_other_errors():
    with pytest.raises(ValueError, match=r"expected eps to be a number ≥ 0, got -0\.1"):
        unit_direction(np.ones(3), eps=-0.1)
    with pytest.raises(TypeError, match="expected eps to be a number ≥ 0, got None"):
        unit_direction(np.ones(3), eps=None)
    with pytest.raises(ValueError, match="got 'insid'; did you mean 'inside'"):
        unit_direction(np.ones(3), placement="insid")
    for d in (0, -1, 2.0, "3"):
        with pytest.raises((TypeError, ValueError), match="expected d to be an integer ≥ 1, got"):
            delta_eigenvalues(0.5, d)
    with pytest.raises(TypeError, match="expected beta to be floating, got int64"):
        delta_determinant(np.array([1, 2]))
