"""How many directions does a matrix of tokens use? Measures of its singular values.

`X` is (..., N, d): N tokens of d features; σ are its singular values. Every measure is computed
in float64 where the device has it, since a collapsed state's small singular values drown in
float32 rounding, and is returned in the dtype of X. None changes when X is scaled.
"""

from mgt_np.arrays import operands


def effective_rank(X, *, center=False, normalize=False, power=1):
    """Return the effective rank of Roy & Vetterli (EUSIPCO 2007).

        erank(X) = exp(−Σᵢ pᵢ log pᵢ),    pᵢ = σᵢ^power / Σⱼ σⱼ^power

    Shapes: X (..., N, d); result (...). `power=1` is the original, `power=2` takes the eigenvalues
    of XᵀX instead. `center=True` subtracts the mean token first: on a collapsed state the centred
    rank then measures what noise is left, where the plain one is near 1. `normalize=True` divides
    by min(N, d). Range: [1, min(N, d)], normalised (0, 1]; m equal singular values give m. A zero
    matrix has rank 0. Centring N ≤ d tokens makes one σ zero: it is left out, and the rank has no
    second derivative there. Raises ValueError for NaN or infinity in X, or another `power`.
    """
    if power not in (1, 2):
        raise ValueError(f"expected power to be 1 or 2, got {power!r}")
    xp, X, dtype = in_float64(X)
    N, d = X.shape[-2:]
    most = min(N, d)
    if center:
        X = X - xp.mean(X, axis=-2, keepdims=True)
        # N centred tokens sum to zero, so that an N-th singular value would be mere rounding.
        most = max(min(N - 1, d), 1)
    ratio, nonzero = _relative_singular_values(xp, X)
    ratio = ratio[..., :most]
    weight = ratio if power == 1 else ratio * ratio
    total = xp.sum(weight, axis=-1, keepdims=True)
    p = weight / xp.where(total == 0.0, 1.0, total)
    entropy = -xp.sum(p * xp.log(xp.where(p == 0.0, 1.0, p)), axis=-1)
    rank = xp.where(nonzero, xp.exp(entropy), 0.0)
    return xp.astype(rank / min(N, d) if normalize else rank, dtype)


def stable_rank(X):
    """Return the stable rank ‖X‖²_F/‖X‖²₂ = Σσᵢ²/max σᵢ²       (Rudelson & Vershynin, 2007).

    Shapes: X (..., N, d); result (...) in [1, rank X]. A zero matrix has 0. m equal singular values
    give m. Raises ValueError for NaN or infinity in X.
    """
    xp, X, dtype = in_float64(X)
    ratio, _ = _relative_singular_values(xp, X)
    return xp.astype(xp.sum(ratio * ratio, axis=-1), dtype)


def participation_ratio(X):
    """Return the participation ratio (Σλᵢ)²/Σλᵢ² of the eigenvalues λ = σ² of XᵀX.

    Shapes: X (..., N, d); result (...) in [1, rank X]. A zero matrix has 0. m equal singular values
    give m. Raises ValueError for NaN or infinity in X.
    """
    xp, X, dtype = in_float64(X)
    ratio, nonzero = _relative_singular_values(xp, X)
    eigenvalues = ratio * ratio
    total = xp.sum(eigenvalues, axis=-1)
    squares = xp.sum(eigenvalues * eigenvalues, axis=-1)
    return xp.astype(total * total / xp.where(nonzero, squares, 1.0), dtype)


def in_float64(X, name="X"):
    """The namespace, X in float64 where its device has that, and the dtype it came in; checked."""
    xp, X = operands(**{name: X})
    if X.ndim < 2 or 0 in X.shape[-2:]:
        raise ValueError(f"expected {name} to have shape (..., N, d), got {tuple(X.shape)}")
    if not bool(xp.all(xp.isfinite(X))):
        raise ValueError(f"expected finite {name}, got NaN or infinity: it has no rank")
    try:
        return xp, xp.astype(X, xp.float64), X.dtype
    except (TypeError, ValueError):  # no float64 on this device
        return xp, X, X.dtype


def _relative_singular_values(xp, X):
    """σ/max σ, all 0 for a zero matrix, and where the matrix is not zero.

    Relative, since squares of an exploding state's singular values would overflow.
    """
    singular_values = xp.linalg.svdvals(X)
    largest = xp.max(singular_values, axis=-1, keepdims=True)
    ratio = singular_values / xp.where(largest == 0.0, 1.0, largest)
    return ratio, xp.squeeze(largest > 0.0, axis=-1)
