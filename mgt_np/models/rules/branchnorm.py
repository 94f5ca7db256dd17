"""BranchNorm (Liu et al., 2305.02790): post-LN whose branch grows with the stage of training.

As a review and a note report it, α_t grows with the training step t and ends at 1, as post-LN. We
have read the abstract alone and found no code; α_t = min(1, t/T) is from memory, and T is unknown.
So α is a fixed number here, 0.1 unless given, which is ours: whoever trains gives the config of
step t.
"""

from mgt_np.layers import layer_norm

from .rule import ResidualRule, init_norm


def update(x, sublayer, params, config):
    """x' = LN(x + α_t F(x)).  α_t = 1, where training ends, is post-LN."""
    return layer_norm(x + config.branchnorm_alpha * sublayer(x), **params["norm"])


BRANCHNORM = ResidualRule("x' = LN(x + α_t F(x))", init_norm, update, final_norm=False)
