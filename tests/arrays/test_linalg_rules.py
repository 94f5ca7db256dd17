"""Eigenvalues and singular values: gradients where they exist, an error where they do not."""

import numpy as np
import pytest

from mgt_np import array_namespace, grad
from mgt_np.arrays import to_host
from mgt_np.arrays.namespace import library_of


def gradient(library, function, x):
    return to_host(grad(lambda x: function(array_namespace(x), x))(library.asarray(x)))


def orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def with_values(rng, values, shape):
    """A matrix of that shape with those singular values."""
    S = np.zeros(shape)
    np.fill_diagonal(S, values)
    return orthogonal(rng, shape[0]) @ S @ orthogonal(rng, shape[1])


def test_sum_of_eigenvalues_is_the_trace(library, rng):
    A = rng.standard_normal((4, 4))
    g = gradient(library, lambda xp, x: xp.sum(xp.linalg.eigvalsh(x)), A + A.T)
    np.testing.assert_allclose(g, np.eye(4), atol=1e-13)


def test_squares_of_singular_values_sum_to_those_of_the_entries(library, rng):
    A = rng.standard_normal((2, 5, 3))
    g = gradient(library, lambda xp, x: xp.sum(xp.square(xp.linalg.svdvals(x))), A)
    np.testing.assert_allclose(g, 2.0 * A, atol=1e-13)


def test_largest_singular_value_has_the_slope_of_its_vectors(library, rng):
    A = rng.standard_normal((3, 5))
    U, _, Vt = np.linalg.svd(A)
    g = gradient(library, lambda xp, x: xp.max(xp.linalg.svdvals(x)), A)
    np.testing.assert_allclose(g, np.outer(U[:, 0], Vt[0]), atol=1e-13)


@pytest.mark.parametrize("name", ["eigvalsh", "svdvals"])
def test_symmetric_functions_have_a_gradient_at_equal_values(library, rng, name):
    """Σ λ² of 2, 2, 3 has slope 2 A, whatever basis LAPACK finds for the equal ones."""
    Q = orthogonal(rng, 3)
    A = Q * np.array([2.0, 2.0, 3.0]) @ Q.T
    g = gradient(library, lambda xp, x: xp.sum(xp.square(getattr(xp.linalg, name)(x))), A)
    np.testing.assert_allclose(g, 2.0 * A, atol=1e-13)


@pytest.mark.parametrize("name", ["eigvalsh", "svdvals"])
def test_the_largest_of_equal_values_has_the_mean_slope(library, rng, name):
    """max λ of 3, 3, 1: half the projector on the plane of the two, the mean over its bases."""
    Q = orthogonal(rng, 3)
    A = Q * np.array([3.0, 3.0, 1.0]) @ Q.T
    g = gradient(library, lambda xp, x: xp.max(getattr(xp.linalg, name)(x)), A)
    np.testing.assert_allclose(g, 0.5 * Q[:, :2] @ Q[:, :2].T, atol=1e-13)


REFUSED = {
    "eigh": lambda xp, x: xp.sum(xp.square(xp.linalg.eigh(x)[1])),
    "svd": lambda xp, x: xp.sum(xp.square(xp.linalg.svd(x, full_matrices=False)[0])),
}


@pytest.mark.parametrize("name", REFUSED)
def test_equal_values_are_refused(library, rng, name):
    Q = orthogonal(rng, 3)
    once = Q * np.array([1.0, 2.0, 3.0]) @ Q.T
    twice = Q * np.array([2.0, 2.0, 3.0]) @ Q.T
    assert np.all(np.isfinite(gradient(library, REFUSED[name], once)))
    with pytest.raises(ValueError, match=rf"^{name} has no gradient here: expected distinct"):
        gradient(library, REFUSED[name], twice)
    with pytest.raises(ValueError, match=rf"^{name} has no gradient here: expected distinct"):
        gradient(library, REFUSED[name], np.stack([once, twice]))


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_equal_values_are_found_behind_rounding(rng, name, n):
    for _ in range(10):
        values = np.arange(1.0, n + 1.0)
        values[-1] = values[-2]
        Q = orthogonal(rng, n)
        with pytest.raises(ValueError, match="expected distinct"):
            grad(lambda x: REFUSED[name](array_namespace(x), x))(Q * values @ Q.T)


@pytest.mark.parametrize("name", REFUSED)
def test_random_matrices_in_float32_are_not_refused(rng, name):
    A = rng.standard_normal((5, 40, 40)).astype(np.float32)
    g = grad(lambda x: REFUSED[name](array_namespace(x), x))(A + np.matrix_transpose(A))
    assert np.all(np.isfinite(g))


@pytest.mark.parametrize("name", REFUSED)
def test_small_matrices_count_as_large_ones_do(library, rng, name):
    Q = orthogonal(rng, 3)
    tiny = 1e-30 * (Q * np.array([1.0, 2.0, 3.0]) @ Q.T)
    assert np.all(np.isfinite(gradient(library, REFUSED[name], tiny)))


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5)])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_singular_values_of_zero_have_a_kink(library, rng, shape, rank):
    """Moving along ±E changes them alike, so their mean slope is 0; the others keep theirs."""
    values = [3.0, 2.0, 1.0][:rank] + [0.0] * (3 - rank)
    A = with_values(rng, values, shape)
    g = gradient(library, lambda xp, x: xp.sum(xp.linalg.svdvals(x)), A)
    U, _, Vt = np.linalg.svd(A)
    np.testing.assert_allclose(g, U[:, :rank] @ Vt[:rank], atol=1e-13)

    E, h = rng.standard_normal(shape), 1e-6
    ahead, behind = (np.linalg.svdvals(A + s * h * E).sum() for s in (1, -1))
    assert np.sum(g * E) == pytest.approx((ahead - behind) / (2 * h), abs=1e-5)


def test_singular_vectors_need_positive_values(library, rng):
    A = with_values(rng, [2.0, 1.0, 0.0], (4, 3))
    with pytest.raises(ValueError, match="expected positive singular values, got zero"):
        gradient(library, REFUSED["svd"], A)


def test_full_decomposition_of_a_rectangular_matrix_is_refused(library, rng):
    A = with_values(rng, [2.0, 1.0], (3, 2))
    with pytest.raises(ValueError, match="full_matrices=False"):
        gradient(library, lambda xp, x: xp.sum(xp.linalg.svd(x)[0]), A)


def test_results_keep_the_names_of_the_standard(library, rng):
    A = library.asarray(rng.standard_normal((3, 3)))
    xp = library_of(A).traced_xp
    for result in (xp.linalg.eigh(A + xp.matrix_transpose(A)), _inside(xp.linalg.eigh, A)):
        assert result.eigenvalues.shape == (3,)
        assert result.eigenvectors.shape == (3, 3)
    for result in (xp.linalg.svd(A), _inside(xp.linalg.svd, A)):
        assert [tuple(part.shape) for part in (result.U, result.S, result.Vh)] == [
            (3, 3),
            (3,),
            (3, 3),
        ]


def _inside(function, A):
    """What `function` returns while a gradient is taken."""
    seen = []

    def fun(x):
        seen.append(function(x))
        return array_namespace(x).sum(x)

    grad(fun)(A)
    return seen[0]


@pytest.mark.parametrize("offset", [-2, 3, -5, 7])
def test_diagonal_outside_the_matrix_is_empty(offset):
    """NumPy says so; the standard leaves it open."""

    def fun(x):
        xp = array_namespace(x)
        return xp.sum(x) + xp.sum(xp.linalg.diagonal(x, offset=offset))

    assert grad(fun)(np.ones((2, 3))).tolist() == [[1.0] * 3] * 2
