"""Pre-LN with branches of 1/√L (Noci et al., 2206.03126): the variances of L of them add up to one.

The factor is from memory: we could read the paper's opening alone, which says that residual
branches scaled with depth keep tokens from aligning. L counts blocks here, of two branches each,
which is our reading.
"""

from mgt_np.layers import layer_norm

from .rule import ResidualRule, init_norm


def factor(config):
    """1/√L, unless the config has one."""
    given = config.scaled_residual_factor
    return config.n_layers**-0.5 if given is None else given


def update(x, sublayer, params, config):
    """x' = x + F(LN(x))/√L.  A factor of 1 is pre-LN."""
    return x + factor(config) * sublayer(layer_norm(x, **params["norm"]))


SCALED_RESIDUAL = ResidualRule("x' = x + F(LN(x))/√L", init_norm, update, final_norm=True)
