"""Does the sum of the heads tell what each head put in?

Cirrincione (2604.23681, abstract) says that summing heads through W_O leaves n(H−1)d_k degrees of
freedom open, that no MLP can mend that, and offers a position-gated projection at less than 1.6 %
of W_O's parameters. Its hypotheses and its formula could not be read: both are ours here.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from matplotlib import colormaps

from mgt_np import plotting
from mgt_np.analysis import head_null_space, matrix_rank
from mgt_np.arrays import array_namespace, grad
from mgt_np.layers import feed_forward, layer_norm, linear, position_gated_projection

from .claims import Claim
from .experiment import Where, cells, generator, seeds

PAPER, OURS = "2604.23681, abstract", "formula ours: gates σ(p W_g) by position"
NOTHING = {"float64": 1e-10, "float32": 1e-4}  # relative size up to which it may be rounding error


@dataclass(frozen=True)
class Settings(Where):
    """Heads of `d_k` channels, d = H d_k, and W_O of every rank that is a multiple of d_k."""

    seed: int = 0
    n_seeds: int = 3
    n_tokens: int = 8
    d_k: int = 4
    heads: tuple[int, ...] = (2, 4, 8)
    real: tuple[int, ...] = (12, 64)  # H and d_k of BERT-base: one draw, of one token and rank d_k


QUICK = Settings()
FULL = Settings(n_seeds=10, n_tokens=16, d_k=8)


def claims(settings):
    nothing, sizes = NOTHING[settings.dtype], "H = {heads}, d_k = {d_k}"
    return [
        Claim(
            says="Of H heads of d_k features, the sum leaves n(H−1)d_k numbers of n tokens open",
            source=f"{PAPER}; W_O known (ours)",
            criterion="just so many dimensions of Z have Z W_O = 0, for every H and seed",
            measure=lambda result: result.rows.by("rank {ratio} d_k", "miscounted", np.max),
            passes=lambda dimensions: dimensions == 0,
            only_if="the output matrix W_O has {}",
            form="off by {:.0f}",
            title="The sum of H heads leaves n(H−1)d$_k$ numbers open",
            readme=True,
        ),
        Claim(
            says="An MLP after the sum cannot resolve them",
            source=PAPER,
            criterion=f"no dimension resolved, and change along the open ones ≤ {nothing:g}",
            measure=resolved,
            passes=lambda found: found[0] <= 0 and found[1] <= nothing,
            form="{:.0f} resolved, change {:.0e}",
        ),
        Claim(
            says="A position-gated output projection resolves them",
            source=f"{PAPER}; {OURS}",
            criterion="no dimension open at rank W_O = d_k, for every H and seed",
            measure=open_behind_gates,
            passes=lambda dimensions: dimensions == 0,
            only_if="the heads are {}",
            form="up to {:.0f} open",
        ),
        Claim(
            says="It costs less than 1.6 % of the output projection's parameters",
            source=f"{PAPER}, of BERT-base: H = 12, d_k = 64; {OURS}",
            criterion="parameters of W_g < 1.6 % of those of W_O",
            measure=lambda result: result.rows.by(sizes, "gate_percent", np.max),
            passes=lambda percent: percent < 1.6,
            form="{:.4g} %",
        ),
    ]


def resolved(result):
    """How many dimensions an MLP tells and the sum does not, and its change along the others."""
    told = max(row["of_sum"] - row["after_mlp"] for row in result.rows)
    return {"every rank of W_O": (told, np.max(result.rows.column("change_after_mlp")))}


def open_behind_gates(result):
    """The most dimensions that position gates leave open, heads that differ or not."""
    rows = result.rows.where(ratio=1)
    different = rows.by("different at every position", "gated", np.max)
    return different | rows.by("the same at n {n_against_H} H positions", "tied_gated", np.max)


def tasks(settings):
    found = []
    for H in settings.heads:
        found += cells(settings, n_heads=(H,), ratio=range(1, H + 1), seed=seeds(settings))
    real = dict(zip(("n_heads", "d_k"), settings.real, strict=True)) | {"ratio": 1, "n_tokens": 1}
    return found + [cell | real for cell in cells(settings, seed=seeds(settings)[:1])]


def work(there, n_heads, d_k, ratio, n_tokens, seed):
    xp, nothing, rank, d = there.xp, NOTHING[there.dtype], ratio * d_k, n_heads * d_k
    drawn = _draw(generator(seed, n_heads, rank), n_heads, d, rank, n_tokens)
    Z, X, W_o, W_1, W_2, positions, W_g, step = there.move(drawn)
    labels = {"heads": n_heads, "d_k": d_k, "rank": rank, "ratio": ratio, "seed": seed[-1]}

    def block(Z):  # attention's output projection and an MLP, both with their skips
        state = X + linear(Z, W_o)
        return state + feed_forward(layer_norm(state), W_1, W_2)

    def change(y, x):
        return float(xp.linalg.vector_norm(y - x) / xp.linalg.vector_norm(x))

    def lost(maps):  # the dimensions that linear maps (..., inputs, outputs) send to zero, in all
        return int(xp.sum(maps.shape[-2] - matrix_rank(maps, rtol=nothing)))

    basis = xp.reshape(head_null_space(W_o, n_heads=n_heads, rtol=nothing), (-1, d))
    moved = Z + xp.matmul(xp.matmul(step, xp.matrix_transpose(basis)), basis)
    O, claimed, open_ = linear(Z, W_o), n_tokens * (n_heads - 1) * d_k, n_tokens * basis.shape[0]
    # All derivatives by one gradient: copy j of the tokens is asked for output j alone.
    units = there.move(np.eye(d)[:, None, :])
    jacobians = grad(lambda Z: array_namespace(Z).sum(block(Z) * units))(Z + 0.0 * units)
    gated = position_gated_projection(units + 0.0 * Z, positions, W_o, W_g)
    yield {
        **labels,
        "n_against_H": "≥" if n_tokens >= n_heads else "<",
        "claimed": claimed,
        "of_sum": open_,
        "miscounted": abs(open_ - claimed),
        "moved": change(moved, Z),
        "change_of_sum": change(linear(moved, W_o), O),
        "change_after_mlp": change(block(moved), block(Z)),
        "recovery_error": change(linear(O, xp.linalg.pinv(W_o, rtol=nothing)), Z),
        "after_mlp": lost(xp.permute_dims(jacobians, (1, 2, 0))),
        "gated": lost(xp.permute_dims(gated, (1, 0, 2))),
        "tied_gated": lost(xp.reshape(gated, (d, -1))),
        "gate_percent": 100 * prod(W_g.shape) / prod(W_o.shape),
    }


def _draw(rng, n_heads, d, rank, n_tokens):
    """Everything of LeCun's scale, W_o of the given rank; at rank d_k its blocks share all rows."""
    normal = rng.standard_normal
    W_o = normal((d, rank)) @ np.linalg.qr(normal((d, d)))[0][:rank] / np.sqrt(rank)
    W_1, W_2 = normal((d, 4 * d)) / np.sqrt(d), normal((4 * d, d)) / np.sqrt(4 * d)
    Z, X, positions, step = normal((4, n_tokens, d))
    return Z, X, W_o, W_1, W_2, positions, normal((d, n_heads)) / np.sqrt(d), step


ALT = (
    "Left: the numbers that the sum of the heads leaves open for each token fall from the claimed "
    "(H−1)d_k at rank d_k of W_O, on straight lines, to none at full rank. Right, at rank d_k: an "
    "MLP and position gates leave as many open, but none if all tokens' heads agree."
)
WAYS = {
    "of_sum": "the sum of the heads",
    "after_mlp": "… then skip, layer\nnorm and MLP",
    "gated": "the sum with\nposition gates",
    "tied_gated": "… and the same heads\nat all positions",
}


@plotting.styled
def plot(result, judged):
    figure, (ranks, ways) = plotting.new_figure(1, 2, size=(15, 6))
    n, heads, places = result.settings.n_tokens, result.settings.heads, np.arange(len(WAYS))
    for i, H in enumerate(heads):
        colour = colormaps["viridis"](0.85 * i / max(1, len(heads) - 1))
        style = {"color": colour, "marker": "osD^vP"[i % 6], "ms": 9, "label": f"H = {H}"}
        rows = result.rows.where(heads=H, d_k=result.settings.d_k)
        ranks.plot(1, rows[0]["claimed"] / n, "ko", ms=18, mfc="none", label="claimed" * (i == 0))
        ranks.plot(
            rows.values("ratio"), rows.grid("of_sum", "ratio", "seed").mean(axis=1) / n, **style
        )
        open_ = [np.mean(rows.where(ratio=1).column(way)) for way in WAYS]
        ways.plot(np.divide(open_, (n, n, n, 1)), places + 0.15 * i, ls="none", **style)
    ranks.set_title(plotting.wrapped(judged[0].headline, 60))
    ways.set_title(f"{judged[1].headline}\n{plotting.wrapped(judged[2].headline, 60)}")
    ranks.set(xlabel="rank of W$_O$ / d$_k$", ylabel="numbers left open for each token")
    ways.set(xlabel="numbers left open for each token, at rank W$_O$ = d$_k$", ylim=(3.7, -0.4))
    ways.set_yticks(places, WAYS.values())
    ranks.legend()
    return figure
