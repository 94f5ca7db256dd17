"""BranchNorm (Liu et al., 2305.02790): post-LN whose branch grows with the stage of training.

α_t = min(1, t/T) at step t, as we remember it; we have read the abstract alone and know neither T
nor whether α_t is linear in t. So α is a fixed number here, 0.1 unless given, which is ours:
whoever trains gives the config of step t.
"""

from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule


def init(rng, config):
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype)}


def update(x, sublayer, params, config):
    """x' = LN(x + α_t F(x)).  α_t = 1, where training ends, is post-LN."""
    return layer_norm(x + config.branchnorm_alpha * sublayer(x), **params["norm"])


BRANCHNORM = ResidualRule("x' = LN(x + α_t F(x))", init, update, final_norm=False)
