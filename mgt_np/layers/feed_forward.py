"""The feed-forward sub-layer."""

from mgt_np.arrays import as_rows, fusable, in_blocks, sum_of_rows
from mgt_np.arrays.checks import one_of
from mgt_np.arrays.initial import constant, normal

from .activations import ACTIVATIONS, WEIGHTS
from .linear import fit_linear, linear


@fusable
def feed_forward(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    """Map each token by itself through one hidden layer (Vaswani et al., 1706.03762, eq. 2).

        FFN(x) = φ(x W_1 + b_1) W_2 + b_2

    Shapes: x (..., d), W_1 (d, d_ff), W_2 (d_ff, d_out). φ is "gelu", "relu", "silu" or "sigmoid".
    `inner` is a function applied to the hidden features before W_2, as sub-LN's norm is.
    With W_2 = 0 it is b_2. Raises ValueError where widths disagree or φ is unknown.
    """
    one_of(ACTIVATIONS, activation=activation)
    hidden = ACTIVATIONS[activation](linear(x, W_1, b_1, name="W_1"))
    return linear(hidden if inner is None else inner(hidden), W_2, b_2, name="W_2")


def _forward(xp, x, W_1, W_2, b_1, b_2, *, activation, inner):
    fits = fit_linear(x, W_1, b_1) and W_2.ndim == 2 and W_2.shape[0] == W_1.shape[1]
    if not fits or (b_2 is not None and tuple(b_2.shape) != (W_2.shape[1],)):
        return None
    if activation not in WEIGHTS or inner is not None or 0 in W_1.shape or 0 in W_2.shape:
        return None
    weight, slope = WEIGHTS[activation]

    def of_rows(x):
        a = xp.matmul(x, W_1)
        if b_1 is not None:
            a += b_1
        F = weight(xp, a)
        y = xp.matmul(a * F, W_2)
        if b_2 is not None:
            y += b_2
        return y, a, F

    y, a, F = in_blocks(of_rows, x, widest=W_1.shape[1] / W_1.shape[0])
    return y, (x, W_1, W_2, b_1, b_2, a, F, slope)


def _backward(xp, g, x, W_1, W_2, b_1, b_2, a, F, slope):
    """With a = x W_1 + b_1 and φ(a) = a F: da = g W_2ᵀ ⊙ φ'(a), dW_2 = φ(a)ᵀ g, dW_1 = xᵀ da."""

    def of_rows(g, a, F):
        da = slope(xp, a, F)
        da *= xp.matmul(g, xp.matrix_transpose(W_2))
        return da, a * F, xp.matmul(da, xp.matrix_transpose(W_1))

    da, hidden, dx = in_blocks(of_rows, g, a, F, widest=W_2.shape[0] / W_2.shape[1])
    da, rows = as_rows(xp, da), as_rows(xp, g)
    return (
        dx,
        xp.matmul(xp.matrix_transpose(as_rows(xp, x)), da),
        xp.matmul(xp.matrix_transpose(as_rows(xp, hidden)), rows),
        None if b_1 is None else sum_of_rows(xp, da),
        None if b_2 is None else sum_of_rows(xp, rows),
    )


feed_forward.fuse(_forward, _backward)


def init_feed_forward(rng, d, d_ff, *, scale="lecun", bias=True, dtype="float64"):
    """Return W_1 (d, d_ff), W_2 (d_ff, d) from N(0, scale²), and zero biases if wanted."""
    params = {
        "W_1": normal(rng, (d, d_ff), scale, dtype),
        "W_2": normal(rng, (d_ff, d), scale, dtype),
    }
    if bias:
        params |= {"b_1": constant(0.0, d_ff, dtype), "b_2": constant(0.0, d, dtype)}
    return params
