"""Hyper-connections (Zhu et al., 2409.19606): free coefficients between n residual streams."""

from mgt_np.arrays import Parameters, array_namespace, layer
from mgt_np.arrays.initial import constant, constants

from .linear import linear
from .normalization import init_layer_norm, layer_norm, rms_norm
from .streams import mhc_read, mhc_update

NORMS = {"layer": layer_norm, "rms": lambda X, gain, bias: rms_norm(X, gain, eps=0.0)}
_STATIC = {"A_m": "n", "B": "n", "A_r": "n n"}
_DYNAMIC = {"W_m": "d 1", "W_beta": "d 1", "W_r": "d n", "s_alpha": "number", "s_beta": "number"}
_NORM = {"gain": "none | d", "bias": "none | d"}


def _shapes(arguments):
    unread = {name: f"none | {shape}" for name, shape in _DYNAMIC.items()}
    return _STATIC | (_DYNAMIC if arguments.get("dynamic", True) else unread) | _NORM


@layer(n="streams", d="features")
def hyper_connection(
    X: "... n≥1 d≥1",
    sublayer: "function",
    params: Parameters(_shapes),
    *,
    dynamic: "bool" = True,
    norm: "'layer' | 'rms'" = "layer",
    tanh: "bool" = True,
) -> "... n d":
    """Return n residual streams after a sub-layer F that reads one mixture and writes to all.

        h₀ = 𝒜_mᵀ H,    Ĥ = ℬᵀ F(h₀)ᵀ + 𝒜_rᵀ H                           (HC, eqs 2–5)

    with the coefficients of `hyper_connection_coefficients`, to which the options belong;
    F: (..., d) → (..., d). Note the transpose: stream i becomes Σⱼ 𝒜_rⱼᵢ Hⱼ. The initial parameters
    give every stream the plain residual Hᵢ + F(h₀) exactly.
    """
    options = {"dynamic": dynamic, "norm": norm, "tanh": tanh}
    H_pre, H_post, H_res = hyper_connection_coefficients(X, params, **options)
    return mhc_update(X, sublayer(mhc_read(X, H_pre)), H_post, H_res)


@layer(n="streams", d="features")
def hyper_connection_coefficients(
    X: "... n≥1 d≥1",
    params: Parameters(_shapes),
    *,
    dynamic: "bool" = True,
    norm: "'layer' | 'rms'" = "layer",
    tanh: "bool" = True,
) -> "(... n, ... n, ... n n)":
    """Return the coefficients of a hyper-connection: H_pre, H_post, H_res of `mhc_update`.

        H̄ = norm(H),    𝒜_m = s_α tanh(H̄ W_m) + A_m                       (HC, eqs 10–13)
        ℬ = s_β tanh(H̄ W_β)ᵀ + B,    𝒜_r = s_α tanh(H̄ W_r) + A_r
        H_pre = 𝒜_mᵀ,    H_post = ℬ,    H_res = 𝒜_rᵀ

    Each stream is normed and projected alone: row j of 𝒜_r comes from stream j. params: A_m (n),
    B (n), A_r (n, n), and, unless `dynamic=False`, W_m (d, 1), W_beta (d, 1), W_r (d, n), s_alpha
    and s_beta, and, where wanted, the norm's gain (d) and bias (d).
    The paper says "norm"; here it is layer norm, or with `norm="rms"` X √d/‖X‖ ⊙ gain as in the
    package hyper-connections, whose tanh can be left out too (`tanh=False`). X = 0 has no rms.
    """
    xp = array_namespace(X, *params.values())
    A_m, B, A_r = (params[name] for name in _STATIC)
    if not dynamic:
        H_res = xp.broadcast_to(xp.matrix_transpose(A_r), (*X.shape[:-1], X.shape[-2]))
        return xp.broadcast_to(A_m, X.shape[:-1]), xp.broadcast_to(B, X.shape[:-1]), H_res
    W_m, W_beta, W_r, s_alpha, s_beta = (params[name] for name in _DYNAMIC)
    normed = NORMS[norm](X, params.get("gain"), params.get("bias"))
    z = linear(normed, xp.concat([W_m, W_beta, W_r], axis=1))
    z = xp.tanh(z) if tanh else z
    H_pre, H_post = s_alpha * z[..., 0] + A_m, s_beta * z[..., 1] + B
    return H_pre, H_post, xp.matrix_transpose(s_alpha * z[..., 2:] + A_r)


@layer
def init_hyper_connection(
    rng: "generator",
    n: "int ≥ 1",
    d: "int ≥ 1",
    *,
    index: "int ≥ 0" = None,
    scale: "float" = 0.01,
    dtype: "dtype" = "float64",
):
    """Return the parameters with which every stream is the plain residual, as NumPy arrays.

        W = 0,    B = 1,    A_m = e_{index mod n},    A_r = I,    s_α = s_β = scale    (HC, eq. 14)

    `index` says which of n streams the sub-layer reads first: its own index in the paper, drawn if
    not given. The norm's gain and bias are 1 and 0.
    """
    index = int(rng.integers(n)) if index is None else index % n
    identity = constant(0.0, (n, n), dtype)
    identity[range(n), range(n)] = 1.0
    params = {"A_m": identity[index].copy(), "B": constant(1.0, n, dtype), "A_r": identity}
    params |= constants(0.0, dtype, W_m=(d, 1), W_beta=(d, 1), W_r=(d, n))
    params |= constants(scale, dtype, s_alpha=(), s_beta=())
    return params | init_layer_norm(d, dtype=dtype)
