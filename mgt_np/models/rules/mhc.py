"""mHC (Xie et al., 2512.24880): n streams, mixed by doubly stochastic matrices of the state.

The streams begin as copies of the embedding, as in DeepSeek's, Hugging Face's and NVIDIA's code
(TileKernels 36d9e45, transformers 0197608, Megatron-LM 023f5cf). The paper does not say how they
end: here their mean is read, as in Megatron; `mhc_read_out="head"` is DeepSeek-V4's learned sum.

`mhc_norm` is the norm in front of the sub-layer, and the last one: "layer", which is ours, "rms" as
in transformers and Megatron, or "none" in front, as the paper's equation has it.

`mhc_start` names what φ and b start from, which the paper does not give. "identity" is ours (see
`init_mhc_coefficients`): H_res near I. The two large code bases start at H_pre = 1/2, H_post = 1
and H_res = 1/n, with b = 0: "transformers" with φ from N(0, 0.02²) and α = 1, "megatron" with φ
from Xavier's uniform distribution and α = 0.01.

`mhc_single_pass` is mHC of DeepSeek-V4.1 (2609.19969, §2.4.1, as reported, and Megatron's option of
that name): a sub-layer reads by the H_pre that the one before it computed, the first by e₀, and the
last one's reads the streams out. H_pre is carried along as one more feature of each stream.
"""

import math

from mgt_np.arrays import array_namespace, device
from mgt_np.arrays.initial import constant
from mgt_np.layers import (
    expand_streams,
    init_layer_norm,
    init_mhc_coefficients,
    init_rms_norm,
    layer_norm,
    mhc_coefficients,
    mhc_read,
    mhc_read_coefficients,
    mhc_update,
    reduce_streams,
    rms_norm,
)

from .rule import ResidualRule

NORMS = {
    "layer": (init_layer_norm, layer_norm),
    "rms": (init_rms_norm, rms_norm),
    "none": (None, lambda x: x),
}
STARTS = ("identity", "transformers", "megatron")


def init(rng, config, index):
    init_norm, _ = NORMS[config.mhc_norm]
    norm = {"norm": init_norm(config.d_model, dtype=config.dtype)} if init_norm else {}
    return norm | {"connection": init_connection(rng, config)}


def init_connection(rng, config):
    n, d, dtype, start = config.n_streams, config.d_model, config.dtype, config.mhc_start
    options = {"convention": config.mhc_convention, "dtype": dtype}
    if start == "identity":
        return init_mhc_coefficients(rng, n, d, scale=config.weight_scale, **options)
    alpha = 1.0 if start == "transformers" else 0.01
    params = init_mhc_coefficients(rng, n, d, b_res=0.0, alpha=alpha, scale=0.02, **options)
    phi = {name: x for name, x in params.items() if name.startswith("phi_")}
    if not phi:  # static: nothing but the noise in b_pre tells the streams apart
        return params
    params["b_pre"] = constant(0.0, n, dtype)
    if start == "megatron":  # one matrix of all three there
        rows, columns = phi["phi_pre"].shape[0], sum(x.shape[1] for x in phi.values())
        bound = math.sqrt(6.0 / (rows + columns))
        for name, x in phi.items():
            params[name] = rng.uniform(-bound, bound, x.shape).astype(dtype)
    return params


def init_read(rng, config):
    """The parameters of H_pre alone, where a head reads the streams out."""
    if config.mhc_read_out != "head":
        return {}
    params = init_connection(rng, config)
    return {name: x for name, x in params.items() if name.endswith("_pre")}


def last_norm(config):
    return NORMS["layer" if config.mhc_norm == "none" else config.mhc_norm]


def expand(x, config):
    X = expand_streams(x, n=config.n_streams)
    if not config.mhc_single_pass:
        return X
    xp = array_namespace(x)
    first = xp.eye(config.n_streams, dtype=x.dtype, device=device(x))[0, :]
    return _packed(xp, X, xp.broadcast_to(first, X.shape[:-1]))


def read(state, params, config):
    """x = H_pre X of the head or of the last sub-layer, or the mean of the streams."""
    if config.mhc_single_pass:
        return mhc_read(*_unpacked(state))
    if config.mhc_read_out == "head":
        H_pre = mhc_read_coefficients(state, params, convention=config.mhc_convention)
        return mhc_read(state, H_pre)
    return reduce_streams(state, reduction="mean")


def update(state, sublayer, params, config):
    """X' = H_res X + H_postᵀ F(LN(H_pre X));  in a single pass F reads by the H_pre before this."""
    _, norm = NORMS[config.mhc_norm]
    X, H_read = _unpacked(state) if config.mhc_single_pass else (state, None)
    H_pre, H_post, H_res = mhc_coefficients(
        X, params["connection"], convention=config.mhc_convention, n_iters=config.mhc_iters
    )
    x = mhc_read(X, H_pre if H_read is None else H_read)
    y = sublayer(norm(x, **params.get("norm", {})))
    X = mhc_update(X, y, H_post, H_res)
    return _packed(array_namespace(X), X, H_pre) if config.mhc_single_pass else X


def _packed(xp, X, H_pre):
    return xp.concat([X, xp.expand_dims(H_pre, axis=-1)], axis=-1)


def _unpacked(state):
    return state[..., :-1], state[..., -1]


MHC = ResidualRule(
    "X' = H_res X + H_postᵀ F(LN(H_pre X))",
    init,
    update,
    final_norm=True,
    expand=expand,
    read=read,
    init_read=init_read,
    last_norm=last_norm,
)
