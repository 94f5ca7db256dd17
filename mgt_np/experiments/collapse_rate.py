"""How fast does attention make tokens equal, and what does the bound on it say?

Dong et al. (2103.03404) bound what a layer leaves of ‖res(X)‖₁,∞, the distance of the tokens from
their mean, by c ‖res(X)‖³ with c = 4γβH/√d_qk, so that over layers it falls doubly exponentially;
Wu et al. (2405.18781) say that under a causal mask it falls exponentially. Random weights, and
Gaussian tokens whose differences are scaled down; `separated_attention` stays exact for them.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import analysis, layers, plotting

from .claims import Claim, extent, short
from .experiment import Where, cells, generator, seeds

DONG = "Dong et al. 2103.03404"
MASKS = NONE, CAUSAL = "all tokens see each other", "the mask is causal"


@dataclass(frozen=True)
class Settings(Where):
    """Gaussian tokens, their differences times 10^power: unscaled ones have the power 0."""

    seed: int = 0
    n_seeds: int = 3
    n_tokens: int = 64
    d_model: int = 64
    n_heads: int = 4
    powers: tuple[int, ...] = (-5, -4, -3, -2, -1, 0)


QUICK = Settings()
FULL = Settings(n_seeds=10, n_tokens=128, powers=(-6, -5, -4, -3, -2, -1, 0))


def claims(settings):
    return [
        Claim(
            says="Attention alone makes tokens equal doubly exponentially: a layer cubes ‖res‖, "
            "their distance from their mean",
            source=f"{DONG}, theorem 2.2, as reported",
            criterion="mean exponent of the smallest ‖res‖ 3 ± 0.1",
            measure=lambda result: {mask: exponent(result, mask) for mask in MASKS},
            passes=lambda power: abs(power - 3.0) <= 0.1,
            form="{:.2f}",
            title="An attention layer cubes small differences between tokens",
            readme=True,
        ),
        Claim(
            says="Under a causal mask tokens become equal exponentially: a layer multiplies ‖res‖",
            source="Wu et al. 2405.18781, as reported",
            criterion="mean exponent of the smallest ‖res‖ 1 ± 0.1, and every after/before < 1",
            measure=lambda result: {CAUSAL: (exponent(result, CAUSAL), left(result, CAUSAL))},
            passes=lambda both: abs(both[0] - 1.0) <= 0.1 and both[1] < 1.0,
            form="exponent {:.2f}, after/before ≤ {:.2f}",
        ),
        *_of_the_bound(settings),
    ]


def _of_the_bound(settings):
    gammas = {f"γ = {gamma:.3g}": gamma for gamma in (1.0, settings.n_tokens**0.5)}
    return [
        Claim(
            says="‖res(SA(X))‖ ≤ 4γβH/√d_qk ‖res(X)‖³, with and without γ",
            source=f"{DONG}, as reported",
            criterion="largest measured/bound ≤ 1",
            measure=lambda result: {
                name: ratio(result, "after", "bound").max() / g for name, g in gammas.items()
            },
            passes=lambda ratio: ratio <= 1.0,
            form="{:.0e}",
        ),
        Claim(
            says="The bound says something about Gaussian tokens at initialisation",
            source="our question to the bound of 2103.03404",
            criterion="for every seed ‖res‖ < c^−½: only there is the bound below ‖res‖",
            measure=lambda result: {name: beyond(result, g).max() for name, g in gammas.items()},
            passes=lambda times: times < 1.0,
            form="‖res‖ = {:.0f} c^−½",
            title="The bound says something about Gaussian tokens",
            beside=lambda result: (
                f"Gaussian tokens have ‖res‖ = {extent(gaussian(result), '{:.3g}')}, the bound "
                f"with γ = 1 says something below {short(max(gaussian(result) / beyond(result)))}"
            ),
        ),
    ]


def sizes(result, column, mask=NONE):
    """A column (seeds, powers), smallest power first."""
    return result.rows.where(mask=mask).grid(column, "seed", "power")


def ratio(result, above, below, mask=NONE):
    """One column over another (seeds, powers)."""
    return sizes(result, above, mask) / sizes(result, below, mask)


def exponent(result, mask):
    """The exponent of ‖res‖ in what the layer leaves of it, between the two smallest powers."""
    before, after = (np.log(sizes(result, name, mask)[:, :2]) for name in ("before", "after"))
    return float(np.mean(np.diff(after) / np.diff(before)))


def left(result, mask):
    """The largest part of ‖res‖ that the layer leaves of the smallest one."""
    return ratio(result, "after", "before", mask)[:, 0].max()


def gaussian(result):
    """‖res‖ of unscaled Gaussian tokens, for each seed."""
    return result.rows.where(mask=NONE, power=0).grid("before", "seed")


def beyond(result, gamma=1.0):
    """‖res‖/c^−½ of Gaussian tokens for each seed: the bound c ‖res‖³ is its square times ‖res‖."""
    return np.sqrt(gamma * ratio(result, "bound", "before")[:, -1])


def tasks(settings):
    return cells(settings, mask=MASKS, power=sorted(settings.powers), seed=seeds(settings))


def work(there, mask, power, seed, n_tokens, d_model, n_heads):
    xp, rng = there.xp, generator(seed)
    common, tokens = rng.standard_normal(d_model), rng.standard_normal((n_tokens, d_model))
    common, residual = there.move((common, 10.0**power * analysis.token_residual(tokens)))
    weights = there.move(layers.init_multi_head_attention(rng, d_model, bias=False))
    options = weights | {"n_heads": n_heads}
    if mask == NONE:
        after = analysis.separated_attention(common, residual, **options)[1]
    else:
        Y = layers.multi_head_attention(common + residual, **options, causal=True)
        after = analysis.token_residual(Y)
    W_qk = analysis.head_maps(weights["W_q"], xp.matrix_transpose(weights["W_k"]), n_heads=n_heads)
    W_v = analysis.head_maps(weights["W_v"], weights["W_o"], n_heads=n_heads)
    before, beta = analysis.composite_norm(residual), xp.max(analysis.collapse_beta(W_qk, W_v))
    heads = {"n_heads": n_heads, "d_qk": d_model // n_heads}
    bound = analysis.log_collapse_bound(before, beta, n_layers=1, **heads)
    found = {"before": before, "after": analysis.composite_norm(after), "bound": xp.exp(bound)}
    labels = {"mask": mask, "power": power, "seed": seed[-1]}
    yield labels | {name: float(number) for name, number in found.items()}


ALT = (
    "Two panels: the tokens' ‖res‖ after a layer over that before it, on logarithmic axes. Left: "
    "where all tokens see each other it falls on a line of slope three, under a causal mask on one "
    "of slope one, a little below no change. Right: the bound is parallel to what is measured, a "
    "million times higher, and above no change from 0.1 on; Gaussian tokens are at 60."
)
NO_CHANGE, BOUND = "no change", "bound, γ = 1"
CURVES = {  # mask, column and style
    NO_CHANGE: (NONE, "before", {"color": "grey", "linestyle": ":"}),
    NONE: (NONE, "after", {"color": plotting.VERMILLION, "marker": "o"}),
    CAUSAL: (CAUSAL, "after", {"color": plotting.BLUE, "marker": "D"}),
    BOUND: (NONE, "bound", {"color": plotting.BLACK, "marker": "s", "linestyle": "--"}),
}


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 2, size=(15, 6.4), sharex=True)
    for ax, claim, third in zip(axes, (judged[0], judged[3]), (CAUSAL, BOUND), strict=True):
        ax.axvline(np.mean(gaussian(result)), color="grey", lw=1, label="Gaussian tokens")
        for label in (NO_CHANGE, NONE, third):
            mask, column, style = CURVES[label]
            before = np.mean(sizes(result, "before", mask), axis=0)
            plotting.band(ax, before, sizes(result, column, mask), log=True, label=label, **style)
        ax.set(title=plotting.wrapped(claim.headline, 60), xscale="log", yscale="log")
        ax.set_xlabel("difference between the tokens before the layer, ‖res(X)‖$_{1,∞}$")
        ax.legend(loc="lower right", bbox_to_anchor=(0.94, 0.0))
    axes[0].set_ylabel("difference between the tokens after the layer")
    return figure
