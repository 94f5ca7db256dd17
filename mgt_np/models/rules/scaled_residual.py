"""Pre-LN with branches of 1/√L (Noci et al., 2206.03126): the variances of L of them add up to one.

As we remember the paper, which was not read again. L counts blocks here, of two branches each: our
reading of its layers.
"""

from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def init(rng, config):
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype)}


def factor(config):
    """1/√L, unless the config says."""
    given = config.scaled_residual_factor
    return config.n_layers**-0.5 if given is None else given


def update(x, sublayer, params, config):
    """x' = x + F(LN(x))/√L.  A factor of 1 is pre-LN."""
    return x + factor(config) * sublayer(layer_norm(x, **params["norm"]))


SCALED_RESIDUAL = ResidualRule("x' = x + F(LN(x))/√L", init, update, final_norm=True)
