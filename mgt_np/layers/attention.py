"""Attention: weights, scaled dot product, several heads (Vaswani et al., 1706.03762, §3.2)."""

import math
from itertools import accumulate

from mgt_np.arrays import (
    array_namespace,
    as_rows,
    device,
    fusable,
    in_blocks,
    in_one_place,
    minus_infinity_below,
    operands,
    sum_of_columns,
    sum_of_rows,
)
from mgt_np.arrays.checks import at_least, number, same_size
from mgt_np.arrays.initial import constant, normal

from .activations import softmax
from .linear import fit_linear, linear


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
        1.0 / math.sqrt(q.shape[-1]) if scale is None else number(scale)
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


@fusable
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
    inner=None,
):
    """Attend in several subspaces at once.

        head_h = softmax(Q_h K_hᵀ/√d_k) V_h,    MHA = [head_1 … head_H] W_o + b_o     (§3.2.2)

    with Q = x W_q + b_q, K = c W_k + b_k, V = c W_v + b_v, c = x, or `context` for cross-attention;
    head h owns the h-th contiguous block of columns of W_q, W_k, W_v.
    Shapes: x (..., n, d), context (..., m, d_c), W_q (d, H d_k), W_k (d_c, H d_k),
    W_v (d_c, H d_v), W_o (H d_v, d_out). `mask` is boolean, True = may attend: (..., n, m) for all
    heads alike, or (..., H or 1, n, m) with one axis more than x. `inner` is a function applied to
    the joined heads (..., n, H d_v) before W_o, as sub-LN's norm is; it may not change their width.
    One head with W_o = I is `scaled_dot_product_attention`.
    Raises ValueError where widths disagree or `n_heads` does not divide them.
    """
    source = x if context is None else context
    q = _split_heads(linear(x, W_q, b_q), n_heads, "W_q")
    k = _split_heads(linear(source, W_k, b_k), n_heads, "W_k")
    v = _split_heads(linear(source, W_v, b_v), n_heads, "W_v")
    if mask is not None:
        in_one_place(x=x, mask=mask)
        if 2 < mask.ndim <= max(x.ndim, source.ndim):
            mask = array_namespace(mask).expand_dims(mask, axis=-3)
    heads = _join_heads(scaled_dot_product_attention(q, k, v, mask=mask, causal=causal))
    return linear(heads if inner is None else inner(heads), W_o, b_o)


PIECE = 64  # queries: small enough for a product that BLAS does not split among threads


def _forward(
    xp, x, W_q, W_k, W_v, W_o, b_q, b_k, b_v, b_o, *, n_heads, context, mask, causal, inner
):
    """Self-attention without a mask; q, k and v by one product, whose heads are views of it."""
    if not (context is None or context is x) or mask is not None or inner is not None:
        return None
    if x.ndim < 2 or 0 in x.shape or 0 in W_q.shape:
        return None
    projections = ((W_q, b_q), (W_k, b_k), (W_v, b_v))
    n_biases = sum(b is not None for _, b in projections)
    if n_biases not in (0, 3) or not all(fit_linear(x, W, b) for W, b in projections):
        return None
    widths = [W.shape[1] for W, _ in projections]
    if not hasattr(n_heads, "__index__") or n_heads < 1 or any(w % n_heads for w in widths):
        return None
    if widths[0] != widths[1] or W_o.ndim != 2 or W_o.shape[0] != widths[2]:
        return None
    if b_o is not None and tuple(b_o.shape) != (W_o.shape[1],):
        return None

    n, rows = x.shape[-2], as_rows(xp, x)
    W = xp.concat([W_q, W_k, W_v], axis=1)
    qkv = xp.matmul(rows, W)
    if n_biases:
        qkv += xp.concat([b_q, b_k, b_v])
    qkv = xp.reshape(qkv, (-1, n, W.shape[1]))
    split = _Heads(xp, int(n_heads), widths)
    pieces = _pieces(n) if causal else [(slice(0, n), slice(0, n))]

    def attend(qkv):
        q, k, v = split(qkv)
        q = q * split.scale
        outputs, saved = [], []
        for queries, keys in pieces:
            E = xp.matmul(k[..., keys, :], xp.matrix_transpose(q[..., queries, :]))
            if causal:
                E += minus_infinity_below(xp, keys.stop, queries.stop - queries.start, E)
            E -= xp.max(E, axis=-2, keepdims=True)
            E = xp.exp(E)
            total = xp.matrix_transpose(sum_of_columns(xp, E))
            O = xp.matmul(xp.matrix_transpose(E), v[..., keys, :])
            O /= total
            outputs.append(O)
            saved += [E, total]
        return split.join(outputs[0] if len(pieces) == 1 else xp.concat(outputs, axis=-2)), *saved

    heads, *saved = in_blocks(attend, qkv, n_axes=1, widest=n_heads * n / W.shape[1])
    y = xp.matmul(as_rows(xp, heads), W_o)
    if b_o is not None:
        y += b_o
    y = xp.reshape(y, (*x.shape[:-1], W_o.shape[1]))
    return y, (x.shape, rows, W, W_o, n_biases, b_o, qkv, heads, split, pieces, *saved)


def _backward(xp, g, shape, x, W, W_o, n_biases, b_o, qkv, heads, split, pieces, *saved):
    """With E = exp(k qᵀ scale − max), s its sums over keys, O = Eᵀ v/s, and dO' = dO/s.

    dv = E dO', dS = E ⊙ (G − sum over keys of E ⊙ G/s) for G = v dO'ᵀ, dq = dSᵀ k scale,
    dk = dS q scale. The sum is also rowsum(dO' ⊙ O), but only as it stands does it cancel G to the
    last digit where a query attends to one key alone: the rest would be multiplied by k and x.
    """
    g = as_rows(xp, g)
    d_heads = xp.reshape(xp.matmul(g, xp.matrix_transpose(W_o)), heads.shape)

    def attend(qkv, d_heads, *saved):
        q, k, v = split(qkv)
        q = q * split.scale
        dO = split.part(d_heads)
        dq, dk, dv = [], None, None
        for (queries, keys), E, total in zip(pieces, saved[::2], saved[1::2], strict=True):
            dO_piece = dO[..., queries, :] / total
            dS = xp.matmul(v[..., keys, :], xp.matrix_transpose(dO_piece))
            along = sum_of_columns(xp, dS * E)
            along /= xp.matrix_transpose(total)
            dS -= along
            dS *= E
            dq_piece = xp.matmul(xp.matrix_transpose(dS), k[..., keys, :])
            dq_piece *= split.scale
            dq.append(dq_piece)
            dk = _add_on_top(xp, xp.matmul(dS, q[..., queries, :]), dk)
            dv = _add_on_top(xp, xp.matmul(E, dO_piece), dv)
        dq = dq[0] if len(dq) == 1 else xp.concat(dq, axis=-2)
        return xp.concat([split.join(part) for part in (dq, dk, dv)], axis=-1)

    widest = split.n_heads * qkv.shape[1] / qkv.shape[2]
    d_qkv = in_blocks(attend, qkv, d_heads, *saved, n_axes=1, widest=widest)
    d_qkv = as_rows(xp, d_qkv)
    dW = xp.matmul(xp.matrix_transpose(x), d_qkv)
    db = sum_of_rows(xp, d_qkv) if n_biases else None
    return (
        xp.reshape(xp.matmul(d_qkv, xp.matrix_transpose(W)), shape),
        *(dW[:, columns] for columns in split.columns),
        xp.matmul(xp.matrix_transpose(as_rows(xp, heads)), g),
        *(None if db is None else db[columns] for columns in split.columns),
        None if b_o is None else sum_of_rows(xp, g),
    )


multi_head_attention.fuse(_forward, _backward)


def _pieces(n):
    """Queries, some at a time, and the keys that the last of them may attend to, as slices.

    What no query of a piece may see is not computed: nearly half of all, where n is large.
    """
    return [(slice(i, min(i + PIECE, n)), slice(0, min(i + PIECE, n))) for i in range(0, n, PIECE)]


def _add_on_top(xp, x, top):
    """x (..., n, d) with `top` (..., m, d), m ≤ n, or nothing added to its first m rows."""
    if top is None:
        return x
    m = top.shape[-2]
    return xp.concat([x[..., :m, :] + top, x[..., m:, :]], axis=-2)


class _Heads:
    """Where the heads of q, k and v are in the columns of one matrix, and how to join them."""

    def __init__(self, xp, n_heads, widths):
        self.xp, self.n_heads = xp, n_heads
        first, second, end = accumulate(widths)
        self.columns = slice(0, first), slice(first, second), slice(second, end)
        self.scale = 1.0 / math.sqrt(widths[0] // n_heads)

    def __call__(self, qkv):
        return [self.part(qkv[..., columns]) for columns in self.columns]

    def part(self, x):
        """(b, n, H d_h) → (b, H, n, d_h)."""
        heads = self.xp.reshape(x, (*x.shape[:2], self.n_heads, x.shape[2] // self.n_heads))
        return self.xp.permute_dims(heads, (0, 2, 1, 3))

    def join(self, heads):
        """(b, H, n, d_h) → (b, n, H d_h)."""
        b, n_heads, n, width = heads.shape
        return self.xp.reshape(self.xp.permute_dims(heads, (0, 2, 1, 3)), (b, n, n_heads * width))


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
