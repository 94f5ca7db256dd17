"""Admin (Liu et al., 2004.08249): post-LN whose state has a learned weight ω for every feature.

The update is that of the authors' code (LiyuanLucasLiu/Transformer-Clinic, 70f72b7). There ω is
set by looking at data, which `profile_admin` does; until then ω = 1, which is post-LN. The first
author's later code (microsoft/admin-torch, 08b6605) sets it without data, by how the change of the
model's output may grow with the number n of sub-layers; `admin_omega` is that order's name. There ω
is a constant unless training it is asked for; here it is always a parameter.
"""

import math

from mgt_np.arrays.initial import constant
from mgt_np.layers import init_layer_norm, layer_norm

from .rule import ResidualRule

# ω² of n sub-layers by the order of the output's change. admin-torch's default is O(logn).
OMEGA_SQUARED = {
    "O(logn)": lambda n: (n + 1.0) / math.log(n + 1.0) - 1.0,
    "O(n)": lambda n: 1.0,
    "O(1)": lambda n: float(n),
}


def initial_omega(config):
    """√((n+1)/log(n+1) − 1), 1 or √n for n sub-layers, as `admin_omega` says; 1 without it."""
    if config.admin_omega is None:
        return 1.0
    return math.sqrt(OMEGA_SQUARED[config.admin_omega](2 * config.n_layers))


def init(rng, config, index):
    return {
        "norm": init_layer_norm(config.d_model, dtype=config.dtype),
        "omega": constant(initial_omega(config), config.d_model, config.dtype),
    }


def update(x, sublayer, params, config):
    """x' = LN(x ⊙ ω + F(x))."""
    return layer_norm(x * params["omega"] + sublayer(x), **params["norm"])


ADMIN = ResidualRule("x' = LN(x ⊙ ω + F(x))", init, update, final_norm=False)
