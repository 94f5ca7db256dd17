"""Several residual streams instead of one: make them, read from them, mix them, write to them.

A state is X (..., n, d), n streams of d features for each token. Hyper-connections (2409.19606) and
mHC (2512.24880) differ only in where the coefficients of one and the same update come from.
"""

from mgt_np.arrays import array_namespace, layer


@layer(d="features")
def expand_streams(x: "... d", *, n: "int ≥ 1") -> "... n d":
    """Return n equal streams: row i of X is x                                  (HC).

    `reduce_streams` with "mean" gives x again.
    """
    xp = array_namespace(x)
    return xp.broadcast_to(xp.expand_dims(x, axis=-2), (*x.shape[:-1], n, x.shape[-1]))


@layer(n="streams", d="features")
def reduce_streams(X: "... n d", *, reduction: "'sum' | 'mean'" = "sum") -> "... d":
    """Return one stream: the sum of all                                        (HC).

    `reduction="mean"` divides by n, so that n equal streams give one of them; a norm that follows
    makes the two alike up to its ε.
    """
    xp = array_namespace(X)
    return xp.sum(X, axis=-2) if reduction == "sum" else xp.mean(X, axis=-2)


@layer(n="streams", d="features")
def mhc_read(X: "... n d", H_pre: "#... n") -> "... d":
    """Return the input of a sub-layer, mixed of the streams.

        u = H_pre X = Σⱼ H_preⱼ Xⱼ                                        (mHC, eq. 3)

    H_pre = e_j gives stream j.
    """
    xp = array_namespace(X, H_pre)
    return xp.squeeze(xp.matmul(xp.expand_dims(H_pre, axis=-2), X), axis=-2)


@layer(n="streams", d="features")
def mhc_update(X: "... n d", y: "... d", H_post: "#... n", H_res: "#... n n") -> "... n d":
    """Return the streams mixed with each other, with a sub-layer's output added to each.

        X' = H_res X + H_postᵀ y,    X'ᵢ = Σⱼ H_resᵢⱼ Xⱼ + H_postᵢ y        (mHC, eq. 3)

    Row i of H_res says what becomes stream i: where the wrong index is summed over, a symmetric
    H_res hides it. H_res = I and H_post = 1 give every stream the plain residual X + y.
    """
    xp = array_namespace(X, y, H_post, H_res)
    written = xp.expand_dims(H_post, axis=-1) * xp.expand_dims(y, axis=-2)
    return xp.matmul(H_res, X) + written
