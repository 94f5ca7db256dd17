"""Deep Delta Learning (2601.00417) with d_v value channels a feature: the state is a matrix.

It starts as X = x 1ᵀ, the paper's form without convolution, and each sub-layer reads it through a
compressor of its own. How the last state is read we do not know; here it is by the mean, which is
what a compressor is at the start.
"""

from mgt_np.arrays import array_namespace
from mgt_np.layers import (
    compress_channels,
    compress_tokens,
    deep_delta_expanded,
    init_compress_channels,
    init_compress_tokens,
    init_deep_delta_expanded,
    init_rms_norm,
    rms_norm,
)

from .rule import ResidualRule


def init(rng, config):
    d, d_v, dtype = config.d_model, config.ddl_value_channels, config.dtype
    by_channels = config.ddl_compressor == "channels"
    return {
        "compressor": init_compress_channels(d, d_v, dtype=dtype)
        if by_channels
        else init_compress_tokens(rng, d, d_v, config.ddl_kernel_size, dtype=dtype),
        "norm": init_rms_norm(d, dtype=dtype),
        "update": init_deep_delta_expanded(
            rng,
            d,
            d_v,
            beta_init=config.ddl_beta_init,
            hidden=config.ddl_beta_hidden,
            scale=config.weight_scale,
            dtype=dtype,
        ),
    }


def expand(x, config):
    """X = x 1ᵀ: (..., N, d) → (..., N, d, d_v)."""
    xp = array_namespace(x)
    return xp.broadcast_to(xp.expand_dims(x, axis=-1), (*x.shape, config.ddl_value_channels))


def read(X, config):
    return array_namespace(X).mean(X, axis=-1)


def update(X, sublayer, params, config):
    """X' = X + β k̂ (vᵀ − k̂ᵀX),  k = F(c),  c = RMS(x) of the compressed x = Σ_j C_j X_j."""
    compress = compress_channels if config.ddl_compressor == "channels" else compress_tokens
    x = compress(X, **params["compressor"])
    context = rms_norm(x, **params["norm"])
    return deep_delta_expanded(
        X,
        sublayer(context),
        **params["update"],
        context=context,
        v_input=context if config.ddl_v_from == "context" else x,
        v_form=config.ddl_v_form,
        erase=config.ddl_erase,
    )


DDL_EXPANDED = ResidualRule(
    "X' = X + β k̂ (vᵀ − k̂ᵀX),  k = F(RMS(C(X)))", init, update, True, expand, read
)
