"""Which plane do the tokens around a token lie in?"""

import math
import operator

from mgt_np.arrays import device, operands
from mgt_np.arrays.checks import at_least


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
