"""Reading and updating streams: batched products of small matrices, some tokens at a time."""

from mgt_np.arrays import in_blocks
from mgt_np.layers.streams import mhc_read, mhc_update


def read_forward(xp, X, H_pre):
    """One vector of coefficients for each token."""
    if H_pre.shape != X.shape[:-1]:
        return None

    def read_tokens(X, H_pre):
        return xp.squeeze(xp.matmul(xp.expand_dims(H_pre, axis=-2), X), axis=-2)

    return in_blocks(read_tokens, X, H_pre, n_axes=X.ndim - 2), (X, H_pre)


def read_backward(xp, g, X, H_pre):
    """dX = H_preᵀ g, dH_pre = X g."""

    def pull_tokens(X, H_pre, g):
        d_pre = xp.squeeze(xp.matmul(X, xp.expand_dims(g, axis=-1)), axis=-1)
        return xp.expand_dims(H_pre, axis=-1) * xp.expand_dims(g, axis=-2), d_pre

    return in_blocks(pull_tokens, X, H_pre, g, n_axes=X.ndim - 2)


mhc_read.fuse(read_forward, read_backward)


def update_forward(xp, X, y, H_post, H_res):
    """One matrix and one vector of coefficients for each token."""
    if H_post.shape != X.shape[:-1] or H_res.shape != (*X.shape[:-1], X.shape[-2]):
        return None

    def update_tokens(X, y, H_post, H_res):
        mixed = xp.matmul(H_res, X)
        mixed += xp.expand_dims(H_post, axis=-1) * xp.expand_dims(y, axis=-2)
        return mixed

    return in_blocks(update_tokens, X, y, H_post, H_res, n_axes=X.ndim - 2), (X, y, H_post, H_res)


def update_backward(xp, g, X, y, H_post, H_res):
    """dX = H_resᵀ g, dy = H_post g, dH_post = g y, dH_res = g Xᵀ."""

    def pull_tokens(g, X, y, H_post, H_res):
        return (
            xp.matmul(xp.matrix_transpose(H_res), g),
            xp.squeeze(xp.matmul(xp.expand_dims(H_post, axis=-2), g), axis=-2),
            xp.squeeze(xp.matmul(g, xp.expand_dims(y, axis=-1)), axis=-1),
            xp.matmul(g, xp.matrix_transpose(X)),
        )

    return in_blocks(pull_tokens, g, X, y, H_post, H_res, n_axes=X.ndim - 2)


mhc_update.fuse(update_forward, update_backward)
