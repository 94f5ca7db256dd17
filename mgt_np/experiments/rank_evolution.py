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


def claims(result):
    depth = min(100, result.settings.depth)
    return [
        _claim(result, rule, f"{words} at depth {depth}", passes)
        for rule, words, passes in (
            ("post_ln", "Post-LN's normalised effective rank is < 0.1", lambda rank: rank < 0.1),
            ("mgt", "MGT's normalised effective rank is > 0.5", lambda rank: rank > 0.5),
        )
        if rule in result.settings.rules
    ]


def _claim(result, rule, words, passes):
    settings = result.settings
    ranks = {scale: at_depth(result, rule, scale) for scale in settings.weight_scales}
    found = "; ".join(
        f"{_scale(scale)} {min(values):.3f} … {max(values):.3f}" for scale, values in ranks.items()
    )
    yes = [scale for scale, values in ranks.items() if all(map(passes, values))]
    return Claim(
        words,
        "MGT 2601.01014, a prediction",
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


@plotting.styled
def plot(result):
    settings = result.settings
    columns = settings.weight_scales
    figure, axes = plotting.new_figure(
        2, len(columns), size=(11, 7.5), sharex=True, sharey="row", squeeze=False
    )
    for j, scale in enumerate(columns):
        for i, quantity in enumerate(("effective_rank", "state_norm")):
            ax = axes[i, j]
            for rule in settings.rules:
                values = np.reshape(
                    result.column(quantity, rule=rule, weight_scale=scale), (settings.n_seeds, -1)
                )
                layers = np.arange(values.shape[1])
                style = plotting.RULE_STYLES[rule]
                ax.plot(layers, np.mean(values, axis=0), label=_LABELS.get(rule, rule), **style)
                ax.fill_between(
                    layers, values.min(0), values.max(0), color=style["color"], alpha=0.2, lw=0
                )
        axes[0, j].set_ylim(0.0, 1.0)
        axes[1, j].set_yscale("log")
        axes[1, j].set_xlabel("layer (blocks of two sub-layers)")
        for threshold in (0.1, 0.5):
            axes[0, j].axhline(threshold, color="grey", lw=1)
        axes[0, j].set_title(_finding(result, scale))
    last = axes[0, -1]
    for threshold, words in ((0.5, "MGT predicted above"), (0.1, "post-LN predicted below")):
        last.annotate(words, (settings.depth, threshold), ha="right", va="bottom", fontsize=11)
    axes[0, 0].set_ylabel("effective rank / min(N, d)")
    axes[1, 0].set_ylabel("state norm ‖X‖$_F$/√N")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=12
    )
    return figure


_LABELS = {"none": "none (no skip)"}


def _finding(result, scale):
    """The panel's title: how many rules end above 0.5, and which below 0.1."""
    kept, lost = [], []
    for rule in result.settings.rules:
        rank = float(np.mean(at_depth(result, rule, scale)))
        if rank > 0.5:
            kept.append(rule)
        elif rank < 0.1:
            lost.append(_LABELS.get(rule, rule))
    weights = "LeCun-scale weights" if scale == "lecun" else f"weights of {scale:g}"
    n = len(result.settings.rules)
    return (
        f"{weights}: {len(kept)} of {n} rules stay above 0.5\nbelow 0.1: {', '.join(lost) or '–'}"
    )


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
