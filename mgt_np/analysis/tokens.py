"""How alike are the tokens? Distances from the mean token, cosines, norms."""

from mgt_np.arrays import operands


def token_residual(X):
    """Return what is left of each token without the mean token.

        res(X) = X − 1 x̄ᵀ,    x̄ the mean over tokens

    (Dong et al., 2103.03404: their code; their text takes the x̄ that minimises the norm instead.)
    Shapes: X (..., N, d), result alike. Zero where all tokens are equal.
    """
    xp, X = _tokens(X)
    return X - xp.mean(X, axis=-2, keepdims=True)


def composite_norm(X):
    """Return ‖X‖₁,∞ = √(‖X‖₁ ‖X‖_∞)                              (Dong et al., 2103.03404, §2).

    with ‖X‖₁ the largest column sum and ‖X‖_∞ the largest row sum of |X|. Not a norm: it breaks the
    triangle inequality. Shapes: X (..., N, d); result (...). Scales with |X|.
    """
    xp, X = _tokens(X)
    size = xp.abs(X)
    columns = xp.max(xp.sum(size, axis=-2), axis=-1)
    rows = xp.max(xp.sum(size, axis=-1), axis=-1)
    return xp.sqrt(columns * rows)


def relative_residual(X):
    """Return ‖res(X)‖₁,∞/‖X‖₁,∞: the measure that Dong et al. plot.

    Shapes: X (..., N, d); result (...). 0 where all tokens are equal, and for X = 0.
    """
    xp, X = _tokens(X)
    norm = composite_norm(X)
    return composite_norm(token_residual(X)) / xp.where(norm == 0.0, 1.0, norm)


def mean_cosine_similarity(X):
    """Return the mean cosine of the angles between different tokens.

        (1/N(N−1)) Σ_{i≠j} xᵢᵀxⱼ/(‖xᵢ‖‖xⱼ‖) = (‖Σᵢ uᵢ‖² − Σᵢ ‖uᵢ‖²)/(N(N−1)),    u = x/‖x‖

    Shapes: X (..., N, d), N ≥ 2; result (...) in [−1/(N−1), 1]: 1 where all tokens point one way,
    0 for orthogonal ones. A zero token counts as orthogonal to all.
    """
    xp, X = _tokens(X)
    N = X.shape[-2]
    if N < 2:
        raise ValueError(f"expected at least 2 tokens to compare, got {N}")
    norm = xp.linalg.vector_norm(X, axis=-1, keepdims=True)
    U = X / xp.where(norm == 0.0, 1.0, norm)
    total = xp.sum(U, axis=-2)
    all_pairs = xp.sum(total * total, axis=-1)
    same = xp.sum(xp.sum(U * U, axis=-1), axis=-1)
    return (all_pairs - same) / (N * (N - 1))


def state_norm(X):
    """Return the root mean square length of the tokens: ‖X‖_F/√N.

    Shapes: X (..., N, d); result (...). Computed relative to the largest entry, so that a state
    that explodes is measured up to the largest float. √d for unit features.
    """
    xp, X = _tokens(X)
    largest = xp.max(xp.max(xp.abs(X), axis=-1, keepdims=True), axis=-2, keepdims=True)
    ratio = X / xp.where(largest == 0.0, 1.0, largest)
    mean_square = xp.mean(xp.sum(ratio * ratio, axis=-1), axis=-1)
    return xp.sqrt(mean_square) * xp.squeeze(largest, axis=(-2, -1))


def _tokens(X):
    xp, X = operands(X=X)
    if X.ndim < 2 or 0 in X.shape[-2:]:
        raise ValueError(f"expected X to have shape (..., N, d), got {tuple(X.shape)}")
    return xp, X
