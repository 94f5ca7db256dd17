"""Sub-LN (Magneto, Wang et al., 2210.06423): pre-LN with a second norm inside each sub-layer.

It stands before the last weights, W_o or W_2: on the joined heads, and on the hidden features
behind the activation. The gains are those of the authors' code (microsoft/torchscale, 4d1e0e8) for
one stack of blocks, encoder or decoder. As a layer norm does not depend on the scale of its input
(up to its ε), the gain on W_v changes gradients only. So does the gain on W_1 if the activation is
homogeneous, as ReLU is; with GELU it changes the function, by 7 % at 12 blocks.
"""

import math
from functools import partial

from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule, init_norm


def init_inner(d, config):
    return {"inner_norm": init_layer_norm(d, dtype=config.dtype)}


def gains(config):
    """√log 2M on W_v, W_o, W_1 and W_2, for M blocks."""
    given = config.sub_ln_gain
    gain = math.sqrt(math.log(2.0 * config.n_layers)) if given is None else given
    return dict.fromkeys(("W_v", "W_o", "W_1", "W_2"), gain)


def update(x, sublayer, params, config):
    """x' = x + F(LN(x)) with a layer norm of F's heads or hidden features before W_o or W_2."""
    inner = partial(layer_norm, **params["inner_norm"])
    return x + sublayer(layer_norm(x, **params["norm"]), inner=inner)


SUB_LN = ResidualRule(
    "x' = x + F(LN(x)) with F(z) = LN(heads or hidden(z)) W_o or W_2",
    init_norm,
    update,
    final_norm=True,
    init_inner=init_inner,
    gains=gains,
)
