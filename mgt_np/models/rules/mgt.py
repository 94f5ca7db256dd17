"""MGT (2601.01014) and the two ablations of its protocol.

V_raw = F(LN(x)): secondary texts place a layer norm before the sub-layer, and so do we. What "+mHC
only" and "+DDL only" leave out is written nowhere that we could read; here the first keeps the gate
with β = 1 and α = 0, the second keeps β and α with a gate of 1. `mgt_alpha=None` holds α at 0.
"""

from mgt_np.layers import (
    geometric_update,
    init_layer_norm,
    init_mgt_residual,
    layer_norm,
    mgt_beta,
    mgt_residual,
    tangent_gate,
)

from .rule import ResidualRule

_GATE = ("W_gate", "gain", "bias")
_DELTA = ("W_beta", "b_beta", "alpha")
_NO_ERASURE = {"alpha": 0.0}  # where α is not among the parameters


def _init(*names):
    def init(rng, config, index):
        erases = config.mgt_alpha is not None
        gate_scale, beta_scale = config.mgt_gate_scale, config.mgt_beta_scale
        update = init_mgt_residual(
            rng,
            config.d_model,
            beta_per=config.mgt_beta_per,
            b_beta=config.mgt_b_beta,
            alpha=config.mgt_alpha if erases else 0.0,
            scale=config.weight_scale if gate_scale is None else gate_scale,
            beta_scale=0.0 if beta_scale is None else beta_scale,
            dtype=config.dtype,
        )
        return {
            "norm": init_layer_norm(config.d_model, dtype=config.dtype),
            "update": {name: update[name] for name in names if erases or name != "alpha"},
        }

    return init


def update(x, sublayer, params, config):
    """x' = x + β ⊙ (F(LN(x)) ⊙ σ(LN(x W_gate)) − α x),  β = λ tanh(x W_β + b_β) + ε."""
    v_raw = sublayer(layer_norm(x, **params["norm"]))
    params_of_update = {**_NO_ERASURE, **params["update"]}
    return mgt_residual(x, v_raw, **params_of_update, lam=config.mgt_lam, eps=config.mgt_eps)


def update_with_gate_only(x, sublayer, params, config):
    """x' = x + F(LN(x)) ⊙ σ(LN(x W_gate))."""
    v_raw = sublayer(layer_norm(x, **params["norm"]))
    return x + v_raw * tangent_gate(x, **params["update"])


def update_with_delta_only(x, sublayer, params, config):
    """x' = x + β ⊙ (F(LN(x)) − α x),  β = λ tanh(x W_β + b_β) + ε."""
    v_raw = sublayer(layer_norm(x, **params["norm"]))
    W_beta, b_beta, alpha = ({**_NO_ERASURE, **params["update"]}[name] for name in _DELTA)
    beta = mgt_beta(x, W_beta, b_beta, lam=config.mgt_lam, eps=config.mgt_eps)
    return geometric_update(x, v_raw, beta, alpha)


MGT = ResidualRule(
    "x' = x + β ⊙ (F(LN(x)) ⊙ σ(LN(x W_gate)) − α x)", _init(*_GATE, *_DELTA), update, True
)
MGT_MHC_ONLY = ResidualRule(
    "x' = x + F(LN(x)) ⊙ σ(LN(x W_gate))", _init(*_GATE), update_with_gate_only, True
)
MGT_DDL_ONLY = ResidualRule(
    "x' = x + β ⊙ (F(LN(x)) − α x)", _init(*_DELTA), update_with_delta_only, True
)
