"""Hyper-connections (Zhu et al., 2409.19606): free coefficients between n residual streams."""

from mgt_np.arrays import operands
from mgt_np.arrays.checks import at_least, entries, one_of, shaped
from mgt_np.arrays.initial import constant

from .linear import linear
from .normalization import layer_norm, rms_norm
from .streams import mhc_read, mhc_update

NORMS = {
    "layer": layer_norm,
    "rms": lambda X, gain, bias: rms_norm(X, gain, eps=0.0),
}

_DYNAMIC = ("W_m", "W_beta", "W_r", "s_alpha", "s_beta")


def hyper_connection(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    """Connect a sub-layer F to n residual streams: read one mixture, write to all, mix all.

        h₀ = 𝒜_mᵀ H,    Ĥ = ℬᵀ F(h₀)ᵀ + 𝒜_rᵀ H                           (HC, eqs 2–5)

    with the coefficients of `hyper_connection_coefficients`, to which the options belong.
    Shapes: X (..., n, d), F: (..., d) → (..., d); result as X. Note the transpose: stream i becomes
    Σⱼ 𝒜_rⱼᵢ Hⱼ. The initial parameters give every stream the plain residual Hᵢ + F(h₀) exactly.
    """
    H_pre, H_post, H_res = hyper_connection_coefficients(
        X, params, dynamic=dynamic, norm=norm, tanh=tanh
    )
    return mhc_update(X, sublayer(mhc_read(X, H_pre)), H_post, H_res)


def hyper_connection_coefficients(X, params, *, dynamic=True, norm="layer", tanh=True):
    """Return the coefficients of a hyper-connection, in the orientation of `mhc_update`.

        H̄ = norm(H),    𝒜_m = s_α tanh(H̄ W_m) + A_m                       (HC, eqs 10–13)
        ℬ = s_β tanh(H̄ W_β)ᵀ + B,    𝒜_r = s_α tanh(H̄ W_r) + A_r
        H_pre = 𝒜_mᵀ,    H_post = ℬ,    H_res = 𝒜_rᵀ

    Each stream is normed and projected alone: row j of 𝒜_r comes from stream j. `dynamic=False`
    leaves all but B, A_m, A_r out. Shapes: X (..., n, d); params: A_m (n), B (n), A_r (n, n),
    W_m (d, 1), W_beta (d, 1), W_r (d, n), s_alpha and s_beta 0-d, and, where wanted, the norm's
    gain (d) and bias (d); result H_pre (..., n), H_post (..., n), H_res (..., n, n).
    The paper says "norm"; here it is layer norm, or with `norm="rms"` X √d/‖X‖ ⊙ gain as in the
    package hyper-connections, whose tanh can be left out too (`tanh=False`). X = 0 has no rms.
    Raises ValueError for a parameter that is missing or of another shape, or an unknown norm.
    """
    one_of(NORMS, norm=norm)
    arrays = entries(params, "A_m", "B", "A_r", *(_DYNAMIC if dynamic else ()))
    gain, bias = (params.get(name) if dynamic else None for name in ("gain", "bias"))
    xp, X, gain, bias, A_m, B, A_r, *of_streams = operands(X=X, gain=gain, bias=bias, **arrays)
    at_least(2, X=X)
    leading, (n, d) = tuple(X.shape[:-2]), X.shape[-2:]
    shapes = {"A_m": (n,), "B": (n,), "A_r": (n, n)}
    shapes |= {"W_m": (d, 1), "W_beta": (d, 1), "W_r": (d, n), "s_alpha": (), "s_beta": ()}
    for name, x in arrays.items():
        shaped(x, shapes[name], name=name)
    if not dynamic:
        return (
            xp.broadcast_to(A_m, (*leading, n)),
            xp.broadcast_to(B, (*leading, n)),
            xp.broadcast_to(xp.matrix_transpose(A_r), (*leading, n, n)),
        )
    W_m, W_beta, W_r, s_alpha, s_beta = of_streams
    normed = NORMS[norm](X, gain, bias)
    moved = linear(normed, xp.concat([W_m, W_beta, W_r], axis=1))
    if tanh:
        moved = xp.tanh(moved)
    return (
        s_alpha * moved[..., 0] + A_m,
        s_beta * moved[..., 1] + B,
        xp.matrix_transpose(s_alpha * moved[..., 2:] + A_r),
    )


def init_hyper_connection(rng, n, d, *, index=None, scale=0.01, dtype="float64"):
    """Return the parameters with which every stream is the plain residual, as NumPy arrays.

        W = 0,    B = 1,    A_m = e_{index mod n},    A_r = I,    s_α = s_β = scale    (HC, eq. 14)

    `index` says which of n streams the sub-layer reads first: its own index in the paper, drawn if
    not given. The norm's gain and bias are 1 and 0.
    """
    index = int(rng.integers(n)) if index is None else index % n
    identity = constant(0.0, (n, n), dtype)
    identity[range(n), range(n)] = 1.0
    return {
        "A_m": identity[index].copy(),
        "B": constant(1.0, n, dtype),
        "A_r": identity,
        "W_m": constant(0.0, (d, 1), dtype),
        "W_beta": constant(0.0, (d, 1), dtype),
        "W_r": constant(0.0, (d, n), dtype),
        "s_alpha": constant(scale, (), dtype),
        "s_beta": constant(scale, (), dtype),
        "gain": constant(1.0, d, dtype),
        "bias": constant(0.0, d, dtype),
    }
