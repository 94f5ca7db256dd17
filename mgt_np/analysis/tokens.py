"""How alike are the tokens? Distances from the mean token, cosines, norms.

Ratios and lengths are computed of X divided by its largest entry, so that neither an exploding nor
a collapsing state leaves the range of its dtype where the result does not.
"""

from mgt_np.arrays import array_namespace, layer, magnitude

MATRIX = (-2, -1)


@layer
def token_residual(X: "... N≥1 d≥1") -> "... N d":
    """Return what is left of each token without the mean token.

        res(X) = X − 1 x̄ᵀ,    x̄ the mean over tokens

    (Dong et al., 2103.03404: their code; their text takes the x̄ that minimises the norm instead.)
    Zero where all tokens are equal.
    """
    return X - array_namespace(X).mean(X, axis=-2, keepdims=True)


@layer
def composite_norm(X: "... N≥1 d≥1") -> "...":
    """Return ‖X‖₁,∞ = √(‖X‖₁ ‖X‖_∞)                              (Dong et al., 2103.03404, §2).

    with ‖X‖₁ the largest column sum and ‖X‖_∞ the largest row sum of |X|. Not a norm: it breaks the
    triangle inequality. Scales with |X|; its gradient at X = 0 is 0, the mean slope.
    """
    xp, largest = array_namespace(X), magnitude(X, MATRIX)
    size = xp.abs(X / largest)
    columns = xp.max(xp.sum(size, axis=-2), axis=-1)
    rows = xp.max(xp.sum(size, axis=-1), axis=-1)
    return root(columns * rows) * xp.squeeze(largest, axis=MATRIX)


@layer
def relative_residual(X: "... N≥1 d≥1") -> "...":
    """Return ‖res(X)‖₁,∞/‖X‖₁,∞ in [0, 2): the measure that Dong et al. plot.

    0 where all tokens are equal, and for X = 0; its gradient there is 0, the mean slope.
    """
    X = X / magnitude(X, MATRIX)
    norm = composite_norm(X)
    return composite_norm(token_residual(X)) / array_namespace(X).where(norm == 0.0, 1.0, norm)


@layer(N="tokens")
def mean_cosine_similarity(X: "... N≥2 d≥1") -> "...":
    """Return the mean cosine of the angles between different tokens.

        (1/N(N−1)) Σ_{i≠j} xᵢᵀxⱼ/(‖xᵢ‖‖xⱼ‖) = (‖Σᵢ uᵢ‖² − Σᵢ ‖uᵢ‖²)/(N(N−1)),    u = x/‖x‖

    in [−1/(N−1), 1], up to rounding: 1 where all tokens point one way, 0 for orthogonal ones. A
    zero token counts as orthogonal to all.
    """
    xp, N = array_namespace(X), X.shape[-2]
    X = X / magnitude(X, -1)
    U = X / _nonzero(xp.linalg.vector_norm(X, axis=-1, keepdims=True))
    total = xp.sum(U, axis=-2)
    all_pairs = xp.sum(total * total, axis=-1)
    same = xp.sum(xp.sum(U * U, axis=-1), axis=-1)
    return (all_pairs - same) / (N * (N - 1))


@layer
def state_norm(X: "... N≥1 d≥1") -> "...":
    """Return the root mean square length of the tokens: ‖X‖_F/√N.

    √d for unit features; its gradient at X = 0 is 0, the mean slope.
    """
    xp, largest = array_namespace(X), magnitude(X, MATRIX)
    ratio = X / largest
    mean_square = xp.mean(xp.sum(ratio * ratio, axis=-1), axis=-1)
    return root(mean_square) * xp.squeeze(largest, axis=MATRIX)


def root(x):
    """√x, with the gradient 0 at 0, where √ of a square has a kink."""
    xp = array_namespace(x)
    return xp.where(x == 0.0, 0.0, xp.sqrt(_nonzero(x)))


def _nonzero(x):
    return array_namespace(x).where(x == 0.0, 1.0, x)
