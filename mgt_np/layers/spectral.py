"""Remedies that act on a spectrum: σReparam for weights, the gap's removal for attention."""

from mgt_np.arrays import array_namespace, held, layer, magnitude

from .attention import attention_weights

GRADIENTS = "'iterations' | 'fixed vectors'"


@layer(m="rows", n="columns")
def spectral_norm(
    W: "... m≥1 n≥1",
    v: "#... n" = None,
    *,
    n_iters: "int ≥ 0" = 1,
    gradient: GRADIENTS = "iterations",
) -> "...":
    """Return the largest singular value of a matrix, exactly or by power iteration.

        σ(W) = uᵀ W v,    u = W v/‖W v‖, v = Wᵀu/‖Wᵀu‖, `n_iters` times; u alone for none

    Without `v` it is exact, by singular values, and waits for a device to know. With a start v, of
    any length, it is a lower bound of σ, exact for the leading right singular vector, and needs no
    decomposition. One iteration of a v that goes on from step to step (`power_iteration`) is
    σReparam's (apple/ml-sigma-reparam). `gradient` is "iterations" for the derivative of this
    bound, through its iterations; "fixed vectors" for the one that σReparam takes, u vᵀ with u and
    v held, which is that of σ itself once they have converged.
    """
    xp = array_namespace(W, v)
    if v is None:
        return xp.max(xp.linalg.svdvals(W), axis=-1)
    u, v = _iterate(W, v, n_iters)
    if gradient == "fixed vectors":
        u, v = held(u), held(v)
    return xp.sum(_times(W, v) * u, axis=-1)


@layer(m="rows", n="columns")
def power_iteration(W: "... m≥1 n≥1", v: "#... n", *, n_iters: "int ≥ 0" = 1) -> "... n":
    """Return a vector turned towards the leading right singular vector of W.

        v ← WᵀW v/‖WᵀW v‖,    `n_iters` times; v/‖v‖ for none

    Of length 1, or zero where W v = 0. The part of v along the i-th singular vector shrinks by
    (σᵢ/σ₁)² an iteration; the leading one stays.
    """
    return _iterate(W, v, n_iters)[1]


@layer(m="rows", n="columns")
def sigma_reparam(
    W: "... m≥1 n≥1",
    gamma: "number | ...",
    v: "#... n" = None,
    *,
    n_iters: "int ≥ 0" = 1,
    gradient: GRADIENTS = "iterations",
) -> "... m n":
    """Return a weight matrix with the spectral norm γ.

        Ŵ = γ W/σ(W)                                               (Zhai et al., 2303.06296)

    σ is `spectral_norm(W, v)`: exact without `v`. γ is learned, one number a matrix. It starts at
    σ(W), so that Ŵ = W, in the authors' PyTorch code, and at 1 in their JAX code
    (apple/ml-sigma-reparam); both carry v on from step to step, one iteration each, with
    gradient="fixed vectors". σ(Ŵ) = γ for γ ≥ 0 whatever the scale of W: Ŵ does not change when W
    is scaled, and the loss's gradient with respect to W is orthogonal to W.
    """
    xp = array_namespace(W, gamma, v)
    factor = gamma / spectral_norm(W, v, n_iters=n_iters, gradient=gradient)
    return W * xp.reshape(factor, (*factor.shape, 1, 1))


@layer
def gap_free_attention_weights(P: "... N T≥1") -> "... N T":
    """Return attention without the outlier of its spectrum: P − 11ᵀ/T.

    (Nait Saada, Naderi & Tanner, 2410.07799.) Rows of P sum to one, rows of the result to zero. For
    a square P the eigenvalue 1 becomes 0 and all others stay, of order T^−1/2 where P is random.
    Uniform attention leaves nothing. Under a causal mask 11ᵀ/T reads the future.
    """
    return P - 1.0 / P.shape[-1]


@layer(N="queries", T="keys", d_k="features")
def gap_free_attention(
    q: "... N d_k≥1", k: "#... T≥1 d_k", v: "#... T d_v", *, scale: "float ≥ 0" = None
) -> "... N d_v":
    """Return how the attended value differs from the mean value.

        (P − 11ᵀ/T) v = P v − v̄,    P = softmax(q kᵀ · scale), v̄ the mean over T keys

    (2410.07799.) scale = 1/√d_k unless given. Equal keys, and equal values, give 0. Neither mask
    nor `causal`: the paper's attention sees all tokens.
    """
    P = attention_weights(q, k, scale=scale)
    return array_namespace(P, v).matmul(gap_free_attention_weights(P), v)


def _iterate(W, v, n_iters):
    """Return u and v of the iteration, of length 1 or 0."""
    xp = array_namespace(W, v)
    v = _unit(v)
    u = _unit(_times(W, v)) if n_iters == 0 else None
    for _ in range(n_iters):
        u = _unit(_times(W, v))
        v = _unit(_times(xp.matrix_transpose(W), u))
    return u, v


def _times(W, v):
    """W v."""
    xp = array_namespace(W, v)
    return xp.squeeze(xp.matmul(W, xp.expand_dims(v, axis=-1)), axis=-1)


def _unit(v):
    """v/‖v‖, 0 for v = 0."""
    v = v / magnitude(v, axis=-1)
    norm = array_namespace(v).linalg.vector_norm(v, axis=-1, keepdims=True)
    return v / array_namespace(v).where(norm == 0.0, 1.0, norm)
