"""ReZero (Bachlechner et al., 2003.04887): no norm; each block has a learned step that starts at 0.

As in the authors' code (majumderb/rezero, e2c94a8), attention and feed-forward of a block share one
α, and there is no norm anywhere: none inside, none at the end. `rezero_shared=False` gives each
sub-layer an α of its own.
"""

from mgt_np.arrays.initial import constant

from .rule import ResidualRule


def _alpha(config):
    return {"alpha": constant(config.rezero_alpha, (), config.dtype)}


def init(rng, config, index):
    return {} if config.rezero_shared else _alpha(config)


def init_block(rng, config):
    return _alpha(config) if config.rezero_shared else {}


def update(x, sublayer, params, config):
    """x' = x + α F(x).  α = 0, where it starts, is the identity."""
    return x + params["alpha"] * sublayer(x)


REZERO = ResidualRule("x' = x + α F(x)", init, update, final_norm=False, init_block=init_block)
