"""Pre-LN (Xiong et al., 2002.04745): the layer norm stands inside the branch."""

from mgt_np.layers import layer_norm

from .rule import ResidualRule, init_norm


def update(x, sublayer, params, config):
    """x' = x + F(LN(x))."""
    return x + sublayer(layer_norm(x, **params["norm"]))


PRE_LN = ResidualRule("x' = x + F(LN(x))", init_norm, update, final_norm=True)
