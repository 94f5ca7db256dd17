"""Lesson 6, hyper-connections: judges of its exercises, and its predictions."""

import warnings

import numpy as np

import mgt_np

from .judging import exercise, hint_for, without
from .predicting import Prediction


@exercise("06.1")
def exact_sums(answer, rng):
    """Which sums of Sinkhorn's iteration are exact."""
    n, n_iters = int(rng.integers(2, 7)), int(rng.integers(1, 20))
    last = {"columns_rows": "rows", "rows_columns": "columns"}
    cases = [(order, n_iters, n) for order in rng.permutation(list(last))]
    cases += [(order, int(rng.integers(20, 200)), n) for order in last]
    cases += [("columns_rows", 0, n), ("rows_columns", n_iters, 1), ("columns_rows", 0, 1)]
    for order, count, size in cases:
        right = "none" if count == 0 else "both" if size == 1 else last[order]
        got = answer(str(order), count, size)
        if not isinstance(got, str) or got not in ("rows", "columns", "both", "none"):
            return 'return one of "rows", "columns", "both", "none".'
        if got == right:
            continue
        if count == 0:
            return "with n_iters=0 nothing is divided yet: the result is exp(logits)."
        if size == 1:
            return "for n = 1 the one entry is a row and a column at once."
        if got == "both":
            return "only in the limit: the last division spoils what the one before had made."
        if got == "none":
            return "a sum that has just been divided by is 1, after however few iterations."
        return f"for order {str(order)!r}: the first of the two is spoilt by the last."
    return ""


@exercise("06.2")
def log_sinkhorn(answer, rng):
    """Sinkhorn's iteration in logarithms."""
    for n, n_iters, scale in ((int(rng.integers(3, 6)), 3, 2.0), (4, 1, 1.0), (5, 8, 700.0)):
        Z = scale * rng.standard_normal((n, n))
        if scale > 100.0:
            Z[0, 0], Z[1, 2] = 2000.0, -2000.0
        with (
            warnings.catch_warnings(record=True) as warned,
            np.errstate(all="warn", under="ignore"),
            without(mgt_np.sinkhorn),
        ):
            warnings.simplefilter("always", RuntimeWarning)
            got = answer(Z.copy(), n_iters)
        right = mgt_np.sinkhorn(Z, n_iters=n_iters)
        hint = hint_for(got, right, _sinkhorn_mistakes(Z, n_iters), what="the matrix", atol=1e-11)
        if hint and scale > 100.0:
            if np.ndim(got) and not np.isfinite(np.asarray(got, dtype=float)).all():
                return (
                    "it overflows or divides by 0 for logits of ±2000: take the largest out of "
                    "each column's and each row's sum, every time, before exp."
                )
            return f"with logits of ±2000: {hint}"
        if hint:
            return hint
        if warned:
            return f"the matrix is right, but NumPy warned: {warned[0].message}."
    return ""


def _sinkhorn_mistakes(Z, n_iters):
    """What the usual mistakes give, with their hints."""
    right = mgt_np.sinkhorn(Z, n_iters=n_iters)
    other = mgt_np.sinkhorn(Z, n_iters=n_iters, order="rows_columns")
    shorter = mgt_np.sinkhorn(Z, n_iters=n_iters - 1)
    with np.errstate(all="ignore"):
        once_more, logs = right / right.sum(axis=0), np.log(right)
    M, at_once = np.exp(Z - Z.max()), np.exp(Z - Z.max())
    with np.errstate(all="ignore"):  # large logits
        for _ in range(n_iters):
            M = M / M.max(axis=0, keepdims=True)
            M = M / M.max(axis=1, keepdims=True)
            at_once = at_once / at_once.sum(axis=0) / at_once.sum(axis=1, keepdims=True)
    softmax = np.exp(Z - Z.max(axis=1, keepdims=True))
    across, again, no_max = Z, Z, Z
    with np.errstate(all="ignore"):
        for _ in range(n_iters):
            across = across - _log_sum_exp(across, 0)
            across = across - _log_sum_exp(across, 1).T
            for axis in (0, 1):
                again = np.exp(again - _log_sum_exp(again, axis))
                no_max = no_max - (_log_sum_exp(no_max, axis) - no_max.max(axis, keepdims=True))
        across, no_max = np.exp(across), np.exp(no_max)
    return [
        (across, "a row's sum is subtracted along its row: keepdims=True keeps it there."),
        (again, "exp is taken once, at the end: between the two steps stay in logarithms."),
        (no_max, "the largest was taken out before exp, and not added again to the logarithm."),
        (other, "the rows come first here: the paper divides the columns first."),
        (shorter, "that is one iteration short."),
        (once_more, "the columns were divided once too often: end with the rows."),
        (logs, "that is the logarithm of the matrix: take exp at the end."),
        (M, "that divides by the largest entry: the log-sum-exp is missing its sum."),
        (at_once, "take the row sums AFTER the columns have been divided."),
        (softmax / softmax.sum(axis=1, keepdims=True), "that is a softmax of the rows alone."),
    ]


def _log_sum_exp(Z, axis):
    largest = Z.max(axis=axis, keepdims=True)
    return largest + np.log(np.exp(Z - largest).sum(axis=axis, keepdims=True))


@exercise("06.3")
def decompose(answer, rng):
    """A doubly stochastic 4 × 4 matrix as a mixture of at most 10 permutations."""
    full = rng.dirichlet(np.ones(24))
    few = rng.dirichlet(np.ones(24)) * (rng.random(24) < 0.3)
    few[rng.integers(24)] += 0.2
    for weights in (full, few / few.sum(), np.eye(24)[rng.integers(24)]):
        H = mgt_np.birkhoff(weights)
        hint = _wrong_in_mixture(answer(H.copy()), H)
        if hint:
            return hint
    return ""


def _wrong_in_mixture(got, H):
    if not isinstance(got, tuple | list) or len(got) != 2:
        return "return two things: the weights, and as many orders."
    try:
        w, orders = np.asarray(got[0], dtype=float), np.asarray(got[1])
    except (TypeError, ValueError):
        return "the weights have to be numbers, and each order a list of four column indices."
    if w.ndim != 1 or orders.shape != (w.size, 4):
        return f"{w.size} weights need as many orders of four columns, got shape {orders.shape}."
    if orders.dtype.kind == "f" and np.all(orders % 1.0 == 0.0):
        orders = orders.astype(int)
    if all(sorted(order) == [1, 2, 3, 4] for order in orders):
        return "the columns are counted from 0."
    if orders.dtype.kind not in "iu" or any(sorted(order) != [0, 1, 2, 3] for order in orders):
        return "an order holds each of the columns 0, 1, 2, 3 once: no column may be taken twice."
    if w.size > 10:
        return f"{w.size} permutations are too many: take the least of the entries away each time."
    if w.min() < -1e-12:
        return "a weight is negative: you took more away than the least of the four entries."
    mixture = np.einsum("r,rij->ij", w, np.eye(4)[orders])
    if np.abs(mixture - H).max() <= 1e-9:
        return ""
    if np.abs(mixture.T - H).max() <= 1e-9:
        return "that is the transpose: order[i] is the COLUMN of row i."
    if w.sum() > 1.0 + 1e-9:
        return f"the weights sum to {w.sum():.6g}: what was divided by 1 − w must be scaled back."
    if w.sum() < 1.0 - 1e-9:
        return f"the weights sum to 1 − {1.0 - w.sum():.2g}: something of H is left over. Go on."
    return "the mixture has the right total, but it is not H."


Prediction(
    "06.a",
    choices={
        "all": "Norm 1 belongs to the mean, which is kept. The differences have σ₂, below 1.",
        "about half": "One mixing leaves about that much; 60 of them multiply.",
        "nothing": "The differences shrink by σ₂ in each mixing, so exponentially.",
    },
)
Prediction(
    "06.b",
    choices={
        "much": "H and its transpose differ, but equal streams are fixed by both: rows and columns "
        "sum to one.",
        "a little": "Not even a little: both kinds of sums are one, and equal streams see nothing "
        "else.",
        "not at all": "Equal streams see the sums alone.",
    },
)
