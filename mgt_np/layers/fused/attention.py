"""Self-attention of several heads as one node."""

import math
from itertools import accumulate

from mgt_np.arrays import (
    as_rows,
    in_blocks,
    largest,
    minus_infinity_below,
    squares_are_finite,
    sum_of_columns,
    sum_of_features,
    sum_of_rows,
)
from mgt_np.layers.attention import multi_head_attention

PIECE = 64  # queries: small enough for a product that BLAS does not split among threads


def forward(
    xp, x, W_q, W_k, W_v, W_o, b_q, b_k, b_v, b_o, *, n_heads, context, mask, causal, inner
):
    """Self-attention without a mask; q, k and v by one product, whose heads are views of it."""
    if not (context is None or context is x) or mask is not None or inner is not None:
        return None
    biases = [b for b in (b_q, b_k, b_v) if b is not None]
    if len(biases) not in (0, 3) or any(b is not None and b.ndim == 0 for b in (*biases, b_o)):
        return None
    if any(0 in array.shape for array in (x, W_q, W_v, W_o)):
        return None
    n, rows, W = x.shape[-2], as_rows(xp, x), xp.concat([W_q, W_k, W_v], axis=1)
    qkv = xp.matmul(rows, W)
    if biases:
        qkv += xp.concat(biases)
    qkv, spoilt = xp.reshape(qkv, (-1, n, W.shape[1])), None
    split = Heads(xp, n_heads, [W_q.shape[1], W_k.shape[1], W_v.shape[1]])
    if causal and not squares_are_finite(qkv):
        spoilt, rows, qkv = finite(xp, rows, qkv, split)
    pieces = Pieces(n, causal)
    attend = lambda qkv: attend_pieces(xp, qkv, split, pieces)  # noqa: E731
    heads, *saved = in_blocks(attend, qkv, n_axes=1, widest=n_heads * n / W.shape[1])
    y = xp.matmul(as_rows(xp, heads), W_o)
    if b_o is not None:
        y += b_o
    if spoilt is not None:
        y = xp.where(spoilt, math.nan, y)
    saved = rows, W, W_o, bool(biases), b_o, spoilt, qkv, heads, split, pieces, *saved
    return xp.reshape(y, (*x.shape[:-1], W_o.shape[1])), (x.shape, *saved)


def finite(xp, rows, qkv, split):
    """Which queries see something not finite, now or before, and all tokens, those zero."""
    bad = [
        xp.logical_not(xp.all(xp.isfinite(qkv[..., columns]), axis=-1, keepdims=True))
        for columns in split.columns
    ]
    bad_key = xp.astype(xp.logical_or(bad[1], bad[2]), qkv.dtype)
    past = minus_infinity_below(xp, qkv.shape[1], qkv.shape[1], qkv) == 0.0  # key ≤ query
    n_seen = xp.matmul(xp.matrix_transpose(xp.astype(past, qkv.dtype)), bad_key)
    spoilt = xp.reshape(xp.logical_or(bad[0], n_seen > 0.0), (-1, 1))
    bad = xp.logical_or(bad[0], bad_key > 0.0)
    return (
        spoilt,
        xp.where(xp.reshape(bad, (-1, 1)), 0.0, rows),
        xp.where(bad, 0.0, qkv),
    )


def attend_pieces(xp, qkv, split, pieces):
    """The joined heads; then for each piece E = exp(k qᵀ scale − max) and its sums over keys."""
    q, k, v = split(qkv)
    q = q * split.scale
    outputs, saved = [], []
    for queries, keys in pieces:
        E = xp.matmul(k[..., keys, :], xp.matrix_transpose(q[..., queries, :]))
        if pieces.causal:
            E += minus_infinity_below(xp, keys.stop, queries.stop - queries.start, E)
        E -= largest(xp, E, -2)
        E = xp.exp(E)
        total = xp.matrix_transpose(sum_of_columns(xp, E))
        O = xp.matmul(xp.matrix_transpose(E), v[..., keys, :])
        O /= total
        outputs.append(O)
        saved += [E, total]
    return split.join(outputs[0] if len(pieces) == 1 else xp.concat(outputs, axis=-2)), *saved


def backward(xp, g, shape, x, W, W_o, with_biases, b_o, spoilt, qkv, heads, split, pieces, *saved):
    """d_qkv is `pull_pieces` of d_heads = g W_oᵀ; the rest is that of two affine maps."""
    g = as_rows(xp, g)
    if spoilt is not None:
        g = xp.where(spoilt, 0.0, g)
    d_heads = xp.reshape(xp.matmul(g, xp.matrix_transpose(W_o)), heads.shape)
    pull = lambda *rows: pull_pieces(xp, *rows, split=split, pieces=pieces)  # noqa: E731
    widest = split.n_heads * qkv.shape[1] / qkv.shape[2]
    d_qkv = as_rows(xp, in_blocks(pull, qkv, heads, d_heads, *saved, n_axes=1, widest=widest))
    dW = xp.matmul(xp.matrix_transpose(x), d_qkv)
    db = sum_of_rows(xp, d_qkv) if with_biases else None
    return (
        xp.reshape(xp.matmul(d_qkv, xp.matrix_transpose(W)), shape),
        *(dW[:, columns] for columns in split.columns),
        xp.matmul(xp.matrix_transpose(as_rows(xp, heads)), g),
        *(None if db is None else db[columns] for columns in split.columns),
        None if b_o is None else sum_of_rows(xp, g),
    )


def pull_pieces(xp, qkv, heads, d_heads, *saved, split, pieces):
    """With E = exp(k qᵀ scale − max), s its sums over keys, O = Eᵀ v/s, and dO' = dO/s.

    dv = E dO', dS = E ⊙ (G − sum over keys of E ⊙ G/s), dq = dSᵀ k scale, dk = dS q scale, for
    G = v dO'ᵀ − rowsum(dO' ⊙ O). What is subtracted here is the sum itself, and no shift of G
    changes dS; but where a query attends to one key almost alone, G at that key is then all but 0
    instead of a number whose last digit is as large as the whole of dS.
    """
    q, k, v = split(qkv)
    q = q * split.scale
    dO, O = split.part(d_heads), split.part(heads)
    dq, dk, dv = [], None, None
    for (queries, keys), E, total in zip(pieces, saved[::2], saved[1::2], strict=True):
        dO_piece = dO[..., queries, :] / total
        dS = xp.matmul(v[..., keys, :], xp.matrix_transpose(dO_piece))
        dS -= xp.matrix_transpose(sum_of_features(xp, dO_piece * O[..., queries, :]))
        along = sum_of_columns(xp, dS * E)
        along /= xp.matrix_transpose(total)
        dS -= along
        dS *= E
        dq_piece = xp.matmul(xp.matrix_transpose(dS), k[..., keys, :])
        dq_piece *= split.scale
        dq.append(dq_piece)
        dk = add_on_top(xp, xp.matmul(dS, q[..., queries, :]), dk)
        dv = add_on_top(xp, xp.matmul(E, dO_piece), dv)
    dq = dq[0] if len(dq) == 1 else xp.concat(dq, axis=-2)
    return xp.concat([split.join(part) for part in (dq, dk, dv)], axis=-1)


multi_head_attention.fuse(forward, backward)


class Pieces(list):
    """Queries, some at a time, and the keys that the last of them may attend to, as slices.

    What no query of a piece may see is not computed: nearly half of all, where n is large.
    """

    def __init__(self, n, causal):
        size = PIECE if causal else n
        super().__init__(
            (slice(i, min(i + size, n)), slice(0, min(i + size, n))) for i in range(0, n, size)
        )
        self.causal = causal


def add_on_top(xp, x, top):
    """x (..., n, d) with `top` (..., m, d), m ≤ n, or nothing added to its first m rows."""
    if top is None:
        return x
    m = top.shape[-2]
    return xp.concat([x[..., :m, :] + top, x[..., m:, :]], axis=-2)


class Heads:
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
