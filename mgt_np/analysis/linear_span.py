"""What spans what: the rank of a set of tokens, the span of attention, heads told from their sum.

Cirrincione (2604.23681) claims that layer norm keeps the affine rank, that attention never leaves
the linear span of the embeddings, and that n(H−1)d_k numbers are lost where heads are summed. Of
that paper only the abstract could be read: what is measured here is our reading of it, and each
docstring says under which hypotheses it holds.

A rank is that of floating numbers: singular values up to `rtol` times the largest count as zero.
`rtol` is (max(N, d) + 16) ε unless given, ε that of the dtype the matrix came in; the choice is
ours: it stands above what LAPACK and the making of the matrix round. After a layer norm take more:
it divides a token by its own spread, and so enlarges the rounding of one of nearly equal features.
"""

from mgt_np.arrays import array_namespace, device, layer

from .rank import in_float64


@layer
def matrix_rank(
    X: "... N≥1 d≥1, finite",
    *,
    center: "'tokens' | 'features'" = None,
    rtol: "float in [0, 1)" = None,
) -> "int ...":
    """Count the dimensions that a set of tokens spans.

        rank X = #{i : σᵢ > rtol σ₁}

    Integers in [0, min(N, d)]: no gradient. `center` says of what: None is X itself; "tokens"
    subtracts the mean token, which gives the affine rank, the dimension of the flat through all
    tokens; "features" subtracts from each token the mean of its features, X(I − 11ᵀ/d), as layer
    norm does. σ are the singular values after centring, σ₁ the largest before, since that is what
    centring rounds: equal tokens have affine rank 0. Affine rank ≤ rank ≤ affine rank + 1, equal
    where the flat goes through the origin.

    Layer norm is D X(I − 11ᵀ/d) diag(gain) + 1 biasᵀ with D > 0 diagonal. So before its bias, and
    where no gain is zero, it has the rank of the centred features, exactly; the bias only
    translates. RMS norm, D X diag(gain), has the rank of X. But layer norm keeps neither the rank
    of X (one dimension goes where 1 is in the row space) nor the affine rank: it lays tokens on a
    sphere, which a line meets twice at most, so that three tokens on a line come to lie on an arc,
    of affine rank 2, unless that line, its features centred, goes through the origin. "Affine-rank-
    neutral" (2604.23681) must mean something else there, or is not true.
    """
    xp, dtype, X = array_namespace(X), X.dtype, in_float64(X)
    sigma = xp.linalg.svdvals(X)
    threshold = _threshold(xp, sigma, X, dtype, rtol)
    if center is not None:
        axis = -2 if center == "tokens" else -1
        sigma = xp.linalg.svdvals(X - xp.mean(X, axis=axis, keepdims=True))
    return xp.count_nonzero(sigma > threshold, axis=-1)


@layer
def distance_from_span(
    Y: "... M≥1 d≥1, finite", X: "#... N≥1 d, finite", *, rtol: "float in [0, 1)" = None
) -> "...":
    """Return which part of Y lies outside the linear span of the rows of X.

        ‖Y − Y Π‖_F/‖Y‖_F,    Π the orthogonal projector on the row space of X

    in [0, 1], up to rounding: 0 where each row of Y is a linear combination of rows of X, and for
    Y = 0; 1 where all are orthogonal to it. Nothing is outside where X spans all d dimensions, as
    N ≥ d tokens do as a rule. The gradient in X needs independent rows with distinct singular
    values.
    """
    xp, dtype = array_namespace(Y, X), X.dtype
    Y, X = in_float64(Y), in_float64(X)
    _, sigma, basis = xp.linalg.svd(X, full_matrices=False)
    spanned = sigma > _threshold(xp, sigma, X, dtype, rtol)
    basis = xp.where(xp.expand_dims(spanned, axis=-1), basis, 0.0)
    outside = Y - xp.matmul(xp.matmul(Y, xp.matrix_transpose(basis)), basis)
    size = xp.linalg.vector_norm(Y, axis=(-2, -1))
    distance = xp.linalg.vector_norm(outside, axis=(-2, -1)) / xp.where(size == 0.0, 1.0, size)
    return xp.astype(distance, dtype)


@layer
def path_tokens(X: "... N d", W: "L H d d", *, skips: "bool" = False) -> "... paths d":
    """Return the tokens that an attention stack mixes: each embedding through each path of maps.

        x_j W_path,    W_path = W¹_{h₁} ⋯ W^L_{h_L}              (Dong et al., 2103.03404, §2)

    W[l, h] = W_V W_O of head h in layer l; there are N Hᴸ rows. `skips=True` adds the identity to
    each layer's maps, as a skip connection does: N (H+1)ᴸ rows. Whatever its attention weights P, a
    stack without MLP gives Σ P_path X W_path: its rows are in the span of these. With one head and
    no skip that is the row space of X W_path; with every W[l, h] a multiple of I it is that of X:
    the abstract's "linear span of the original embeddings" (2604.23681) in its literal sense. L = 0
    gives X.
    """
    xp = array_namespace(X, W)
    n_layers, n_heads = W.shape[:2]
    for l in range(n_layers):
        mapped = [xp.matmul(X, W[l, h, :, :]) for h in range(n_heads)]
        X = xp.concat([X, *mapped] if skips else mapped, axis=-2)
    return X


@layer
def head_null_space(
    W_o: "n_heads·d_k≥1 d≥1, finite", *, n_heads: "int ≥ 1", rtol: "float in [0, 1)" = None
) -> "m n_heads d_k":
    """Return an orthonormal basis of what can be added to the heads without changing their sum.

        {Z : Σ_h Z_h W_O^h = Z W_O = 0}

    m = H d_k − rank W_o for each token: n tokens have an ambiguity of n m dimensions. Its rows are
    one basis of many: no gradient. What is known and what is not decides the count. Here W_o is
    known and the heads Z_h are free (nothing is made of their coming from softmax(·) X W_V). With H
    d_k independent rows (random W_o, H d_k ≤ d) m = 0: the heads are exactly Z = O W_o⁺. With
    blocks W_O^h that share one row space of d_k dimensions m = (H−1) d_k: the n(H−1)d_k of
    2604.23681, whose own hypotheses could not be read. Where W_o is unknown, so that any
    contributions (n, d) to the sum will do, it is n(H−1)d. A function of the sum, such as an MLP,
    has at least the same null space.
    """
    xp, dtype, d_k = array_namespace(W_o), W_o.dtype, W_o.shape[0] // n_heads
    W_o = in_float64(W_o)
    U, sigma, _ = xp.linalg.svd(W_o, full_matrices=True)
    rank = int(xp.count_nonzero(sigma > _threshold(xp, sigma, W_o, dtype, rtol)))
    basis = xp.matrix_transpose(U)[rank:, :]
    return xp.astype(xp.reshape(basis, (basis.shape[0], n_heads, d_k)), dtype)


@layer
def head_ambiguity(
    W_o: "... n_heads·d_k≥1 d≥1, finite", *, n_heads: "int ≥ 1", rtol: "float in [0, 1)" = None
) -> "int ... n_heads":
    """Count the channels of each head that its sum with the others does not tell, for one token.

        d_k − (rank W_o − rank W_o without the rows of head h)

    Integers in [0, d_k]: no gradient. It is the dimension of `head_null_space` as seen in head h
    alone. Hypotheses as there: 0 for H d_k independent rows, d_k where another head's block spans
    the same rows.
    """
    xp, dtype, d_k = array_namespace(W_o), W_o.dtype, W_o.shape[-2] // n_heads
    W_o = in_float64(W_o)
    sigma = xp.linalg.svdvals(W_o)
    threshold = _threshold(xp, sigma, W_o, dtype, rtol)
    rank = xp.count_nonzero(sigma > threshold, axis=-1)
    rows = xp.expand_dims(xp.arange(W_o.shape[-2], device=device(W_o)), axis=-1)
    counts = []
    for first in range(0, W_o.shape[-2], d_k):
        own = xp.logical_and(rows >= first, rows < first + d_k)
        others = xp.linalg.svdvals(xp.where(own, 0.0, W_o))
        counts.append(d_k - rank + xp.count_nonzero(others > threshold, axis=-1))
    return xp.stack(counts, axis=-1)


def _threshold(xp, sigma, X, dtype, rtol):
    """The singular value up to which one counts as zero; an axis for the values is kept."""
    if rtol is None:
        rtol = (max(X.shape[-2:]) + 16) * float(xp.finfo(dtype).eps)
    return rtol * xp.max(sigma, axis=-1, keepdims=True)
