"""Does mixing of residual streams let signals and gradients grow with depth?

mHC (2512.24880) measures on trained models the largest row and column sums of products of mixing
matrices. Here each sub-layer and token draws a normal G, of which a `rule` makes its matrix:

    hc        A_r = I + scale · G                            HC (2409.19606): free
    mhc       H_res = sinkhorn(c I + scale · G)              mHC, of n_iters iterations
    bounded   H_res = sinkhorn(B sign G)                     logits ±B
    leaky     H_res = (1 − γ) I + γ C, γ = β/2L              C circulant, of softmax(4 g)

A product of L doubly stochastic S differs from 11ᵀ/n by at most the product of their σ₂. Sinkhorn's
limit S for logits within ±B contracts Hilbert's metric by tanh B (Birkhoff 1957), SSᵀ by tanh² B,
so that σ₂ ≤ tanh B ≤ 1 − e^−4B (the source has another factor √n); finitely many iterations need
not reach 11ᵀ/n. Since ‖C‖₂ ≤ 1, a leaky H_res has σ_min ≥ 1 − β/L, and a product of L of them has
σ_min ≥ (1 − β/L)^L ≥ exp(−β − β²/L) for β ≤ L/2.
"""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps

from mgt_np import plotting
from mgt_np.analysis import amax_gain, composite_mixing
from mgt_np.layers import MHCConvention, sinkhorn

from .claims import Claim, short
from .experiment import Where, cells, generator, seeds

PAPER, CIRCULANT = "mHC 2512.24880", "circulant-hyper-connections (Zwick)"
PAPER_DEPTH, PAPER_HC, PAPER_MHC = 60, 3000.0, 1.6  # sub-layers of 30 blocks; peaks of the gain
LAYERS = (1, 2, 4, 8, 12, 16, 20, 30, 40, 60, 80, 100, 130, 160, 200, 300, 400, 600, 800)
ROUNDING = {"float64": 1e-10, "float32": 1e-3}
FREE, LOGITS = "I + {scale:g} G", "{identity:g} I + {scale:g} G"
APART = 0.1  # fraction of the streams' differences above which we call them preserved


@dataclass(frozen=True)
class Settings(Where):
    """`free_scales` are HC's, `scales` and `identities` (c) mHC's; `bounds` are B, `budgets` β."""

    seed: int = 0
    n_seeds: int = 3
    depth: int = 200
    n_streams: int = 4
    n_tokens: int = 32
    free_scales: tuple[float, ...] = (0.01, 0.1, 0.3, 0.5)
    scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    iterations: tuple[int, ...] = (1, 3, 20)
    identities: tuple[float, ...] = (0.0, 6.0)
    bounds: tuple[float, ...] = (0.25, 0.5, 1.0)
    budgets: tuple[float, ...] = (0.5, 2.0, 8.0)


QUICK = Settings()
FULL = Settings(depth=1000, n_seeds=5, n_tokens=128, scales=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0))


def claims(settings):
    depth, tolerance = min(PAPER_DEPTH, settings.depth), ROUNDING[settings.dtype]
    rows = over("mhc", "rows", "row_error", np.max)
    columns = over("mhc", lambda row: f"columns after {iterations(row)}", "column_error", np.max)
    return [
        Claim(
            says=f"The composite gain of free mixing explodes: 3000 after {depth} sub-layers",
            source=f"{PAPER}, of a trained HC",
            criterion=f"largest row or column sum, mean over tokens, > {PAPER_HC:g} in every seed",
            measure=over("hc", FREE, gain, np.min, layer=depth),
            passes=lambda gain: gain > PAPER_HC,
            only_if="the coefficients are {}",
        ),
        Claim(
            says=f"mHC's mixing of streams over {depth} sub-layers has a gain below 1.6",
            source=f"{PAPER}, of a trained model",
            criterion=f"largest row or column sum, mean over tokens, < {PAPER_MHC:g} in all draws",
            measure=over("mhc", iterations, gain, np.max, layer=depth),
            passes=lambda gain: gain < PAPER_MHC,
            only_if="Sinkhorn makes {}",
            readme=True,
        ),
        Claim(
            says="Products of doubly stochastic matrices have row and column sums of one",
            source=f"{PAPER}, eq. 6",
            criterion=f"|sum − 1| ≤ {short(tolerance)}; Sinkhorn normalises the rows last",
            measure=lambda result: rows(result) | columns(result),
            passes=lambda error: error <= tolerance,
            only_if="one sums {}",
        ),
        *_claims_of_singular_values(settings, depth, tolerance),
    ]


def _claims_of_singular_values(settings, depth, tolerance):
    L, B, most = settings.depth, max(settings.bounds), max(settings.iterations)

    def near_one(row):
        near = "within" if row["factor_error"] <= tolerance else "not within"
        return f"its column sums are {near} {short(tolerance)} of one"

    return [
        Claim(
            says="‖H_res‖₂ ≤ 1",
            source=f"{PAPER}, eq. 6",
            criterion=f"‖H_res‖₂ − 1 ≤ {short(tolerance)}",
            measure=over("mhc", near_one, "norm_excess", np.max),
            passes=lambda excess: excess <= tolerance,
        ),
        Claim(
            says="mHC preserves the streams as an identity would",
            source=f"{PAPER}: it restores the identity mapping",
            criterion=f"after {depth} sub-layers σ₂ of the product > {APART:g} ({most} iterations)",
            measure=over("mhc", LOGITS, "second", np.mean, layer=depth, n_iters=most),
            passes=lambda share: share > APART,
            only_if="its logits are {}",
        ),
        Claim(
            says="For logits ±B mHC's products approach 11ᵀ/n at least as fast as (1 − e^−4B)^L",
            source=CIRCULANT,
            criterion=f"‖product − 11ᵀ/n‖₂ − (1 − e^−4B)^L ≤ {short(tolerance)}; L ≤ {L}, B ≤ {B}",
            measure=over("bounded", iterations, beyond_rate, np.max),
            passes=lambda beyond: beyond <= tolerance,
            only_if="Sinkhorn makes {}",
        ),
        Claim(
            says="Leaky mixing by γ = β/2L keeps σ_min ≥ exp(−β − β²/L) at any depth L",
            source=CIRCULANT,
            criterion=f"σ_min of a product of {L} matrices over that ≥ 1",
            measure=over("leaky", "β = {scale:g}", over_floor, np.min, layer=L),
            passes=lambda ratio: ratio >= 1.0,
        ),
    ]


def over(rule, condition, number, reduce, **selected):
    """A measure of the rows of one rule: the arguments are those of `Rows.by`, and of `where`."""
    return lambda result: result.rows.where(rule=rule, **selected).by(condition, number, reduce)


def iterations(row):
    return f"{row['n_iters']} iteration{'' if row['n_iters'] == 1 else 's'}"


def gain(row):
    return max(row["forward"], row["backward"])


def beyond_rate(row):
    return row["distance"] - (1.0 - math.exp(-4.0 * row["scale"])) ** row["layer"]


def over_floor(row):
    return row["least"] * math.exp(row["scale"] + row["scale"] ** 2 / row["layer"])


def tasks(settings):
    kinds = (
        ("hc", settings.free_scales, (0,), (0.0,)),
        ("mhc", settings.scales, settings.iterations, settings.identities),
        ("bounded", settings.bounds, settings.iterations, (0.0,)),
        ("leaky", settings.budgets, (0,), (0.0,)),
    )
    return [
        {"rule": rule, **cell}
        for rule, scale, n_iters, c in kinds
        for cell in cells(settings, identity=c, scale=scale, n_iters=n_iters, seed=seeds(settings))
    ]


def work(there, rule, scale, n_iters, identity, seed, depth, n_streams, n_tokens):
    xp, row = there.xp, {"rule": rule, "scale": scale, "n_iters": n_iters, "identity": identity}
    G = generator(seed).standard_normal((depth, n_tokens, n_streams, n_streams))
    H = mixing(there, G, **row)
    row["seed"] = seed[-1]
    row["norm_excess"] = float(xp.max(xp.linalg.svdvals(H))) - 1.0
    row["factor_error"] = float(xp.max(xp.abs(xp.sum(H, axis=-2) - 1.0)))
    products = composite_mixing(H)
    for layer in (*(layer for layer in LAYERS if layer < depth), depth):
        yield {**row, "layer": layer, **measured(xp, products[layer - 1, ...])}


def mixing(there, G, *, rule, scale, n_iters, identity):
    """The matrices that a rule makes of the normal G (depth, n_tokens, n, n)."""
    eye = np.eye(G.shape[-1])
    if rule == "leaky":
        circulant = MHCConvention(mixing="circulant", gamma=scale / (2 * len(G)))
        return circulant.mix(there.move(4.0 * G[..., 0]), len(eye))
    if rule == "hc":
        return there.move(eye + scale * G)
    logits = scale * np.sign(G) if rule == "bounded" else identity * eye + scale * G
    return sinkhorn(there.move(logits), n_iters=n_iters)


def measured(xp, P):
    """What is measured of the products P (n_tokens, n, n) at one depth."""
    sums, sigma = amax_gain(P), xp.linalg.svdvals(P)
    values = {
        # as the paper does: the mean over tokens of the largest sum
        "forward": xp.mean(sums.forward),
        "backward": xp.mean(sums.backward),
        "second": xp.mean(sigma[:, 1]),
        "least": xp.min(sigma),
        "distance": xp.max(xp.linalg.svdvals(P - 1.0 / P.shape[-1])),
        "row_error": xp.max(xp.abs(xp.sum(P, axis=-1) - 1.0)),
        "column_error": xp.max(xp.abs(xp.sum(P, axis=-2) - 1.0)),
    }
    return {name: float(value) for name, value in values.items()}


ALT = (
    "Left: the gain of free mixing grows exponentially with depth, mHC's stays near one. Right: σ₂ "
    "of mHC's product falls to rounding, slowly only where its logits are large on the diagonal."
)
DASHES = "-", "--", ":", "-."


@plotting.styled
def plot(result, judged):
    figure, (growth, left) = plotting.new_figure(1, 2, size=(15, 7.4))
    mhc = result.rows.where(rule="mhc")
    largest = mhc.where(scale=mhc[-1]["scale"], identity=mhc[0]["identity"])
    _curves(growth, result.rows.where(rule="hc"), "backward", f"HC, {FREE}")
    for n, dashes in zip(mhc.values("n_iters"), DASHES, strict=False):
        rows, style = largest.where(n_iters=n), {"color": plotting.VERMILLION, "marker": ""}
        _curves(growth, rows, "backward", f"mHC, {iterations(rows[0])}", ls=dashes, **style)
    for c, dashes in zip(mhc.values("identity"), DASHES, strict=False):
        rows = mhc.where(identity=c, n_iters=mhc[-1]["n_iters"])
        _curves(left, rows, "second", f"logits {LOGITS}", ls=dashes)
    growth.text(PAPER_DEPTH, PAPER_HC, "★ trained HC", weight="bold", va="center", clip_on=True)
    growth.set(ylabel="composite gain: largest column sum", ylim=(0.5, 1e8))
    left.set(ylabel="σ₂ of the product: what is left\nof the streams' differences", ylim=(1e-12, 2))
    for ax, claim in ((growth, judged[1]), (left, judged[4])):
        ax.set_title(plotting.wrapped(claim.headline, 64))
        ax.set(xlabel="sub-layers multiplied", xlim=(0, result.settings.depth), yscale="log")
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.12), ncols=2, fontsize=12)
    return figure


def _curves(ax, rows, column, label, **style):
    """A curve over depth for each scale."""
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(rows.values("scale"))))
    for scale, colour, marker in zip(rows.values("scale"), colours, "osD^v<", strict=False):
        some = rows.where(scale=scale)
        sizes = np.maximum(some.grid(column, "seed", "layer"), 1e-17)  # σ₂ can be zero
        each = {"color": tuple(colour), "marker": marker, "label": label.format(**some[0])}
        plotting.band(ax, some.values("layer"), sizes, log=True, **each | style)
