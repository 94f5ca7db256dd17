"""The feed-forward sub-layer."""

from mgt_np.arrays.checks import one_of
from mgt_np.arrays.initial import constant, normal

from .activations import ACTIVATIONS
from .linear import linear


def feed_forward(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu"):
    """Map each token by itself through one hidden layer (Vaswani et al., 1706.03762, eq. 2).

        FFN(x) = φ(x W_1 + b_1) W_2 + b_2

    Shapes: x (..., d), W_1 (d, d_ff), W_2 (d_ff, d_out). φ is "gelu", "relu", "silu" or "sigmoid".
    With W_2 = 0 it is b_2. Raises ValueError where widths disagree or φ is unknown.
    """
    one_of(ACTIVATIONS, activation=activation)
    hidden = ACTIVATIONS[activation](linear(x, W_1, b_1, name="W_1"))
    return linear(hidden, W_2, b_2, name="W_2")


def init_feed_forward(rng, d, d_ff, *, scale="lecun", bias=True, dtype="float64"):
    """Return W_1 (d, d_ff), W_2 (d_ff, d) from N(0, scale²), and zero biases if wanted."""
    params = {
        "W_1": normal(rng, (d, d_ff), scale, dtype),
        "W_2": normal(rng, (d_ff, d), scale, dtype),
    }
    if bias:
        params |= {"b_1": constant(0.0, d_ff, dtype), "b_2": constant(0.0, d, dtype)}
    return params
