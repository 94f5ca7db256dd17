"""Several residual streams instead of one: make them, read from them, mix them, write to them.

A state is X (..., n, d), n streams of d features for each token. Hyper-connections (2409.19606) and
mHC (2512.24880) differ only in where the coefficients of one and the same update come from.
"""

from mgt_np.arrays import fusable, in_blocks, operands
from mgt_np.arrays.checks import at_least, one_of, same_size


def expand_streams(x, *, n):
    """Begin with n equal streams: row i of X is x                              (HC).

    Shapes: x (..., d); result (..., n, d). `reduce_streams` with "mean" gives x again. Raises
    ValueError for n < 1.
    """
    xp, x = operands(x=x)
    at_least(1, x=x)
    if not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"expected n to be an integer ≥ 1, got {n!r}")
    return xp.broadcast_to(xp.expand_dims(x, axis=-2), (*x.shape[:-1], n, x.shape[-1]))


def reduce_streams(X, *, reduction="sum"):
    """End with one stream: the sum of all                                      (HC).

    Shapes: X (..., n, d); result (..., d). `reduction="mean"` divides by n, so that n equal streams
    give one of them; a norm that follows makes the two alike up to its ε. Raises ValueError for
    another `reduction`.
    """
    one_of(("sum", "mean"), reduction=reduction)
    xp, X = operands(X=X)
    at_least(2, X=X)
    return xp.sum(X, axis=-2) if reduction == "sum" else xp.mean(X, axis=-2)


@fusable
def mhc_read(X, H_pre):
    """Mix the streams into the input of a sub-layer.

        u = H_pre X = Σⱼ H_preⱼ Xⱼ                                        (mHC, eq. 3)

    Shapes: X (..., n, d), H_pre (..., n); result (..., d). H_pre = e_j gives stream j. Raises
    ValueError where streams disagree.
    """
    xp, X, H_pre = operands(X=X, H_pre=H_pre)
    at_least(2, X=X)
    at_least(1, H_pre=H_pre)
    same_size("streams", X=X.shape[-2], H_pre=H_pre.shape[-1])
    return xp.squeeze(xp.matmul(xp.expand_dims(H_pre, axis=-2), X), axis=-2)


@fusable
def mhc_update(X, y, H_post, H_res):
    """Mix the streams with each other, and add a sub-layer's output to each.

        X' = H_res X + H_postᵀ y,    X'ᵢ = Σⱼ H_resᵢⱼ Xⱼ + H_postᵢ y        (mHC, eq. 3)

    Row i of H_res says what becomes stream i: where the wrong index is summed over, a symmetric
    H_res hides it. Shapes: X (..., n, d), y (..., d), H_post (..., n), H_res (..., n, n); result as
    X. H_res = I and H_post = 1 give every stream the plain residual X + y. Raises ValueError where
    streams or features disagree.
    """
    xp, X, y, H_post, H_res = operands(X=X, y=y, H_post=H_post, H_res=H_res)
    at_least(2, X=X, H_res=H_res)
    at_least(1, y=y, H_post=H_post)
    n, d = X.shape[-2:]
    same_size(
        "streams",
        X=n,
        H_post=H_post.shape[-1],
        **{"H_res (rows)": H_res.shape[-2], "H_res (columns)": H_res.shape[-1]},
    )
    same_size("features", X=d, y=y.shape[-1])
    written = xp.expand_dims(H_post, axis=-1) * xp.expand_dims(y, axis=-2)
    return xp.matmul(H_res, X) + written


# ---- fused: each as batched products of small matrices, some tokens at a time


def _streams_fit(X, vector, *others):
    """Say whether there is one vector of coefficients a token, and the other arrays' axes fit."""
    return (
        X.ndim > 1
        and all(tuple(x.shape) == shape for x, shape in others)
        and (tuple(vector.shape) == tuple(X.shape[:-1]))
    )


def _read_forward(xp, X, H_pre):
    if not _streams_fit(X, H_pre):
        return None

    def of_tokens(X, H_pre):
        return xp.squeeze(xp.matmul(xp.expand_dims(H_pre, axis=-2), X), axis=-2)

    return in_blocks(of_tokens, X, H_pre, n_axes=X.ndim - 2), (X, H_pre)


def _read_backward(xp, g, X, H_pre):
    """dX = H_preᵀ g, dH_pre = X g."""

    def of_tokens(X, H_pre, g):
        d_pre = xp.squeeze(xp.matmul(X, xp.expand_dims(g, axis=-1)), axis=-1)
        return xp.expand_dims(H_pre, axis=-1) * xp.expand_dims(g, axis=-2), d_pre

    return in_blocks(of_tokens, X, H_pre, g, n_axes=X.ndim - 2)


mhc_read.fuse(_read_forward, _read_backward)


def _update_forward(xp, X, y, H_post, H_res):
    if X.ndim < 2:
        return None
    leading, (n, d) = tuple(X.shape[:-2]), X.shape[-2:]
    if not _streams_fit(X, H_post, (y, (*leading, d)), (H_res, (*leading, n, n))):
        return None

    def of_tokens(X, y, H_post, H_res):
        mixed = xp.matmul(H_res, X)
        mixed += xp.expand_dims(H_post, axis=-1) * xp.expand_dims(y, axis=-2)
        return mixed

    return in_blocks(of_tokens, X, y, H_post, H_res, n_axes=X.ndim - 2), (X, y, H_post, H_res)


def _update_backward(xp, g, X, y, H_post, H_res):
    """dX = H_resᵀ g, dy = H_post g, dH_post = g y, dH_res = g Xᵀ."""

    def of_tokens(g, X, y, H_post, H_res):
        return (
            xp.matmul(xp.matrix_transpose(H_res), g),
            xp.squeeze(xp.matmul(xp.expand_dims(H_post, axis=-2), g), axis=-2),
            xp.squeeze(xp.matmul(g, xp.expand_dims(y, axis=-1)), axis=-1),
            xp.matmul(g, xp.matrix_transpose(X)),
        )

    return in_blocks(of_tokens, g, X, y, H_post, H_res, n_axes=X.ndim - 2)


mhc_update.fuse(_update_forward, _update_backward)
