"""Does the sum of the heads tell what each head put in? Null spaces, counted and used.

Cirrincione (2604.23681, abstract) says that summing heads through W_O leaves n(H−1)d_k degrees of
freedom open, that no MLP can mend that, and offers a position-gated projection at less than 1.6 %
of W_O's parameters. Its hypotheses and its formula could not be read: both are ours here.
"""

from dataclasses import dataclass
from itertools import cycle

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import head_null_space, matrix_rank
from mgt_np.arrays import array_namespace, grad
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import feed_forward, layer_norm, linear, sigmoid

from .experiment import Claim, Experiment, Where, extent

RTOL = {"float64": 1e-10, "float32": 1e-4}


@dataclass(frozen=True)
class Settings(Where):
    """Heads of `d_k` channels, d = H d_k, and W_O of every rank that is a multiple of d_k."""

    seed: int = 0
    n_seeds: int = 3
    n_tokens: int = 8
    d_k: int = 4
    heads: tuple[int, ...] = (2, 4, 8)


def tasks(settings):
    return [
        {
            "n_heads": n_heads,
            "d_k": settings.d_k,
            "rank": k * settings.d_k,
            "n_tokens": settings.n_tokens,
            "seed": settings.seed + i,
            **settings.where(),
        }
        for n_heads in settings.heads
        for k in range(1, n_heads + 1)
        for i in range(settings.n_seeds)
    ]


def work(n_heads, d_k, rank, n_tokens, seed, array_library, device, dtype):
    there, rtol = place(array_library, device, dtype=dtype), RTOL[dtype]
    xp, d = there.xp, n_heads * d_k
    Z, X, W_o, W_1, W_2, positions, W_g, step = move(
        _draw(np.random.default_rng([seed, n_heads, rank]), n_heads, d_k, rank, n_tokens),
        there,
        dtype=dtype,
    )

    def block(Z):
        """The state after attention's projection and an MLP, both with their skips."""
        state = X + linear(Z, W_o)
        return state + feed_forward(layer_norm(state), W_1, W_2)

    basis = head_null_space(W_o, n_heads=n_heads, rtol=rtol)
    size = basis.shape[0]
    basis = xp.reshape(basis, (size, d))
    moved = Z + xp.matmul(xp.matmul(step, xp.matrix_transpose(basis)), basis)
    O = linear(Z, W_o)
    gated = xp.expand_dims(sigmoid(linear(positions, W_g)), axis=-1)
    gated = xp.reshape(xp.broadcast_to(gated, (n_tokens, n_heads, d_k)), (n_tokens, d, 1)) * W_o
    tied = xp.reshape(xp.permute_dims(gated, (1, 0, 2)), (d, n_tokens * d))
    return [
        {
            "heads": n_heads,
            "d_k": d_k,
            "rank": rank,
            "seed": seed,
            "claimed": n_tokens * (n_heads - 1) * d_k,
            "of_sum": n_tokens * size,
            "moved": _relative(xp, moved - Z, Z),
            "change_of_sum": _relative(xp, linear(moved, W_o) - O, O),
            "change_after_mlp": _relative(xp, block(moved) - block(Z), block(Z)),
            "recovery_error": _relative(xp, linear(O, xp.linalg.pinv(W_o, rtol=rtol)) - Z, Z),
            "after_mlp": _lost(xp, _jacobians(xp, block, Z), rtol),
            "gated": _lost(xp, gated, rtol),
            "tied": d - int(matrix_rank(W_o, rtol=rtol)),
            "tied_gated": d - int(matrix_rank(tied, rtol=rtol)),
        }
    ]


def _draw(rng, n_heads, d_k, rank, n_tokens):
    """Everything of LeCun's scale, W_o of the given rank; at rank d_k its blocks share all rows."""
    d = n_heads * d_k
    normal = rng.standard_normal
    W_o = normal((d, rank)) @ np.linalg.qr(normal((d, d)))[0][:rank] / np.sqrt(rank)
    return (
        normal((n_tokens, d)),
        normal((n_tokens, d)),
        W_o,
        normal((d, 4 * d)) / np.sqrt(d),
        normal((4 * d, d)) / np.sqrt(4 * d),
        normal((n_tokens, d)),
        normal((d, n_heads)) / np.sqrt(d),
        normal((n_tokens, d)),
    )


def _relative(xp, difference, x):
    return float(xp.linalg.vector_norm(difference) / xp.linalg.vector_norm(x))


def _jacobians(xp, function, Z):
    """The derivatives of a function that maps each token by itself: (n, inputs, outputs)."""

    def output(Z, j):
        y = function(Z)
        return array_namespace(y).sum(y[:, j])

    return xp.stack([grad(output)(Z, j) for j in range(Z.shape[-1])], axis=-1)


def _lost(xp, maps, rtol):
    """The dimensions of inputs that the linear maps (n, inputs, outputs) send to zero, in all."""
    return maps.shape[0] * maps.shape[1] - int(xp.sum(matrix_rank(maps, rtol=rtol)))


def claims(result):
    return [_count(result), _mlp(result), _gates(result), _cost()]


def _count(result):
    settings = result.settings
    shared = [row for row in result.rows if row["rank"] == row["d_k"]]
    full = [row for row in result.rows if row["rank"] == row["heads"] * row["d_k"]]
    as_claimed = all(row["of_sum"] == row["claimed"] for row in shared)
    exact = all(row["of_sum"] == 0 for row in full)
    moved = max(row["change_of_sum"] for row in result.rows)
    error = max(row["recovery_error"] for row in full)
    if as_claimed and exact:
        verdict = "holds only if the heads' blocks of W_O share one row space of d_k dimensions"
    else:
        verdict = "holds" if as_claimed else "does not hold"
    return Claim(
        "Summing the heads leaves n(H−1)d_k degrees of freedom open",
        "2604.23681, abstract; W_O known (ours)",
        f"H = {', '.join(map(str, settings.heads))}, n = {settings.n_tokens}: at rank W_O = d_k "
        f"{'just these' if as_claimed else 'others'}, each changes the sum by ≤ {moved:.0e}; at "
        f"rank H d_k {'none' if exact else 'some'}, heads recovered to {error:.0e}",
        verdict,
    )


def _mlp(result):
    worst = max(result.column("change_after_mlp"))
    fewer = [row for row in result.rows if row["after_mlp"] < row["of_sum"]]
    more = [row for row in result.rows if row["after_mlp"] > row["of_sum"]]
    return Claim(
        "An MLP after the sum cannot resolve them",
        "2604.23681, abstract",
        f"null space after skip, layer norm and MLP smaller in {len(fewer)} of {len(result.rows)} "
        f"draws, larger in {len(more)}; heads moved along it change the output by ≤ {worst:.0e}",
        "holds" if not fewer and worst < 1e3 * RTOL[result.settings.dtype] else "does not hold",
    )


def _gates(result):
    rows = [row for row in result.rows if row["rank"] == row["d_k"]]
    same = sum(row["gated"] == row["of_sum"] for row in rows)
    tied = [row["tied_gated"] for row in rows]
    if not any(row["gated"] for row in rows):
        verdict = "holds"
    elif max(tied) == 0:
        verdict = "holds only if heads are the same at n ≥ H positions (in our reading of it)"
    else:
        verdict = "does not hold"
    return Claim(
        "A position-gated output projection resolves them",
        "2604.23681, abstract; formula ours: g = σ(p W_g)",
        f"rank W_O = d_k: as many lost as without gates in {same} of {len(rows)} draws, since each "
        f"token has heads of its own; were they the same at all positions, {max(tied)} instead of "
        f"{extent([row['tied'] for row in rows])}",
        verdict,
    )


def _cost(n_heads=12, d=768):
    percent = 100.0 * n_heads / d
    return Claim(
        "It costs less than 1.6 % of the output projection's parameters",
        "2604.23681, abstract; BERT-base",
        f"one matrix ({d}, {n_heads}) beside ({d}, {d}): H/d = {percent:.4f} %",
        "holds only if our reading of it is the paper's" if percent < 1.6 else "does not hold",
    )


_STYLES = (("o", plotting.BLUE), ("s", plotting.VERMILLION), ("^", plotting.GREEN))


@plotting.styled
def plot(result):
    figure, (ranks, ways) = plotting.new_figure(1, 2, size=(13, 5.6))
    _draw_ranks(ranks, result)
    _draw_ways(ways, result)
    return figure


def _draw_ranks(ax, result):
    settings = result.settings
    for n_heads, (marker, colour) in zip(settings.heads, cycle(_STYLES), strict=False):
        k = np.arange(1, n_heads + 1)
        lost = [
            np.mean(result.column("of_sum", heads=n_heads, rank=settings.d_k * i))
            / settings.n_tokens
            / settings.d_k
            for i in k
        ]
        ax.plot(k, lost, color=colour, marker=marker, markersize=8, label=f"H = {n_heads}")
        ax.plot(1, n_heads - 1, "o", ms=18, mfc="none", mec=plotting.BLACK, mew=1.5)
    ax.plot([], [], "o", ms=14, mfc="none", mec=plotting.BLACK, mew=1.5, ls="", label="n(H−1)d$_k$")
    ax.set_xlabel("rank of W$_O$ / d$_k$")
    ax.set_ylabel("dimensions lost a token / d$_k$")
    ax.set_xticks(range(1, max(settings.heads) + 1))
    ax.set_title(
        "The sum of heads loses H − rank W$_O$/d$_k$: the claimed count where\n"
        "blocks share a row space, nothing where W$_O$ is random and known"
    )
    ax.legend()


def _draw_ways(ax, result):
    """What is lost at rank d_k, a token: by the sum, after an MLP, with gates, with tied heads."""
    settings = result.settings
    ways = (
        ("of_sum", settings.n_tokens, "sum of the heads", plotting.BLUE, ""),
        ("after_mlp", settings.n_tokens, "… and an MLP", plotting.SKY, "//"),
        ("gated", settings.n_tokens, "with position gates", plotting.ORANGE, "\\\\"),
        ("tied_gated", 1, "with gates, heads alike at all positions", plotting.VERMILLION, ".."),
    )
    width = 0.8 / len(ways)
    for j, (column, n, label, colour, hatch) in enumerate(ways):
        lost = [
            np.mean(result.column(column, heads=n_heads, rank=settings.d_k)) / n
            for n_heads in settings.heads
        ]
        places = np.arange(len(settings.heads)) + (j - (len(ways) - 1) / 2) * width
        bars = ax.bar(
            places, lost, width, color=colour, hatch=hatch, edgecolor="white", label=label
        )
        ax.bar_label(bars, [f"{value:g}" for value in lost], fontsize=11)
    ax.set_xticks(range(len(settings.heads)), [f"H = {n_heads}" for n_heads in settings.heads])
    ax.set_ylabel("dimensions lost a token")
    shared = [row for row in result.rows if row["rank"] == row["d_k"]]
    telling = [
        name
        for name, column in (("an MLP", "after_mlp"), ("gates by position", "gated"))
        if any(row[column] < row["of_sum"] for row in shared)
    ]
    who = (
        f"{' and '.join(telling)} tell" if telling else "neither an MLP nor gates by position tell"
    )
    ax.set_title(f"Where rank W$_O$ = d$_k$,\n{who} more of a token's heads")
    ax.legend(fontsize=11, loc="upper left")


HEAD_IDENTIFIABILITY = Experiment(
    name="head-identifiability",
    question="Does the sum of the heads tell what each head put in?",
    quick=Settings(),
    full=Settings(n_seeds=10, n_tokens=16, d_k=8, heads=(2, 4, 8)),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
