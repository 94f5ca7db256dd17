"""Lesson 5, Deep Delta Learning: judges of its exercises, and its predictions."""

import math

import numpy as np

import mgt_np

from .judging import Forbidden, exercise, hint_for, is_number, unit, without
from .predicting import Prediction


@exercise("05.1")
def writes_needed(answer, rng):
    """How many writes until a share of the error is left."""
    share = rng.uniform(0.002, 0.015)  # so small that no two mistakes give one number
    for beta in (rng.uniform(0.05, 0.2), rng.uniform(1.5, 1.9), 1.0):
        hint = _writes_needed(answer, beta, share)
        if hint:
            return hint
    return ""


def _writes_needed(answer, beta, share):
    got, told = None, ""
    try:
        with np.errstate(all="ignore"):
            got = answer(beta, share)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        told = f"for β = {beta:.3g} your answer raised {type(error).__name__}: "
    if told or (isinstance(got, float | np.floating) and not is_number(got)):
        if beta == 1.0:
            return told + "β = 1 leaves no error at all, and has no logarithm: one write is enough."
        if beta < 1.0:
            return told + "the factor is |1 − β|, on both sides of β = 1."
        return told + "beyond β = 1 the error changes its sign: take the size |1 − β|."
    if beta == 1.0:
        return hint_for(got, 1.0, [(0.0, "at β = 1 it takes one write, not none.")])
    exact = math.log(share) / math.log(abs(1.0 - beta))
    n = math.ceil(exact)
    usual = [
        (exact, "a number of writes is whole: round it up."),
        (n - 1, "one write short: the error is still larger than the share."),
        (n + 1, "one write too many: the smallest number is asked for."),
        (math.ceil(-math.log(share) / beta), "that takes exp(−β) for the factor of one write."),
        (
            math.ceil((1.0 - share) / beta),
            "each write removes a share of what is LEFT of the error.",
        ),
    ]
    if beta < 1.0:
        wrong = math.ceil(math.log(share) / math.log(beta))
        usual.append((wrong, "a write multiplies the error by 1 − β, not by β."))
    else:
        usual.insert(0, (1.0, "at β > 1 the error turns round, and does not vanish at once."))
    return hint_for(got, n, usual, what="the number of writes")


@exercise("05.2")
def write_gradients(answer, rng):
    """The four gradients of X + β k vᵀ."""
    d, m = int(rng.integers(5, 8)), int(rng.integers(2, 5))
    X, G = rng.standard_normal((2, d, m))
    k, v, beta = unit(rng, d), rng.standard_normal(m), rng.uniform(0.2, 1.8)
    with without(mgt_np.grad, mgt_np.value_and_grad):
        got = answer(G, X, k, v, beta)
    if not isinstance(got, tuple | list) or len(got) != 4:
        return "return four gradients: dX, dk, dv, dbeta."
    dX, dk, dv, dbeta = got
    no_G = "that is a derivative of Y, without G: the gradient of the loss is asked for."
    if not hint_for(dk, beta * v) or not hint_for(dv, beta * k):
        return no_G
    if np.shape(dk) == (m,) and np.shape(dv) == (d,):
        return "dk and dv have changed places: each has the shape of what it belongs to."
    r, g, erased = v - k @ X, k @ G, "nothing is erased: X does not enter what is written."
    no_beta = "the step size is missing: only β k vᵀ reaches the loss."
    usual_X = [
        (G - beta * np.outer(k, g), "nothing is erased here, so no A stands before G."),
        (beta * G, "X is added as it is, without β."),
        (np.zeros((d, m)), "X is part of Y: its gradient is not zero."),
        *((one, no_G) for one in (1.0, np.ones((d, m)), np.eye(d))),
    ]
    usual_k = [(beta * (G @ r - X @ g), erased), (beta * G @ r, erased), (G @ v, no_beta)]
    usual_v = [(g, no_beta), (beta * (G - beta * np.outer(k, g)).T @ k, erased)]
    usual_beta = [
        (g @ r, "what β multiplies is k vᵀ; there is no error v − Xᵀk in it."),
        (beta * (g @ v), "dY/dβ is k vᵀ, and has no β left."),
    ]
    return (
        hint_for(dX, G, usual_X, what="dX")
        or hint_for(dk, beta * G @ v, usual_k, what="dk")
        or hint_for(dv, beta * g, usual_v, what="dv")
        or hint_for(dbeta, g @ v, usual_beta, what="dbeta")
    )


@exercise("05.3")
def delta_chunk(answer, rng):
    """One chunk of the delta rule, twice."""
    d_k, d_v = int(rng.integers(4, 7)), int(rng.integers(2, 4))
    S = rng.standard_normal((d_k, d_v))
    for n_tokens in rng.permutation([4, 7]):
        q, k = rng.standard_normal((n_tokens, d_k)), unit(rng, n_tokens, d_k)
        v, beta = rng.standard_normal((n_tokens, d_v)), rng.uniform(0.3, 1.7, n_tokens)
        options = {"initial_state": S, "with_state": True, "form": "recurrent"}
        o_right, S_right = mgt_np.delta_rule(q, k, v, beta, **options)
        forbidden = mgt_np.delta_rule, mgt_np.delta_update, mgt_np.delta_product
        with without(*forbidden, mgt_np.delta_apply, mgt_np.delta_operator):
            got = answer(S.copy(), q, k, v, beta)
        if not isinstance(got, tuple | list) or len(got) != 2:
            return "return two things: the outputs of the chunk, and the state after it."
        o, S_new = got
        mistakes = _chunks_with_a_mistake(S, q, k, v, beta)
        usual_S = [(state, hint) for _, state, hint in mistakes]
        usual_S.append((o_right, "return the outputs first, then the state."))
        hint = hint_for(S_new, S_right, usual_S, rtol=1e-8, what="the state after the chunk")
        if hint:
            return hint
        usual_o = [(outputs, hint) for outputs, _, hint in mistakes]
        hint = hint_for(o, o_right, usual_o, rtol=1e-8, what="the outputs of the chunk")
        if hint:
            return hint
        if not _solves(answer, S.copy(), q, k, v, beta):
            return "the numbers are right, but by a loop: solve one system for the whole chunk."
        S = S_right
    return ""


def _solves(answer, *inputs):
    """Say whether the answer solves a linear system by NumPy."""
    try:
        with without(np.linalg.solve, np.linalg.inv):
            answer(*inputs)
    except Forbidden:
        return True
    return False


def _chunks_with_a_mistake(S, q, k, v, beta):
    """Outputs, state and hint for each mistake that a chunk is known to be written with."""
    eye, D, KK, QK = np.eye(len(k)), np.diag(beta), k @ k.T, q @ k.T
    U = np.linalg.solve(eye + D @ np.tril(KK, -1), D @ (v - k @ S))

    def chunk(U, read, hint):
        return q @ S + read @ U, S + k.T @ U, hint

    def corrections(system, right):
        return np.linalg.solve(system, right)

    seen, within = np.tril(QK), eye + D @ np.tril(KK, -1)
    return [
        chunk(corrections(within, D @ v), seen, "U lacks the read K S from the chunk before."),
        chunk(D @ (v - k @ S), seen, "tokens of one chunk must see each other's writes: solve."),
        chunk(D @ U, seen, "β is applied twice: U has it already."),
        chunk(
            corrections(eye + D @ np.triu(KK, 1), D @ (v - k @ S)),
            seen,
            "the order is reversed: token t sees those before it, below the diagonal.",
        ),
        chunk(
            corrections(eye + np.tril(KK, -1) @ D, D @ (v - k @ S)),
            seen,
            "β stands on the wrong side of tril(KKᵀ, −1): row t has β of token t.",
        ),
        chunk(
            corrections(eye + D @ np.tril(KK), D @ (v - k @ S)),
            seen,
            "the system holds the diagonal of KKᵀ: a write does not correct itself.",
        ),
        chunk(
            corrections(eye + np.tril(KK, -1), D @ (v - k @ S)),
            seen,
            "β is missing before tril(KKᵀ, −1).",
        ),
        chunk(corrections(within, v - k @ S), seen, "β is missing on the right-hand side."),
        chunk(
            corrections(eye + np.tril(KK, -1), v - k @ S),
            seen,
            "β has dropped out: it stands before tril(KKᵀ, −1) and before V − K S.",
        ),
        chunk(
            corrections(eye - D @ np.tril(KK, -1), D @ (v - k @ S)),
            seen,
            "a sign: what earlier tokens wrote is subtracted from V, so it is + on the left.",
        ),
        chunk(corrections(within, D @ (v + k @ S)), seen, "a sign: the correction is V − K S."),
        (seen @ U, S + k.T @ U, "the outputs lack Q S, what the state before the chunk answers."),
        (seen @ U, k.T @ U, "the state before the chunk is lost: what it held stays in it."),
        chunk(U, np.tril(QK, -1), "a query sees its own token's write: keep the diagonal."),
        chunk(U, QK, "a query must not see later tokens: mask Q Kᵀ by tril."),
    ]


Prediction(
    "05.a",
    choices={
        "all": "Room for 16 is not enough: a later write at a direction that is not orthogonal "
        "moves what was read before.",
        "only the last": "Each later write disturbs the earlier ones by a cosine; none comes after "
        "the last.",
        "none": "Nothing is written after the last one, and β = 1 made it exact.",
    },
)
Prediction(
    "05.b",
    choices={
        "at most 1": "That bounds A with k and v held fixed. In the layer both depend on x, and "
        "their derivatives add to A.",
        "1 to 1000": "The extra terms are of order 1/d for one sub-layer; but they multiply, so "
        "that the growth is exponential in n/d.",
        "over 1000": "The derivatives of k and v add 4/d a sub-layer to the mean square, and A "
        "takes away 1/d.",
    },
)
