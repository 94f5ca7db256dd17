"""Post-LN (Vaswani et al., 1706.03762): the layer norm stands after the sum."""

from mgt_np.layers import layer_norm

from .rule import ResidualRule, init_norm


def update(x, sublayer, params, config):
    """x' = LN(x + F(x))."""
    return layer_norm(x + sublayer(x), **params["norm"])


POST_LN = ResidualRule("x' = LN(x + F(x))", init_norm, update, final_norm=False)
