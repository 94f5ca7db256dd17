"""What a rule learns of data before training: Admin's profiling pass."""

from mgt_np.arrays import array_namespace

from .decoder import connections, embed
from .parameters import check_config, check_params
from .rules import RESIDUAL_RULES


def profile_admin(params, tokens, config):
    """Return the parameters with Admin's ω set, from one pass over some tokens.

        ω₁ = 1,    ω²ᵢ₊₁ = Var[xᵢ₋₁ ⊙ ωᵢ] + Var[Fᵢ(xᵢ₋₁)]            (Admin, 2004.08249)

    with i counting sub-layers; each runs with its ω already set. It is the recursion of the
    authors' code (LiyuanLucasLiu/Transformer-Clinic, 70f72b7), with variances over all entries,
    divided by their number. Since xᵢ has unit variance behind a norm, ω² is the variance of the
    embedding and of all branches before; the paper's √Σ_{j<i} Var[Fⱼ], which is from memory, leaves
    the embedding out.
    Shapes as in `transformer`; every feature of a sub-layer has the same ω. Branches of 0 give
    ω₂ = ω₃ = … = 1 where the embedding has unit variance.
    Raises ValueError for a config of another rule; other errors as in `transformer`.
    """
    check_config("profile_admin", config)
    if config.residual != "admin":
        raise ValueError(
            f"profile_admin: expected a config with residual='admin', got {config.residual!r}"
        )
    check_params("profile_admin", params, config)
    update = RESIDUAL_RULES["admin"].update
    x = embed("profile_admin", params, tokens, config)
    xp = array_namespace(x)
    omega, blocks = 1.0, []
    for block in params["blocks"]:
        block = dict(block)
        for name, sublayer, residual in connections(block, config):
            residual = residual | {"omega": omega * xp.ones_like(residual["omega"])}
            block[f"{name}_residual"] = residual
            y = sublayer(x)
            omega = xp.sqrt(xp.var(x * residual["omega"]) + xp.var(y))
            x = update(x, lambda _, y=y: y, residual, config)
        blocks.append(block)
    return params | {"blocks": blocks}
