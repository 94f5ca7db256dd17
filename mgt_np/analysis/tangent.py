"""Which plane do the tokens around a token lie in?"""

import math

from mgt_np.arrays import array_namespace, device, layer, magnitude


def _sizes(X, rank, n_neighbours):
    """Hold both numbers to the tokens and features that there are."""
    N, d = X.shape[-2:]
    if n_neighbours >= N:
        return f"expected n_neighbours to be 1 to {N - 1} for {N} tokens, got {n_neighbours}"
    if rank > min(n_neighbours, d):
        return f"expected rank to be 1 to {min(n_neighbours, d)}, got {rank}"
    return None


@layer(requires=_sizes)
def local_tangent_basis(
    X: "... N≥2 d≥1, finite", *, rank: "int ≥ 1", n_neighbours: "int ≥ 1"
) -> "... N d rank":
    """Return a tangent space at every token: the leading chords to its neighbours.

    The n nearest other tokens x_j of each x_i give the matrix of the x_j − x_i; its first `rank`
    right singular vectors are the basis (local PCA about x_i itself): orthonormal columns, each up
    to its sign. N > n_neighbours ≥ rank, rank ≤ d. Tokens on a flat r-dimensional piece of R^d give
    that piece. The choice of neighbours is not differentiable: a gradient takes the neighbours as
    they are, and exists where the chords' singular values differ and none is zero, hence for
    n_neighbours ≤ d.
    """
    xp = array_namespace(X)
    N, d = X.shape[-2:]
    X = X / magnitude(X, (-2, -1))
    tokens, near = xp.reshape(X, (-1, d)), _nearest(xp, X, n_neighbours)
    first = xp.arange(tokens.shape[0] // N, dtype=near.dtype, device=device(X)) * N
    near = xp.reshape(near, (-1, N, n_neighbours)) + xp.expand_dims(first, axis=(1, 2))
    others = xp.take(tokens, xp.reshape(near, (-1,)), axis=0)
    others = xp.reshape(others, (*X.shape[:-1], n_neighbours, d))
    chords = others - xp.reshape(tokens, (*X.shape[:-1], 1, d))
    return xp.matrix_transpose(xp.linalg.svd(chords, full_matrices=False)[2])[..., :rank]


def _nearest(xp, X, n):
    """The places of the n nearest other tokens of each token."""
    # Distances of collapsed tokens would be lost in the rounding of their mean.
    X = X - xp.mean(X, axis=-2, keepdims=True)
    X = X / magnitude(X, (-2, -1))
    squares = xp.sum(X * X, axis=-1)
    products = xp.matmul(X, xp.matrix_transpose(X))
    distances = xp.expand_dims(squares, axis=-1) + xp.expand_dims(squares, axis=-2) - 2.0 * products
    itself = xp.eye(X.shape[-2], dtype=xp.bool, device=device(X))
    return xp.argsort(xp.where(itself, math.inf, distances), axis=-1)[..., :n]
