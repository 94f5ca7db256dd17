"""Rows of the contract tests for projections on tangent spaces."""

import numpy as np
from cases import Case

from mgt_np import layers, local_tangent_basis

_RNG = np.random.default_rng(3)


def normal(*shape):
    return _RNG.standard_normal(shape)


def orthonormal(*shape):
    return np.linalg.qr(normal(*shape))[0]


def projected(x, v, beta, alpha, u):
    return layers.projected_update(x, v, beta, alpha, onto=u)


def on_fitted_plane(X, v):
    """A basis is known up to signs, the projection on it altogether."""
    basis = local_tangent_basis(X, rank=2, n_neighbours=3)
    return layers.tangent_projection(v, basis)


LAYER_CASES = (
    Case(
        "projected_update",
        projected,
        (normal(2, 3, 8), normal(2, 3, 8), normal(2, 3, 1), normal(8), normal(2, 3, 8)),
    ),
    Case(
        "projected_update numbers",
        lambda x, v: layers.projected_update(x, v, 0.5, 0.1, onto=v),
        (normal(2, 3, 8), normal(2, 3, 8)),
    ),
    Case("sphere_tangent", layers.sphere_tangent, (normal(2, 3, 8), normal(2, 3, 8))),
    Case(
        "tangent_projection", layers.tangent_projection, (normal(2, 3, 5), orthonormal(2, 3, 5, 2))
    ),
)
MEASURE_CASES = (Case("local_tangent_basis", on_fitted_plane, (normal(2, 6, 5), normal(2, 6, 5))),)
NOT_OF_STATES = {"local_tangent_basis"}  # it gives no number for a state
