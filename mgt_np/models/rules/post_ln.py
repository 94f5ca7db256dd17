"""Post-LN (Vaswani et al., 1706.03762): the layer norm stands after the sum."""

from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def init(rng, config):
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype)}


def update(x, sublayer, params, config):
    """x' = LN(x + F(x))."""
    return layer_norm(x + sublayer(x), **params["norm"])


POST_LN = ResidualRule("x' = LN(x + F(x))", init, update, final_norm=False)
