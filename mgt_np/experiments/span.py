"""Does attention leave the span of the embeddings, and does a skip connection keep rank?

Cirrincione (2604.23681, abstract) says that no stack of attention layers makes features outside
the linear span of the original embeddings, as an MLP does, and that residuals generically obstruct
rank collapse in BERT-base without its MLPs. Here: random weights, no norms, and not BERT's.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import (
    distance_from_span,
    matrix_rank,
    path_tokens,
    relative_residual,
)
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import attention_weights, feed_forward

from .experiment import Claim, Experiment, Where, extent

# By its name: the value maps W_V W_O of the heads, whether there is a skip, and an MLP.
STACKS = {
    "attention, value maps cI": ("scaled", False, False),
    "attention + skip, value maps cI": ("scaled", True, False),
    "attention + skip + MLP, value maps cI": ("scaled", True, True),
    "attention": ("random", False, False),
    "attention + skip": ("random", True, False),
    "attention + skip + MLP": ("random", True, True),
    "attention + skip, equal weights, value maps −I": ("opposite", True, False),
}
LOST = 0.1  # relative residual below which we say that tokens have become one
NOTHING = {"float64": 1e-10, "float32": 1e-3}  # outside a span, but for rounding


@dataclass(frozen=True)
class Settings(Where):
    """Few tokens in many dimensions, that spans may differ: `n_tokens` below `d`."""

    seed: int = 0
    n_seeds: int = 5
    depth: int = 40
    d: int = 64
    n_tokens: int = 4
    n_heads: int = 2


def tasks(settings):
    return [
        {
            "stack": name,
            "seed": settings.seed + i,
            "depth": settings.depth,
            "d": settings.d,
            "n_tokens": settings.n_tokens,
            "n_heads": settings.n_heads,
            **settings.where(),
        }
        for name in STACKS
        for i in range(settings.n_seeds)
    ]


def work(stack, seed, depth, d, n_tokens, n_heads, array_library, device, dtype):
    maps, skip, mlp = STACKS[stack]
    there = place(array_library, device, dtype=dtype)
    rng = np.random.default_rng(seed)
    embeddings = X = move(rng.standard_normal((n_tokens, d)), there, dtype=dtype)
    reached = _basis(there.xp, X)
    rows = []
    for layer in range(depth + 1):
        rows.append(
            {
                "stack": stack,
                "seed": seed,
                "layer": layer,
                "outside_embeddings": float(distance_from_span(X, embeddings)),
                "outside_paths": float(distance_from_span(X, reached)),
                "path_dimensions": int(reached.shape[0]),
                "rank": int(matrix_rank(X)),
                "relative_residual": float(relative_residual(X)),
            }
        )
        weights = move(_layer(rng, d, n_heads, maps), there, dtype=dtype)
        X = _attend(there.xp, X, **weights["attention"], skip=skip)
        if mlp:
            X = X + feed_forward(X, **weights["mlp"])
        paths = path_tokens(reached, weights["attention"]["W"][None, ...], skips=skip)
        reached = _basis(there.xp, paths)
    return rows


def _layer(rng, d, n_heads, maps):
    """One layer's weights of LeCun's scale; every stack of one seed draws the same ones."""
    W_q, W_k, W_random = rng.standard_normal((3, n_heads, d, d)) / np.sqrt(d)
    W_1, W_2 = rng.standard_normal((d, 4 * d)), rng.standard_normal((4 * d, d))
    scaled = np.stack([np.eye(d) / n_heads] * n_heads)
    W = {"random": W_random / np.sqrt(n_heads), "scaled": scaled, "opposite": -scaled}[maps]
    if maps == "opposite":
        W_q = np.zeros_like(W_q)
    return {
        "attention": {"W_q": W_q, "W_k": W_k, "W": W},
        "mlp": {"W_1": W_1 / np.sqrt(d), "W_2": W_2 / np.sqrt(4 * d)},
    }


def _attend(xp, X, W_q, W_k, W, *, skip):
    """Σ_h P_h X W_h, W_h = W_V W_O of head h, and X itself if there is a skip."""
    P = attention_weights(xp.matmul(X, W_q), xp.matmul(X, W_k))
    Y = xp.sum(xp.matmul(P, xp.matmul(X, W)), axis=0)
    return X + Y if skip else Y


def _basis(xp, X):
    """An orthonormal basis of the row space, so that paths do not become more than dimensions."""
    _, _, basis = xp.linalg.svd(X, full_matrices=False)
    return basis[: int(matrix_rank(X)), :]


def claims(result):
    attention = [name for name, (_, _, mlp) in STACKS.items() if not mlp]
    return [
        _inside(result, attention, "outside_embeddings"),
        _inside(result, attention, "outside_paths"),
        _mlp(result),
        _generic(result),
        _collapse(result),
    ]


def _inside(result, stacks, column):
    """That attention stays in a span, literally or up to the value maps."""
    literal = column == "outside_embeddings"
    worst = {}
    for name in stacks:
        kind = "random" if STACKS[name][0] == "random" else "cI"
        worst[kind] = max([worst.get(kind, 0.0), *result.column(column, stack=name)])
    kept = [kind for kind, distance in worst.items() if distance <= NOTHING[result.settings.dtype]]
    if not kept:
        verdict = "does not hold"
    elif len(kept) < len(worst):
        verdict = f"holds only if value maps are {kept[0]}"
    else:
        full = None if literal else _full_from(result)
        verdict = "holds" + (f", and says nothing from layer {full} on" if full else "")
    found = "; ".join(f"value maps {kind} {distance:.0e}" for kind, distance in worst.items())
    return Claim(
        "Attention layers make nothing outside the span of the embeddings"
        + ("" if literal else " up to the value maps, x_j W_path"),
        "2604.23681, abstract" if literal else "Dong et al. 2103.03404, path decomposition",
        f"{result.settings.n_seeds} seeds, {result.settings.depth} layers, largest part of the "
        f"state outside: {found}",
        verdict,
    )


def _full_from(result, stack="attention + skip"):
    """The first layer whose paths span all dimensions; None if none does."""
    settings = result.settings
    full = [
        row["layer"]
        for row in result.rows
        if row["stack"] == stack and row["path_dimensions"] == settings.d
    ]
    return min(full) if full else None


def _mlp(result):
    stack, nothing = "attention + skip + MLP, value maps cI", NOTHING[result.settings.dtype]
    outside = result.column("outside_embeddings", stack=stack, layer=1)
    late = [
        row["outside_paths"]
        for row in result.rows
        if row["stack"] == "attention + skip + MLP" and row["path_dimensions"] == result.settings.d
    ]
    settings = result.settings
    return Claim(
        "An MLP makes features outside the span of the embeddings",
        "2604.23681, abstract",
        f"after one layer {min(outside):.2f} … {max(outside):.2f} of the state is outside"
        + (f"; where x_j W_path span all {settings.d} dimensions {max(late):.0e}" if late else ""),
        f"holds only if tokens and paths are fewer than the {settings.d} dimensions"
        if min(outside) > 100 * nothing
        else "does not hold",
    )


def _generic(result):
    """The rank after one layer, where rounding cannot yet hide it."""
    N = result.settings.n_tokens
    ranks = {
        name: result.column("rank", stack=name, layer=1)
        for name, (_, skip, mlp) in STACKS.items()
        if skip and not mlp
    }
    opposite = ranks.pop("attention + skip, equal weights, value maps −I")
    without = result.column("rank", stack="attention", layer=1)
    kept = all(rank == N for values in ranks.values() for rank in values)
    alone, fails = min(without) == N, min(opposite) < N
    return Claim(
        "Residuals generically keep the rank of the tokens without the MLP",
        "2604.23681, abstract; BERT-base there, random weights here",
        f"rank of {N} tokens after one layer: {extent(np.concat([*ranks.values()]))} with skip, "
        f"{extent(without)} without; {extent(opposite)} for equal weights and value maps −I",
        f"holds{' (as does it without skip)' * alone}{', but for weights of measure zero' * fails}"
        if kept
        else "does not hold",
    )


def _collapse(result):
    """What becomes of the rank at depth."""
    settings = result.settings
    N, last = settings.n_tokens, settings.depth
    found, kept, exact = [], [], []
    for name in ("attention", "attention + skip"):
        rank = result.column("rank", stack=name, layer=last)
        residual = result.column("relative_residual", stack=name, layer=last)
        found.append(f"{name}: rank {extent(rank)}, relative residual {np.mean(residual):.0e}")
        if name == "attention + skip":
            kept = [value > LOST for value in residual]
            exact = [value == N for value in rank]
    return Claim(
        f"Residuals without the MLP obstruct the collapse of tokens to one: residual > {LOST:g}",
        "2604.23681, abstract; BERT-base there, random weights here",
        f"{N} tokens after {last} layers: {'; '.join(found)}",
        "holds"
        if all(kept)
        else "holds only if rank is counted exactly: the tokens do become one"
        if all(exact)
        else "does not hold",
    )


_PARTS = {
    (False, False): {"color": plotting.BLACK, "marker": "s", "markersize": 10},
    (True, False): {"color": plotting.BLUE, "marker": "o", "markersize": 6},
    (True, True): {"color": plotting.VERMILLION, "marker": "^", "markersize": 8},
}
_LINES = {"scaled": "-", "random": "--"}


@plotting.styled
def plot(result):
    figure, (literal, paths, depth) = plotting.new_figure(1, 3, size=(15.5, 6.2))
    few = min(8, result.settings.depth)
    by_maps = {maps: [name for name, (of, *_) in STACKS.items() if of == maps] for maps in _LINES}

    _draw(literal, result, by_maps["scaled"] + by_maps["random"][1:2], "outside_embeddings", few)
    literal.set_title("Attention keeps to the span of the embeddings\nonly with value maps cI")
    literal.set_ylabel("part of the state outside span x$_j$")

    _draw(paths, result, by_maps["random"], "outside_paths", few)
    paths.set_title(
        "It always keeps to the span of x$_j$W$_{path}$,\nwhich soon is the whole space"
    )
    paths.set_ylabel("part of the state outside span x$_j$W$_{path}$")
    full = _full_from(result)
    if full is not None and full <= few:
        paths.axvspan(full, few, color=plotting.SKY, alpha=0.25, lw=0)
        paths.annotate(
            f"with skip, paths span\nall {result.settings.d} dimensions",
            ((full + few) / 2, 0.8),
            ha="center",
            fontsize=12,
        )

    _draw(
        depth,
        result,
        [*by_maps["scaled"], *by_maps["random"]],
        "relative_residual",
        result.settings.depth,
    )
    left = {
        stack: np.mean(result.column("relative_residual", stack=stack, layer=result.settings.depth))
        for stack in ("attention", "attention + skip", "attention + skip + MLP")
    }
    alone, skip, mlp = (f"{value:.0e}" for value in left.values())
    depth.set_title(
        f"Residual after {result.settings.depth} layers: {alone} alone,\n"
        f"{skip} with skip, {mlp} with MLP too"
    )
    depth.set_ylabel("relative residual ‖res(X)‖/‖X‖$_{1,∞}$")
    depth.set_yscale("log")
    depth.set_ylim(2e-17, 5.0)
    for ax in (literal, paths, depth):
        ax.set_xlabel("layer")
    for ax in (literal, paths):
        ax.set_ylim(-0.05, 1.05)
    figure.legend(
        *depth.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=12
    )
    return figure


def _draw(ax, result, stacks, column, depth):
    """One line a stack: the geometric mean of its seeds, the smallest to the largest shaded."""
    layers = np.arange(depth + 1)
    for name in stacks:
        maps, *parts = STACKS[name]
        values = np.reshape(result.column(column, stack=name), (result.settings.n_seeds, -1))[
            :, : depth + 1
        ]
        values = np.maximum(values, 1e-17)
        style = _PARTS[tuple(parts)]
        ax.plot(
            layers,
            np.exp(np.mean(np.log(values), axis=0)),
            linestyle=_LINES[maps],
            markerfacecolor=style["color"] if maps == "scaled" else "white",
            markevery=max(1, depth // 8),
            label=name if maps == "scaled" else f"{name}, random value maps",
            **style,
        )
        ax.fill_between(
            layers, values.min(0), values.max(0), color=style["color"], alpha=0.15, lw=0
        )


SPAN = Experiment(
    name="span",
    question="Does attention leave the span of the embeddings, and does a skip keep rank?",
    quick=Settings(),
    full=Settings(n_seeds=10, depth=100, d=128, n_tokens=8),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
