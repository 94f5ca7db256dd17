"""Deep Delta Learning (2601.00417) with d_v value channels a feature: the state is a matrix.

As in the authors' code (yifanzhang-pro/deep-delta-learning, 2b55f25), both sub-layers of a block
read the state through one compressor, and after the last block one more, with weights of its own,
reads it out for an RMS norm. The state starts as X = x 1ᵀ, which is also what the code's expansion
by convolution gives at its start. Norms have ε = 10⁻⁶ unless `ddl_norm_eps` is the code's 10⁻⁵.

`ddl_compressor` is "channels", the paper's CC; "convolution", the code's, which convolves over the
channels before it reads; or "tokens", TC. `ddl_compressor_start="mean"` is ours: the mean of the
channels. The code's own is "normal", kernels from N(0, (0.5/√d)²) and a read vector of 1/d_v, with
which a block first reads each feature times a small random factor; the paper's CC has no kernel.
"""

from mgt_np.arrays import array_namespace
from mgt_np.arrays.initial import constant
from mgt_np.layers import (
    compress_channels,
    compress_tokens,
    convolve_and_compress_channels,
    deep_delta_expanded,
    init_compress_channels,
    init_compress_tokens,
    init_deep_delta_expanded,
    init_rms_norm,
    init_short_convolution,
    rms_norm,
)

from .ddl import rms_norm_of
from .rule import ResidualRule

COMPRESSORS = {
    "channels": compress_channels,
    "convolution": convolve_and_compress_channels,
    "tokens": compress_tokens,
}


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
    d, d_v, size = config.d_model, config.ddl_value_channels, config.ddl_kernel_size
    if config.ddl_compressor == "channels":
        return {"compressor": init_compress_channels(d, d_v, dtype=config.dtype)}
    is_mean = config.ddl_compressor_start == "mean"
    options = {"start": "identity" if is_mean else "normal", "dtype": config.dtype}
    if config.ddl_compressor == "tokens":
        return {"compressor": init_compress_tokens(rng, d, d_v, size, **options)}
    kernel = init_short_convolution(rng, d, size, **options)["kernel"]
    if is_mean:  # a tap runs both ways along the channels: the one in the middle is the identity
        kernel[:, 0], kernel[:, (size - 1) // 2] = 0.0, 1.0
    return {"compressor": {"kernel": kernel, "w": constant(1.0 / d_v, d_v, config.dtype)}}


def expand(x, config):
    """X = x 1ᵀ: (..., N, d) → (..., N, d, d_v)."""
    xp = array_namespace(x)
    return xp.broadcast_to(xp.expand_dims(x, axis=-1), (*x.shape, config.ddl_value_channels))


def read(X, params, config):
    """x = C(X), such as Σ_j C_j X_j."""
    return COMPRESSORS[config.ddl_compressor](X, **params["compressor"])


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
