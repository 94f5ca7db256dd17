"""Doubly stochastic matrices: of any logits by Sinkhorn's iteration, of weights by permutations.

A matrix of non-negative entries whose rows and columns all sum to one is a mixture of permutations
(Birkhoff 1946; von Neumann 1953). It does not lengthen any vector, ‖H‖₂ ≤ 1, keeps the mean of the
entries, and products of such matrices are again such matrices. Lesson 06.
"""

import functools
import itertools
import math

from mgt_np.arrays import array_namespace, device, layer, log_sum_exp

ROWS, COLUMNS = -1, -2  # the axis over which a normalisation sums
ORDERS = {"columns_rows": (COLUMNS, ROWS), "rows_columns": (ROWS, COLUMNS)}
SHIFTS = {None: None, "rows": ROWS, "columns": COLUMNS}


@layer
def sinkhorn(
    logits: "... n n",
    *,
    n_iters: "int ≥ 0" = 20,
    order: "'columns_rows' | 'rows_columns'" = "columns_rows",
    start: "'exp' | 'softmax'" = "exp",
    eps: "float ≥ 0" = 0.0,
    temperature: "float > 0" = 1.0,
    eps_form: "'add' | 'clamp'" = "add",
    shift: "'rows' | 'columns'" = None,
    gradient: "'iterations' | 'implicit'" = "iterations",
) -> "... n n":
    """Return a nearly doubly stochastic matrix, made of logits Z (Sinkhorn & Knopp 1967).

        M⁽⁰⁾ = exp(Z/τ),    M⁽ᵗ⁾ = T_r(T_c(M⁽ᵗ⁻¹⁾)),    t = 1 … n_iters       (mHC, eq. 9)

    where T_r divides each row by its sum and T_c each column by its own; `order="rows_columns"`
    takes the rows first. Entries are in (0, 1]. The sums that were made last are exact: rows for
    "columns_rows". The other sums are only as exact as the iteration has converged, 3e-2 after 20
    iterations for logits of standard deviation 4; ‖M‖₂ ≤ 1 + that.
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
    """
    xp = array_namespace(logits)
    if temperature != 1.0:
        logits = logits / temperature
    if shift is not None:
        logits = logits - xp.max(logits, axis=SHIFTS[shift], keepdims=True)
    options = normalisations(n_iters, order=order, start=start, eps=eps, eps_form=eps_form)
    return normalized_in_turn(logits, **options, implicit=gradient == "implicit")


def normalisations(n_iters, *, order, start, eps, eps_form):
    """Return the normalisations to be made: `axes` to sum over, and how."""
    axes = ORDERS[order] * n_iters
    if start == "softmax":
        axes = (ROWS, *(axes[1:] if order == "rows_columns" else axes))
    return {"axes": axes, "softmax": start == "softmax", "eps": eps, "clamp": eps_form == "clamp"}


@layer
def normalized_in_turn(logits: "... n n", *, axes, softmax, eps, clamp, implicit) -> "... n n":
    """Return exp(logits), normalised over one axis after the other; `softmax`: first exactly."""
    xp = array_namespace(logits)
    n_exact = len(axes) if eps == 0.0 else int(softmax)
    for axis in axes[:n_exact]:
        logits = logits - log_sum_exp(xp, logits, axis)
    M = xp.exp(logits)
    if softmax and eps:
        M = M + eps
    for axis in axes[n_exact:]:
        total = xp.sum(M, axis=axis, keepdims=True)
        M = M / (xp.maximum(total, xp.full_like(total, eps)) if clamp else total + eps)
    return M


@layer
def birkhoff(weights: "... n!") -> "... n n":
    """Return the mixture of all permutations of n things: an exactly doubly stochastic matrix.

        H = Σ_r w_r P_r,    r = 1 … n!                        (mHC-lite, FFTYYY; Birkhoff 1946)

    w ≥ 0 with sum 1, a softmax say. P_r has its ones at (i, π_r(i)), the permutations π_r in
    lexicographic order: w = e_1 gives the identity, equal weights 1/n everywhere. Sums are exact
    without iterating; but n! is 720 for n = 6.
    """
    xp = array_namespace(weights)
    n = next(n for n in itertools.count(1) if math.factorial(n) == weights.shape[-1])
    permutations = xp.asarray(_permutations(n), dtype=weights.dtype, device=device(weights))
    return xp.reshape(xp.matmul(weights, permutations), (*weights.shape[:-1], n, n))


@functools.cache
def _permutations(n):
    """The permutation matrices of n things, each as one row of n² numbers."""
    return [
        [float(j == target) for target in permutation for j in range(n)]
        for permutation in itertools.permutations(range(n))
    ]
