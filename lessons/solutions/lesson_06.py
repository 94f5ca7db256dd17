"""Solutions of lesson 06, and wrong answers with the words of their hints."""

from itertools import permutations

import numpy as np

import mgt_np


def _decompose(H, *, floor=1e-12, order=lambda best: best):
    left, weights, orders = H.copy(), [], []
    while True:
        best = max(permutations(range(4)), key=lambda p: left[range(4), p].min())
        weight = left[range(4), best].min()
        if weight <= floor:
            return weights, orders
        weights.append(weight)
        orders.append(order(best))
        left[range(4), best] -= weight


def decompose(H):
    return _decompose(H)


def _transposed(H):
    return _decompose(H, order=lambda best: np.argsort(best))


def _left_over(H):
    return _decompose(H, floor=0.05)


def _not_scaled_back(H):
    left, weights, orders = H.copy(), [], []
    while len(weights) < 10:
        best = max(permutations(range(4)), key=lambda p: left[range(4), p].min())
        w = left[range(4), best].min()
        weights.append(w)
        orders.append(best)
        if w > 1.0 - 1e-9:
            break
        left[range(4), best] -= w
        left = np.maximum(left, 0.0) / (1.0 - w)
    return weights, orders


def _all_permutations(H):
    weights, orders = _decompose(H)
    more = [p for p in permutations(range(4)) if p not in orders]
    return weights + [0.0] * len(more), orders + more


def _columns_twice(H):
    return [1.0], [list(H.argmax(axis=1) * 0)]


def _too_much(H):
    return [1.5, -0.5], [[0, 1, 2, 3], [1, 0, 2, 3]]


def exact_sums(order, n_iters, n):
    if n_iters == 0:
        return "none"
    if n == 1:
        return "both"
    return "rows" if order == "columns_rows" else "columns"


def _log_sum_exp(Z, axis):
    largest = Z.max(axis=axis, keepdims=True)
    return largest + np.log(np.exp(Z - largest).sum(axis=axis, keepdims=True))


def _log_sinkhorn(logits, n_iters, axes=(0, 1)):
    Z = logits
    for _ in range(n_iters):
        for axis in axes:
            Z = Z - _log_sum_exp(Z, axis)
    return Z


def log_sinkhorn(logits, n_iters):
    return np.exp(_log_sinkhorn(logits, n_iters))


def _overflowing(logits, n_iters):
    M = np.exp(logits)
    for _ in range(n_iters):
        M = M / M.sum(axis=0, keepdims=True)
        M = M / M.sum(axis=1, keepdims=True)
    return M


def _largest_of_all(logits, n_iters):
    return _overflowing(logits - logits.max(), n_iters)


def _across_the_rows(logits, n_iters):
    Z = logits
    for _ in range(n_iters):
        Z = Z - _log_sum_exp(Z, 0)
        Z = Z - _log_sum_exp(Z, 1)[:, 0]
    return np.exp(Z)


def _exp_between(logits, n_iters):
    for _ in range(n_iters):
        logits = np.exp(_log_sinkhorn(logits, 1, (0,)))
        logits = np.exp(_log_sinkhorn(logits, 1, (1,)))
    return logits


def _by_the_largest(logits, n_iters):
    Z = logits
    for _ in range(n_iters):
        Z = Z - Z.max(axis=0, keepdims=True)
        Z = Z - Z.max(axis=1, keepdims=True)
    return np.exp(Z)


def _columns_at_the_end(logits, n_iters):
    Z = _log_sinkhorn(logits, n_iters)
    return np.exp(Z - _log_sum_exp(Z, 0))


SOLUTIONS = {"06.1": exact_sums, "06.2": log_sinkhorn, "06.3": decompose}
WRONG = {
    "06.1": [
        (lambda order, n_iters, n: "both", "only in the limit"),
        (lambda order, n_iters, n: order.split("_")[0], "spoilt by the last"),
        (lambda order, n_iters, n: order.split("_")[1], "nothing is divided"),
        (lambda order, n_iters, n: exact_sums(order, n_iters, 2), "row and a column at once"),
        (lambda order, n_iters, n: "none", "just been divided"),
        (lambda order, n_iters, n: "rows", "spoilt"),
        (
            lambda order, n_iters, n: "both" if n_iters >= 20 else exact_sums(order, n_iters, n),
            "only in the limit",
        ),
        (lambda order, n_iters, n: True, "return one of"),
    ],
    "06.2": [
        (lambda logits, n_iters: np.exp(_log_sinkhorn(logits, n_iters, (1, 0))), "columns first"),
        (lambda logits, n_iters: log_sinkhorn(logits, n_iters - 1), "short"),
        (_overflowing, "overflows"),
        (_largest_of_all, "each row's sum, every time"),
        (_across_the_rows, "along its row"),
        (_exp_between, "stay in logarithms"),
        (_by_the_largest, "largest entry"),
        (_columns_at_the_end, "once too often"),
        (_log_sinkhorn, "logarithm"),
        (lambda logits, n_iters: np.exp(logits - _log_sum_exp(logits, 1)), "rows alone"),
        (lambda logits, n_iters: mgt_np.sinkhorn(logits, n_iters=n_iters), "derive it"),
    ],
    "06.3": [
        (_transposed, "transpose"),
        (_left_over, "left over"),
        (_not_scaled_back, "scaled back"),
        (_all_permutations, "too many"),
        (_columns_twice, "taken twice"),
        (_too_much, "negative"),
        (lambda H: ([1.0], [[1, 2, 3, 4]]), "counted from 0"),
        (lambda H: ([1.0], [[0, 1, 2, 3]]), "not H"),
        (lambda H: ([1.0], [0, 1, 2, 3]), "as many orders"),
        (lambda H: H, "two things"),
    ],
}
