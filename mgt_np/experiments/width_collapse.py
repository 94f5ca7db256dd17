"""Does attention lose rank as its context grows, and does A − 𝟏𝟏ᵀ/T help?

Nait Saada, Naderi & Tanner (2410.07799): at initialisation the second singular value of the
attention weights A falls like T^−1/2 behind the first, 1, so that one layer leaves the tokens'
covariance with a stable rank near 1; A − 𝟏𝟏ᵀ/T, each weight less 1/T, has no such gap. Measured for
orthogonal tokens with d = T features, as they do, for Gaussian tokens of a fixed width, and over
depth without skips.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.ticker import LogLocator

from mgt_np import plotting
from mgt_np.analysis import stable_rank
from mgt_np.arrays import magnitude
from mgt_np.layers import attention_weights, gap_free_attention_weights, rms_norm

from .claims import Claim
from .experiment import Where, cells, generator

PAPER = "Nait Saada et al. 2410.07799"
KINDS = GROWING, FIXED = "the width grows with T", "the width is fixed"
REMEDIES = PLAIN, REMEDY = "A", "A − 𝟏𝟏ᵀ/T"
NORMS = NO_NORM, RMS_NORM = "no norm", "RMS norm"
ONE, MANY = "one layer", "many layers"


@dataclass(frozen=True)
class Settings(Where):
    """Contexts, each averaged over `total`/T draws; `depth` layers of `depth_tokens` tokens."""

    seed: int = 0
    contexts: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    total: int = 1024
    fixed_width: int = 64
    depth_tokens: int = 128
    depth: int = 10


QUICK = Settings()
FULL = Settings(contexts=(16, 32, 64, 128, 256, 512, 1024, 2048), total=8192, depth=30)


def claims(settings):
    T = settings.contexts[-1]
    return [
        Claim(
            says="At the start the second singular value of attention falls like T^−1/2",
            source=PAPER,
            criterion="exponent −0.5 ± 0.1 in the upper half of the contexts",
            measure=lambda result: {kind: slope(result, kind) for kind in KINDS},
            passes=lambda exponent: abs(exponent + 0.5) <= 0.1,
            form="{:.2f}",
            title="σ₂ of A falls like T$^{−1/2}$",
        ),
        Claim(
            says="One attention layer collapses the tokens as the context grows",
            source=PAPER,
            criterion=f"stable rank of the covariance < 1.5 at T = {T}",
            measure=lambda result: {kind: one_layer(result, kind)[-1] for kind in KINDS},
            passes=lambda rank: rank < 1.5,
            form="{:.2f}",
        ),
        Claim(
            says="A − 𝟏𝟏ᵀ/T keeps the rank of one layer as the context grows",
            source=PAPER,
            criterion=f"stable rank of the covariance > 2 × that with A at T = {T}",
            measure=lambda result: {kind: gain(result, kind) for kind in KINDS},
            passes=lambda ratio: ratio > 2.0,
            form="× {:.2f}",
            title=f"{LABELS[REMEDY]} keeps the rank of one layer",
        ),
        Claim(
            says="A − 𝟏𝟏ᵀ/T keeps the rank of many layers without skips",
            source="our question to the remedy of 2410.07799",
            criterion=f"stable rank of the states (0 for X = 0) > 1.5 at layer {settings.depth}",
            measure=lambda result: {norm: many_layers(result, norm, REMEDY)[-1] for norm in NORMS},
            passes=lambda rank: rank > 1.5,
            only_if="each layer has {}",
            form="{:.2f}",
            title=f"{LABELS[REMEDY]} keeps the rank of many layers",
        ),
    ]


def one_layer(result, kind, remedy=PLAIN, column="covariance_stable_rank"):
    """What one layer leaves, context by context, the largest last."""
    return result.rows.where(study=ONE, kind=kind, remedy=remedy).grid(column, "tokens")


def gain(result, kind):
    """The rank after one layer with the remedy over that without it, at the largest context."""
    return one_layer(result, kind, REMEDY)[-1] / one_layer(result, kind)[-1]


def many_layers(result, norm, remedy):
    """The states' stable ranks, layer by layer."""
    return result.rows.where(study=MANY, norm=norm, remedy=remedy).grid("stable_rank", "layer")


def slope(result, kind):
    """The slope of log σ₂ over log T in the upper half of the contexts."""
    T, second = np.log(result.settings.contexts), np.log(one_layer(result, kind, column="second"))
    half = len(T) // 2
    return float(np.polyfit(T[half:], second[half:], 1)[0])


def tasks(settings):
    one = cells(settings, kind=KINDS, tokens=settings.contexts, remedy=REMEDIES)
    many = cells(settings, remedy=REMEDIES, norm=NORMS)
    single = {"study": ONE, "norm": NO_NORM, "depth": 1, "seed": settings.seed}
    deep = {"study": MANY, "kind": GROWING, "tokens": settings.depth_tokens, "seed": settings.seed}
    return [cell | single for cell in one] + [cell | deep for cell in many]


def work(there, study, kind, tokens, remedy, norm, depth, seed, total, fixed_width, depth_tokens):
    labels = {"study": study, "kind": kind, "tokens": tokens, "remedy": remedy, "norm": norm}
    xp, rng = there.xp, generator(seed, tokens)
    width, draws = tokens if kind == GROWING else fixed_width, max(1, total // tokens)
    # Any orthogonal tokens are these, seen from other axes: the weights' law is the same in all.
    orthogonal = np.tile(math.sqrt(width) * np.eye(width), (draws, 1, 1))
    X = there.move(orthogonal if kind == GROWING else rng.standard_normal((draws, tokens, width)))
    for layer in range(1, depth + 1):
        weights = rng.standard_normal((3, draws, width, width)) / math.sqrt(width)
        W_q, W_k, W_v = there.move(list(weights))
        A = attention_weights(xp.matmul(X, W_q), xp.matmul(X, W_k))
        A = gap_free_attention_weights(A) if remedy == REMEDY else A
        X = xp.matmul(A, xp.matmul(X, W_v))
        X = rms_norm(X) if norm == RMS_NORM else X
        sigma = xp.linalg.svdvals(A)
        found = {
            "first": sigma[..., 0],
            "second": sigma[..., 1],
            "stable_rank": stable_rank(X),
            "covariance_stable_rank": stable_rank(_covariance(xp, X)),
        }
        means = {name: float(xp.mean(numbers)) for name, numbers in found.items()}
        yield labels | {"layer": layer} | means


def _covariance(xp, X):
    """XᵀX or XXᵀ, the smaller of the two, of X relative to its largest entry: rank alone counts."""
    X = X / magnitude(X, axis=(-2, -1))
    Xt = xp.matrix_transpose(X)
    return xp.matmul(Xt, X) if X.shape[-1] < X.shape[-2] else xp.matmul(X, Xt)


ALT = (
    "Three panels. Left: the second singular value of attention over the number of tokens T falls "
    "where the width grows with T, and hardly at a fixed width. Middle: the stable rank of the "
    "covariance after one layer. Right: the stable rank of the states falls to one, layer by layer."
)
LABELS = {PLAIN: "A", REMEDY: "A − $\\mathbf{1}\\mathbf{1}^⊤$/T"}
DASHES = {PLAIN: "-", REMEDY: "--"}
STYLES = {
    GROWING: {"color": plotting.VERMILLION, "marker": "o"},
    FIXED: {"color": plotting.BLUE, "marker": "s"},
    NO_NORM: {"color": plotting.GREEN, "marker": "^"},
    RMS_NORM: {"color": plotting.BLACK, "marker": "D"},
}


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 3, size=(16.5, 5.6))
    gap, one, many = axes
    T = np.asarray(result.settings.contexts)
    gap.plot(T, one_layer(result, GROWING, column="first"), "v:", color="grey", label="σ₁")
    for kind in KINDS:
        second = one_layer(result, kind, column="second")
        gap.plot(T, second, label=f"σ₂, {kind}", **STYLES[kind])
    gap.plot(T, 3.0 / np.sqrt(T), color="grey", lw=1, label="3/√T")
    gap.set_ylabel("singular value of A = softmax(QK$^⊤$/√d)")
    _draw_ranks(one, result, T, one_layer, KINDS)
    one.set_ylabel("stable rank of the covariance after one layer")
    _draw_ranks(many, result, 1 + np.arange(result.settings.depth), many_layers, NORMS)
    many.set(xlabel="layer", ylabel="stable rank of the states")
    for ax, claim in zip(axes, (judged[0], *judged[2:]), strict=True):
        ax.set(title=plotting.wrapped(claim.headline, 72), yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.legend()
    for ax in (gap, one):
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel("tokens T")
    return figure


def _draw_ranks(ax, result, x, ranks_of, names):
    """The curves with A and with A − 𝟏𝟏ᵀ/T. A rank of zero, of X = 0, has no logarithm."""
    for name, remedy in product(names, REMEDIES):
        ranks = ranks_of(result, name, remedy)
        zero = "" if ranks.all() else f" (0 from layer {np.argmin(ranks) + 1})"
        label = f"{LABELS[remedy]}, {name}{zero}"
        ranks = np.where(ranks > 0.0, ranks, np.nan)
        ax.plot(x, ranks, DASHES[remedy], label=label, **STYLES[name])
