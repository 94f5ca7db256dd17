"""The Delta Operator A = I − β k kᵀ: a rank-one change of the identity, and its spectrum.

Deep Delta Learning (2601.00417), §2 and §3; in MGT (2601.01014) it is the model of a geometric
update. β = 0 leaves everything, β = 1 forgets the component along k, β = 2 reflects it.
"""

import math
import operator

from mgt_np.arrays import array_namespace, as_float_array, device, operands
from mgt_np.arrays.checks import at_least, number, one_of, same_size


def unit_direction(k, *, eps=1e-5, placement="inside"):
    """Scale a direction to unit length, safely near zero.

        k/√(‖k‖² + ε²)     placement="inside"     DDL, the authors' PDF of July 2026, and their code
        k/(‖k‖ + ε)        placement="outside"    DDL v1, appendix A.1

    Shapes: k (..., d). A zero k stays zero, so that its operator is the identity. For ‖k‖ ≫ ε the
    length is 1 to within ε²/2‖k‖² (inside) or ε/‖k‖ (outside).
    Raises ValueError for a zero k with ε = 0, a negative ε, or another `placement`.
    """
    one_of(("inside", "outside"), placement=placement)
    if eps < 0.0:
        raise ValueError(f"expected eps ≥ 0, got {eps}")
    eps = number(eps)
    xp, k = operands(k=k)
    at_least(1, k=k)
    if eps == 0.0 and bool(xp.any(xp.all(k == 0.0, axis=-1))):
        raise ValueError("expected k ≠ 0 for eps=0, got a zero vector: it has no direction")
    if placement == "inside":
        return k / xp.sqrt(xp.sum(k * k, axis=-1, keepdims=True) + eps * eps)
    return k / (xp.linalg.vector_norm(k, axis=-1, keepdims=True) + eps)


def delta_operator(k, beta):
    """Return the matrix of the Delta Operator.

        A = I − β k kᵀ                                                    (DDL, eq. 2.4)

    Shapes: k (..., d) of unit length, β (...) or a number; result (..., d, d).
    A k = (1 − β) k, and A leaves every vector orthogonal to k as it is.
    """
    xp, k, beta = operands(k=k, beta=beta)
    at_least(1, k=k)
    identity = xp.eye(k.shape[-1], dtype=k.dtype, device=device(k))
    kkT = xp.expand_dims(k, axis=-1) * xp.expand_dims(k, axis=-2)
    return xp.subtract(identity, _with_axes(xp, beta, 2) * kkT)


def delta_apply(X, k, beta):
    """Apply the Delta Operator to the columns of X without forming it.

        A X = X − β k (kᵀX)                                               (DDL, eq. 2.5 with v = 0)

    Shapes: X (..., d, m), k (..., d) of unit length, β (...) or a number; result as X.
    Linear in X, at O(dm) instead of O(d²m). β = 0 gives X.
    """
    xp, X, k, beta = operands(X=X, k=k, beta=beta)
    at_least(2, X=X)
    at_least(1, k=k)
    same_size("features", k=k.shape[-1], X=X.shape[-2])
    column, row = xp.expand_dims(k, axis=-1), xp.expand_dims(k, axis=-2)
    return X - _with_axes(xp, beta, 2) * column * xp.matmul(row, X)


def delta_update(X, k, v, beta):
    """Erase what X holds along k, and write v there.

        X' = X + β k (vᵀ − kᵀX)                                           (DDL, eq. 2.5)

    Shapes: X (..., d, m), k (..., d) of unit length, v (..., m), β (...) or a number; result as X.
    β = 1 makes kᵀX' = vᵀ; v = 0 gives `delta_apply`; β = 0 gives X.
    """
    xp, X, k, v, beta = operands(X=X, k=k, v=v, beta=beta)
    at_least(2, X=X)
    at_least(1, k=k, v=v)
    same_size("features", k=k.shape[-1], X=X.shape[-2])
    same_size("values", v=v.shape[-1], X=X.shape[-1])
    column, row = xp.expand_dims(k, axis=-1), xp.expand_dims(k, axis=-2)
    error = xp.expand_dims(v, axis=-2) - xp.matmul(row, X)
    return X + _with_axes(xp, beta, 2) * column * error


def delta_eigenvalues(beta, d):
    """Return the eigenvalues of A = I − β k kᵀ in closed form.

        λ = 1 (d − 1 times), 1 − β                                        (DDL, theorem 3.1)

    Shapes: β (...) or a number; result (..., d) in this order: the eigenspace of 1 is k⊥, the
    eigenvector of 1 − β is k. For unit k they do not depend on k.
    """
    d = _dimension(d)
    xp, beta = operands(beta=as_float_array(beta))
    ones = xp.ones((*beta.shape, d - 1), dtype=beta.dtype, device=device(beta))
    return xp.concat([ones, xp.expand_dims(1.0 - beta, axis=-1)], axis=-1)


def delta_singular_values(beta, d):
    """Return the singular values of A = I − β k kᵀ in closed form.

        σ = 1 (d − 1 times), |1 − β|                                      (A is symmetric)

    Shapes: β (...) or a number; result (..., d) in the order of `delta_eigenvalues`. A is
    orthogonal for β = 0 and β = 2 only, and no vector grows for 0 ≤ β ≤ 2.
    """
    eigenvalues = delta_eigenvalues(beta, d)
    return array_namespace(eigenvalues).abs(eigenvalues)


def delta_determinant(beta):
    """Return det A = 1 − β: the factor by which A changes volume             (DDL, corollary 3.2).

    Shapes: β (...) or a number; result (...). Negative where A turns orientation, β > 1.
    """
    _, beta = operands(beta=as_float_array(beta))
    return 1.0 - beta


def delta_regime(beta, *, atol=1e-6):
    """Name what A = I − β k kᵀ does along k.

        |β| ≤ atol       identity          leaves it
        |β − 1| ≤ atol   projection        removes it
        |β − 2| ≤ atol   reflection        turns it round
        0 < β < 2        contraction       shrinks it (and turns it round beyond 1)
        β < 0            amplification     grows it
        β > 2            overreflection    turns it round and grows it

    The first three are DDL's, §3.3; the others are ours. Shapes: a number or a 0-d array gives a
    string; an array (...) gives nested lists of strings. Raises ValueError for NaN.
    """
    _, beta = operands(beta=as_float_array(beta))
    if beta.ndim:
        return [delta_regime(beta[i, ...], atol=atol) for i in range(beta.shape[0])]
    beta = float(beta)
    if math.isnan(beta):
        raise ValueError("expected beta to be a number, got NaN")
    for value, name in ((0.0, "identity"), (1.0, "projection"), (2.0, "reflection")):
        if abs(beta - value) <= atol:
            return name
    if beta < 0.0:
        return "amplification"
    return "contraction" if beta < 2.0 else "overreflection"


def delta_product(K, beta):
    """Multiply a sequence of Delta Operators, last one on the left, in compact WY form.

        A_L ⋯ A_1 = I − KᵀT K,    T = (I + diag(β) tril(KKᵀ, −1))⁻¹ diag(β)

    (Bischof & Van Loan 1987; Schreiber & Van Loan 1989, for reflections.)
    Shapes: K (..., L, d) with rows k_1 … k_L, β (..., L) or a number; result (..., d, d).
    One triangular system of size L and two matrix products instead of L products of d × d; more
    than d factors are multiplied in halves, which costs less and keeps the systems small.
    L = 1 gives `delta_operator`; orthonormal k with β = 1 give the projection on their complement.
    For 0 ≤ β ≤ 2 nothing grows and 200 factors are right to 1e-12; for larger |1 − β| along nearly
    parallel k the system is ill-conditioned, and only multiplying one by one keeps the digits.
    """
    xp, K, beta = operands(K=K, beta=beta)
    at_least(2, K=K)
    L, d = K.shape[-2:]
    if not _is_number(beta):
        at_least(1, beta=beta)
        same_size("factors", K=L, beta=beta.shape[-1])
    if max(d, 1) < L:
        early, late = (
            delta_product(K[..., part, :], beta if _is_number(beta) else beta[..., part])
            for part in (slice(L // 2), slice(L // 2, L))
        )
        return xp.matmul(late, early)
    eye = {n: xp.eye(n, dtype=K.dtype, device=device(K)) for n in {L, d}}
    if L == 0:
        return xp.broadcast_to(eye[d], (*K.shape[:-2], d, d))
    scaled = _with_axes(xp, beta, 1) * K
    earlier = xp.tril(xp.matmul(scaled, xp.matrix_transpose(K)), k=-1)
    W = xp.linalg.solve(xp.add(eye[L], earlier), scaled)
    return xp.subtract(eye[d], xp.matmul(xp.matrix_transpose(K), W))


def _with_axes(xp, beta, n):
    """β (...) as (..., 1 × n), to meet arrays with n more axes; a number as it is."""
    return beta if _is_number(beta) else xp.reshape(beta, (*beta.shape, *(1,) * n))


def _is_number(beta):
    return isinstance(beta, int | float)


def _dimension(d):
    if not hasattr(d, "__index__") or d < 1:
        raise ValueError(f"expected the dimension d to be an integer ≥ 1, got {d!r}")
    return operator.index(d)
