"""Projections on tangent spaces: their laws, and MGT's v1 update."""

import numpy as np
import pytest

from mgt_np import (
    delta_update,
    geometric_update,
    grad,
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
