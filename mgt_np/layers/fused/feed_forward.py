"""The feed-forward sub-layer as one node."""

from mgt_np.arrays import as_rows, in_blocks, squares_are_finite, sum_of_rows
from mgt_np.layers.feed_forward import feed_forward

from .activations import WEIGHTS, above, within


def forward(xp, x, W_1, W_2, b_1, b_2, *, activation, inner):
    if activation not in WEIGHTS or inner is not None or 0 in W_1.shape or 0 in W_2.shape:
        return None
    if any(b is not None and b.ndim == 0 for b in (b_1, b_2)):
        return None
    (weight, slope), finite = WEIGHTS[activation], []

    def map_rows(x):
        a = xp.matmul(x, W_1)
        if b_1 is not None:
            a += b_1
        F = weight(xp, a)
        finite.append(squares_are_finite(a))
        y = xp.matmul(above(xp, a, finite[-1]) * F, W_2)
        if b_2 is not None:
            y += b_2
        return y, a, F

    y, a, F = in_blocks(map_rows, x, widest=W_1.shape[1] / W_1.shape[0])
    return y, (x, W_1, W_2, b_1, b_2, a, F, slope, all(finite))


def backward(xp, g, x, W_1, W_2, b_1, b_2, a, F, slope, finite):
    """With a = x W_1 + b_1 and φ(a) = a F: da = g W_2ᵀ ⊙ φ'(a), dW_2 = φ(a)ᵀ g, dW_1 = xᵀ da."""

    def pull_rows(g, a, F):
        da = slope(xp, within(xp, a, finite), F)
        da *= xp.matmul(g, xp.matrix_transpose(W_2))
        return da, above(xp, a, finite) * F, xp.matmul(da, xp.matrix_transpose(W_1))

    da, hidden, dx = in_blocks(pull_rows, g, a, F, widest=W_2.shape[0] / W_2.shape[1])
    da, rows = as_rows(xp, da), as_rows(xp, g)
    return (
        dx,
        xp.matmul(xp.matrix_transpose(as_rows(xp, x)), da),
        xp.matmul(xp.matrix_transpose(as_rows(xp, hidden)), rows),
        None if b_1 is None else sum_of_rows(xp, da),
        None if b_2 is None else sum_of_rows(xp, rows),
    )


feed_forward.fuse(forward, backward)
