"""Projections on tangent spaces: their laws, MGT's v1 update, and planes fitted to known shapes."""

import numpy as np
import pytest
from conftest import host

from mgt_np import (
    delta_update,
    geometric_update,
    grad,
    local_tangent_basis,
    projected_update,
    sphere_tangent,
    tangent_gate,
    tangent_projection,
)

D = 8


def normals(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("beta_shape", [(2, 5, 1), (2, 5, D)])
@pytest.mark.parametrize("alpha_shape", [(), (1,), (D,)])
def test_onto_the_state_itself_it_is_the_geometric_update(beta_shape, alpha_shape, rng):
    x, v, beta, alpha = normals(rng, (2, 5, D), (2, 5, D), beta_shape, alpha_shape)
    got = projected_update(x, v, beta, np.asarray(alpha), onto=x)
    np.testing.assert_allclose(got, geometric_update(x, v, beta, np.asarray(alpha)), atol=1e-13)
    longer = projected_update(x, v, beta, np.asarray(alpha), onto=-3.0 * x)
    np.testing.assert_allclose(longer, got, atol=1e-13)


def test_onto_a_direction_it_is_the_equation_token_by_token(rng):
    x, v, u = normals(rng, (3, D), (3, D), (3, D))
    expected = [
        x[t] + 0.7 * (v[t] - 0.4 * np.outer(u[t], u[t]) @ x[t] / (u[t] @ u[t])) for t in range(3)
    ]
    np.testing.assert_allclose(projected_update(x, v, 0.7, 0.4, onto=u), expected, atol=1e-13)
    one_k = projected_update(x, v, 0.7, 0.4, onto=u[0])
    np.testing.assert_allclose(one_k[0], expected[0], atol=1e-13)
    assert np.max(np.abs(one_k[1] - expected[1])) > 0.01


@pytest.mark.parametrize("which", ["v", "k"])
def test_a_whole_step_overwrites_the_part_along_the_direction(which, rng):
    x, v, k = normals(rng, (5, D), (5, D), (5, D))
    u = {"v": v, "k": k}[which]
    after = projected_update(x, v, 1.0, 1.0, onto=u)
    along = [np.sum(u * y, axis=-1) for y in (after, v)]
    np.testing.assert_allclose(*along, atol=1e-13)
    across = [sphere_tangent(u, y) for y in (after, x + v)]
    np.testing.assert_allclose(*across, atol=1e-13)


def test_writing_along_the_learnt_direction_is_the_delta_rule(rng):
    """With v = k c, α = 1 the update is x + β k (c − kᵀx): DDL's with one value."""
    x, k, c, beta = normals(rng, (5, D), (5, D), (5, 1), (5, 1))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    expected = delta_update(x[..., None], k, c, beta[:, 0])[..., 0]
    np.testing.assert_allclose(projected_update(x, k * c, beta, 1.0, onto=k), expected, atol=1e-13)


def test_a_direction_of_zero_erases_nothing(rng):
    x, v = normals(rng, (5, D), (5, D))
    zero = np.zeros((5, D))
    np.testing.assert_array_equal(projected_update(x, v, 0.5, 1.0, onto=zero), x + 0.5 * v)
    slope = grad(lambda u: projected_update(x, v, 0.5, 1.0, onto=u).sum())(zero)
    assert np.all(np.isfinite(slope))
    np.testing.assert_array_equal(sphere_tangent(zero, v), v)


def test_the_tangent_of_the_sphere_is_a_projection(rng):
    x, v, w = normals(rng, (2, 5, D), (2, 5, D), (2, 5, D))
    once = sphere_tangent(x, v)
    np.testing.assert_allclose(np.sum(x * once, axis=-1), 0.0, atol=1e-13)
    np.testing.assert_allclose(sphere_tangent(x, once), once, atol=1e-14)
    np.testing.assert_allclose(sphere_tangent(x, x), 0.0, atol=1e-14)
    symmetric = [np.sum(a * sphere_tangent(x, b), axis=-1) for a, b in ((v, w), (w, v))]
    np.testing.assert_allclose(*symmetric, atol=1e-13)
    length, step = np.linalg.norm(x, axis=-1), 1e-6
    moved = np.linalg.norm(x + step * once, axis=-1)
    assert np.max(np.abs(moved - length)) < 1e-10  # a step along a tangent keeps the length


def test_a_random_direction_is_tangent_to_the_sphere_but_for_one_part_in_d(rng):
    x, v = normals(rng, (4000, 64), (4000, 64))
    kept = np.sum(sphere_tangent(x, v) ** 2, axis=-1) / np.sum(v**2, axis=-1)
    assert np.mean(kept) == pytest.approx(1 - 1 / 64, abs=1e-3)


def test_the_gate_is_no_such_projection(rng):
    x, v, W_gate = normals(rng, (100, D), (100, D), (D, D))
    gated = tangent_gate(x, W_gate) * v
    assert np.mean(np.abs(np.sum(x * gated, axis=-1))) > 0.5


@pytest.mark.parametrize("rank", [1, 3, D])
def test_a_basis_projects(rank, rng):
    v, T = normals(rng, (2, 5, D), (2, 5, D, rank))
    T = np.linalg.qr(T)[0]
    once = tangent_projection(v, T)
    np.testing.assert_allclose(tangent_projection(once, T), once, atol=1e-13)
    expected = np.einsum("...ir,...jr,...j->...i", T, T, v)
    np.testing.assert_allclose(once, expected, atol=1e-13)
    assert (np.max(np.abs(once - v)) < 1e-13) == (rank == D)


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


def test_shapes_that_disagree_are_refused(rng):
    x, v = normals(rng, (5, D), (5, D - 1))
    with pytest.raises(ValueError, match="equally many features, but x has 8, v has 7, onto has 8"):
        projected_update(x, v, 1.0, 1.0, onto=x)
    with pytest.raises(ValueError, match="equally many features, but x has 8, v has 8, onto has 7"):
        projected_update(x, x, 1.0, 1.0, onto=v)
    with pytest.raises(ValueError, match="expected beta to have 1 or 8 features"):
        projected_update(x, x, v, 1.0, onto=x)
    with pytest.raises(ValueError, match="equally many features, but x has 8, v has 7"):
        sphere_tangent(x, v)
    with pytest.raises(ValueError, match="equally many features, but v has 7, basis has 8"):
        tangent_projection(v, rng.standard_normal((5, D, 2)))
    with pytest.raises(ValueError, match="at least 2 axes"):
        tangent_projection(x, x[0])
