"""Solutions of lesson 12, and wrong answers with the words of their hints."""

import numpy as np

import mgt_np


def lost(W_o, n_heads, n_tokens):
    return n_tokens * (W_o.shape[0] - int(np.linalg.matrix_rank(W_o)))


def null_steps(W_o):
    """An orthonormal basis of {z : z W_o = 0}, in its rows."""
    U, sigma, _ = np.linalg.svd(W_o)
    return U[:, int(np.sum(sigma > 1e-9 * sigma[0])) :].T


def unit_blocks(W_o, n_heads, seed=0):
    """A step of the null space, of length 2 in its shortest head."""
    basis = null_steps(W_o)
    step = np.random.default_rng(seed).normal(size=len(basis)) @ basis
    return 2.0 * step / np.linalg.norm(step.reshape(n_heads, -1), axis=-1).min()


def move(Z, W_o, n_heads):
    return Z + unit_blocks(W_o, n_heads)


def two_heads_only(Z, W_o, n_heads):
    """Head 0 moves, head 1 takes it back; where there are more they stay."""
    d_k = W_o.shape[0] // n_heads
    step = np.zeros(W_o.shape[0])
    step[:d_k] = 2.0
    taken = np.linalg.lstsq(W_o[d_k : 2 * d_k].T, -(step @ W_o), rcond=None)[0]
    step[d_k : 2 * d_k] = taken
    return Z + 2.0 * step / min(np.linalg.norm(step[:d_k]), np.linalg.norm(taken))


def small_step(Z, W_o, n_heads):
    return Z + 0.1 * unit_blocks(W_o, n_heads)


def other_side(Z, W_o, n_heads):
    """A vector x with W_o x = 0, and not z W_o = 0."""
    x = np.linalg.svd(W_o)[2][-1]
    return Z + 9.0 * np.resize(x, W_o.shape[0])


def rows_of_vt(Z, W_o, n_heads):
    """The rows of Vt beyond the rank: they do not even fit where W_o is not square."""
    null = np.linalg.svd(W_o)[2][np.linalg.matrix_rank(W_o) :]
    return Z + 9.0 * null.sum(axis=0)


def first_token(Z, W_o, n_heads):
    moved = Z.copy()
    moved[0] += unit_blocks(W_o, n_heads)
    return moved


def random_step(Z, W_o, n_heads):
    return Z + 3.0


def far_away(Z, W_o, n_heads):
    return Z + 1e5 * unit_blocks(W_o, n_heads)


def balanced(W_q, W_k):
    U, sigma, Vt = np.linalg.svd(W_q @ W_k.T)
    d_k = W_q.shape[1]
    root = np.sqrt(sigma[:d_k])
    return U[:, :d_k] * root, Vt[:d_k].T * root


def all_in_queries(W_q, W_k):
    U, sigma, Vt = np.linalg.svd(W_q @ W_k.T)
    d_k = W_q.shape[1]
    return U[:, :d_k] * sigma[:d_k], Vt[:d_k].T


def sigma_in_both(W_q, W_k):
    U, sigma, Vt = np.linalg.svd(W_q @ W_k.T)
    d_k = W_q.shape[1]
    return U[:, :d_k] * sigma[:d_k], Vt[:d_k].T * sigma[:d_k]


def v_not_transposed(W_q, W_k):
    U, sigma, Vt = np.linalg.svd(W_q @ W_k.T)
    d_k = W_q.shape[1]
    root = np.sqrt(sigma[:d_k])
    return U[:, :d_k] * root, Vt[:, :d_k] * root


def all_columns(W_q, W_k):
    U, sigma, Vt = np.linalg.svd(W_q @ W_k.T)
    return U * np.sqrt(sigma), Vt.T * np.sqrt(sigma)


def queries_only(W_q, W_k):
    Q, R = np.linalg.qr(W_q)
    return Q, W_k @ R.T


def both_by_qr(W_q, W_k):
    return np.linalg.qr(W_q)[0], np.linalg.qr(W_k)[0]


def swapped(W_q, W_k):
    Q, K = balanced(W_q, W_k)
    return K, Q


def shortest_first(W_q, W_k):
    Q, K = balanced(W_q, W_k)
    return Q[:, ::-1], K[:, ::-1]


SOLUTIONS = {"12.1": lost, "12.2": move, "12.3": balanced}
WRONG = {
    "12.1": [
        (lambda W_o, H, N: N * (H - 1) * (len(W_o) // H), "that is N(H − 1)d_k"),
        (lambda W_o, H, N: len(W_o) - np.linalg.matrix_rank(W_o), "for one token"),
        (lambda W_o, H, N: N * np.linalg.matrix_rank(W_o), "how many it does tell"),
        (
            lambda W_o, H, N: N * (W_o.shape[1] - np.linalg.matrix_rank(W_o)),
            "on the side of the output",
        ),
        (lambda W_o, H, N: N * (len(W_o) - min(W_o.shape)), "by the shape"),
        (lambda W_o, H, N: H * N * (len(W_o) - np.linalg.matrix_rank(W_o)), "H times too many"),
        (lambda W_o, H, N: N * len(W_o), "all there is"),
        (lambda W_o, H, N: 0, "shape of W_o"),
        (lambda W_o, H, N: N * len(mgt_np.head_null_space(W_o, n_heads=H)), "derive it"),
        (lambda W_o, H, N: "0", "quotes"),
    ],
    "12.2": [
        (two_heads_only, "some heads do not move"),
        (small_step, "only, and should by more than 1"),
        (other_side, "not rows of Vt"),
        (rows_of_vt, "needs columns of U"),
        (random_step, "z W_o = 0"),
        (first_token, "some tokens keep"),
        (far_away, "by rounding"),
        (lambda Z, W_o, n_heads: Z, "the given ones"),
        (lambda Z, W_o, n_heads: Z[0], "of the shape of Z"),
        (
            lambda Z, W_o, n_heads: mgt_np.head_null_space(W_o, n_heads=n_heads),
            "derive it",
        ),
    ],
    "12.3": [
        (all_in_queries, "share √s"),
        (sigma_in_both, "the logits have to stay"),
        (v_not_transposed, "returns Vᵀ"),
        (lambda *given: (balanced(*given)[0], -balanced(*given)[1]), "in both matrices or in none"),
        (lambda *given: [a.astype(np.float32) for a in balanced(*given)], "in float64"),
        (all_columns, "expected two matrices of shape"),
        (queries_only, "columns of your W_k"),
        (both_by_qr, "the logits have to stay"),
        (swapped, "swapped"),
        (shortest_first, "longest columns"),
        (lambda W_q, W_k: (W_q, W_k), "columns of your W_q"),
        (lambda W_q, W_k: W_q @ W_k.T, "expected two matrices."),
    ],
}
