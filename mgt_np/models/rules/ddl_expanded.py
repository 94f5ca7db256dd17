"""Deep Delta Learning (2601.00417) with d_v value channels a feature: the state is a matrix.

As in the authors' code (yifanzhang-pro/deep-delta-learning, 2b55f25), both sub-layers of a block
read the state through one compressor, and after the last block one more, with weights of its own,
reads it out for an RMS norm. The state starts as X = x 1ᵀ, which is also what the code's expansion
by convolution gives at its start. Compressors start as the mean of the channels, which is ours;
norms have ε = 10⁻⁶ unless `ddl_norm_eps` is the code's 10⁻⁵.
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

from .ddl import rms_norm_of
from .rule import ResidualRule


def init(rng, config, index):
    return {
        "norm": init_rms_norm(config.d_model, dtype=config.dtype),
        "update": init_deep_delta_expanded(
            rng,
            config.d_model,
            config.ddl_value_channels,
            beta_init=config.ddl_beta_init,
            hidden=config.ddl_beta_hidden,
            scale=config.weight_scale,
            dtype=config.dtype,
        ),
    }


def init_compressor(rng, config):
    d, d_v, dtype = config.d_model, config.ddl_value_channels, config.dtype
    if config.ddl_compressor == "channels":
        return {"compressor": init_compress_channels(d, d_v, dtype=dtype)}
    kernel_size = config.ddl_kernel_size
    return {"compressor": init_compress_tokens(rng, d, d_v, kernel_size, dtype=dtype)}


def expand(x, config):
    """X = x 1ᵀ: (..., N, d) → (..., N, d, d_v)."""
    xp = array_namespace(x)
    return xp.broadcast_to(xp.expand_dims(x, axis=-1), (*x.shape, config.ddl_value_channels))


def read(X, params, config):
    """x = C(X), such as Σ_j C_j X_j."""
    compress = compress_channels if config.ddl_compressor == "channels" else compress_tokens
    return compress(X, **params["compressor"])


def update(X, sublayer, params, config):
    """X' = X + β k̂ (vᵀ − k̂ᵀX),  k = F(c),  c = RMS(x) of the compressed x = C(X)."""
    x = read(X, params, config)
    context = rms_norm(x, **params["norm"], eps=config.ddl_norm_eps)
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
    "X' = X + β k̂ (vᵀ − k̂ᵀX),  k = F(RMS(C(X)))",
    init,
    update,
    final_norm=True,
    expand=expand,
    read=read,
    init_block=init_compressor,
    init_read=init_compressor,
    last_norm=rms_norm_of,
)
