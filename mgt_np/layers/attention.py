"""Attention: weights, scaled dot product, several heads (Vaswani et al., 1706.03762, §3.2)."""

import math

from mgt_np.arrays import array_namespace, device, in_one_place, operands
from mgt_np.arrays.checks import at_least, same_size
from mgt_np.arrays.initial import constant, normal

from .activations import softmax
from .linear import linear


def attention_weights(q, k, *, mask=None, causal=False, scale=None):
    """Return how much each query attends to each key.

        P = softmax(q kᵀ · scale),    scale = 1/√d_k unless given            (eq. 1)

    Shapes: q (..., n_queries, d_k), k (..., n_keys, d_k); result (..., n_queries, n_keys).
    `mask` is boolean, True = may attend, and broadcasts to the result; `causal` lets query i attend
    to keys 0 … i. Rows of P sum to one; a query that may attend to nothing gets a row of zeros.
    Raises TypeError for a mask that is not boolean, ValueError for one of a wrong shape.
    """
    xp, q, k = operands(q=q, k=k)
    at_least(2, q=q, k=k)
    same_size("features", q=q.shape[-1], k=k.shape[-1])
    scores = xp.matmul(q, xp.matrix_transpose(k)) * (
        1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    )
    allowed = _allowed(xp, scores, mask, causal)
    if allowed is None:
        return softmax(scores)
    # The lowest finite number, not −∞: a row without any key must not become NaN.
    weights = softmax(xp.where(allowed, scores, float(xp.finfo(scores.dtype).min)))
    return xp.where(allowed, weights, 0.0)


def scaled_dot_product_attention(q, k, v, *, mask=None, causal=False, scale=None):
    """Return the mean of the values, weighted by attention: P v                (eq. 1).

    Shapes: q (..., n_queries, d_k), k (..., n_keys, d_k), v (..., n_keys, d_v); result
    (..., n_queries, d_v). Mask, errors and limits as in `attention_weights`. Equal keys give the
    plain mean of the values.
    """
    xp, q, k, v = operands(q=q, k=k, v=v)
    at_least(2, q=q, k=k, v=v)
    same_size("keys", k=k.shape[-2], v=v.shape[-2])
    return xp.matmul(attention_weights(q, k, mask=mask, causal=causal, scale=scale), v)


def multi_head_attention(
    x,
    W_q,
    W_k,
    W_v,
    W_o,
    b_q=None,
    b_k=None,
    b_v=None,
    b_o=None,
    *,
    n_heads,
    context=None,
    mask=None,
    causal=False,
):
    """Attend in several subspaces at once.

        head_h = softmax(Q_h K_hᵀ/√d_k) V_h,    MHA = [head_1 … head_H] W_o + b_o     (§3.2.2)

    with Q = x W_q + b_q, K = c W_k + b_k, V = c W_v + b_v, c = x, or `context` for cross-attention;
    head h owns the h-th contiguous block of columns of W_q, W_k, W_v.
    Shapes: x (..., n, d), context (..., m, d_c), W_q (d, H d_k), W_k (d_c, H d_k),
    W_v (d_c, H d_v), W_o (H d_v, d_out). `mask` is boolean, True = may attend: (..., n, m) for all
    heads alike, or (..., H or 1, n, m) with one axis more than x. One head with W_o = I is
    `scaled_dot_product_attention`.
    Raises ValueError where widths disagree or `n_heads` does not divide them.
    """
    source = x if context is None else context
    q = _split_heads(linear(x, W_q, b_q, name="W_q"), n_heads, "W_q")
    k = _split_heads(linear(source, W_k, b_k, name="W_k"), n_heads, "W_k")
    v = _split_heads(linear(source, W_v, b_v, name="W_v"), n_heads, "W_v")
    if mask is not None:
        in_one_place(x=x, mask=mask)
        if 2 < mask.ndim <= max(x.ndim, source.ndim):
            mask = array_namespace(mask).expand_dims(mask, axis=-3)
    heads = scaled_dot_product_attention(q, k, v, mask=mask, causal=causal)
    return linear(_join_heads(heads), W_o, b_o, name="W_o")


def init_multi_head_attention(rng, d, *, d_context=None, scale="lecun", bias=True, dtype="float64"):
    """Return W_q, W_k, W_v, W_o from N(0, scale²) and, unless `bias=False`, zero biases.

    Shapes: (d, d), with d_context rows in W_k and W_v if given. NumPy arrays.
    """
    d_context = d if d_context is None else d_context
    rows = {"q": d, "k": d_context, "v": d_context, "o": d}
    params = {f"W_{name}": normal(rng, (n, d), scale, dtype) for name, n in rows.items()}
    if bias:
        params |= {f"b_{name}": constant(0.0, d, dtype) for name in rows}
    return params


def _split_heads(x, n_heads, name):
    """(..., n, H d_h) → (..., H, n, d_h)."""
    if not hasattr(n_heads, "__index__") or n_heads < 1 or x.shape[-1] % n_heads:
        raise ValueError(
            f"expected n_heads to divide the {x.shape[-1]} columns of {name}, got {n_heads}"
        )
    xp, n_heads = array_namespace(x), int(n_heads)
    heads = xp.reshape(x, (*x.shape[:-1], n_heads, x.shape[-1] // n_heads))
    return xp.moveaxis(heads, -2, -3)


def _join_heads(heads):
    """(..., H, n, d_h) → (..., n, H d_h)."""
    xp = array_namespace(heads)
    x = xp.moveaxis(heads, -3, -2)
    return xp.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))


def _allowed(xp, scores, mask, causal):
    """The boolean array of the pairs (query, key) that may meet; None for all."""
    n_queries, n_keys = scores.shape[-2:]
    allowed = None
    if mask is not None:
        in_one_place(q=scores, mask=mask)
        if not array_namespace(mask).isdtype(mask.dtype, "bool"):
            raise TypeError(f"expected a boolean mask, True = may attend, got {mask.dtype}")
        expected = tuple(scores.shape)
        pairs = zip(reversed(mask.shape), reversed(expected), strict=False)
        if mask.ndim > len(expected) or any(m not in (1, n) for m, n in pairs):
            raise ValueError(
                f"expected a mask that broadcasts to {expected}, got shape {tuple(mask.shape)}"
            )
        allowed = mask
    if causal:
        places = [xp.arange(n, device=device(scores)) for n in (n_queries, n_keys)]
        past = xp.expand_dims(places[0], axis=1) >= xp.expand_dims(places[1], axis=0)
        allowed = past if allowed is None else xp.logical_and(allowed, past)
    return allowed
