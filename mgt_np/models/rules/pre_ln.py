"""Pre-LN (Xiong et al., 2002.04745): the layer norm stands inside the branch."""

from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def init(rng, config):
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype)}


def update(x, sublayer, params, config):
    """x' = x + F(LN(x))."""
    return x + sublayer(layer_norm(x, **params["norm"]))


PRE_LN = ResidualRule("x' = x + F(LN(x))", init, update, final_norm=True)
