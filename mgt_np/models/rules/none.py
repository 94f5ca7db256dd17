"""No residual connection: what is left of a pre-LN block when its skip is cut."""

from mgt_np.layers import layer_norm

from .rule import ResidualRule, init_norm


def update(x, sublayer, params, config):
    """x' = F(LN(x))."""
    return sublayer(layer_norm(x, **params["norm"]))


NONE = ResidualRule("x' = F(LN(x))", init_norm, update, final_norm=True)
