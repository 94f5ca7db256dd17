"""Solutions of lesson 01, and wrong answers with the words of their hints."""

import math

import numpy as np

import mgt_np


def causal_weights(E):
    seen = np.tril(E)
    return seen / seen.sum(axis=1, keepdims=True)


def strictly_before(E):
    seen = np.tril(E, -1)
    return seen / np.maximum(seen.sum(axis=1, keepdims=True), 1e-300)


def exponentials_again(E):
    return mgt_np.attention_weights(E, np.eye(3), causal=True, scale=1.0)


def without_keepdims(E):
    return np.tril(E) / np.tril(E).sum(axis=1)


def twice(E):
    seen = np.tril(np.exp(E))
    return seen / seen.sum(axis=1, keepdims=True)


def heads(x, W_q, W_k, W_v, n_heads):
    d_h, N = W_q.shape[1] // n_heads, len(x)
    result = np.zeros((N, n_heads * d_h))
    for h in range(n_heads):
        own = slice(h * d_h, (h + 1) * d_h)
        q, k, v = x @ W_q[:, own], x @ W_k[:, own], x @ W_v[:, own]
        for i in range(N):
            p = mgt_np.softmax(k[: i + 1] @ q[i] / math.sqrt(d_h))
            for j in range(i + 1):
                result[i, own] += p[j] * v[j]
    return result


def mistaken(scale=None, mask="before", axis=1, columns="block", join="side by side"):
    """The same with matrices, and with one mistake."""

    def wrong(x, W_q, W_k, W_v, n_heads):
        width, N = W_q.shape[1], len(x)
        d_h, each = width // n_heads, []
        seen = np.tri(N, k=-1 if mask == "strict" else 0, dtype=bool)
        seen = seen.T if mask == "transposed" else seen
        for h in range(n_heads):
            own = slice(h * d_h, (h + 1) * d_h)
            own = slice(h, None, n_heads) if columns == "interleaved" else own
            factor = d_h**-0.5 if scale is None else scale(d_h, n_heads)
            Z = (x @ W_q[:, own]) @ (x @ W_k[:, own]).T * factor
            Z = Z.T if mask == "of keys" else Z
            if mask not in ("after", "none"):
                Z = np.where(seen, Z, 0.0 if mask == "zero" else -1e300)
            P = mgt_np.softmax(Z, axis=axis)
            each.append((P * seen if mask == "after" else P) @ (x @ W_v[:, own]))
        if join == "side by side":
            return np.concatenate(each, axis=1)
        return sum(each) if join == "added" else np.stack(each)

    return wrong


def library_heads(x, W_q, W_k, W_v, n_heads):
    W_o = np.eye(W_q.shape[1])
    return mgt_np.multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads=n_heads, causal=True)


def previous_token(d, size=100.0, shift=1, content=0.0):
    """The query of place i is the key of place i − 1: their product is the largest."""
    W_q, W_k = np.zeros((d + 16, 16)), np.zeros((d + 16, 16))
    for i in range(16):
        if 0 <= i - shift < 16:
            W_q[d + i, i - shift] = size
        W_k[d + i, i] = 1.0
    W_q[:d, 0] = W_k[:d, 0] = content
    return W_q, W_k


SOLUTIONS = {"01.1": causal_weights, "01.2": heads, "01.3": previous_token}

WRONG = {
    "01.1": [
        (lambda E: E / E.sum(axis=1, keepdims=True), "no mask"),
        (lambda E: np.tril(E / E.sum(axis=1, keepdims=True)), "mask first"),
        (lambda E: np.tril(E) / np.tril(E).sum(axis=0), "not over queries"),
        (lambda E: np.triu(E) / np.triu(E).sum(axis=1, keepdims=True), "shows the future"),
        (np.tril, "divide by what is left"),
        (without_keepdims, "keepdims"),
        (twice, "do not take another"),
        (strictly_before, "its own key"),
        (lambda E: np.tril(np.ones((3, 3))) / [[1.0], [2.0], [3.0]], "should be"),
        (lambda E: causal_weights(E)[0], "of shape (3, 3)"),
        (exponentials_again, "derive it"),
    ],
    "01.2": [
        (mistaken(mask="after"), "after softmax"),
        (mistaken(mask="none"), "no causal mask"),
        (mistaken(mask="transposed"), "keys from i on"),
        (mistaken(mask="zero"), "weight e⁰"),
        (mistaken(mask="strict"), "its own key"),
        (mistaken(mask="of keys"), "logits are transposed"),
        (mistaken(axis=0), "over the queries"),
        (mistaken(scale=lambda d_h, H: 1.0 / d_h), "scale is squared"),
        (mistaken(scale=lambda d_h, H: 1.0), "scale is missing"),
        (mistaken(scale=lambda d_h, H: (d_h * H) ** -0.5), "not n_heads"),
        (mistaken(columns="interleaved"), "interleaved"),
        (mistaken(join="added"), "are added"),
        (mistaken(join="stacked"), "axis of their own"),
        (lambda x, W_q, W_k, W_v, n_heads: heads(x, W_q, W_k, W_v, 1), "all columns are one head"),
        (library_heads, "derive it"),
    ],
    "01.3": [
        (lambda d: previous_token(d, size=1.0), "let the logits grow"),
        (lambda d: previous_token(d, size=20.0), "let the logits grow"),
        (lambda d: previous_token(d, shift=-1), "the other way"),
        (lambda d: previous_token(d, shift=0), "copies itself"),
        (lambda d: previous_token(d, shift=2), "attends most to"),
        (lambda d: previous_token(d, content=10.0), "depend on the content"),
        (lambda d: previous_token(d, size=0.0), "the same weight"),
        (lambda d: previous_token(d, size=np.inf), "infinite"),
        (lambda d: previous_token(7), "matrices of"),
        (lambda d: previous_token(d)[0], "two matrices"),
    ],
}
