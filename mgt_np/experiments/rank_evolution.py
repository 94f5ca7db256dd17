"""Does the representation collapse with depth, and under which residual rule?

MGT (2601.01014) predicts an effective rank above 0.5 at depth 100 where a standard transformer
falls below 0.1; it reports no measurement. Measured here: untrained decoders on real text.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.models import RESIDUAL_RULES, TransformerConfig
from mgt_np.models.rules.layerscale import initial_lam

from .claims import short
from .experiment import cells, seeds
from .states import COLLAPSED, DEPTH, KEPT, OfText, falls, measured, on_ranks, states_of_text, stays

OURS = "With b_β = {0.mgt_b_beta}, α = {0.mgt_alpha}, embeddings of scale {0.embedding_scale:g}"
NOCI = "Noci et al. 2206.03126, at initialisation; the 0.5 is MGT's"


@dataclass(frozen=True)
class Settings(OfText):
    """Beside the decoders' size and text their rules, and the scales of their weights."""

    rules: tuple[str, ...] = tuple(RESIDUAL_RULES)
    weight_scales: tuple[str | float, ...] = ("lecun", 0.02)


QUICK = Settings()
FULL = Settings(depth=200, n_seeds=5, n_windows=4)


def claims(settings):
    at = f"at depth {min(DEPTH, settings.depth)}"
    kept, noci = stays(settings), {"source": NOCI}
    ours = {"beside": lambda _: OURS.format(TransformerConfig)}
    predicted = {
        "post_ln": {"says": f"Post-LN's effective rank is < {COLLAPSED} {at}", **falls(settings)},
        "mgt": {"says": f"MGT's effective rank is > {KEPT} {at}", **kept | ours},
        "scaled_residual": {"says": f"Branches of 1/√L keep the rank > {KEPT} {at}", **kept | noci},
    }
    found = [
        on_ranks(scales(settings, rule), only_if="the weight scale is {}", **claim)
        for rule, claim in predicted.items()
        if rule in settings.rules
    ]
    near = near_identity(settings)
    still = on_ranks(
        near,
        says=f"An untrained rule that keeps its rank {at} does something against collapse",
        source="our reading of MGT's protocol",
        criterion=f"rank ≤ {KEPT} with some seed under a rule that hardly moves the state",
        passes=lambda rank: rank[0] <= KEPT,
        only_if="the rule that hardly moves the state is {}",
        readme=True,
    )
    return [*found, still] if near else found


def scales(settings, rule):
    """The conditions, for `ranks`, that are a rule's weight scales."""
    return {
        str(scale).replace("lecun", "LeCun"): {"rule": rule, "weight_scale": scale}
        for scale in settings.weight_scales
    }


def near_identity(settings):
    """The conditions, for `ranks`, under which a rule's first steps are next to nothing."""
    sizes = {"vocab_size": 1, "d_model": 1, "n_heads": 1, "d_ff": 1, "max_tokens": 1}
    config = TransformerConfig(**sizes, n_layers=settings.depth)
    steps = {"rezero": config.rezero_alpha, "layerscale": initial_lam(config)}
    return {
        f"{NAMES[rule]} (step {short(step)})": {"rule": rule}
        for rule, step in steps.items()
        if rule in settings.rules
    }


def tasks(settings):
    axes = {"rule": settings.rules, "weight_scale": settings.weight_scales}
    return cells(settings, **axes, seed=seeds(settings))


def work(there, rule, weight_scale, seed, **sizes):
    labels = {"rule": rule, "weight_scale": weight_scale, "seed": seed[-1]}
    states = states_of_text(there, residual=rule, weight_scale=weight_scale, seed=seed, **sizes)
    for layer, state in enumerate(states):
        rank, norm = measured(state)
        yield {**labels, "layer": layer, "effective_rank": rank, "state_norm": norm}


ALT = (
    "A panel for each of 17 residual rules, from the highest rank after 100 layers to the lowest, "
    "at two weight scales. At LeCun's it falls to zero without a skip and with post-LN, to a third "
    "with pre-LN; with MGT, DeepNorm, ReZero and others it stays."
)
NAMES = {"none": "no skip", "post_ln": "post-LN", "pre_ln": "pre-LN", "sub_ln": "Sub-LN"}
NAMES |= {"deepnorm": "DeepNorm", "branchnorm": "BranchNorm", "admin": "Admin"}
NAMES |= {"scaled_residual": "branches of 1/√L", "layerscale": "LayerScale", "rezero": "ReZero"}
NAMES |= {"ddl": "Deep Delta", "ddl_expanded": "expanded Deep Delta"}
NAMES |= {"hc": "hyper-connections", "mhc": "mHC"}
NAMES |= {"mgt": "MGT", "mgt_mhc_only": "MGT, gate only", "mgt_ddl_only": "MGT, β and α only"}
PREDICTED = {"post_ln": (COLLAPSED, "predicted below"), "mgt": (KEPT, "predicted above")}
# The first line is wide and pale: it is seen where the second is the same.
LINES = {"color": plotting.SKY, "lw": 5}, {"color": plotting.BLACK, "lw": 1.8, "ls": "--"}


@plotting.styled
def plot(result, judged):
    """A panel for each rule, from the highest rank at the end to the lowest, then the legend."""
    rows, rules = result.rows, result.rows.values("rule")
    first = rows.where(weight_scale=rows[0]["weight_scale"])
    means = first.grid("effective_rank", "rule", "seed", "layer").mean(axis=1)
    shape = len(rules) // 6 + 1, min(len(rules) + 1, 6)
    size = 2.35 * shape[1] + 0.5, 2.4 * shape[0] + 1.0
    figure, axes = plotting.new_figure(*shape, size=size, sharex=True, sharey=True, squeeze=False)
    for ax, i in zip(axes.flat, np.argsort(-means[:, -1], kind="stable"), strict=False):
        ax.plot(means.T, color="0.8", lw=1, label=["others, LeCun"] + ["_"] * (len(rules) - 1))
        _draw(ax, rows.where(rule=rules[i]), rules[i])
    for ax in axes.flat[len(rules) :]:
        ax.axis("off")
    ax.legend(*axes[0, 0].get_legend_handles_labels(), loc="center")
    depth = result.settings.depth
    axes[0, 0].set(xlim=(0, depth), xticks=(0, depth // 2, depth))
    axes[0, 0].set(ylim=(0, None), yticks=(0, COLLAPSED, KEPT, 0.8))
    figure.supxlabel("layer", fontsize=14)
    figure.supylabel("effective rank / min(N, d)", fontsize=14)
    for claim in judged[-1:]:
        figure.suptitle(plotting.wrapped(claim.headline, 110), x=0.01, ha="left")
    return figure


def _draw(ax, rows, rule):
    layers = rows.values("layer")
    for scale, style in zip(rows.values("weight_scale"), LINES, strict=False):
        found = rows.where(weight_scale=scale).grid("effective_rank", "seed", "layer")
        label = "LeCun weights" if scale == "lecun" else f"weights of {scale}"
        plotting.band(ax, layers, found, label=label, **style)
    ax.hlines((COLLAPSED, KEPT), 0, layers[-1], color="grey", lw=1, ls=":")
    if rule in PREDICTED:
        ax.text(layers[-1], *PREDICTED[rule], ha="right", va="bottom", fontsize=12)
    ax.set_title(NAMES.get(rule, rule))
    ax.tick_params(labelbottom=True)
