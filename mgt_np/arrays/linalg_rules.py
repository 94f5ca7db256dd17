"""The vector-Jacobian products of the `linalg` extension, as `RULES` is for the main namespace.

Derivatives of eigenvalues and singular values are those of Magnus (1985) and Townsend (2016). Those
of vectors, and second derivatives, exist where the values are distinct; where they are not, the
rule says so instead of returning the gradient of one arbitrary basis.
"""

import math

from .boxes import device
from .rules import _column, _row, _unreduce, like, nonzero, relative_to_largest


def _rounding(xp, values, n):
    """How far rounding moves the eigenvalues or singular values of a matrix of n rows.

    Equal ones come out of LAPACK up to 11 spacings of the largest apart, for n from 2 to 100.
    """
    largest = xp.max(xp.abs(values), axis=-1, keepdims=True)
    return xp.multiply(largest, (n + 16) * float(xp.finfo(values.dtype).eps))


def _hold_distinct(xp, values, alike, what):
    """Raise unless the values differ by more than rounding, pairs that are `alike` excepted."""
    gaps = xp.abs(xp.subtract(_row(xp, values), _column(xp, values)))
    close = xp.less_equal(gaps, _column(xp, _rounding(xp, values, values.shape[-1])))
    if bool(xp.any(xp.logical_and(close, xp.logical_not(alike)))):
        raise ValueError(f"{what} has no gradient here: expected distinct values, got equal ones")


def _diagonal_of(xp, values):
    return xp.eye(values.shape[-1], dtype=xp.bool, device=device(values))


def _inverse_gaps(xp, values):
    """1/(vⱼ − vᵢ) off the diagonal and 0 on it."""
    gaps = xp.subtract(_row(xp, values), _column(xp, values))
    return xp.reciprocal(xp.where(_diagonal_of(xp, values), math.inf, gaps))


def _evened(xp, g, values, n):
    """The mean of `g` over values that are equal to rounding: which is which, no basis says.

    For a function that takes equal values alike it is g itself; at a kink, as max has where the two
    largest are equal, it is the mean of the one-sided slopes.
    """
    gaps = xp.abs(xp.subtract(_row(xp, values), _column(xp, values)))
    alike = xp.astype(xp.less_equal(gaps, _column(xp, _rounding(xp, values, n))), g.dtype)
    sums = xp.matmul(alike, _column(xp, g))
    return xp.squeeze(xp.divide(sums, xp.sum(alike, axis=-1, keepdims=True)), axis=-1)


def _eigvalsh(xp, g, ans, x):
    """V diag(g) Vᵀ, g evened out over equal eigenvalues."""
    g = _evened(xp, g, ans, x.shape[-1])
    _, V = xp.linalg.eigh(x)
    return xp.matmul(xp.multiply(V, _row(xp, g)), xp.matrix_transpose(V))


def _eigh(xp, g, ans, x):
    """V (diag(g_w) + F ∘ Vᵀ g_V) Vᵀ with Fᵢⱼ = 1/(wⱼ − wᵢ), symmetric part."""
    (w, V), (g_w, g_V) = ans, g
    _hold_distinct(xp, w, _diagonal_of(xp, w), "eigh")
    F = _inverse_gaps(xp, w)
    Vt = xp.matrix_transpose(V)
    inner = xp.multiply(F, xp.matmul(Vt, g_V))
    eye = xp.eye(w.shape[-1], dtype=w.dtype, device=device(w))
    inner = xp.add(inner, xp.multiply(eye, _row(xp, g_w)))
    gradient = xp.matmul(V, xp.matmul(inner, Vt))
    return xp.multiply(xp.add(gradient, xp.matrix_transpose(gradient)), 0.5)


def _svdvals(xp, g, ans, x):
    """U diag(g) Vᵀ, g evened out over equal values.

    A singular value has a kink at 0, as |·| has, and the mean slope there is 0.
    """
    zero = xp.less_equal(ans, _rounding(xp, ans, max(x.shape[-2:])))
    g = _evened(xp, g, ans, max(x.shape[-2:]))
    U, _, Vt = xp.linalg.svd(x, full_matrices=False)
    return xp.matmul(xp.multiply(U, _row(xp, xp.where(zero, 0.0, g))), Vt)


def _svd(xp, g, ans, x, full_matrices=True):
    """Townsend's rule for the thin decomposition, real arrays.

    U [(F ∘ skew(Uᵀg_U)) S + S (F ∘ skew(Vᵀg_V)) + diag(g_S)] Vᵀ
      + (I − UUᵀ) g_U S⁻¹ Vᵀ + U S⁻¹ g_Vᵀ (I − VVᵀ),    Fᵢⱼ = 1/(sⱼ² − sᵢ²)
    """
    if full_matrices and x.shape[-1] != x.shape[-2]:
        raise ValueError("svd has a gradient for full_matrices=False only")
    (U, S, Vt), (g_U, g_S, g_Vt) = ans, g
    if bool(xp.any(xp.less_equal(S, _rounding(xp, S, max(x.shape[-2:]))))):
        raise ValueError("svd has no gradient here: expected positive singular values, got zero")
    T = xp.matrix_transpose
    V, g_V = T(Vt), T(g_Vt)
    _hold_distinct(xp, S, _diagonal_of(xp, S), "svd")
    F = _inverse_gaps(xp, xp.square(S))

    def rotation(A, g_A):
        product = xp.matmul(T(A), g_A)
        return xp.multiply(F, xp.subtract(product, T(product)))

    def outside(A, g_A):  # (I − AAᵀ) g_A S⁻¹
        rest = xp.subtract(g_A, xp.matmul(A, xp.matmul(T(A), g_A)))
        return xp.divide(rest, _row(xp, S))

    eye = xp.eye(S.shape[-1], dtype=S.dtype, device=device(S))
    inner = xp.multiply(eye, _row(xp, g_S))
    inner = xp.add(inner, xp.multiply(rotation(U, g_U), _row(xp, S)))
    inner = xp.add(inner, xp.multiply(_column(xp, S), rotation(V, g_V)))
    gradient = xp.matmul(U, xp.matmul(inner, Vt))
    if U.shape[-2] > U.shape[-1]:
        gradient = xp.add(gradient, xp.matmul(outside(U, g_U), Vt))
    if V.shape[-2] > V.shape[-1]:
        gradient = xp.add(gradient, xp.matmul(U, T(outside(V, g_V))))
    return gradient


def _onto_diagonal(xp, g, x, offset):
    """The matrix of the shape of `x` that has `g` on its diagonal number `offset`."""
    n, m = x.shape[-2:]
    above = min(max(0, -offset), n)
    below = n - above - g.shape[-1]
    batch = tuple(g.shape[:-1])
    pad = [xp.zeros((*batch, k), dtype=g.dtype, device=device(x)) for k in (above, below)]
    rows = xp.concat([pad[0], g, pad[1]], axis=-1)
    return xp.multiply(xp.eye(n, m, k=offset, dtype=g.dtype, device=device(x)), _column(xp, rows))


def _diagonal(xp, g, ans, x, offset=0):
    return _onto_diagonal(xp, g, x, offset)


def _trace(xp, g, ans, x, offset=0, dtype=None):
    eye = xp.eye(*x.shape[-2:], k=offset, dtype=x.dtype, device=device(x))
    return like(xp, xp.multiply(_column(xp, _column(xp, g)), eye), x)


def _vector_norm(xp, g, ans, x, axis=None, keepdims=False, ord=2):
    """The slope of (Σ|x|ᵖ)^(1/p), and the mean slope at kinks: 0 for an entry of 0 or x = 0.

    It does not change with the scale of x, and is taken at x over its largest magnitude: right also
    where a norm overflows, or is 0 because squares underflow.
    """
    g = _unreduce(xp, g, x, axis, keepdims)
    if ord == 0:
        raise ValueError("vector_norm has no gradient for ord=0: it counts")
    if ord == 1 or 0 in x.shape:
        return xp.multiply(g, xp.sign(x))
    if math.isinf(ord):
        chosen = xp.equal(xp.abs(x), _unreduce(xp, ans, x, axis, keepdims))
        ties = xp.sum(xp.astype(chosen, x.dtype), axis=axis, keepdims=True)
        return xp.where(chosen, xp.multiply(xp.divide(g, ties), xp.sign(x)), 0.0)
    x = relative_to_largest(xp, x, axis)
    norm = nonzero(xp, xp.linalg.vector_norm(x, axis=axis, keepdims=True, ord=ord))
    ratio = xp.divide(x, norm)
    if ord == 2:
        return xp.multiply(g, ratio)
    power = xp.pow(xp.abs(xp.where(xp.equal(ratio, 0.0), 1.0, ratio)), ord - 1.0)
    return xp.multiply(g, xp.multiply(xp.sign(x), power))


def _solve_matrix(xp, g, ans, A, b):
    """−A⁻ᵀ g Xᵀ."""
    if b.ndim == 1:
        g, ans = _column(xp, g), _column(xp, ans)
    left = xp.linalg.solve(xp.matrix_transpose(A), g)
    return like(xp, xp.negative(xp.matmul(left, xp.matrix_transpose(ans))), A)


def _solve_right(xp, g, ans, A, b):
    """A⁻ᵀ g."""
    A = xp.matrix_transpose(A)
    if b.ndim == 1:
        return like(xp, xp.squeeze(xp.linalg.solve(A, _column(xp, g)), axis=-1), b)
    return like(xp, xp.linalg.solve(A, g), b)


LINALG_RULES = {
    "diagonal": (_diagonal,),
    "eigh": (_eigh,),
    "eigvalsh": (_eigvalsh,),
    "outer": (
        lambda xp, g, ans, x, y: xp.matmul(g, y),
        lambda xp, g, ans, x, y: xp.matmul(xp.matrix_transpose(g), x),
    ),
    "solve": (_solve_matrix, _solve_right),
    "svd": (_svd,),
    "svdvals": (_svdvals,),
    "trace": (_trace,),
    "vector_norm": (_vector_norm,),
}
