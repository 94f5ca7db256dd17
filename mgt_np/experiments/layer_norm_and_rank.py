"""Which rank does layer norm keep? Sets of tokens before and after it, and after RMS norm.

Cirrincione (2604.23681, abstract; the paper's definitions could not be read) says that layer norm
keeps the affine rank exactly, the matrix rank where its bias is zero, and neither makes nor hinders
rank collapse.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import distance_from_span, effective_rank, matrix_rank
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import layer_norm, rms_norm

from .experiment import Claim, Experiment, Where

RANKS = {"affine": "affine", "plain": "matrix", "centred": "centred\nfeatures"}
MAPS = {
    "layer norm": "layer norm",
    "layer norm, gain and bias": "layer norm with gain, bias",
    "RMS norm": "RMS norm with gain",
}
# Layer norm divides a token by its own spread: where that is small, it enlarges what was rounded.
RTOL = {"float64": 1e-10, "float32": 1e-5}


@dataclass(frozen=True)
class Settings(Where):
    """How many tokens of how many features, and how many draws of each set (`seed`, …)."""

    seed: int = 0
    n_seeds: int = 20
    n_tokens: int = 12
    d: int = 6


def _through_origin(rng, N, d):
    return rng.standard_normal((N, 2)) @ rng.standard_normal((2, d))


def _crowd(rng, N, d):
    """Many tokens short and alike, three long ones at right angles."""
    long = np.linalg.qr(rng.standard_normal((d, d)))[0][:3]
    crowd = rng.standard_normal(d) + 0.01 * rng.standard_normal((8 * N, d))
    return np.concat([long, 0.01 * crowd])


SETS = {
    "on a line off the origin": lambda rng, N, d: (
        rng.standard_normal(d) + rng.standard_normal((N, 1)) * rng.standard_normal(d)
    ),
    "in a plane off the origin": lambda rng, N, d: (
        _through_origin(rng, N, d) + rng.standard_normal(d)
    ),
    "in a plane through the origin": _through_origin,
    "that plane, with 1 in it": lambda rng, N, d: (
        rng.standard_normal((N, 2)) @ np.stack([np.ones(d), rng.standard_normal(d)])
    ),
    "generic, N > d": lambda rng, N, d: rng.standard_normal((N, d)),
    "generic, N < d": lambda rng, N, d: rng.standard_normal((d - 2, d)),
    "of uneven length": lambda rng, N, d: (
        rng.standard_normal((N, d)) * 10.0 ** rng.uniform(-3.0, 1.0, (N, 1))
    ),
    "3 long, many short and alike": _crowd,
    "all equal": lambda rng, N, d: np.tile(rng.standard_normal(d), (N, 1)),
}


def tasks(settings):
    return [
        {
            "tokens": name,
            "seed": settings.seed + i,
            "n_tokens": settings.n_tokens,
            "d": settings.d,
            **settings.where(),
        }
        for name in SETS
        for i in range(settings.n_seeds)
    ]


def work(tokens, seed, n_tokens, d, array_library, device, dtype):
    there = place(array_library, device, dtype=dtype)
    rng = np.random.default_rng([seed, list(SETS).index(tokens)])
    X = SETS[tokens](rng, n_tokens, d)
    gain, bias = rng.standard_normal((2, d))
    X, gain, bias = move((X, gain, bias), there, dtype=dtype)
    rtol = RTOL[dtype]
    before = _ranks(X, rtol)
    one = there.xp.ones_like(X[:1, :])
    distance = float(distance_from_span(one, X, rtol=rtol))
    after = {
        "layer norm": (layer_norm(X), layer_norm(X)),
        "layer norm, gain and bias": (layer_norm(X, gain, bias), layer_norm(X, gain)),
        "RMS norm": (rms_norm(X, gain), None),
    }
    rows = []
    for name, (Y, without_bias) in after.items():
        row = {"tokens": tokens, "map": name, "seed": seed, "distance_of_1": distance}
        ranks = _ranks(Y, rtol)
        if without_bias is not None:  # what comes out of layer norm has been centred
            ranks["centred"] = int(matrix_rank(without_bias, rtol=rtol))
        for rank in (*RANKS, "effective"):
            row |= {f"{rank}_before": before[rank], f"{rank}_after": ranks[rank]}
        rows.append(row)
    return rows


def _ranks(X, rtol):
    return {
        "affine": int(matrix_rank(X, center="tokens", rtol=rtol)),
        "plain": int(matrix_rank(X, rtol=rtol)),
        "centred": int(matrix_rank(X, center="features", rtol=rtol)),
        "effective": float(effective_rank(X)),
    }


def changed(rows, rank):
    """The names of the sets of which some draw's rank changed."""
    names = [row["tokens"] for row in rows if row[f"{rank}_before"] != row[f"{rank}_after"]]
    return list(dict.fromkeys(names))


def claims(result):
    by_map = {name: [row for row in result.rows if row["map"] == name] for name in MAPS}
    bare, full, rms = by_map.values()
    return [
        _claim("Layer norm keeps the affine rank of the tokens exactly", "affine", bare + full),
        _claim("Layer norm with zero bias keeps the matrix rank of the tokens", "plain", bare),
        _claim(
            "Layer norm without its bias has the matrix rank of the centred features",
            "centred",
            bare + full,
            source="D X(I − 11ᵀ/d) diag(gain), gain without zeros (ours)",
        ),
        _claim(
            "RMS norm keeps the matrix rank of the tokens",
            "plain",
            rms,
            source="D X diag(gain), gain without zeros (ours)",
        ),
        _neutral(bare),
    ]


def _claim(words, rank, rows, source="2604.23681, abstract"):
    moved, broken = changed(rows, rank), _moved(rows, rank)
    steps = sorted({f"{row[f'{rank}_before']} → {row[f'{rank}_after']}" for row in broken})
    found = f": {', '.join(steps)} where tokens are {'; '.join(moved)}" if moved else ""
    return Claim(
        words,
        source,
        f"{len(rows)} draws of {len(SETS)} sets, changed in {len(broken)}{found}",
        _verdict(rank, rows, broken),
    )


def _verdict(rank, rows, broken):
    if not broken:
        return "holds"
    if rank == "plain" and all(row["distance_of_1"] < 1e-6 for row in broken):
        return "holds only if 1 is not in the span of the tokens"
    kept = [name for name in SETS if name not in changed(rows, rank)]
    if not kept:
        return "does not hold"
    return f"holds only if tokens are {', or '.join(kept)} (of the sets tried)"


def _moved(rows, rank):
    return [row for row in rows if row[f"{rank}_before"] != row[f"{rank}_after"]]


def _ratios(rows):
    """The effective rank after over before, its mean over the draws of each set."""
    ratios = {}
    for row in rows:
        ratio = row["effective_after"] / row["effective_before"]
        ratios.setdefault(row["tokens"], []).append(ratio)
    return {name: float(np.mean(values)) for name, values in ratios.items()}


def _neutral(rows):
    means = _ratios(rows)
    low, high = min(means, key=means.get), max(means, key=means.get)
    if means[low] >= 0.95 and means[high] <= 1.05:
        verdict = "holds"
    elif not changed(rows, "centred"):
        verdict = "holds only if rank is counted exactly, of centred features"
    else:
        verdict = "does not hold"
    return Claim(
        "Layer norm neither contributes to nor mitigates rank collapse (effective rank ± 5 %)",
        "2604.23681, abstract",
        f"effective rank after over before, mean of {len(rows) // len(means)} draws: "
        f"{means[low]:.2f} for tokens {low}, {means[high]:.2f} for tokens {high}",
        verdict,
    )


@plotting.styled
def plot(result):
    figure, (table, dots) = plotting.new_figure(1, 2, size=(14, 5.6), width_ratios=(2.6, 1))
    _draw_table(table, result)
    _draw_effective(dots, result)
    return figure


def _draw_table(ax, result):
    from matplotlib.patches import Rectangle

    columns = [(rank, name) for name in MAPS for rank in RANKS]
    for i, tokens in enumerate(SETS):
        for j, (rank, name) in enumerate(columns):
            rows = [r for r in result.rows if r["tokens"] == tokens and r["map"] == name]
            moved = _moved(rows, rank)
            row = (moved or rows)[0]
            before, after = row[f"{rank}_before"], row[f"{rank}_after"]
            if moved:
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc=plotting.ORANGE, ec="white"))
            ax.text(
                j,
                i,
                f"{before} → {after}" if moved else f"{before}",
                ha="center",
                va="center",
                fontsize=13,
                fontweight="bold" if moved else "normal",
            )
    for j in (2.5, 5.5):
        ax.axvline(j, color="grey", lw=1)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(SETS) - 0.5, -0.5)
    ax.set_yticks(range(len(SETS)), SETS)
    ax.set_xticks(range(len(columns)), [RANKS[rank] for rank, _ in columns], fontsize=11)
    top = ax.secondary_xaxis("top")
    top.set_xticks([1, 4, 7], MAPS.values(), fontsize=12)
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set_xlabel("rank of the set (→ where the map changes it)")
    bare = [row for row in result.rows if row["map"] == "layer norm"]
    ax.set_title(
        f"Layer norm changes the affine rank of {len(changed(bare, 'affine'))} of {len(SETS)} sets "
        f"of tokens,\nthe matrix rank of {len(changed(bare, 'plain'))}, "
        f"that of the centred features of {len(changed(bare, 'centred')) or 'none'}"
    )


def _draw_effective(ax, result):
    ax.axvline(1.0, color="grey", lw=1)
    for i, tokens in enumerate(SETS):
        where = {"tokens": tokens, "map": "layer norm"}
        ratio = np.divide(
            result.column("effective_after", **where), result.column("effective_before", **where)
        )
        ax.scatter(ratio, np.full(len(ratio), i), s=30, color=plotting.BLUE, alpha=0.4, lw=0)
    ax.set_xscale("log")
    ax.set_xticks([0.5, 1, 2, 4], ["½", "1", "2", "4"])
    ax.minorticks_off()
    ax.set_ylim(len(SETS) - 0.5, -0.5)
    ax.set_yticks(range(len(SETS)), [""] * len(SETS))
    ax.set_xlabel("effective rank after/before")
    means = _ratios([row for row in result.rows if row["map"] == "layer norm"]).values()
    ax.set_title(
        f"Effective rank × {min(means):.2f} … {max(means):.2f},\nmeans of draws (a dot each)"
    )


LAYER_NORM_AND_RANK = Experiment(
    name="layer-norm-and-rank",
    question="Which rank of a set of tokens does layer norm keep?",
    quick=Settings(),
    full=Settings(n_seeds=500),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
