"""The Delta Operator A = I − β k kᵀ: a rank-one change of the identity, and its spectrum.

Deep Delta Learning (2601.00417), §2 and §3; in MGT (2601.01014) it is the model of a geometric
update. β = 0 leaves everything, β = 1 forgets the component along k, β = 2 reflects it. Lesson 04.
"""

from mgt_np.arrays import (
    array_namespace,
    as_float_array,
    concrete,
    device,
    has_values,
    held,
    layer,
)


def _some_direction(k, eps, **_):
    """Without ε a zero vector has no direction."""
    if eps == 0.0 and has_values(k) and _any_row_is_zero(concrete(k)):
        return "expected k ≠ 0 for eps=0, got a zero vector: it has no direction"
    return None


def _any_row_is_zero(k):
    xp = array_namespace(k)
    return bool(xp.any(xp.all(k == 0.0, axis=-1)))


@layer(requires_values=_some_direction, d="features")
def unit_direction(
    k: "... d≥1", *, eps: "float ≥ 0" = 1e-5, placement: "'inside' | 'outside'" = "inside"
) -> "... d":
    """Return a direction scaled to unit length, safely near zero.

        k/√(‖k‖² + ε²)     placement="inside"     DDL, the authors' PDF of July 2026, and their code
        k/(‖k‖ + ε)        placement="outside"    DDL v1, appendix A.1

    A zero k stays zero, so that its operator is the identity. For ‖k‖ ≫ ε the length is 1 to within
    ε²/2‖k‖² (inside) or ε/‖k‖ (outside). ‖k‖² may leave the range of the dtype, k/‖k‖ does not.
    Raises ValueError for a zero k with ε = 0; under `jax.jit`, where k has no values yet, that
    gives NaN instead.
    """
    xp = array_namespace(k)
    largest = xp.max(xp.abs(held(k)), axis=-1, keepdims=True)
    scale = xp.where(largest > eps, largest, eps)  # cancels, so it is held
    k, eps = k / scale, eps / scale
    if placement == "inside":
        return k / xp.sqrt(xp.sum(k * k, axis=-1, keepdims=True) + eps * eps)
    return k / (xp.linalg.vector_norm(k, axis=-1, keepdims=True) + eps)


@layer(d="features")
def delta_operator(k: "... d≥1", beta: "number | #...") -> "... d d":
    """Return the matrix of the Delta Operator.

        A = I − β k kᵀ                                                    (DDL, eq. 2.4)

    k is of unit length; β broadcasts to its leading axes. A k = (1 − β) k, and A leaves every
    vector orthogonal to k as it is.
    """
    xp = array_namespace(k, beta)
    identity = xp.eye(k.shape[-1], dtype=k.dtype, device=device(k))
    kkT = xp.expand_dims(k, axis=-1) * xp.expand_dims(k, axis=-2)
    return xp.subtract(identity, _with_axes(xp, beta, 2) * kkT)


@layer(d="features", m="values")
def delta_apply(X: "... d≥1 m", k: "#... d", beta: "number | #...") -> "... d m":
    """Return the Delta Operator times X, without forming the operator.

        A X = X − β k (kᵀX)                                               (DDL, eq. 2.5 with v = 0)

    k is of unit length; k and β broadcast to the leading axes of X. Linear in X, at O(dm) instead
    of O(d²m). β = 0 gives X.
    """
    xp = array_namespace(X, k, beta)
    column, row = xp.expand_dims(k, axis=-1), xp.expand_dims(k, axis=-2)
    return X - _with_axes(xp, beta, 2) * column * xp.matmul(row, X)


@layer(d="features", m="values")
def delta_update(X: "... d≥1 m", k: "#... d", v: "#... m", beta: "number | #...") -> "... d m":
    """Return X with what it holds along k erased, and v written there.

        X' = X + β k (vᵀ − kᵀX)                                           (DDL, eq. 2.5)

    k is of unit length; k, v and β broadcast to the leading axes of X. β = 1 makes kᵀX' = vᵀ; v = 0
    gives `delta_apply`; β = 0 gives X.
    """
    xp = array_namespace(X, k, v, beta)
    column, row = xp.expand_dims(k, axis=-1), xp.expand_dims(k, axis=-2)
    error = xp.expand_dims(v, axis=-2) - xp.matmul(row, X)
    return X + _with_axes(xp, beta, 2) * column * error


@layer
def delta_eigenvalues(beta: "number | ...", d: "int ≥ 1") -> "... d":
    """Return the eigenvalues of A = I − β k kᵀ in closed form.

        λ = 1 (d − 1 times), 1 − β                                        (DDL, theorem 3.1)

    In this order: the eigenspace of 1 is k⊥, the eigenvector of 1 − β is k. For unit k they do not
    depend on k.
    """
    beta = as_float_array(beta)
    xp = array_namespace(beta)
    ones = xp.ones((*beta.shape, d - 1), dtype=beta.dtype, device=device(beta))
    return xp.concat([ones, xp.expand_dims(1.0 - beta, axis=-1)], axis=-1)


@layer
def delta_singular_values(beta: "number | ...", d: "int ≥ 1") -> "... d":
    """Return the singular values of A = I − β k kᵀ in closed form.

        σ = 1 (d − 1 times), |1 − β|                                      (A is symmetric)

    In the order of `delta_eigenvalues`. A is orthogonal for β = 0 and β = 2 only, and no vector
    grows for 0 ≤ β ≤ 2.
    """
    eigenvalues = delta_eigenvalues(beta, d)
    return array_namespace(eigenvalues).abs(eigenvalues)


@layer
def delta_determinant(beta: "number | ...") -> "...":
    """Return det A = 1 − β: the factor by which A changes volume             (DDL, corollary 3.2).

    Negative where A turns orientation, β > 1.
    """
    return 1.0 - as_float_array(beta)


def _no_nan(beta, **_):
    beta = concrete(as_float_array(beta))
    xp = array_namespace(beta)
    if bool(xp.any(xp.isnan(beta))):
        return "expected beta to be a number, got NaN"
    return None


@layer(requires_values=_no_nan)
def delta_regime(beta: "number | ...", *, atol: "float ≥ 0" = 1e-6):
    """Return the name of what A = I − β k kᵀ does along k.

        |β| ≤ atol       identity          leaves it
        |β − 1| ≤ atol   projection        removes it
        |β − 2| ≤ atol   reflection        turns it round
        0 < β < 2        contraction       shrinks it (and turns it round beyond 1)
        β < 0            amplification     grows it
        β > 2            overreflection    turns it round and grows it

    The first three are DDL's, §3.3; the others are ours. A number or a 0-d array gives a string, an
    array with axes nested lists of strings. Raises ValueError for NaN.
    """
    beta = as_float_array(beta)
    if beta.ndim:
        return [delta_regime(beta[i, ...], atol=atol) for i in range(beta.shape[0])]
    beta = float(beta)
    for value, name in ((0.0, "identity"), (1.0, "projection"), (2.0, "reflection")):
        if abs(beta - value) <= atol:
            return name
    return "amplification" if beta < 0.0 else "contraction" if beta < 2.0 else "overreflection"


@layer(L="factors", d="features")
def delta_product(K: "... L d≥1", beta: "number | #... L") -> "... d d":
    """Return the product of a sequence of Delta Operators, the last one on the left.

        A_L ⋯ A_1 = I − KᵀT K,    T = (I + diag(β) tril(KKᵀ, −1))⁻¹ diag(β)

    in compact WY form (Bischof & Van Loan 1987; Schreiber & Van Loan 1989, for reflections). The
    rows of K are k_1 … k_L, of unit length. More than d factors are multiplied in halves, which
    costs less and keeps the systems small. L = 0 gives the identity, L = 1 `delta_operator`;
    orthonormal k with β = 1 give the projection on their complement.
    For 0 ≤ β ≤ 2 nothing grows and 200 factors are right to 1e-12; for larger |1 − β| along nearly
    parallel k the system is ill-conditioned, and only multiplying one by one keeps the digits.
    """
    xp = array_namespace(K, beta)
    L, d = K.shape[-2:]
    if d < L:
        halves = slice(L // 2), slice(L // 2, L)
        betas = [beta[..., half] if getattr(beta, "ndim", 0) else beta for half in halves]
        early, late = (delta_product(K[..., h, :], b) for h, b in zip(halves, betas, strict=True))
        return xp.matmul(late, early)
    eye = {n: xp.eye(n, dtype=K.dtype, device=device(K)) for n in {L, d}}
    if L == 0:
        return xp.broadcast_to(eye[d], (*K.shape[:-2], d, d))
    scaled = _with_axes(xp, beta, 1) * K
    earlier = xp.tril(xp.matmul(scaled, xp.matrix_transpose(K)), k=-1)
    W = xp.linalg.solve(xp.add(eye[L], earlier), scaled)
    return xp.subtract(eye[d], xp.matmul(xp.matrix_transpose(K), W))


def _with_axes(xp, beta, n):
    """β (...) as (..., 1 × n), to meet arrays with n more axes; one number as it is."""
    return xp.reshape(beta, (*beta.shape, *(1,) * n)) if getattr(beta, "ndim", 0) else beta
