"""Deep Delta Learning (2601.00417) with a state of one value channel, d_v = 1.

As the authors' code has it, the sub-layer's output is the direction k; nothing else is added.
"""

from mgt_np.layers import (
    deep_delta_residual,
    init_deep_delta_residual,
    init_rms_norm,
    rms_norm,
)

from .rule import ResidualRule


def init(rng, config):
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
    context = rms_norm(x, **params["norm"])
    return deep_delta_residual(
        x,
        sublayer(context),
        **params["update"],
        context=context,
        v_input=context if config.ddl_v_from == "context" else x,
        v_form=config.ddl_v_form,
        erase=config.ddl_erase,
    )


DDL = ResidualRule("x' = x + β (v − k̂ᵀx) k̂,  k = F(RMS(x))", init, update, final_norm=True)
