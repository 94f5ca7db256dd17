"""The feed-forward sub-layer. Lesson 02."""

from mgt_np.arrays import Choice, layer
from mgt_np.arrays.initial import constants, normals

from .activations import ACTIVATIONS
from .linear import linear


@layer(d="features", d_ff="hidden features", d_out="outputs")
def feed_forward(
    x: "... d",
    W_1: "d d_ff",
    W_2: "d_ff d_out",
    b_1: "d_ff | number" = None,
    b_2: "d_out | number" = None,
    *,
    activation: Choice(ACTIVATIONS) = "gelu",
    inner: "function" = None,
) -> "... d_out":
    """Return each token mapped by itself through one hidden layer.

        FFN(x) = φ(x W_1 + b_1) W_2 + b_2             (Vaswani et al., 1706.03762, eq. 2)

    φ is the `activation`. `inner` is a function applied to the hidden features before W_2, as
    sub-LN's norm is. With W_2 = 0 the result is b_2.
    """
    hidden = ACTIVATIONS[activation](linear(x, W_1, b_1))
    return linear(hidden if inner is None else inner(hidden), W_2, b_2)


@layer
def init_feed_forward(
    rng: "generator",
    d: "int ≥ 1",
    d_ff: "int ≥ 1",
    *,
    scale: "'lecun' | float ≥ 0" = "lecun",
    bias: "bool" = True,
    dtype: "dtype" = "float64",
):
    """Return W_1 (d, d_ff), W_2 (d_ff, d) from N(0, scale²), and zero biases if wanted."""
    params = normals(rng, scale, dtype, W_1=(d, d_ff), W_2=(d_ff, d))
    return params | constants(0.0, dtype, b_1=d_ff, b_2=d) if bias else params
