"""Admin (Liu et al., 2004.08249): post-LN whose state has a weight ω, set by profiling.

The rule as we remember the paper, which was not read again. `profile_admin` sets ω from data;
until then ω = 1, which is post-LN.
"""

from mgt_np.arrays.initial import constant
from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def init(rng, config):
    return {
        "norm": init_layer_norm(config.d_model, dtype=config.dtype),
        "omega": constant(1.0, config.d_model, config.dtype),
    }


def update(x, sublayer, params, config):
    """x' = LN(x ⊙ ω + F(x))."""
    return layer_norm(x * params["omega"] + sublayer(x), **params["norm"])


ADMIN = ResidualRule("x' = LN(x ⊙ ω + F(x))", init, update, final_norm=False)
