"""Doubly stochastic matrices: of any logits by Sinkhorn's iteration, of weights by permutations.

A matrix of non-negative entries whose rows and columns all sum to one is a mixture of permutations
(Birkhoff 1946; von Neumann 1953). It does not lengthen any vector, ‖H‖₂ ≤ 1, keeps the mean of the
entries, and products of such matrices are again such matrices.
"""

import functools
import itertools
import math
import operator

from mgt_np.arrays import (
    device,
    fusable,
    matrices_inside_out,
    matrices_outside_in,
    operands,
)
from mgt_np.arrays.checks import at_least, number, one_of

ROWS, COLUMNS = -1, -2  # the axis over which a normalisation sums
ORDERS = {"columns_rows": (COLUMNS, ROWS), "rows_columns": (ROWS, COLUMNS)}
SHIFTS = {None: None, "rows": ROWS, "columns": COLUMNS}


def sinkhorn(
    logits,
    *,
    n_iters=20,
    order="columns_rows",
    start="exp",
    eps=0.0,
    temperature=1.0,
    eps_form="add",
    shift=None,
    gradient="iterations",
):
    """Turn logits into a nearly doubly stochastic matrix (Sinkhorn & Knopp 1967).

        M⁽⁰⁾ = exp(Z/τ),    M⁽ᵗ⁾ = T_r(T_c(M⁽ᵗ⁻¹⁾)),    t = 1 … n_iters       (mHC, eq. 9)

    where T_r divides each row by its sum and T_c each column by its own; `order="rows_columns"`
    takes the rows first. Shapes: Z (..., n, n), result alike, entries in (0, 1]. The sums that were
    made last are exact: rows for "columns_rows". The others are off by as much as the iteration has
    still to go, 3e-2 after 20 iterations for logits of standard deviation 4; ‖M‖₂ ≤ 1 + that.
    n_iters = 0 gives M⁽⁰⁾; n = 1 gives 1; adding a constant to the row or column that is normalised
    first changes nothing.

    Args, where implementations differ: `start="softmax"` starts from the softmax of each row, which
    then counts as the first normalisation of rows, if rows come first; with ε it adds ε to it.
    `eps` is added to every sum (`eps_form="add"`) or is the least that a sum counts as ("clamp").
    With ε = 0 the computation is exact for all finite logits; with ε > 0 it is the plain one of
    those who have it, and exp overflows beyond logits of 709 (88 in float32). `shift` subtracts
    from "rows" or "columns" their largest logit before exp: what this changes is what ε does, and
    the start where the other axis comes first.
    `gradient="implicit"` differentiates the limit of the iteration at the matrix it has reached, by
    one linear system of size n, instead of the iteration: the two agree as it converges. Second
    derivatives always go through the iteration.
    Raises ValueError for logits that are no square matrices, and for an unknown option.
    """
    one_of(SHIFTS, shift=shift)
    one_of(("iterations", "implicit"), gradient=gradient)
    if not temperature > 0.0:
        raise ValueError(f"expected temperature > 0, got {temperature}")
    options = iteration(n_iters, order=order, start=start, eps=eps, eps_form=eps_form)
    xp, logits = operands(logits=logits)
    at_least(2, logits=logits)
    if logits.shape[-1] != logits.shape[-2]:
        raise ValueError(f"expected square matrices of logits, got shape {tuple(logits.shape)}")
    if temperature != 1.0:
        logits = logits / number(temperature)
    if shift is not None:
        logits = logits - xp.max(logits, axis=SHIFTS[shift], keepdims=True)
    return _normalized_in_turn(logits, **options, implicit=gradient == "implicit")


def iteration(n_iters, *, order, start, eps, eps_form):
    """The normalisations to be made, checked: `axes` to sum over, and how."""
    one_of(ORDERS, order=order)
    one_of(("exp", "softmax"), start=start)
    one_of(("add", "clamp"), eps_form=eps_form)
    if not hasattr(n_iters, "__index__") or n_iters < 0:
        raise ValueError(f"expected n_iters to be an integer ≥ 0, got {n_iters!r}")
    if not eps >= 0.0:
        raise ValueError(f"expected eps ≥ 0, got {eps}")
    axes = ORDERS[order] * operator.index(n_iters)
    if start == "softmax":
        axes = (ROWS, *(axes[1:] if order == "rows_columns" else axes))
    return {
        "axes": axes,
        "softmax": start == "softmax",
        "eps": number(eps),
        "clamp": eps_form == "clamp",
    }


@fusable
def _normalized_in_turn(logits, *, axes, softmax, eps, clamp, implicit):
    """exp(logits), normalised over one axis after the other; with `softmax` the first exactly."""
    xp, logits = operands(logits=logits)
    n_exact = len(axes) if eps == 0.0 else int(softmax)
    for axis in axes[:n_exact]:
        logits = logits - _log_sum_exp(xp, logits, axis)
    M = xp.exp(logits)
    if softmax and eps:
        M = M + eps
    for axis in axes[n_exact:]:
        total = xp.sum(M, axis=axis, keepdims=True)
        M = M / (xp.maximum(total, eps) if clamp else total + eps)
    return M


def _log_sum_exp(xp, x, axis):
    largest = xp.max(x, axis=axis, keepdims=True)
    return largest + xp.log(xp.sum(xp.exp(x - largest), axis=axis, keepdims=True))


# ---- fused: the matrices lie inside out, (n, m, tokens), rows are summed over 1, columns over 0


def normalized_forward(xp, logits, *, axes, softmax, eps, clamp, implicit):
    """As above, but at most two normalisations by logarithms.

    After the first one no entry is above 1, after the second none of the other sums is below 1/n:
    from then on nothing can overflow, nor a sum vanish.
    """
    if logits.ndim < 2 or 0 in logits.shape or not axes:
        return None
    L = matrices_inside_out(xp, logits)
    places = [2 + axis for axis in axes]
    n_exact = min(2, len(places)) if eps == 0.0 else int(softmax)
    first = []
    for axis in places[:n_exact]:
        L = L - xp.max(L, axis=axis, keepdims=True)
        L = L - xp.log(xp.sum(xp.exp(L), axis=axis, keepdims=True))
        first.append(xp.exp(L))
    M = first[-1] if first else xp.exp(L)
    if softmax and eps:
        M = M + eps
    totals = []
    for axis in places[n_exact:]:
        total = xp.sum(M, axis=axis, keepdims=True)
        if eps:
            total = xp.maximum(total, xp.full_like(total, eps)) if clamp else total + eps
        M = M / total
        totals.append(total)
    leading = logits.shape[:-2]
    result = matrices_outside_in(xp, M, leading)
    return result, (leading, M, places, first, totals, softmax, eps, clamp, implicit)


def normalized_backward(xp, g, leading, M, places, first, totals, softmax, eps, clamp, implicit):
    """With G = g ⊙ M, what log M's gradient is: log M = log M' − log Σ M' gives G' = G − M ⊙ ΣG."""
    G = matrices_inside_out(xp, g) * M
    if implicit:
        G = _through_the_limit(xp, G, M)
    else:
        n_exact = len(first)
        for axis, total in zip(reversed(places[n_exact:]), reversed(totals), strict=True):
            along = xp.sum(G, axis=axis, keepdims=True)
            if clamp:
                along = xp.where(total > eps, along, xp.zeros_like(along))
            G = G - M * along
            M = M * total
        if softmax and eps:
            G = G * (first[0] / M)
        for axis, M in zip(reversed(places[:n_exact]), reversed(first), strict=True):
            G = G - M * xp.sum(G, axis=axis, keepdims=True)
    return (matrices_outside_in(xp, G, leading),)


def _through_the_limit(xp, G, M):
    """G − M ⊙ (p 1ᵀ + 1 qᵀ), where p and q solve what keeps all sums at one:

        p + M q = G 1,    Mᵀ p + q = Gᵀ 1

    p is eliminated; q is known up to a constant, of which it has none.
    """
    n = M.shape[0]
    M, G = (xp.permute_dims(x, (2, 0, 1)) for x in (M, G))
    of_rows = xp.sum(G, axis=-1, keepdims=True)
    of_columns = xp.expand_dims(xp.sum(G, axis=-2), axis=-1)
    T = xp.matrix_transpose(M)
    # The last term keeps the matrix regular where M is a permutation to the last digit.
    spacing = 1.0 + 4.0 * n * float(xp.finfo(M.dtype).eps)
    eye = xp.eye(n, dtype=M.dtype, device=device(M))
    q = xp.linalg.solve(spacing * eye + 1.0 / n - xp.matmul(T, M), of_columns - T @ of_rows)
    p = of_rows - xp.matmul(M, q)
    return xp.permute_dims(G - M * (p + xp.matrix_transpose(q)), (1, 2, 0))


_normalized_in_turn.fuse(normalized_forward, normalized_backward)


def birkhoff(weights):
    """Mix all permutations of n things: an exactly doubly stochastic matrix.

        H = Σ_r w_r P_r,    r = 1 … n!                        (mHC-lite, FFTYYY; Birkhoff 1946)

    Shapes: w (..., n!) ≥ 0 with sum 1, a softmax say; result (..., n, n). P_r has its ones at
    (i, π_r(i)), the permutations π_r in lexicographic order, so that w = e_1 gives the identity and
    equal weights 1/n everywhere. Sums are exact for any w with sum 1, without iterating; but n! is
    720 for n = 6. Raises ValueError where the number of weights is no factorial.
    """
    xp, weights = operands(weights=weights)
    at_least(1, weights=weights)
    n = _inverse_factorial(weights.shape[-1])
    permutations = xp.asarray(_permutations(n), dtype=weights.dtype, device=device(weights))
    return xp.reshape(xp.matmul(weights, permutations), (*weights.shape[:-1], n, n))


def _inverse_factorial(m):
    n = 1
    while math.factorial(n) < m:
        n += 1
    if math.factorial(n) != m:
        raise ValueError(f"expected n! weights (1, 2, 6, 24, …), got {m}")
    return n


@functools.cache
def _permutations(n):
    """The permutation matrices of n things, each as one row of n² numbers."""
    return [
        [float(j == target) for target in permutation for j in range(n)]
        for permutation in itertools.permutations(range(n))
    ]
