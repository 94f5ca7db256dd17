"""Does the representation collapse with depth? Rank and norm of every rule, layer by layer.

MGT (2601.01014) predicts an effective rank above 0.5 at depth 100 where a standard transformer
falls below 0.1; it reports no measurement. Here: untrained decoders on real text.
"""

from dataclasses import dataclass, fields

import numpy as np

from mgt_np import plotting
from mgt_np.models import RESIDUAL_RULES, TransformerConfig

from .experiment import Claim, Experiment, Where
from .states import measured, states_of_text


@dataclass(frozen=True)
class Settings(Where):
    """What the depth sweep runs: sizes, weight scales, seeds (`seed`, `seed` + 1, …)."""

    seed: int = 0
    n_seeds: int = 3
    depth: int = 100
    data: str = "python-docs"
    rules: tuple[str, ...] = tuple(RESIDUAL_RULES)
    weight_scales: tuple[str | float, ...] = ("lecun", 0.02)
    d_model: int = 64
    n_heads: int = 4
    n_tokens: int = 64
    n_windows: int = 2


def tasks(settings):
    return [
        {
            "rule": rule,
            "weight_scale": scale,
            "seed": settings.seed + i,
            "depth": settings.depth,
            "data": settings.data,
            "d_model": settings.d_model,
            "n_heads": settings.n_heads,
            "n_tokens": settings.n_tokens,
            "n_windows": settings.n_windows,
            **settings.where(),
        }
        for rule in settings.rules
        for scale in settings.weight_scales
        for i in range(settings.n_seeds)
    ]


def work(rule, weight_scale, seed, **sizes):
    states = states_of_text(residual=rule, weight_scale=weight_scale, seed=seed, **sizes)
    rows = []
    for layer, state in enumerate(states):
        rank, norm = measured(state)
        rows.append(
            {
                "rule": rule,
                "weight_scale": weight_scale,
                "seed": seed,
                "layer": layer,
                "effective_rank": rank,
                "state_norm": norm,
            }
        )
    return rows


def at_depth(result, rule, scale, layer=100):
    """Effective ranks of all seeds at one layer, or at the last one if that comes earlier."""
    layer = min(layer, result.settings.depth)
    return result.column("effective_rank", rule=rule, weight_scale=scale, layer=layer)


_MGT = "MGT 2601.01014, a prediction, as reported"
_NOCI = "Noci et al. 2206.03126, at initialisation; the 0.5 is MGT's"
_CLAIMS = (
    ("post_ln", "Post-LN's normalised effective rank is < 0.1", _MGT, lambda rank: rank < 0.1),
    ("mgt", "MGT's normalised effective rank is > 0.5", _MGT, lambda rank: rank > 0.5),
    ("scaled_residual", "Branches of 1/√L keep the rank > 0.5", _NOCI, lambda rank: rank > 0.5),
)
# What these leave of the embedding at the start is all of it, whatever the sub-layers do.
_IDENTITIES = {"rezero": "ReZero (step 0)", "layerscale": "LayerScale (step 10⁻⁶)"}


def claims(result):
    rules, depth = result.settings.rules, min(100, result.settings.depth)
    found = [
        _claim(result, rule, f"{words} at depth {depth}", source, passes)
        for rule, words, source, passes in _CLAIMS
        if rule in rules
    ]
    return found + ([_claim_of_identities(result, depth)] if _IDENTITIES.keys() & rules else [])


def _claim_of_identities(result, depth):
    """Any rule that starts near the identity keeps rank: then keeping it says nothing of a rule."""
    ranks = {
        name: [r for scale in result.settings.weight_scales for r in at_depth(result, rule, scale)]
        for rule, name in _IDENTITIES.items()
        if rule in result.settings.rules
    }
    kept = all(rank > 0.5 for values in ranks.values() for rank in values)
    return Claim(
        f"An untrained rule that keeps its rank at depth {depth} does something against collapse",
        "our reading of MGT's protocol",
        "; ".join(f"{name} {min(values):.3f} … {max(values):.3f}" for name, values in ranks.items())
        + (": keeping rank at the start is what any near-identity rule does" if kept else ""),
        "does not hold" if kept else "holds",
    )


def _claim(result, rule, words, source, passes):
    settings = result.settings
    ranks = {scale: at_depth(result, rule, scale) for scale in settings.weight_scales}
    found = "; ".join(
        f"{_scale(scale)} {min(values):.3f} … {max(values):.3f}" for scale, values in ranks.items()
    )
    yes = [scale for scale, values in ranks.items() if all(map(passes, values))]
    return Claim(
        words,
        source,
        f"{settings.n_seeds} seeds, {settings.data}, by weight scale: {found}",
        _verdict(rule, yes, settings.weight_scales),
    )


def _verdict(rule, yes, scales):
    if not yes:
        return "does not hold"
    if len(yes) < len(scales):
        return f"holds only if the weight scale is {', '.join(map(_scale, yes))}"
    if rule != "mgt":
        return "holds"
    default = {field.name: field.default for field in fields(TransformerConfig)}
    return (
        f"holds at b_β = {default['mgt_b_beta']:g}, α = {default['mgt_alpha']:g} and embeddings of "
        f"scale {default['embedding_scale']:g}; for other β see phase-diagram"
    )


def _scale(scale):
    return "LeCun" if scale == "lecun" else f"{scale:g}"


FAMILIES = {
    "norm after the sum": ("post_ln", "deepnorm", "branchnorm", "admin"),
    "norm before the branch, or none": (
        "none",
        "pre_ln",
        "sub_ln",
        "scaled_residual",
        "rezero",
        "layerscale",
    ),
    "MGT and its ablations": ("mgt", "mgt_mhc_only", "mgt_ddl_only"),
    "streams and the delta rule": ("hc", "mhc", "ddl", "ddl_expanded"),
}
_LABELS = {"none": "none (no skip)", "scaled_residual": "scaled_residual (1/√L)"}


@plotting.styled
def plot(result):
    """A column for each family of rules; rank at each weight scale, then the norms at all."""
    settings, scales = result.settings, result.settings.weight_scales
    families = {name: [r for r in rules if r in settings.rules] for name, rules in _all()}
    families = {name: rules for name, rules in families.items() if rules}
    n = len(families)
    figure, axes = plotting.new_figure(
        len(scales) + 1, n, size=(1.2 + 3.6 * n, 10.5), sharex=True, sharey="row", squeeze=False
    )
    for j, (family, rules) in enumerate(families.items()):
        for i, scale in enumerate(scales):
            ax = axes[i, j]
            for threshold in (0.1, 0.5):
                ax.axhline(threshold, color="grey", lw=1)
            for rule in rules:
                _draw(ax, result, "effective_rank", rule, scale)
            ax.set_ylim(0.0, 1.0)
            ax.set_title(_finding(result, rules, scale), fontsize=12)
        axes[0, j].set_title(f"{family}\n{_finding(result, rules, scales[0])}", fontsize=12)
        for i, scale in enumerate(scales):
            for rule in rules:
                _draw(axes[-1, j], result, "state_norm", rule, scale, thin=i > 0)
        axes[-1, j].set_yscale("log")
        axes[-1, j].set_xlabel("layer (blocks)")
        axes[-1, j].legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), fontsize=12)
    for threshold, words in ((0.5, "MGT predicted above"), (0.1, "post-LN predicted below")):
        place = (settings.depth, threshold)
        axes[-2, -1].annotate(words, place, ha="right", va="bottom", fontsize=11)
    for i, scale in enumerate(scales):
        axes[i, 0].set_ylabel(f"{_weights(scale)}\neffective rank / min(N, d)")
    axes[-1, 0].set_ylabel("state norm ‖X‖$_F$/√N")
    if len(scales) > 1:
        thin = ", ".join(_scale(scale) for scale in scales[1:])
        axes[-1, 0].set_title(f"bold: weights {_scale(scales[0])}, thin: {thin}", fontsize=12)
    figure.suptitle(_headline(result), fontsize=15, x=0.01, ha="left")
    return figure


def _all():
    """The families, with one for the rules that are in none of them."""
    known = {rule for rules in FAMILIES.values() for rule in rules}
    return [*FAMILIES.items(), ("others", [rule for rule in RESIDUAL_RULES if rule not in known])]


def _draw(ax, result, quantity, rule, scale, *, thin=False):
    n = result.settings.n_seeds
    values = np.reshape(result.column(quantity, rule=rule, weight_scale=scale), (n, -1))
    layers, style = np.arange(values.shape[1]), dict(plotting.RULE_STYLES[rule])
    if thin:
        ax.plot(layers, np.mean(values, axis=0), **style, lw=0.9)
        return
    ax.plot(layers, np.mean(values, axis=0), label=_LABELS.get(rule, rule), **style)
    ax.fill_between(layers, values.min(0), values.max(0), color=style["color"], alpha=0.2, lw=0)


def _means(result, rules, scale):
    return [float(np.mean(at_depth(result, rule, scale))) for rule in rules]


def _finding(result, rules, scale):
    """A panel's title: how many of its rules end above 0.5."""
    kept = sum(rank > 0.5 for rank in _means(result, rules, scale))
    return f"{kept} of {len(rules)} above 0.5"


def _headline(result):
    """The figure's title: how many rules keep their rank, and that some do so trivially."""
    settings = result.settings
    n, layer = len(settings.rules), min(100, settings.depth)
    kept = [
        f"{sum(rank > 0.5 for rank in _means(result, settings.rules, scale))} at {_weights(scale)}"
        for scale in settings.weight_scales
    ]
    headline = f"Of {n} untrained rules, rank stays > 0.5 to depth {layer} for {', '.join(kept)}"
    near = [rule for rule in _IDENTITIES if rule in settings.rules]
    return headline + (f"\n(near the identity this is no merit: {', '.join(near)})" if near else "")


def _weights(scale):
    return "LeCun-scale weights" if scale == "lecun" else f"weights of {scale:g}"


RANK_EVOLUTION = Experiment(
    name="rank-evolution",
    question="Does the representation collapse with depth, and under which residual rule?",
    quick=Settings(),
    full=Settings(depth=200, n_seeds=5, n_windows=4),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
