"""Hyper-connections (Zhu et al., 2409.19606): n streams, free coefficients, pre-LN at the start.

Sub-layer k reads stream k mod n first, as in the paper. The paper sums the streams at the end; here
their mean is read, which the final norm makes the same up to its ε, and which lets the states be
compared with those of one stream. It also scales the initial output projections by √n, in a
direction that we could not make out: `hc_output_gain`, 1 by default, which is ours.
"""

from mgt_np.layers import (
    expand_streams,
    hyper_connection,
    init_hyper_connection,
    init_layer_norm,
    layer_norm,
    reduce_streams,
)

from .rule import ResidualRule

_STATIC = ("A_m", "B", "A_r")


def init(rng, config, index):
    params = init_hyper_connection(
        rng, config.n_streams, config.d_model, index=index, dtype=config.dtype
    )
    if not config.hc_dynamic:
        params = {name: params[name] for name in _STATIC}
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype), "connection": params}


def update(X, sublayer, params, config):
    """X' = 𝒜_rᵀ X + ℬᵀ F(LN(𝒜_mᵀ X))."""

    def branch(x):
        return sublayer(layer_norm(x, **params["norm"]))

    return hyper_connection(X, branch, params["connection"], dynamic=config.hc_dynamic)


HC = ResidualRule(
    "X' = 𝒜_rᵀ X + ℬᵀ F(LN(𝒜_mᵀ X))",
    init,
    update,
    final_norm=True,
    expand=lambda x, config: expand_streams(x, n=config.n_streams),
    read=lambda X, params, config: reduce_streams(X, reduction="mean"),
    gains=lambda config: dict.fromkeys(("W_o", "W_2"), config.hc_output_gain),
)
