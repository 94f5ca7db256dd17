"""Attention: weights, scaled dot product, several heads (Vaswani et al., 1706.03762). Lesson 01."""

import math

from mgt_np.arrays import array_namespace, layer
from mgt_np.arrays.initial import constants, normals
from mgt_np.arrays.masks import allowed_pairs, finite_tokens, nan_where, pairs_of_any_head

from .activations import softmax
from .linear import linear

MASK = "bool #M | #... #N #M"
HEADS_MASK = MASK + " | ... #n_heads #N #M"


@layer(N="queries", M="keys", d_k="features")
def attention_weights(
    q: "... N d_k≥1",
    k: "#... M d_k",
    *,
    mask: MASK = None,
    causal: "bool" = False,
    scale: "float ≥ 0" = None,
) -> "... N M":
    """Return how much each query attends to each key.

        P = softmax(q kᵀ · scale),    scale = 1/√d_k unless given            (eq. 1)

    `mask` is True where a query may attend to a key; `causal` lets query i attend to keys 0 … i.
    Rows of P sum to one; a query that may attend to nothing gets a row of zeros. What is hidden
    changes nothing, in value and gradient, not even where it is infinite or NaN; where a mask or
    `causal` is given, a query gets NaN if it, or a key that it may attend to, is not finite.
    """
    xp = array_namespace(q, k)
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is None:
        return softmax(_scores(q, k, scale))
    spoilt, q, k = finite_tokens(allowed, q, k)
    # The lowest finite number, not −∞: a row without any key must not become NaN.
    lowest = float(xp.finfo(q.dtype).min)
    P = softmax(xp.where(allowed, _scores(q, k, scale), lowest))
    return xp.where(allowed, nan_where(spoilt, P), 0.0)


@layer(N="queries", M="keys", d_k="features")
def scaled_dot_product_attention(
    q: "... N d_k≥1",
    k: "#... M d_k",
    v: "#... M d_v",
    *,
    mask: MASK = None,
    causal: "bool" = False,
    scale: "float ≥ 0" = None,
) -> "... N d_v":
    """Return the mean of the values, weighted by attention: P v                (eq. 1).

    P, mask and limits as in `attention_weights`; a hidden value is not seen either. Equal keys give
    the plain mean of the values.
    """
    xp = array_namespace(q, k, v)
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is None:
        return xp.matmul(attention_weights(q, k, scale=scale), v)
    spoilt, q, k, v = finite_tokens(allowed, q, k, v)
    return nan_where(spoilt, xp.matmul(attention_weights(q, k, mask=allowed, scale=scale), v))


def _own_width(x, W_k, context, **_):
    """Without a context W_k is as wide as x; beside one, the shapes say so."""
    if context is None and W_k.shape[0] != x.shape[-1]:
        d = x.shape[-1]
        return (
            f"expected W_k (d_c n_heads·d_k) with d_c = {d}, got shape {tuple(W_k.shape)}: "
            f"x has {d} features on axis −1, W_k has {W_k.shape[0]}"
        )
    return None


@layer(requires=_own_width, d="features", d_c="features", N="queries", M="keys")
def multi_head_attention(
    x: "... N d",
    W_q: "d n_heads·d_k≥1",
    W_k: "d_c n_heads·d_k",
    W_v: "d_c n_heads·d_v",
    W_o: "n_heads·d_v d_out",
    b_q: "n_heads·d_k | number" = None,
    b_k: "n_heads·d_k | number" = None,
    b_v: "n_heads·d_v | number" = None,
    b_o: "d_out | number" = None,
    *,
    n_heads: "int ≥ 1",
    context: "#... M d_c" = None,
    mask: HEADS_MASK = None,
    causal: "bool" = False,
    inner: "function" = None,
) -> "... N d_out":
    """Return what several heads attend to, each in a subspace of its own.

        head_h = softmax(Q_h K_hᵀ/√d_k) V_h,    MHA = [head_1 … head_H] W_o + b_o     (§3.2.2)

    with Q = x W_q + b_q, K = c W_k + b_k, V = c W_v + b_v, c = x, or `context` for cross-attention;
    head h owns the h-th contiguous block of columns of W_q, W_k, W_v. `mask` and `causal` as in
    `attention_weights`: the mask has one axis more than x if it differs between heads. `inner` is a
    function applied to the joined heads before W_o, as sub-LN's norm is; it may not change their
    width. One head with W_o = I is `scaled_dot_product_attention`.
    """
    c = x if context is None else context
    mask = _with_heads(mask, x)
    spoilt, x, c = finite_tokens(pairs_of_any_head(x, c, mask, causal), x, c)
    q = _split_heads(linear(x, W_q, b_q), n_heads)
    k = _split_heads(linear(c, W_k, b_k), n_heads)
    v = _split_heads(linear(c, W_v, b_v), n_heads)
    heads = _join_heads(scaled_dot_product_attention(q, k, v, mask=mask, causal=causal))
    return nan_where(spoilt, linear(heads if inner is None else inner(heads), W_o, b_o))


@layer
def init_multi_head_attention(
    rng: "generator",
    d: "int ≥ 1",
    *,
    d_context: "int ≥ 1" = None,
    scale: "'lecun' | float ≥ 0" = "lecun",
    bias: "bool" = True,
    dtype: "dtype" = "float64",
):
    """Return W_q, W_k, W_v, W_o from N(0, scale²) and, unless `bias=False`, zero biases.

    Shapes: (d, d), with d_context rows in W_k and W_v if given. NumPy arrays.
    """
    d_c = d if d_context is None else d_context
    params = normals(rng, scale, dtype, W_q=(d, d), W_k=(d_c, d), W_v=(d_c, d), W_o=(d, d))
    return params | constants(0.0, dtype, b_q=d, b_k=d, b_v=d, b_o=d) if bias else params


def _with_heads(mask, x):
    """A mask for all heads alike, with an axis for them."""
    if mask is None or not 2 < mask.ndim <= x.ndim:
        return mask
    return array_namespace(mask).expand_dims(mask, axis=-3)


def _scores(q, k, scale):
    """Return q kᵀ · scale."""
    xp = array_namespace(q, k)
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    return xp.matmul(q, xp.matrix_transpose(k)) * scale


def _split_heads(x, n_heads):
    """(..., n, H d_h) → (..., H, n, d_h)."""
    xp = array_namespace(x)
    heads = xp.reshape(x, (*x.shape[:-1], n_heads, x.shape[-1] // n_heads))
    return xp.moveaxis(heads, -2, -3)


def _join_heads(heads):
    """(..., H, n, d_h) → (..., n, H d_h)."""
    xp = array_namespace(heads)
    x = xp.moveaxis(heads, -3, -2)
    return xp.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))
