"""DeepNorm (Wang et al., 2203.00555): post-LN with the state scaled up and the weights down.

α and the gain are those of the authors' code (microsoft/torchscale, 4d1e0e8) for one stack of M
blocks, encoder or decoder; a pair of both has other constants. The paper applies the gain to
weights drawn as Xavier's, and 1 to W_q and W_k; the authors' code draws PyTorch's default for
linear layers, and scales the biases too, which here start at 0. Here `weight_scale` says what is
drawn.
"""

from mgt_np.layers import layer_norm

from .rule import ResidualRule, init_norm


def alpha(config):
    """α = (2M)^¼ for M blocks."""
    given = config.deepnorm_alpha
    return (2.0 * config.n_layers) ** 0.25 if given is None else given


def gains(config):
    """(8M)^−¼ on W_v, W_o, W_1 and W_2, for M blocks."""
    given = config.deepnorm_gain
    gain = (8.0 * config.n_layers) ** -0.25 if given is None else given
    return dict.fromkeys(("W_v", "W_o", "W_1", "W_2"), gain)


def update(x, sublayer, params, config):
    """x' = LN(αx + F(x)).  α = 1 and a gain of 1 are post-LN."""
    return layer_norm(alpha(config) * x + sublayer(x), **params["norm"])


DEEPNORM = ResidualRule("x' = LN(αx + F(x))", init_norm, update, final_norm=False, gains=gains)
