"""Remedies that act on a spectrum: σReparam for weights, the gap's removal for attention."""

from mgt_np.arrays import operands
from mgt_np.arrays.checks import at_least, same_size

from .attention import attention_weights


def spectral_norm(W, v=None, *, n_iters=1):
    """Return the largest singular value of a matrix, exactly or by power iteration.

        σ(W) = max ‖W v‖/‖v‖,    v ← WᵀW v/‖WᵀW v‖, `n_iters` times, then σ = ‖W v‖

    Shapes: W (..., m, n); result (...). Without `v` it is exact, by singular values, whose gradient
    does not exist where two of them are equal (W = I), and waits for a device to know. With a start
    v (..., n), of any length, it is a lower bound of σ, exact for the leading right singular
    vector, and needs no decomposition; it differentiates through its iterations. One iteration of a
    v that goes on from step to step (`power_iteration`) is σReparam's, as we remember it.
    Raises ValueError for shapes that disagree, or fewer than 0 iterations.
    """
    if v is None:
        xp, W = operands(W=W)
        at_least(2, W=W)
        return xp.max(xp.linalg.svdvals(W), axis=-1)
    v = power_iteration(W, v, n_iters=n_iters)
    xp, W, v = operands(W=W, v=v)
    return xp.linalg.vector_norm(_times(xp, W, v), axis=-1)


def power_iteration(W, v, *, n_iters=1):
    """Turn a vector towards the leading right singular vector of W.

        v ← WᵀW v/‖WᵀW v‖,    `n_iters` times; v/‖v‖ for none

    Shapes: W (..., m, n), v (..., n); result (..., n) of length 1. The part of v along the i-th
    singular vector shrinks by (σᵢ/σ₁)² an iteration; the leading one stays. Zero where W v = 0.
    Raises ValueError for shapes that disagree, or fewer than 0 iterations.
    """
    if not hasattr(n_iters, "__index__") or n_iters < 0:
        raise ValueError(f"expected n_iters to be an integer ≥ 0, got {n_iters!r}")
    xp, W, v = operands(W=W, v=v)
    at_least(2, W=W)
    at_least(1, v=v)
    same_size("columns", W=W.shape[-1], v=v.shape[-1])
    v = _unit(xp, v)
    for _ in range(n_iters):
        v = _unit(xp, _times(xp, xp.matrix_transpose(W), _unit(xp, _times(xp, W, v))))
    return v


def sigma_reparam(W, gamma, v=None, *, n_iters=1):
    """Give a weight matrix the spectral norm γ.

        Ŵ = γ W/σ(W)                                               (Zhai et al., 2303.06296)

    Shapes: W (..., m, n), γ (...) or a number; result as W. σ is `spectral_norm(W, v)`: exact
    without `v`. γ is learned, one number a matrix, and 1 at the start, as we remember it.
    σ(Ŵ) = γ for γ ≥ 0 whatever the scale of W: Ŵ does not change when W is scaled, and the loss's
    gradient with respect to W is orthogonal to W.
    """
    sigma = spectral_norm(W, v, n_iters=n_iters)
    xp, W, gamma, sigma = operands(W=W, gamma=gamma, sigma=sigma)
    factor = gamma / sigma
    return W * xp.reshape(factor, (*factor.shape, 1, 1))


def gap_free_attention_weights(P):
    """Take the outlier out of the spectrum of attention: P − 11ᵀ/T.

    (Nait Saada, Naderi & Tanner, 2410.07799.)
    Shapes: P (..., n_queries, T) with rows that sum to one; result alike, rows sum to zero. For a
    square P the eigenvalue 1 becomes 0 and all others stay, since P 1 = 1: what is left of P is of
    order T^−1/2 where P is random. Uniform attention leaves nothing. Under a causal mask P 1 = 1
    still holds, but 11ᵀ/T then reads the future. Raises ValueError for fewer than two axes.
    """
    _, P = operands(P=P)
    at_least(2, P=P)
    return P - 1.0 / P.shape[-1]


def gap_free_attention(q, k, v, *, scale=None):
    """Return how the attended value differs from the mean value.

        (P − 11ᵀ/T) v = P v − v̄,    P = softmax(q kᵀ · scale), v̄ the mean over T keys

    (2410.07799.) Shapes: q (..., n_queries, d_k), k (..., T, d_k), v (..., T, d_v); result
    (..., n_queries, d_v). scale = 1/√d_k unless given. Equal keys, and equal values, give 0.
    Neither mask nor `causal`: the paper's attention sees all tokens. Raises ValueError where sizes
    disagree.
    """
    xp, q, k, v = operands(q=q, k=k, v=v)
    at_least(2, q=q, k=k, v=v)
    same_size("keys", k=k.shape[-2], v=v.shape[-2])
    return xp.matmul(gap_free_attention_weights(attention_weights(q, k, scale=scale)), v)


def _times(xp, W, v):
    return xp.squeeze(xp.matmul(W, xp.expand_dims(v, axis=-1)), axis=-1)


def _unit(xp, v):
    norm = xp.linalg.vector_norm(v, axis=-1, keepdims=True)
    return v / xp.where(norm == 0.0, 1.0, norm)
