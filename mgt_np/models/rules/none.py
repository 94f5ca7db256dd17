"""No residual connection: what is left of a pre-LN block when its skip is cut."""

from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def init(rng, config):
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype)}


def update(x, sublayer, params, config):
    """x' = F(LN(x))."""
    return sublayer(layer_norm(x, **params["norm"]))


NONE = ResidualRule("x' = F(LN(x))", init, update, final_norm=True)
