"""Deep Delta Learning (2601.00417) with a state of one value channel, d_v = 1.

As in the authors' code (yifanzhang-pro/deep-delta-learning, 2b55f25), the sub-layer's output is the
direction k; nothing else is added. There every norm is RMS norm with ε = 10⁻⁵, the last one
included; here ε is 10⁻⁶ and the last norm a layer norm, which are ours. `ddl_norm_eps` and
`ddl_final_norm="rms"` give theirs.
"""

from functools import partial

from mgt_np.layers import (
    deep_delta_residual,
    init_deep_delta_residual,
    init_layer_norm,
    init_rms_norm,
    layer_norm,
    rms_norm,
)

from .rule import ResidualRule


def init(rng, config, index):
    return {
        "norm": init_rms_norm(config.d_model, dtype=config.dtype),
        "update": init_deep_delta_residual(
            rng,
            config.d_model,
            beta_init=config.ddl_beta_init,
            hidden=config.ddl_beta_hidden,
            scale=config.weight_scale,
            dtype=config.dtype,
        ),
    }


def update(x, sublayer, params, config):
    """x' = x + β (v − k̂ᵀx) k̂,  k = F(c),  β = 2σ(c W_β + b_β),  v = c W_v + b_v,  c = RMS(x)."""
    context = rms_norm(x, **params["norm"], eps=config.ddl_norm_eps)
    return deep_delta_residual(
        x,
        sublayer(context),
        **params["update"],
        context=context,
        v_input=context if config.ddl_v_from == "context" else x,
        v_form=config.ddl_v_form,
        erase=config.ddl_erase,
    )


def rms_norm_of(config):
    """RMS norm with the config's ε, as a rule's `last_norm`."""
    return init_rms_norm, partial(rms_norm, eps=config.ddl_norm_eps)


def last_norm(config):
    if config.ddl_final_norm == "rms":
        return rms_norm_of(config)
    return init_layer_norm, layer_norm


DDL = ResidualRule(
    "x' = x + β (v − k̂ᵀx) k̂,  k = F(RMS(x))", init, update, final_norm=True, last_norm=last_norm
)
