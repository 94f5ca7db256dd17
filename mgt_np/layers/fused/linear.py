"""The affine map as one node."""

from mgt_np.arrays import as_rows, sum_of_rows
from mgt_np.layers.linear import linear


def forward(xp, x, W, b):
    """One product for all rows."""
    rows = as_rows(xp, x)
    y = xp.matmul(rows, W)
    if b is not None:
        y += b
    return xp.reshape(y, (*x.shape[:-1], W.shape[1])), (x.shape, rows, W, b)


def backward(xp, g, shape, x, W, b):
    """dx = g Wᵀ, dW = xᵀ g, db = Σ g over rows."""
    g = as_rows(xp, g)
    dx = xp.reshape(xp.matmul(g, xp.matrix_transpose(W)), shape)
    return dx, xp.matmul(xp.matrix_transpose(x), g), None if b is None else sum_of_rows(xp, g)


linear.fuse(forward, backward)
