"""Does attention leave the span of the embeddings, and does a skip keep rank?

Cirrincione (2604.23681, abstract) says that no stack of attention layers makes features outside
the linear span of the original embeddings, as an MLP does, and that residuals generically obstruct
rank collapse in BERT-base without its MLPs. Here: random weights, no norms, and not BERT's.
"""

from dataclasses import dataclass, replace

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import distance_from_span, matrix_rank, path_tokens, relative_residual
from mgt_np.layers import attention_weights, feed_forward

from .claims import Claim
from .experiment import Where, cells, generator, seeds

PAPER, PATHS = "2604.23681, abstract", "2103.03404, path decomposition"
NOT_BERT = f"{PAPER}; BERT-base there, random weights here"
ALONE, SKIP, MLP = "attention", "attention + skip", "attention + skip + MLP"
IDENTITY, RANDOM, NEGATIVE = "I/H", "random", "−I/H"  # W_V W_O of each of the H heads
SPAN = ("all dimensions", "fewer than all dimensions")
NOTHING = {"float64": 1e-10, "float32": 1e-3}  # a part of a state that may be rounding error
LOST = 0.1  # relative residual up to which the tokens count as one


@dataclass(frozen=True)
class Settings(Where):
    """Fewer tokens than dimensions, `n_tokens` < `d`, so that a state can leave their span."""

    seed: int = 0
    n_seeds: int = 5
    depth: int = 40
    d: int = 64
    n_tokens: int = 4
    n_heads: int = 2


QUICK = Settings()
FULL = Settings(n_seeds=10, depth=100, d=128, n_tokens=8)


def claims(settings):
    return [*_of_spans(settings), *_of_tokens(settings)]


def _of_spans(settings):
    d, nothing = settings.d, NOTHING[settings.dtype]
    inside = Claim(
        says="Attention layers make nothing outside the span of the embeddings",
        source=PAPER,
        criterion=f"part of the state outside ≤ {nothing:g} in every layer and seed",
        measure=extreme(np.max, "outside_embeddings", mlp=0),
        passes=lambda part: part <= nothing,
        only_if="the value maps are {}",
        form="{:.0e}",
    )
    return [
        inside,
        replace(
            inside,
            says="Attention stays in the span of the embeddings behind all value maps, x_j W_path",
            source=PATHS,
            measure=extreme(np.max, "outside_paths", mlp=0),
        ),
        Claim(
            says="The span of x_j W_path is less than the whole space",
            source=f"our question to {PATHS}",
            criterion=f"with skip and random value maps fewer than {d} dimensions in every seed",
            measure=extreme(np.max, "path_dimensions", by=layers, stack=SKIP, value_maps=RANDOM),
            passes=lambda dimensions: dimensions < d,
            only_if="the number of layers is {}",
            form="{:.0f} dimensions",
        ),
        Claim(
            says="An MLP makes features outside the span of x_j W_path",
            source=PAPER,
            criterion=f"part of the state outside > {nothing:g} in every layer and seed",
            measure=extreme(
                np.min, "outside_paths", by=lambda row: SPAN[row["path_dimensions"] < d], mlp=1
            ),
            passes=lambda part: part > nothing,
            only_if="these span {}",
            title="An MLP leaves the span of x$_j$W$_{path}$",
        ),
    ]


def _of_tokens(settings):
    N = settings.n_tokens
    ranked = Claim(
        says="Residuals generically keep the rank of the tokens without the MLP",
        source=NOT_BERT,
        criterion=f"rank {N} of {N} tokens after one layer in every seed",
        measure=extreme(np.min, "rank", stack=SKIP, layer=1),
        passes=lambda rank: rank == N,
        only_if="the value maps are {}",
        form="rank {:.0f}",
    )
    return [
        ranked,
        replace(
            ranked,
            says="One layer without skip and MLP keeps the rank of the tokens as well",
            source="our control",
            measure=extreme(np.min, "rank", stack=ALONE, layer=1),
        ),
        Claim(
            says="Residuals without the MLP keep the tokens from collapsing to one",
            source=NOT_BERT,
            criterion=f"rank − 1 > {LOST:g} × {N - 1}, or relative residual > {LOST:g}, every seed",
            measure=still_apart,
            passes=lambda left: left > LOST,
            only_if="measured by {}",
        ),
    ]


def extreme(pick, column, by="{value_maps}", **where):
    """A measure: the `pick`, np.max or np.min, of a column in the rows that `by` names alike."""
    return lambda result: result.rows.where(**where).by(by, column, pick)


def layers(row):
    return ("1", "2", "3", "4 or more")[min(row["layer"], 4) - 1]


def still_apart(result):
    """The least that a skip leaves of the tokens' differences in any seed, by two measures."""
    rows = result.rows.where(stack=SKIP, value_maps=RANDOM, layer=result.settings.depth)
    rank = (min(rows.column("rank")) - 1) / max(1, result.settings.n_tokens - 1)
    return {"exact rank": rank, "relative residual": np.min(rows.column("relative_residual"))}


def tasks(settings):
    special = cells(settings, stack=(SKIP,), value_maps=(NEGATIVE,), seed=seeds(settings))
    axes = {"stack": (ALONE, SKIP, MLP), "value_maps": (IDENTITY, RANDOM)}
    return cells(settings, **axes, seed=seeds(settings)) + special


def work(there, stack, value_maps, seed, depth, d, n_tokens, n_heads):
    xp, rng, skip, mlp = there.xp, generator(seed), stack != ALONE, stack == MLP
    embeddings = X = reached = there.move(rng.standard_normal((n_tokens, d)))
    labels = {"stack": stack, "value_maps": value_maps, "mlp": int(mlp), "seed": seed[-1]}
    for layer in range(1, depth + 1):
        W_q, W_k, W, W_1, W_2 = there.move(_layer(rng, d, n_heads, value_maps))
        P = attention_weights(xp.matmul(X, W_q), xp.matmul(X, W_k))
        X = xp.sum(xp.matmul(P, xp.matmul(X, W)), axis=0) + (X if skip else 0.0)
        X = X + feed_forward(X, W_1, W_2) if mlp else X
        if not skip or reached.shape[0] != d:  # with skip, paths that span all go on doing so
            paths = path_tokens(reached, W[None, ...], skips=skip)  # soon too many: keep a basis
            reached = xp.linalg.svd(paths, full_matrices=False)[2][: int(matrix_rank(paths)), :]
        yield {
            **labels,
            "layer": layer,
            "outside_embeddings": float(distance_from_span(X, embeddings)),
            "outside_paths": float(distance_from_span(X, reached)),
            "path_dimensions": int(reached.shape[0]),
            "rank": int(matrix_rank(X)),
            "relative_residual": float(relative_residual(X)),
        }


def _layer(rng, d, n_heads, value_maps):
    """W_Q, W_K, W_V W_O, W_1 and W_2 of LeCun's scale; every stack of a seed draws the same."""
    W_q, W_k, W = rng.standard_normal((3, n_heads, d, d)) / np.sqrt(d)
    W_1, W_2 = rng.standard_normal((d, 4 * d)), rng.standard_normal((4 * d, d))
    same = np.stack([np.eye(d) / n_heads] * n_heads)
    W = {RANDOM: W / np.sqrt(n_heads), IDENTITY: same, NEGATIVE: -same}[value_maps]
    return W_q, W_k, W, W_1 / np.sqrt(d), W_2 / np.sqrt(4 * d)


ALT = (
    "Over the layers. Left: nothing of the state is outside the span of the embeddings with value "
    "maps I/H, nearly all with random ones. Middle: with an MLP half of it is outside the span of "
    "x_j W_path, until these span all dimensions. Right: the tokens' relative residual falls to "
    "rounding error within five layers without a skip, else slowly."
)
STYLES = {
    (SKIP, IDENTITY): {"color": plotting.ORANGE, "marker": "o", "linestyle": "-"},
    (SKIP, RANDOM): {"color": plotting.BLUE, "marker": "D", "linestyle": "--"},
    (MLP, RANDOM): {"color": plotting.VERMILLION, "marker": "^", "linestyle": "-."},
    (ALONE, RANDOM): {"color": plotting.BLACK, "marker": "s", "linestyle": ":"},
}


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 3, size=(16.5, 6.4))
    depth, d, eps = result.settings.depth, result.settings.d, np.finfo(result.settings.dtype).eps
    few, kinds, outside = min(8, depth), list(STYLES), "part of the state outside\nthe span of "
    panels = (
        (judged[0], "outside_embeddings", few, kinds[:2], outside + "the embeddings x$_j$"),
        (judged[3], "outside_paths", few, kinds[1:3], outside + "x$_j$W$_{path}$"),
        (judged[6], "relative_residual", depth, kinds, "residual (0: all tokens equal)"),
    )
    for ax, (claim, column, last, shown, label) in zip(axes, panels, strict=True):
        for stack, maps in shown:
            rows = result.rows.where(stack=stack, value_maps=maps)
            values = np.maximum(rows.grid(column, "seed", "layer")[:, :last], eps)
            style = STYLES[stack, maps] | {"markevery": max(1, last // 8), "markersize": 9}
            style["label"] = f"{stack}, value maps {maps}"
            plotting.band(ax, range(1, last + 1), values, log=ax is axes[2], **style)
        ax.set_title(plotting.wrapped(claim.headline, 50))
        ax.set(xlabel="number of layers", ylabel=label)
    whole = result.rows.where(stack=MLP, value_maps=RANDOM, path_dimensions=d).column("layer")
    if whole and min(whole) < few:
        axes[1].axvspan(min(whole), few, color="0.9", lw=0)
        axes[1].text(few - 0.2, 0.2, f"x$_j$W$_{{path}}$ span\nall {d} dimensions", ha="right")
    axes[2].set(yscale="log", ylim=(eps / 60, None))
    axes[2].axhspan(eps / 60, 8 * eps, color="0.9", lw=0)
    axes[2].text(depth, eps / 8, "only rounding error is left", ha="right", va="center")
    title = "value maps: W$_V$W$_O$ of each of the H heads; shaded: range over seeds"
    lines = axes[2].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=2, title=title)
    return figure
