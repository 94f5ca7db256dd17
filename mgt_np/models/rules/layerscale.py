"""LayerScale (Touvron et al., 2103.17239): pre-LN with a small learnt step for every feature.

The initial steps are the paper's rule, as a third party quotes it. The authors' released models
(facebookresearch/deit, 7e160fe) follow it but for one: CaiT-XXS36 has 36 blocks and 10⁻⁵.
"""

from mgt_np.arrays.initial import constant
from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def initial_lam(config):
    """λ at the start: 0.1 up to 18 blocks, 10⁻⁵ up to 24, 10⁻⁶ beyond, or the config's own."""
    if config.layerscale_lam is not None:
        return config.layerscale_lam
    return 0.1 if config.n_layers <= 18 else 1e-5 if config.n_layers <= 24 else 1e-6


def init(rng, config, index):
    return {
        "norm": init_layer_norm(config.d_model, dtype=config.dtype),
        "lam": constant(initial_lam(config), config.d_model, config.dtype),
    }


def update(x, sublayer, params, config):
    """x' = x + λ ⊙ F(LN(x)).  λ = 1 is pre-LN."""
    return x + params["lam"] * sublayer(layer_norm(x, **params["norm"]))


LAYERSCALE = ResidualRule("x' = x + λ ⊙ F(LN(x))", init, update, final_norm=True)
