"""ReZero (Bachlechner et al., 2003.04887): no norm; each branch has a learnt step that starts at 0.

As we remember the paper, which was not read again, it removes every layer norm; so do we: none
inside, none at the end.
"""

from mgt_np.arrays.initial import constant

from .rule import ResidualRule


def init(rng, config):
    return {"alpha": constant(config.rezero_alpha, (), config.dtype)}


def update(x, sublayer, params, config):
    """x' = x + α F(x).  α = 0, where it starts, is the identity."""
    return x + params["alpha"] * sublayer(x)


REZERO = ResidualRule("x' = x + α F(x)", init, update, final_norm=False)
