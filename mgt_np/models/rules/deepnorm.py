"""DeepNorm (Wang et al., 2203.00555): post-LN with the state scaled up and the weights down.

α and the gain are those of the authors' code for an encoder alone of M blocks; that a decoder alone
has the same is what we remember.
"""

from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def init(rng, config):
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype)}


def alpha(config):
    """α = (2M)^¼ for M blocks."""
    given = config.deepnorm_alpha
    return (2.0 * config.n_layers) ** 0.25 if given is None else given


def gains(config):
    """(8M)^−¼ on W_v, W_o, W_1 and W_2: in the authors' code on weights drawn as Xavier's."""
    given = config.deepnorm_gain
    gain = (8.0 * config.n_layers) ** -0.25 if given is None else given
    return dict.fromkeys(("W_v", "W_o", "W_1", "W_2"), gain)


def update(x, sublayer, params, config):
    """x' = LN(αx + F(x)).  α = 1 and a gain of 1 are post-LN."""
    return layer_norm(alpha(config) * x + sublayer(x), **params["norm"])


DEEPNORM = ResidualRule("x' = LN(αx + F(x))", init, update, final_norm=False, gains=gains)
