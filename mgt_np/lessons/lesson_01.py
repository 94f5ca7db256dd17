"""Lesson 01: judges of its exercises, and its predictions."""

import math

import numpy as np

import mgt_np

from .judging import exercise, hint_for, without
from .predicting import Prediction

Prediction(
    "01.a",
    choices={
        "the middle": "That is where equal logits lead. Growing logits grow apart: one value wins.",
        "a corner": "The largest logit takes all the weight.",
        "outside": "Large logits make large exponentials, but the weights are divided by their "
        "sum: they stay positive and sum to one, and such a mean cannot leave the hull.",
    },
)

Prediction(
    "01.b",
    choices={
        "larger": "Larger logits do make larger differences between keys. But J is the covariance "
        "of a weight that is nearly all on one key, and such a weight has no variance.",
        "smaller": "A row that is all on one key no longer moves with its logits.",
        "equal": "J depends on the weights, and these get sharper: nothing holds its norm fixed.",
    },
)


@exercise("01.1")
def causal_weights(answer, rng):
    """Attention weights of three tokens from the exponentials of their scores."""
    E = np.exp(rng.standard_normal((3, 3)))
    with without(mgt_np.attention_weights, mgt_np.softmax):
        got = answer(E.copy())
    kept, strict = np.tril(E), np.tril(E, -1)
    right = kept / kept.sum(axis=1, keepdims=True)
    upper, twice = np.triu(E), np.tril(np.exp(E))
    usual = [
        (E / E.sum(axis=1, keepdims=True), "there is no mask: the first query has one key alone."),
        (np.tril(E / E.sum(axis=1, keepdims=True)), "mask first, then divide: a row sums to one."),
        (
            kept / kept.sum(axis=1),
            "the sums of the rows went to the columns: keep their axis (keepdims=True).",
        ),
        (kept / kept.sum(axis=0), "divide by the sum over keys, along a row, not over queries."),
        (upper / upper.sum(axis=1, keepdims=True), "the mask is transposed: it shows the future."),
        (kept, "rows have to sum to one: divide by what is left of each."),
        (
            twice / twice.sum(axis=1, keepdims=True),
            "E holds the exponentials: do not take another one.",
        ),
    ]
    hint = hint_for(got, right, usual, what="P")
    if hint and np.shape(got) == (3, 3):
        rows = strict[1:] / strict[1:].sum(axis=1, keepdims=True)
        if np.allclose(np.asarray(got, dtype=float)[1:], rows):
            return "a query may attend to its own key too: the diagonal stays."
    return hint


def _heads(x, W_q, W_k, W_v, H, *, scale=None, mask="before", over=1, apart=False, turned=False):
    """Causal attention with heads, or one of the usual mistakes in it."""
    width, d_h = W_q.shape[1], W_q.shape[1] // H
    seen, joined = np.tri(len(x), dtype=bool), []
    for h in range(H):
        cut = np.arange(h, width, H) if apart else np.arange(h * d_h, (h + 1) * d_h)
        Z = (
            x
            @ W_q[:, cut]
            @ (x @ W_k[:, cut]).T
            * (1.0 / math.sqrt(d_h) if scale is None else scale)
        )
        Z = Z.T if turned else Z
        shown = {"transposed": seen.T, "strict": np.tri(len(x), k=-1, dtype=bool)}.get(mask, seen)
        if mask in ("before", "transposed", "strict", "zero"):
            Z = np.where(shown, Z, 0.0 if mask == "zero" else -1e300)
        P = mgt_np.softmax(Z, axis=over)
        joined.append((np.where(seen, P, 0.0) if mask == "after" else P) @ x @ W_v[:, cut])
    return np.concatenate(joined, axis=1)


@exercise("01.2")
def heads(answer, rng):
    """Causal attention with several heads, before W_o."""
    H = int(rng.integers(2, 4))
    d_h = H + int(rng.integers(1, 3))  # not H, which would make √(H · d_h) the scale squared
    N, d = int(rng.integers(4, 7)), int(rng.integers(3, 7))
    x = rng.standard_normal((N, d))
    weights = rng.standard_normal((3, d, H * d_h))
    right = _heads(x, *weights, H)
    mistakes = [
        ({"mask": "after"}, "the mask comes after softmax: rows no longer sum to one."),
        ({"mask": "none"}, "there is no causal mask: query i sees the keys after it."),
        ({"mask": "transposed"}, "the mask is transposed: query i sees the keys from i on."),
        ({"mask": "zero"}, "a masked logit of 0 still gets the weight e⁰: it has to be −∞."),
        ({"mask": "strict"}, "a query may attend to its own key too: keys 0 … i, with i."),
        ({"turned": True}, "the logits are transposed: z_ij is query i times key j."),
        ({"over": 0}, "softmax runs over the queries: it has to run over the keys."),
        ({"scale": 1.0 / d_h}, "the scale is squared: divide by the root of d_h."),
        ({"scale": 1.0}, "the scale is missing: divide by the root of d_h."),
        ({"scale": (H * d_h) ** -0.5}, "the scale is one head's: d_h, not n_heads · d_h."),
        (
            {"scale": d**-0.5},
            "the scale takes the width of x: it has to take that of a head's key.",
        ),
        ({"apart": True}, "the heads are interleaved: head h owns d_h neighbouring columns."),
    ]
    if d == d_h or d == H * d_h:  # two of these mistakes would be one
        mistakes = [(wrong, hint) for wrong, hint in mistakes if wrong != {"scale": d**-0.5}]
    usual = [(_heads(x, *weights, H, **wrong), hint) for wrong, hint in mistakes]
    one = _heads(x, *weights, 1)
    usual.append((one, "all columns are one head: cut them into n_heads blocks first."))
    shared = right.reshape(N, H, d_h)
    usual.append((shared.sum(axis=1), "the heads are added: they stand side by side."))
    usual.append((shared.swapaxes(0, 1), "the heads are on an axis of their own: join them."))
    usual.append((shared.swapaxes(0, 1).reshape(N, -1), "the heads are joined token after token."))
    forbidden = (
        mgt_np.multi_head_attention,
        mgt_np.scaled_dot_product_attention,
        mgt_np.attention_weights,
    )
    with without(*forbidden):
        got = answer(x.copy(), *(W.copy() for W in weights), H)
    return hint_for(got, right, usual, what="the result")


@exercise("01.3")
def previous_token(answer, rng):
    """W_q and W_k with which each token copies the one before it."""
    d = int(rng.integers(2, 7))
    got = answer(d)
    if not isinstance(got, tuple | list) or len(got) != 2:
        return "return two matrices, W_q and W_k."
    W_q, W_k = (np.asarray(W, dtype=float) for W in got)
    if W_q.ndim != 2 or W_k.shape != W_q.shape or len(W_q) != d + 16 or not W_q.size:
        return f"expected two matrices of {d + 16} rows, got shapes {W_q.shape}, {W_k.shape}."
    if not (np.isfinite(W_q).all() and np.isfinite(W_k).all()):
        return "a weight is infinite or NaN."
    for N in (16, int(rng.integers(3, 16)), 2):
        hint = _copies(W_q, W_k, rng.standard_normal((N, d)))
        if hint:
            return hint
    return ""


def _copies(W_q, W_k, content):
    """What is wrong with a head that should give each token the content of the one before."""
    N, d = content.shape
    x = np.concatenate([content, np.eye(16)[:N]], axis=1)
    with np.errstate(all="ignore"):
        P = mgt_np.attention_weights(x @ W_q, x @ W_k)
    if not np.isfinite(P).all():
        return "the logits overflow: 20 to 100 is large enough."
    if np.abs(P @ content - np.roll(content, 1, axis=0))[1:].max() <= 1e-3:
        return ""
    if np.abs(W_q[:d]).max() > 0.0 or np.abs(W_k[:d]).max() > 0.0:
        return "the logits depend on the content: it may see features d and on, the places, alone."
    i, best = np.arange(N), P.argmax(axis=1)
    if np.ptp(P) < 1e-9:
        return "all keys get the same weight: the logits do not tell the places apart."
    if np.array_equal(best[1:], i[:-1]):
        least = P[i[1:], i[:-1]].min()
        return (
            f"the right key has the largest weight, but only {least:.3g} of it: the others share "
            "the rest, so let the logits grow (they are divided by √d_k)."
        )
    if np.array_equal(best, i):
        return "each token copies itself: shift the places by one."
    if np.array_equal(best[:-1], i[1:]):
        return "each token copies the one after it: the shift goes the other way."
    j = int(np.flatnonzero(best[1:] != i[:-1])[0]) + 1
    return f"of {N} tokens, token {j} attends most to token {best[j]}, and should to {j - 1}."
