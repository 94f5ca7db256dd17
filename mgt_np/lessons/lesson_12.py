"""Lesson 12, what a sum of heads cannot tell: its judges and predictions."""

import numpy as np

import mgt_np

from .judging import exercise, hint_for, without
from .predicting import Prediction

Prediction(
    "12.a",
    thoughts=(
        (
            96.0,
            96.0,
            "That is N(H − 1)d_k: unknowns less those of one head. But each token has as many "
            "equations as unknowns here, and W_O is known and invertible.",
        ),
        (
            1.0,
            95.0,
            "A sum of four numbers does not tell them; but here a token's 16 numbers give 16 sums.",
        ),
        (
            97.0,
            128.0,
            "That would leave nothing of the heads; the output has 128 numbers of its own.",
        ),
    ),
)
Prediction(
    "12.b",
    choices={
        "yes": "A channel is a coordinate of the head: another basis gives other channels.",
        "no": "The thought behind it: a weight that stands out means something. But the layer "
        "sees W_Q and W_K in one product only, and a rotation between them cancels.",
    },
)


def _projection(rng, n_heads, d_k, rank, d):
    return rng.normal(size=(n_heads * d_k, rank)) @ rng.normal(size=(rank, d)) / np.sqrt(rank)


@exercise("12.1")
def lost(answer, rng):
    """How many numbers of N tokens' heads their sum does not tell."""
    for n_heads, d_k, rank, d, n_tokens in (
        (4, 3, 7, 17, 5),
        (4, 3, 12, 12, 5),
        (4, 3, 3, 12, 5),
        (2, 5, 7, 12, 3),
        (3, 4, 8, 8, 6),
        (int(rng.integers(2, 6)), 2, 3, 17, int(rng.integers(7, 20))),
    ):
        W_o = _projection(rng, n_heads, d_k, rank, d)
        with without(mgt_np.head_null_space, mgt_np.head_ambiguity):
            got = answer(W_o.copy(), n_heads, n_tokens)
        size = n_heads * d_k
        usual = [
            (
                n_tokens * (n_heads - 1) * d_k,
                "that is N(H − 1)d_k, right only where W_o has rank d_k.",
            ),
            (size - rank, "that is for one token: there are N."),
            (
                n_heads * n_tokens * (size - rank),
                "that is H times too many: a step z runs over all heads at once.",
            ),
            (n_tokens * rank, "that is how many it does tell, not how many it loses."),
            (
                n_tokens * (d - rank),
                "that is the null space on the side of the output: z W_o = 0 is asked for.",
            ),
            (n_tokens * size, "that is all there is: some of it the sum does tell."),
            (
                n_tokens * (size - min(size, d)),
                "that counts by the shape of W_o, or block by block: the whole has another rank.",
            ),
        ]
        hint = hint_for(got, n_tokens * (size - rank), usual)
        if hint:
            return hint
    return ""


@exercise("12.2")
def move(answer, rng):
    """Other heads, each far from the given ones, with the same sum."""
    wider = int(rng.integers(0, 3))
    for n_heads, d_k, n_tokens, more in (
        (2, 2, 1, 0),  # square, so that the other null space has steps of the right shape
        (3, 2, 4, 1),
        (int(rng.integers(2, 6)), 3, 6, wider),
    ):
        d = n_heads * d_k + more
        W_o = _projection(rng, n_heads, d_k, d_k, d)
        Z = rng.normal(size=(n_tokens, n_heads * d_k))
        with without(mgt_np.head_null_space, mgt_np.head_ambiguity):
            made = answer(Z.copy(), W_o.copy(), n_heads)
        hint = _why_not_moved(made, Z, W_o, n_heads)
        if hint:
            return hint
    return ""


def _why_not_moved(made, Z, W_o, n_heads):
    if isinstance(made, str) or callable(made) or np.shape(made) != Z.shape:
        return f"expected heads of the shape of Z, {Z.shape}, got shape {np.shape(made)}."
    made = np.asarray(made, dtype=float)
    if not np.isfinite(made).all():
        return "your heads hold NaN or infinity."
    step = (made - Z).reshape(len(Z), n_heads, -1)
    far = np.linalg.norm(step, axis=-1)
    off = np.max(np.abs(step.reshape(Z.shape) @ W_o))
    if not step.any():
        return "your heads are the given ones."
    if off > 1e-12:
        if off < 1e-6:
            return f"the sum changes by {off:.1e}, by rounding: take shorter steps, in float64."
        if W_o.shape[0] == W_o.shape[1] and np.max(np.abs(step.reshape(Z.shape) @ W_o.T)) < 1e-9:
            return "your steps have W_o z = 0: z W_o = 0 needs columns of U, not rows of Vt."
        return f"the sum changes by {off:.2g}: each token's step z has to have z W_o = 0."
    if (far.max(axis=1) == 0.0).any():
        return "some tokens keep all their heads: each head of each token has to move."
    if (far.max(axis=0) == 0.0).any():
        return "some heads do not move at all."
    if far.min() <= 1.0:
        return f"a head of a token moves by {far.min():.2g} only, and should by more than 1."
    return ""


@exercise("12.3")
def balanced(answer, rng):
    """Weights with the same logits whose columns are orthogonal, and as long in both."""
    for d, d_k in ((4, 2), (7, 3), (int(rng.integers(5, 9)), 5)):
        W_q, W_k = rng.normal(size=(2, d, d_k))
        made = answer(W_q.copy(), W_k.copy())
        if not isinstance(made, tuple | list | np.ndarray) or len(made) != 2:
            return "expected two matrices."
        if any(np.shape(a) != (d, d_k) for a in made):
            shapes = " and ".join(str(np.shape(a)) for a in made)
            return f"expected two matrices of shape {(d, d_k)}, got {shapes}."
        hint = _why_not_balanced(*(np.asarray(a, dtype=float) for a in made), W_q, W_k)
        if hint:
            return hint
    return ""


def _why_not_balanced(Q, K, W_q, W_k):
    off = np.max(np.abs(Q @ K.T - W_q @ W_k.T))
    if not off < 1e-9:
        if np.allclose(Q @ K.T, W_k @ W_q.T):
            return "your logits are the transposed ones: queries and keys are swapped."
        sigma = [np.linalg.svd(logits)[1] for logits in (Q @ K.T, W_q @ W_k.T)]
        if np.allclose(*sigma):
            if off < 1e-4:
                return f"W_q W_kᵀ changes by {off:.0e}, by rounding: compute in float64."
            return (
                "the singular values are right, the vectors not: NumPy's svd returns Vᵀ, not V; "
                "and a column changes its sign in both matrices or in none."
            )
        return f"W_q W_kᵀ changes by {off:.2g}: the logits have to stay."
    grams = [Q.T @ Q, K.T @ K]
    for name, gram in zip(("W_q", "W_k"), grams, strict=True):
        if np.max(np.abs(gram - np.diag(np.diag(gram)))) > 1e-9:
            return f"the columns of your {name} are not orthogonal to each other."
    lengths_q, lengths_k = (np.diag(gram) for gram in grams)
    if np.max(np.abs(lengths_q - lengths_k)) > 1e-9:
        return "column c of W_q and column c of W_k are not equally long: share √s, not s."
    if np.any(np.diff(lengths_q) > 1e-9):
        return "the longest columns have to stand first."
    return ""
