"""mHC (Xie et al., 2512.24880): n streams, mixed by doubly stochastic matrices of the state.

The paper does not say how streams begin and end; here they begin as copies of the embedding, and
their mean is read. Its equation says F alone; the layer norm in front of the sub-layer is ours.
"""

from mgt_np.layers import (
    expand_streams,
    init_layer_norm,
    init_mhc_coefficients,
    layer_norm,
    mhc_coefficients,
    mhc_read,
    mhc_update,
    reduce_streams,
)

from .rule import ResidualRule


def init(rng, config, index):
    return {
        "norm": init_layer_norm(config.d_model, dtype=config.dtype),
        "connection": init_mhc_coefficients(
            rng,
            config.n_streams,
            config.d_model,
            convention=config.mhc_convention,
            scale=config.weight_scale,
            dtype=config.dtype,
        ),
    }


def update(X, sublayer, params, config):
    """X' = H_res X + H_postᵀ F(LN(H_pre X))."""
    H_pre, H_post, H_res = mhc_coefficients(
        X, params["connection"], convention=config.mhc_convention, n_iters=config.mhc_iters
    )
    y = sublayer(layer_norm(mhc_read(X, H_pre), **params["norm"]))
    return mhc_update(X, y, H_post, H_res)


MHC = ResidualRule(
    "X' = H_res X + H_postᵀ F(LN(H_pre X))",
    init,
    update,
    final_norm=True,
    expand=lambda x, config: expand_streams(x, n=config.n_streams),
    read=lambda X, params, config: reduce_streams(X, reduction="mean"),
)
