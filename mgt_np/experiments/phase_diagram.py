"""Where does MGT keep its rank, where does it collapse, where does it explode?

Rank, growth and memory at depth 100 of untrained MGT decoders on real text, over the bias b_β of
β = tanh(b_β) and the scale of the weights, for the erasure α = 1 and for our default of
0.1. Lesson 09.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.arrays import to_host

from .experiment import Claim, Experiment, Where, only_if
from .states import measured, states_of_text

EXPLOSION = 1e3  # growth of the state's norm over the stack that we call an explosion


@dataclass(frozen=True)
class Settings(Where):
    """What the grid spans; `weight_scales` are standard deviations.

    LeCun's are 1/√64 = 0.125 for all matrices but the feed-forward layer's second one, 0.0625.
    """

    seed: int = 0
    depth: int = 100
    data: str = "python-docs"
    alphas: tuple[float, ...] = (1.0, 0.1)
    biases: tuple[float, ...] = (-1.0, -0.5, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
    weight_scales: tuple[float, ...] = (0.02, 0.06, 0.125, 0.25, 0.5)
    d_model: int = 64
    n_heads: int = 4
    n_tokens: int = 64
    n_windows: int = 1


def tasks(settings):
    sizes = {
        name: getattr(settings, name)
        for name in ("seed", "depth", "data", "d_model", "n_heads", "n_tokens", "n_windows")
    }
    return [
        {"alpha": alpha, "b_beta": b_beta, "weight_scale": scale, **sizes, **settings.where()}
        for alpha in settings.alphas
        for b_beta in settings.biases
        for scale in settings.weight_scales
    ]


def work(alpha, b_beta, weight_scale, seed, **sizes):
    states = states_of_text(
        residual="mgt",
        mgt_alpha=alpha,
        mgt_b_beta=b_beta,
        weight_scale=weight_scale,
        seed=seed,
        **sizes,
    )
    rank, norm = measured(states[-1])
    rank_at_start, norm_at_start = measured(states[0])
    return [
        {
            "alpha": alpha,
            "b_beta": b_beta,
            "weight_scale": weight_scale,
            "effective_rank": rank,
            "effective_rank_at_start": rank_at_start,
            "growth": norm / norm_at_start,
            "cosine_to_embedding": _mean_cosine(states[0], states[-1]),
        }
    ]


def _mean_cosine(X, Y):
    """How much of the embedding is still there: the mean cosine of each token with its start."""
    X, Y = to_host(X), to_host(Y)
    if not np.isfinite(Y).all():
        return float("nan")
    Y = Y / np.max(np.abs(Y))
    lengths = np.linalg.norm(X, axis=-1) * np.linalg.norm(Y, axis=-1)
    return float(np.mean(np.sum(X * Y, axis=-1) / lengths))


def phase(row):
    """Name what happened in one cell: keeps means rank > 0.5, collapses < 0.1, loses between."""
    if not row["growth"] < EXPLOSION:
        return "explodes"
    if row["effective_rank"] > 0.5:
        return "keeps"
    return "collapses" if row["effective_rank"] < 0.1 else "loses"


def claims(result):
    return [_claim(result, alpha) for alpha in result.settings.alphas]


def _claim(result, alpha):
    rows = [row for row in result.rows if row["alpha"] == alpha]
    names = [phase(row) for row in rows]
    counts = ", ".join(
        f"{names.count(name)} {name}" for name in ("keeps", "loses", "collapses", "explodes")
    )
    lowest = min(rows, key=lambda row: row["effective_rank"])
    fastest = max(rows, key=lambda row: row["growth"])
    n_scales = len(result.settings.weight_scales)
    kept = [row["b_beta"] for row, name in zip(rows, names, strict=True) if name == "keeps"]
    return Claim(
        f"MGT with α = {alpha:g} keeps normalised effective rank > 0.5 at depth "
        f"{result.settings.depth}, whatever β",
        "MGT 2601.01014, a prediction, as reported",
        f"of {len(rows)} cells (b_β × weight scale): {counts}; lowest rank "
        f"{lowest['effective_rank']:.3f} at b_β = {lowest['b_beta']:g}, fastest growth "
        f"{fastest['growth']:.0e} at b_β = {fastest['b_beta']:g}",
        only_if(
            [b for b in result.settings.biases if kept.count(b) == n_scales],
            result.settings.biases,
            "b_β = {} (of those tried)",
        ),
    )


def arrays(rows):
    """The ranks as a grid (alpha, b_beta, weight_scale)."""
    axes = [
        list(dict.fromkeys(row[key] for row in rows)) for key in ("alpha", "b_beta", "weight_scale")
    ]
    shape = tuple(map(len, axes))
    return {"effective_rank": np.reshape([row["effective_rank"] for row in rows], shape)}


@plotting.styled
def plot(result):
    settings = result.settings
    n = len(settings.alphas)
    figure, axes = plotting.new_figure(1, n + 1, size=(4.4 * n + 6, 6.2), squeeze=False)
    *maps, scatter = axes[0]
    image = None
    for ax, alpha in zip(maps, settings.alphas, strict=True):
        image = _draw_map(
            ax, settings, [row for row in result.rows if row["alpha"] == alpha], alpha
        )
    figure.colorbar(image, ax=maps, label=f"effective rank / min(N, d) at depth {settings.depth}")
    _draw_memory(scatter, result)
    return figure


def _draw_map(ax, settings, rows, alpha):
    shape = len(settings.biases), len(settings.weight_scales)
    ranks = np.reshape([row["effective_rank"] for row in rows], shape)
    image = ax.imshow(ranks, vmin=0.0, vmax=1.0, cmap="cividis", aspect="auto", origin="lower")
    for i, row in enumerate(rows):
        y, x = divmod(i, shape[1])
        exploded = phase(row) == "explodes"
        text = f"×{row['growth']:.0e}".replace("e+", "e") if exploded else f"{ranks[y, x]:.2f}"
        colour = plotting.BLACK if ranks[y, x] > 0.5 else "white"
        ax.text(x, y, text, ha="center", va="center", fontsize=10, color=colour)
        if exploded:
            ax.add_patch(_hatched(x, y))
    names = [phase(row) for row in rows]
    ax.set_title(
        f"α = {alpha:g}: {names.count('keeps')} of {len(rows)} keep rank,\n"
        f"{names.count('collapses')} collapse, {names.count('explodes')} explode (hatched)"
    )
    ax.grid(visible=False)
    ax.set_xticks(range(shape[1]), [f"{scale:g}" for scale in settings.weight_scales])
    ax.set_yticks(range(shape[0]), [f"{bias:g}" for bias in settings.biases])
    ax.set_xlabel("standard deviation of the weights")
    ax.set_ylabel("b$_β$   (β = tanh b$_β$)")
    return image


def _hatched(x, y):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="//", edgecolor="white", lw=0)


def _draw_memory(ax, result):
    styles = {
        "keeps": ("o", plotting.BLUE),
        "loses": ("s", plotting.ORANGE),
        "collapses": ("v", plotting.VERMILLION),
        "explodes": ("x", plotting.BLACK),
    }
    for name, (marker, colour) in styles.items():
        rows = [row for row in result.rows if phase(row) == name]
        ax.scatter(
            [row["cosine_to_embedding"] for row in rows],
            [row["effective_rank"] for row in rows],
            marker=marker,
            color=colour,
            label=name,
        )
    collapsed = [row["cosine_to_embedding"] for row in result.rows if phase(row) == "collapses"]
    if collapsed:
        ax.set_title(
            f"Collapsed states have forgotten their\nembeddings (cosine ≤ {max(collapsed):.2f})"
        )
    ax.set_xlabel("mean cosine of states and embeddings")
    ax.set_ylabel("effective rank / min(N, d)")
    ax.set_ylim(0.0, 1.0)
    ax.legend(loc="upper left", ncols=2)


PHASE_DIAGRAM = Experiment(
    name="phase-diagram",
    question="Over which β and weights does MGT keep its rank, collapse, or explode?",
    quick=Settings(),
    full=Settings(depth=200, n_windows=4, alphas=(1.0, 0.3, 0.1, 0.0)),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
    arrays=arrays,
)
