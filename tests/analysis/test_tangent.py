"""Planes fitted to the tokens around a token: flat and curved shapes, and where no fit exists."""

import numpy as np
import pytest
from array_libraries import host

from mgt_np import grad, local_tangent_basis, sphere_tangent, tangent_projection

D = 8


def normals(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def numpy_basis(X, rank, n):
    """Local PCA about each token, one token at a time, by the eigenvectors of the scatter."""
    bases = []
    for i, x in enumerate(X):
        near = [j for j in np.argsort(np.linalg.norm(X - x, axis=-1)) if j != i][:n]
        chords = X[near] - x
        bases.append(np.linalg.eigh(chords.T @ chords)[1][:, ::-1][:, :rank])
    return np.array(bases)


@pytest.mark.parametrize(("rank", "n"), [(1, 1), (2, 5), (4, 20)])
def test_a_basis_is_fitted_to_the_nearest_tokens(rank, n, library, rng):
    X = rng.standard_normal((2, 3, 25, D))
    got = host(local_tangent_basis(library.asarray(X), rank=rank, n_neighbours=n))
    assert got.shape == (2, 3, 25, D, rank)
    np.testing.assert_allclose(
        np.swapaxes(got, -1, -2) @ got,
        np.broadcast_to(np.eye(rank), (2, 3, 25, rank, rank)),
        atol=1e-12,
    )
    for i in np.ndindex(2, 3):
        expected = numpy_basis(X[i], rank, n)
        both = [T @ np.swapaxes(T, -1, -2) for T in (got[i], expected)]
        np.testing.assert_allclose(*both, atol=1e-10)


def test_tokens_on_a_plane_have_that_plane(rng):
    plane = np.linalg.qr(rng.standard_normal((D, 3)))[0]
    X = rng.standard_normal((40, 3)) @ plane.T + rng.standard_normal(D)
    basis = local_tangent_basis(X, rank=3, n_neighbours=6)
    v = rng.standard_normal((40, D))
    np.testing.assert_allclose(tangent_projection(v, basis), v @ plane @ plane.T, atol=1e-12)


def test_more_tokens_fit_the_tangent_of_a_sphere_better(rng):
    """On a 2-sphere in R⁸ the fitted planes tend to the exact ones as tokens lie closer."""
    axes = np.linalg.qr(rng.standard_normal((D, 3)))[0]
    errors = []
    for N in (100, 1000):
        u = rng.standard_normal((N, 3))
        X = (u / np.linalg.norm(u, axis=-1, keepdims=True)) @ axes.T
        v = rng.standard_normal((N, D))
        exact = sphere_tangent(X, v @ axes @ axes.T)
        fitted = tangent_projection(v, local_tangent_basis(X, rank=2, n_neighbours=8))
        errors.append(np.sqrt(np.mean((fitted - exact) ** 2) / np.mean(exact**2)))
    assert errors[0] < 0.5
    assert errors[1] < errors[0] / 2


def test_a_fit_does_not_see_where_the_tokens_are_or_how_large(rng):
    X, v = normals(rng, (30, D), (30, D))
    here = tangent_projection(v, local_tangent_basis(X, rank=2, n_neighbours=5))
    for moved in (1e-3 * X, X + 1e8, 1e3 + 1e-3 * X):
        there = tangent_projection(v, local_tangent_basis(moved, rank=2, n_neighbours=5))
        np.testing.assert_allclose(there, here, atol=1e-6)


def test_a_gradient_exists_where_the_chords_are_independent(rng):
    X, v = normals(rng, (12, 4), (12, 4))

    def energy(X, n):
        return (tangent_projection(v, local_tangent_basis(X, rank=2, n_neighbours=n)) ** 2).sum()

    slope, step = grad(energy)(X, 3), rng.standard_normal(X.shape)
    change = (energy(X + 1e-6 * step, 3) - energy(X - 1e-6 * step, 3)) / 2e-6
    assert np.sum(slope * step) == pytest.approx(change, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1, "n_neighbours": 5}, "n_neighbours to be 1 to 4 for 5 tokens, got 5"),
        ({"rank": 1, "n_neighbours": 0}, "n_neighbours to be 1 to 4 for 5 tokens, got 0"),
        ({"rank": 4, "n_neighbours": 4}, "rank to be 1 to 3, got 4"),
        ({"rank": 3, "n_neighbours": 2}, "rank to be 1 to 2, got 3"),
        ({"rank": 0, "n_neighbours": 2}, "rank to be 1 to 2, got 0"),
    ],
)
def test_sizes_that_cannot_be_fitted_are_refused(options, message, rng):
    with pytest.raises(ValueError, match=message):
        local_tangent_basis(rng.standard_normal((5, 3)), **options)
