"""MGT's other readings: v1's projection, and exact tangent spaces beside the soft gate.

The paper (2601.01014) calls its gate a soft stand-in for a projection on the tangent space at x,
and does not say of which manifold. Two readings that can be computed exactly: the sphere on which x
lies, and the plane that fits the tokens around x best.
"""

import math
import operator

from mgt_np.arrays import device, operands
from mgt_np.arrays.checks import at_least, same_size


def projected_update(x, v, beta, alpha, *, onto):
    """Erase a part of the state along a direction u, and write the rectified output.

        x' = x + β ⊙ (v − α Proj_u(x)),    Proj_u(x) = u (uᵀx)/‖u‖²               (MGT v1)

    as secondary texts report it; what u is, they do not agree on. `onto` is u: x itself, which is
    `geometric_update`; v, which erases what is about to be written; or a learnt direction k, as in
    the delta rule. Shapes: x, v, u (..., d); β (..., 1), (..., d) or a number; α a number, 0-d, (1)
    or (d). A zero u projects onto nothing. β = α = 1 overwrites the part along u: uᵀx' = uᵀv.
    """
    _, x, v, beta, alpha, u = operands(x=x, v=v, beta=beta, alpha=alpha, onto=onto)
    at_least(1, x=x, v=v, onto=u)
    d = x.shape[-1]
    same_size("features", x=d, v=v.shape[-1], onto=u.shape[-1])
    for name, factor in (("beta", beta), ("alpha", alpha)):
        if not isinstance(factor, int | float) and factor.ndim and factor.shape[-1] not in (1, d):
            raise ValueError(
                f"expected {name} to have 1 or {d} features, got shape {tuple(factor.shape)}"
            )
    return x + beta * (v - alpha * _along(u, x))


def sphere_tangent(x, v):
    """Project v on the tangent space of the sphere ‖x‖ = const at x.

        P_x v = v − x (xᵀv)/‖x‖²

    Exact, idempotent, and orthogonal to x. Shapes: x, v (..., d); result (..., d). At x = 0, which
    is no sphere, v is left as it is. P_x x = 0. A v of random direction loses 1/d of its energy.
    """
    _, x, v = operands(x=x, v=v)
    at_least(1, x=x, v=v)
    same_size("features", x=x.shape[-1], v=v.shape[-1])
    return v - _along(x, v)


def local_tangent_basis(X, *, rank, n_neighbours):
    """Fit a tangent space at every token: the leading directions of the chords to its neighbours.

    The n nearest other tokens x_j of each x_i give the matrix of the x_j − x_i; its first `rank`
    right singular vectors are the basis (local PCA about x_i itself).
    Shapes: X (..., N, d), N > n_neighbours ≥ rank, rank ≤ d; result (..., N, d, rank), columns
    orthonormal, each up to its sign. Tokens on a flat r-dimensional piece of R^d give that piece.
    Which tokens are near is no smooth question: a gradient takes the neighbours as they are, and
    exists where the chords' singular values differ and none is zero, hence for n_neighbours ≤ d.
    Raises ValueError for sizes out of these ranges.
    """
    xp, X = operands(X=X)
    at_least(2, X=X)
    N, d = X.shape[-2:]
    rank, n = operator.index(rank), operator.index(n_neighbours)
    if not 1 <= n < N:
        raise ValueError(f"expected n_neighbours to be 1 to {N - 1} for {N} tokens, got {n}")
    if not 1 <= rank <= min(n, d):
        raise ValueError(f"expected rank to be 1 to {min(n, d)}, got {rank}")
    tokens = xp.reshape(X, (-1, d))
    # Distances of collapsed tokens would drown in the rounding of their mean.
    X = X - xp.mean(X, axis=-2, keepdims=True)
    squares = xp.sum(X * X, axis=-1)
    products = xp.matmul(X, xp.matrix_transpose(X))
    distances = xp.expand_dims(squares, axis=-1) + xp.expand_dims(squares, axis=-2) - 2.0 * products
    itself = xp.eye(N, dtype=xp.bool, device=device(X))
    distances = xp.where(itself, math.inf, distances)
    near = xp.argsort(distances, axis=-1)[..., :n]

    first = xp.arange(tokens.shape[0] // N, dtype=near.dtype, device=device(X)) * N
    near = xp.reshape(near, (-1, N, n)) + xp.expand_dims(first, axis=(1, 2))
    others = xp.take(tokens, xp.reshape(near, (-1,)), axis=0)
    chords = xp.reshape(others, (*X.shape[:-1], n, d)) - xp.reshape(tokens, (*X.shape[:-1], 1, d))
    return xp.matrix_transpose(xp.linalg.svd(chords, full_matrices=False)[2])[..., :rank]


def tangent_projection(v, basis):
    """Project v on the space that the columns of T span:  P v = T (Tᵀ v).

    Shapes: v (..., d), T (..., d, r) with orthonormal columns; result (..., d). Idempotent;
    r = d leaves v as it is. A v of random direction keeps r/d of its energy.
    """
    xp, v, T = operands(v=v, basis=basis)
    at_least(1, v=v)
    at_least(2, basis=T)
    same_size("features", v=v.shape[-1], basis=T.shape[-2])
    inside = xp.matmul(xp.matrix_transpose(T), xp.expand_dims(v, axis=-1))
    return xp.squeeze(xp.matmul(T, inside), axis=-1)


def _along(u, x):
    """u (uᵀx)/‖u‖², 0 for u = 0."""
    xp, u, x = operands(u=u, x=x)
    square = xp.sum(u * u, axis=-1, keepdims=True)
    return u * (xp.sum(u * x, axis=-1, keepdims=True) / xp.where(square == 0.0, 1.0, square))
