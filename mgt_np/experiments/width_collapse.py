"""Does softmax attention lose rank as its context grows, and does removing 11ᵀ/T help?

Nait Saada, Naderi & Tanner (2410.07799): at initialisation the second singular value of attention
falls like T^−1/2 behind the first, 1, so that one layer leaves the tokens' covariance with a stable
rank near 1; A − 11ᵀ/T has no such gap. Measured for orthogonal tokens with d = T features, as in
their analysis, and for Gaussian tokens of a fixed width; and over depth, without skips.
"""

import math
from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import stable_rank, state_norm
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import attention_weights, gap_free_attention_weights, rms_norm

from .experiment import Claim, Experiment, Where

PAPER = "Nait Saada et al. 2410.07799"
ONE = 1.5  # a stable rank below which we say that it is one
GROWING, FIXED = "orthogonal, d = T", "Gaussian, fixed d"


@dataclass(frozen=True)
class Settings(Where):
    """Contexts, each averaged over `total`/T draws; `depth` layers of `depth_tokens` tokens."""

    seed: int = 0
    contexts: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    total: int = 1024
    fixed_width: int = 64
    depth_tokens: int = 128
    depth: int = 10


def tasks(settings):
    where = {"total": settings.total, **settings.where()}
    one_layer = [
        {
            "tokens": T,
            "width": T if kind == GROWING else settings.fixed_width,
            "kind": kind,
            "remedy": remedy,
            "norm": False,
            "depth": 1,
            "seed": [settings.seed, T],
            **where,
        }
        for kind in (GROWING, FIXED)
        for T in settings.contexts
        for remedy in (False, True)
    ]
    T = settings.depth_tokens
    many_layers = [
        {
            "tokens": T,
            "width": T,
            "kind": GROWING,
            "remedy": remedy,
            "norm": norm,
            "depth": settings.depth,
            "seed": [settings.seed, T],
            **where,
        }
        for remedy in (False, True)
        for norm in (False, True)
    ]
    return one_layer + many_layers


def work(tokens, width, kind, remedy, norm, depth, seed, total, array_library, device, dtype):
    there = place(array_library, device, dtype=dtype)
    xp, rng = there.xp, np.random.default_rng(seed)
    draws = max(1, total // tokens)
    start = (
        np.broadcast_to(math.sqrt(width) * np.eye(tokens), (draws, tokens, width))
        if kind == GROWING  # orthogonal tokens are these, seen from other axes
        else rng.standard_normal((draws, tokens, width))
    )
    X = move(np.ascontiguousarray(start), there, dtype=dtype)
    rows = []
    for l in range(1, depth + 1):
        weights = rng.standard_normal((3, draws, width, width)) / math.sqrt(width)
        W_q, W_k, W_v = move(list(weights), there, dtype=dtype)
        A = attention_weights(xp.matmul(X, W_q), xp.matmul(X, W_k))
        A = gap_free_attention_weights(A) if remedy else A
        X = xp.matmul(A, xp.matmul(X, W_v))
        X = rms_norm(X) if norm else X
        sigma = xp.linalg.svdvals(A)
        values = {
            "first": sigma[..., 0],
            "second": sigma[..., 1],
            "stable_rank": stable_rank(X),
            "covariance_stable_rank": stable_rank(_covariance(xp, X)),
            "state_norm": state_norm(X) / math.sqrt(width),
        }
        rows.append(
            {
                "kind": kind,
                "tokens": tokens,
                "remedy": "A − 11ᵀ/T" if remedy else "A",
                "norm": "RMS norm" if norm else "none",
                "layer": l,
                "depth": depth,
                **{name: float(xp.mean(value)) for name, value in values.items()},
            }
        )
    return rows


def _covariance(xp, X):
    """XᵀX or XXᵀ, the smaller of the two, of X relative to its largest entry: rank alone counts."""
    largest = xp.max(xp.max(xp.abs(X), axis=-1, keepdims=True), axis=-2, keepdims=True)
    X = X / xp.where(largest == 0.0, 1.0, largest)
    Xt = xp.matrix_transpose(X)
    return xp.matmul(Xt, X) if X.shape[-1] < X.shape[-2] else xp.matmul(X, Xt)


def column(result, name, kind, remedy="A"):
    """One layer's values over the contexts."""
    return result.column(name, kind=kind, remedy=remedy, depth=1)


def slope(result, kind):
    """The slope of log σ₂ over log T in the upper half of the contexts."""
    half = len(result.settings.contexts) // 2
    T, second = (np.log(column(result, name, kind)[half:]) for name in ("tokens", "second"))
    return float(np.polyfit(T, second, 1)[0])


def deep(result, name, remedy, norm):
    return result.column(name, remedy=remedy, norm=norm, depth=result.settings.depth)


def claims(result):
    return [_gap(result), _rank(result), _one_layer(result), _depth(result)]


def _gap(result):
    slopes = {kind: slope(result, kind) for kind in (GROWING, FIXED)}
    ok = {kind: abs(s + 0.5) <= 0.1 for kind, s in slopes.items()}
    T = max(result.settings.contexts)
    numbers = "; ".join(
        f"{kind}: σ₂ ~ T^{slopes[kind]:.2f}, gap {_gaps(result, kind)[-1]:.2f} at T = {T}"
        for kind in slopes
    )
    return Claim(
        "At the start the bulk of attention's singular values falls like T^−1/2 (± 0.1), and "
        "leaves a gap",
        PAPER,
        numbers,
        _both(ok),
    )


def _gaps(result, kind):
    return np.subtract(column(result, "first", kind), column(result, "second", kind))


def _both(ok):
    if all(ok.values()):
        return "holds"
    return "holds only if the width grows with T" if ok[GROWING] else "does not hold"


def _rank(result):
    T = max(result.settings.contexts)
    covariance, states = (
        {kind: column(result, name, kind)[-1] for kind in (GROWING, FIXED)}
        for name in ("covariance_stable_rank", "stable_rank")
    )
    return Claim(
        "One attention layer collapses the rank as the context grows: the covariance's stable rank "
        f"goes to 1 (< {ONE:g})",
        PAPER,
        f"at T = {T}: "
        + "; ".join(
            f"{kind} {covariance[kind]:.2f} (of the states themselves {states[kind]:.1f})"
            for kind in covariance
        ),
        _both({kind: value < ONE for kind, value in covariance.items()}),
    )


def _one_layer(result):
    T = max(result.settings.contexts)
    name = "covariance_stable_rank"
    with_remedy, without = (
        {kind: column(result, name, kind, remedy) for kind in (GROWING, FIXED)}
        for remedy in ("A − 11ᵀ/T", "A")
    )
    ratio = {kind: with_remedy[kind][-1] / without[kind][-1] for kind in without}
    return Claim(
        "A − 11ᵀ/T keeps the rank of one layer as the context grows: more than twice that of A",
        PAPER,
        f"stable rank of the covariance at T = {T}, without → with: "
        + "; ".join(
            f"{kind} {without[kind][-1]:.2g} → {with_remedy[kind][-1]:.3g}" for kind in ratio
        ),
        _both({kind: value > 2.0 for kind, value in ratio.items()}),
    )


def _depth(result):
    settings = result.settings
    ranks = {
        (remedy, norm): deep(result, "stable_rank", remedy, norm)[-1]
        for remedy in ("A", "A − 11ᵀ/T")
        for norm in ("none", "RMS norm")
    }
    norm = deep(result, "state_norm", "A − 11ᵀ/T", "none")[min(2, settings.depth - 1)]
    kept = ranks["A − 11ᵀ/T", "RMS norm"] > ONE
    second = deep(result, "stable_rank", "A − 11ᵀ/T", "RMS norm")[min(1, settings.depth - 1)]
    return Claim(
        f"A − 11ᵀ/T keeps the rank of many layers without skips above {ONE:g}",
        "our question to the remedy of 2410.07799",
        f"T = d = {settings.depth_tokens}, layer {settings.depth}, RMS norm: stable rank "
        f"{ranks['A', 'RMS norm']:.2f} → {ranks['A − 11ᵀ/T', 'RMS norm']:.2f} (layer 2: "
        f"{second:.1f}); without a norm the state shrinks to {norm:.0e} by layer 3",
        "holds" if kept else "does not hold",
    )


def arrays(rows):
    """Second singular values (kind, context) of attention in one layer."""
    rows = [row for row in rows if row["depth"] == 1 and row["remedy"] == "A"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    return {
        "second_singular_value": np.asarray(
            [[row["second"] for row in rows if row["kind"] == kind] for kind in kinds]
        )
    }


@plotting.styled
def plot(result):
    figure, (gap, rank, depth) = plotting.new_figure(1, 3, size=(17.5, 5.6))
    _draw_gap(gap, result)
    _draw_rank(rank, result)
    _draw_depth(depth, result)
    return figure


KINDS = {GROWING: (plotting.VERMILLION, "o"), FIXED: (plotting.BLUE, "s")}


def _name(kind, settings):
    return kind.replace("fixed d", f"d = {settings.fixed_width}")


def _draw_gap(ax, result):
    settings = result.settings
    T = np.asarray(settings.contexts)
    for kind, (colour, marker) in KINDS.items():
        ax.loglog(
            T,
            column(result, "second", kind),
            f"{marker}-",
            color=colour,
            label=f"σ₂, {_name(kind, settings)}: T$^{{{slope(result, kind):.2f}}}$",
        )
    first = column(result, "first", GROWING)
    ax.loglog(T, first, "^:", color=plotting.BLACK, label="σ₁")
    last = column(result, "second", GROWING)[-1]
    ax.loglog(T, last * np.sqrt(T[-1] / T), color="grey", lw=1, label="T$^{−1/2}$")
    _ticks(ax, T)
    ax.set_ylim(0.05, 2.0)
    ax.set_ylabel("singular value of attention weights")
    ax.set_title(
        f"σ₂ goes with T^{slope(result, GROWING):.2f} where d = T,\n"
        f"T^{slope(result, FIXED):.2f} at a fixed width of {settings.fixed_width}"
    )
    ax.legend(loc="lower left", fontsize=12)


def _draw_rank(ax, result):
    T = np.asarray(result.settings.contexts)
    for kind, (colour, marker) in KINDS.items():
        for remedy, line in (("A", "-"), ("A − 11ᵀ/T", "--")):
            ax.loglog(
                T,
                column(result, "covariance_stable_rank", kind, remedy),
                line,
                marker=marker,
                color=colour,
                label=f"{_name(kind, result.settings)}, {remedy}",
            )
    states = column(result, "stable_rank", GROWING)
    ax.loglog(T, states, ":", color=plotting.BLACK, label="d = T, A: of the states, not covariance")
    _ticks(ax, T)
    ax.set_ylim(0.9, 300.0)
    ax.set_ylabel("stable rank of the covariance after one layer")
    plain, mended = (
        column(result, "covariance_stable_rank", GROWING, remedy)[-1]
        for remedy in ("A", "A − 11ᵀ/T")
    )
    ax.set_title(
        f"One layer, d = T = {T[-1]}: A leaves rank {plain:.2f},\nA − 11ᵀ/T leaves {mended:.3g}"
    )
    ax.legend(loc="upper left", fontsize=11)


def _draw_depth(ax, result):
    layers = np.arange(1, result.settings.depth + 1)
    for norm, marker in (("RMS norm", "o"), ("none", "s")):
        for remedy, line, colour in (
            ("A", "-", plotting.ORANGE),
            ("A − 11ᵀ/T", "--", plotting.GREEN),
        ):
            ranks = np.asarray(deep(result, "stable_rank", remedy, norm))
            there = ranks > 0.0
            name = "RMS norm" if norm == "RMS norm" else "no norm"
            label = f"{remedy}, {name}" + ("" if there.all() else ": vanishes")
            ax.semilogy(layers[there], ranks[there], line, marker=marker, color=colour, label=label)
    ax.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    ax.minorticks_off()
    ax.set_xlabel("layer")
    ax.set_ylabel("stable rank of the states")
    plain, mended = (
        deep(result, "stable_rank", remedy, "RMS norm")[-1] for remedy in ("A", "A − 11ᵀ/T")
    )
    ax.set_title(
        f"T = d = {result.settings.depth_tokens}, {layers[-1]} layers, no skips, RMS norm:\n"
        f"A leaves rank {plain:.2f}, A − 11ᵀ/T {mended:.2f}"
    )
    ax.legend(loc="upper right", fontsize=12)


def _ticks(ax, T):
    ax.set_xticks(T, [str(t) for t in T])
    ax.minorticks_off()
    ax.set_xlabel("tokens T")


WIDTH_COLLAPSE = Experiment(
    name="width-collapse",
    question="Does attention lose rank as its context grows, and does A − 11ᵀ/T help?",
    quick=Settings(),
    full=Settings(contexts=(16, 32, 64, 128, 256, 512, 1024, 2048), total=8192, depth=30),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
    arrays=arrays,
)
