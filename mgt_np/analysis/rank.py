"""How many directions does a matrix of tokens use? Measures of its singular values.

`X` is (..., N, d): N tokens of d features; σ are its singular values. Every measure is computed
in float64 where the device has it, since a collapsed state's small singular values are lost in
float32 rounding, and is returned in the dtype of X. None changes when X is scaled.
Lessons 03 and 08.
"""

from contextlib import suppress

from mgt_np.arrays import array_namespace, layer, magnitude

from .tokens import MATRIX


@layer
def effective_rank(
    X: "... N≥1 d≥1, finite",
    *,
    center: "bool" = False,
    normalize: "bool" = False,
    power: "int in [1, 2]" = 1,
    eps: "float in [0, 1)" = 0.0,
) -> "...":
    """Return the effective rank of Roy & Vetterli (EUSIPCO 2007).

        erank(X) = exp(−Σᵢ pᵢ log pᵢ),    pᵢ = σᵢ^power / Σⱼ σⱼ^power + ε

    in [1, min(N, d)], or in (0, 1] with `normalize`, which divides by min(N, d). `power=1` is the
    original, `power=2` takes the eigenvalues of XᵀX instead. `center=True` subtracts the mean token
    first: on a collapsed state the centred rank then measures the noise that is left, where the
    plain one is near 1. ε = 0 is the original; RankMe (2210.02885) adds 1e-7 or 1e-5 to each p, and
    can exceed min(N, d) by as much. m equal singular values give m. A zero matrix has rank 0.
    Centring N ≤ d tokens makes one σ zero: it is left out.
    """
    xp = array_namespace(X)
    N, d = X.shape[-2:]
    most = min(N, d)
    dtype, X = X.dtype, in_float64(X)
    if center:
        X = X - xp.mean(X, axis=-2, keepdims=True)
        # N centred tokens sum to zero, so that an N-th singular value would be mere rounding.
        most = max(min(N - 1, d), 1)
    ratio, nonzero = _relative_singular_values(xp, X)
    ratio = ratio[..., :most]
    weight = ratio if power == 1 else ratio * ratio
    total = xp.sum(weight, axis=-1, keepdims=True)
    p = weight / xp.where(total == 0.0, 1.0, total) + eps
    entropy = -xp.sum(p * xp.log(xp.where(p == 0.0, 1.0, p)), axis=-1)
    rank = xp.where(nonzero, xp.exp(entropy), 0.0)
    return xp.astype(rank / min(N, d) if normalize else rank, dtype)


@layer
def stable_rank(X: "... N≥1 d≥1, finite") -> "...":
    """Return the stable rank ‖X‖²_F/‖X‖²₂ = Σσᵢ²/max σᵢ²       (Rudelson & Vershynin, 2007).

    in [1, rank X]. A zero matrix has 0. m equal singular values give m.
    """
    xp = array_namespace(X)
    ratio, _ = _relative_singular_values(xp, in_float64(X))
    return xp.astype(xp.sum(ratio * ratio, axis=-1), X.dtype)


@layer
def participation_ratio(X: "... N≥1 d≥1, finite") -> "...":
    """Return the participation ratio (Σλᵢ)²/Σλᵢ² of the eigenvalues λ = σ² of XᵀX.

    in [1, rank X]. A zero matrix has 0. m equal singular values give m.
    """
    xp = array_namespace(X)
    ratio, nonzero = _relative_singular_values(xp, in_float64(X))
    eigenvalues = ratio * ratio
    total = xp.sum(eigenvalues, axis=-1)
    squares = xp.sum(eigenvalues * eigenvalues, axis=-1)
    return xp.astype(total * total / xp.where(nonzero, squares, 1.0), X.dtype)


def in_float64(X):
    """Return X over its largest magnitude, in float64 where its device has that."""
    xp = array_namespace(X)
    with suppress(TypeError, ValueError):  # no float64 on this device
        X = xp.astype(X, xp.float64)
    return X / magnitude(X, MATRIX)


def _relative_singular_values(xp, X):
    """σ/max σ, all 0 for a zero matrix, and where the matrix is not zero."""
    singular_values = xp.linalg.svdvals(X)
    largest = xp.max(singular_values, axis=-1, keepdims=True)
    ratio = singular_values / xp.where(largest == 0.0, 1.0, largest)
    return ratio, xp.squeeze(largest > 0.0, axis=-1)
