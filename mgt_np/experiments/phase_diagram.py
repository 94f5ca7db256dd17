"""Over which β and weights does MGT keep its rank, lose it, or explode?

Rank, growth and memory at depth 100 of untrained MGT decoders on real text, over the bias b_β of
β = tanh(b_β) and the scale of the weights, for an erasure of α = 1 and for our default of 0.1.
Lesson 09.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from mgt_np import plotting

from .claims import Claim, extent, short
from .experiment import Where, cells
from .states import COLLAPSED, DEPTH, KEPT, MGT, mean_cosine, measured, states_of_text

EXPLOSION = 1e3  # growth of the state's norm over the stack that we call an explosion


@dataclass(frozen=True)
class Settings(Where):
    """What the grid spans. LeCun's weight scale is 0.125 at this width, 0.0625 for W_2."""

    seed: int = 0
    depth: int = DEPTH
    data: str = "python-docs"
    alphas: tuple[float, ...] = (1.0, 0.1)
    biases: tuple[float, ...] = (-1.0, -0.5, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
    weight_scales: tuple[float, ...] = (0.02, 0.06, 0.125, 0.25, 0.5)
    d_model: int = 64
    n_heads: int = 4
    n_tokens: int = 64
    n_windows: int = 1


QUICK = Settings()
FULL = Settings(depth=200, n_windows=4, alphas=(1.0, 0.3, 0.1, 0.0))


def claims(settings):
    return [
        Claim(
            says=f"MGT with α = {alpha:g} keeps effective rank > {KEPT} "
            f"at depth {settings.depth}, whatever β",
            source=MGT,
            criterion=f"lowest rank over the weight scales > {KEPT}, growth < {EXPLOSION:g}",
            measure=partial(worst, alpha=alpha),
            passes=lambda found: phase(*found) == "keep",
            only_if="b_β = {}",
            form="{:.2f} (× {:.0e})",
            title=f"MGT with α = {alpha:g} keeps its rank, whatever β",
            beside=partial(counts, alpha=alpha),
        )
        for alpha in settings.alphas
    ]


def worst(result, alpha):
    """For each b_β the lowest rank and the fastest growth over the weight scales."""
    rows = result.rows.where(alpha=alpha)
    lowest = rows.by("{b_beta:g}", "effective_rank", np.min)
    fastest = rows.by("{b_beta:g}", "growth", np.max)
    return {b_beta: (lowest[b_beta], fastest[b_beta]) for b_beta in lowest}


def phase(rank, growth):
    """What became of a state, in a word."""
    if not growth < EXPLOSION:
        return "explode"
    return "keep" if rank > KEPT else "collapse" if rank < COLLAPSED else "lose"


def counts(result, alpha):
    """What became of the cells, and what collapsed states have left of their embeddings."""
    rows = result.rows.where(alpha=alpha)
    found = [phase(row["effective_rank"], row["growth"]) for row in rows]
    phases = ("keep", "lose", "collapse", "explode")
    listed = ", ".join(f"{found.count(name)} {name}" for name in phases)
    left = [row["cosine_to_embedding"] for row in rows if row["effective_rank"] < COLLAPSED]
    cosine = extent(left, "{:.2f}") if left else "none"
    return f"{len(rows)} cells: {listed}; cosine with the embedding if collapsed: {cosine}"


def tasks(settings):
    axes = {"alpha": settings.alphas, "b_beta": settings.biases}
    return cells(settings, **axes, weight_scale=settings.weight_scales, seed=[[settings.seed]])


def work(there, alpha, b_beta, weight_scale, **sizes):
    options = {"mgt_alpha": alpha, "mgt_b_beta": b_beta, "weight_scale": weight_scale}
    states = states_of_text(there, residual="mgt", **options, **sizes)
    (rank_at_start, norm_at_start), (rank, norm) = measured(states[0]), measured(states[-1])
    labels = {"alpha": alpha, "b_beta": b_beta, "weight_scale": weight_scale}
    yield labels | {
        "effective_rank": rank,
        "effective_rank_at_start": rank_at_start,
        "growth": norm / norm_at_start,
        "cosine_to_embedding": mean_cosine(states[0], states[-1]),
    }


ALT = (
    "Two maps of the effective rank at depth 100 over the bias of β and the scale of the weights. "
    "With α = 1 it is kept at b_β = 0 alone: above it collapses, below the states explode. With "
    "α = 0.1 it is kept from −0.2 to 0.1, collapses at 1 and explodes at −0.5."
)


@plotting.styled
def plot(result, judged):
    size = 5.6 * len(judged) + 2, 7.6
    figure, axes = plotting.new_figure(1, len(judged), size=size, squeeze=False, sharey=True)
    highest = np.nanmax(result.rows.column("effective_rank"))
    for ax, alpha, claim in zip(axes[0], result.settings.alphas, judged, strict=True):
        image = _map(ax, result.rows.where(alpha=alpha), highest)
        of_cells = counts(result, alpha).replace("; ", "\n")
        ax.set_xlabel(f"standard deviation of the weights\n{of_cells}")
        ax.set_title(plotting.wrapped(claim.headline, 46))
    axes[0, 0].set_ylabel("b$_β$   (β = tanh b$_β$)")
    figure.colorbar(image, ax=axes, label="effective rank / min(N, d); grey: growth of the norm")
    return figure


def _map(ax, rows, highest):
    """The ranks of the cells, in colour and figures, or growth where a state exploded."""
    growth = rows.grid("growth", "b_beta", "weight_scale")
    ranks = rows.grid("effective_rank", "b_beta", "weight_scale")
    shown = np.where(growth < EXPLOSION, ranks, np.nan)
    image = ax.imshow(shown, vmin=0, vmax=highest, cmap="cividis", aspect="auto", origin="lower")
    for (y, x), rank in np.ndenumerate(shown):
        text = f"× {short(growth[y, x])}" if np.isnan(rank) else f"{rank:.2f}"
        colour = "white" if rank < highest / 2 else plotting.BLACK
        ax.text(x, y, text, ha="center", va="center", color=colour)
    ax.set_facecolor("0.9")
    ax.grid(visible=False)
    for axis, name in ((ax.xaxis, "weight_scale"), (ax.yaxis, "b_beta")):
        axis.set_ticks(range(len(rows.values(name))), [f"{x:g}" for x in rows.values(name)])
    return image
