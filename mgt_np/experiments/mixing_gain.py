"""Do doubly stochastic mixing matrices keep the gain of many layers near one, and free ones not?

mHC (2512.24880) measures on trained models the largest row and column sums of products of mixing
matrices. Here: random coefficients, drawn anew for each sub-layer and token, over the size of what
is drawn and the number of Sinkhorn iterations. Free: A_r = I + scale · G as in HC (2409.19606);
constrained: H_res = sinkhorn(c I + scale · G), with the same normal G.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import amax_gain, amin_gain, composite_mixing
from mgt_np.arrays import to_host
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import sinkhorn

from .experiment import Claim, Experiment, Where, only_if, short

PAPER_DEPTH, PAPER_HC, PAPER_MHC = 60, 3000.0, 1.6  # sub-layers of 30 blocks; peaks of the gain
LAYERS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 25, 30, 40, 50, 60, 80, 100, 130, 160, 200)
DEEPER = (250, 300, 400, 500, 600, 800, 1000)
ROUNDING = {"float64": 1e-10, "float32": 1e-3}
APART = 0.1  # fraction of the streams' differences above which we call them preserved


@dataclass(frozen=True)
class Settings(Where):
    """What is drawn, how large, how often; `identities` are the constants c on the diagonal.

    `free_scales` are standard deviations of HC's coefficients, `scales` those of mHC's logits.
    """

    seed: int = 0
    n_seeds: int = 3
    depth: int = 200
    n_streams: int = 4
    n_tokens: int = 32
    free_scales: tuple[float, ...] = (0.01, 0.1, 0.3, 0.5)
    scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    iterations: tuple[int, ...] = (1, 3, 20)
    identities: tuple[float, ...] = (0.0, 6.0)


def tasks(settings):
    kinds = [("hc", scale, 0, 0.0) for scale in settings.free_scales]
    kinds += [
        ("mhc", scale, n_iters, identity)
        for identity in settings.identities
        for scale in settings.scales
        for n_iters in settings.iterations
    ]
    return [
        {
            "rule": rule,
            "scale": scale,
            "n_iters": n_iters,
            "identity": identity,
            "seed": settings.seed + i,
            "depth": settings.depth,
            "n_streams": settings.n_streams,
            "n_tokens": settings.n_tokens,
            **settings.where(),
        }
        for rule, scale, n_iters, identity in kinds
        for i in range(settings.n_seeds)
    ]


def work(
    rule, scale, n_iters, identity, seed, depth, n_streams, n_tokens, array_library, device, dtype
):
    there = place(array_library, device, dtype=dtype)
    rng = np.random.default_rng(seed)
    eye = np.eye(n_streams)
    G = scale * rng.standard_normal((depth, n_tokens, n_streams, n_streams))
    if rule == "hc":
        H = move(eye + G, there, dtype=dtype)
    else:
        H = sinkhorn(move(identity * eye + G, there, dtype=dtype), n_iters=n_iters)
    products = composite_mixing(H)
    single = _measured(there.xp, H)
    composite = _measured(there.xp, products)
    rows = []
    for layer in (layer for layer in LAYERS + DEEPER if layer <= depth):
        row = {"rule": rule, "scale": scale, "n_iters": n_iters, "identity": identity}
        row |= {"seed": seed, "layer": layer}
        # as the paper does: the mean over tokens of the largest sum
        means = {name: float(np.mean(values[layer - 1])) for name, values in composite.items()}
        row |= {name: means[name] for name in ("forward", "backward", "least_backward", "second")}
        row["largest_norm"] = float(np.max(single["norm"][:layer]))
        row["norm_beyond_bound"] = float(np.max((single["norm"] - single["bound"])[:layer]))
        rows.append(row)
    return rows


def _measured(xp, H):
    """Largest and least sums, norm, its bound √(largest row sum × largest column sum), and σ₂."""
    most, least = amax_gain(H), amin_gain(H)
    values = to_host(xp.linalg.svdvals(H))
    forward, backward = to_host(most.forward), to_host(most.backward)
    return {
        "forward": forward,
        "backward": backward,
        "least_backward": to_host(least.backward),
        "norm": values[..., 0],
        "second": values[..., 1],
        "bound": np.sqrt(forward * backward),
    }


def at(result, layer, rule, **where):
    """The rows of a rule at one depth, or at the last one measured before it."""
    layer = max(row["layer"] for row in result.rows if row["layer"] <= layer)
    return [
        row
        for row in result.rows
        if row["rule"] == rule
        and row["layer"] == layer
        and all(row[name] == value for name, value in where.items())
    ]


def _worst(rows, name):
    return max(row[name] for row in rows)


def claims(result):
    depth = min(PAPER_DEPTH, result.settings.depth)
    return [
        _claim_of_free(result, depth),
        _claim_of_constrained(result, depth),
        _claim_of_sums(result),
        _claim_of_norm(result),
        _claim_of_streams(result, depth),
    ]


def _gain(rows):
    return max(_worst(rows, "forward"), _worst(rows, "backward"))


def _claim_of_free(result, depth):
    scales = result.settings.free_scales
    gains = {scale: _gain(at(result, depth, "hc", scale=scale)) for scale in scales}
    yes = [scale for scale, gain in gains.items() if gain > PAPER_HC]
    return Claim(
        f"The composite gain of free mixing matrices explodes: 3000 after {depth} sub-layers",
        "mHC 2512.24880, of a trained HC",
        "random A_r = I + scale · G: "
        + ", ".join(f"scale {scale:g}: {gain:.3g}" for scale, gain in gains.items()),
        only_if(yes, scales, "the coefficients stray by {} from the identity (of those tried)"),
    )


def _claim_of_constrained(result, depth):
    settings = result.settings
    found, yes = [], []
    cells = [(c, n) for c in settings.identities for n in settings.iterations]
    for identity, n_iters in cells:
        rows = at(result, depth, "mhc", identity=identity, n_iters=n_iters)
        gain, least = _gain(rows), min(row["least_backward"] for row in rows)
        found.append(f"c = {identity:g}, {n_iters} iter.: {least:.2f} … {gain:.2f}")
        if gain <= PAPER_MHC:
            yes.append(f"c = {identity:g} with {n_iters}")
    largest = max(settings.scales)
    return Claim(
        f"mHC's composite gain stays below 1.6 over {depth} sub-layers",
        "mHC 2512.24880, of a trained model",
        f"least and largest sums, worst of logits up to scale {largest:g}: " + "; ".join(found),
        only_if(yes, cells, "{} iterations (of those tried)"),
    )


def _claim_of_sums(result):
    rows = [row for row in result.rows if row["rule"] == "mhc"]
    forward = max(abs(row["forward"] - 1.0) for row in rows)
    backward = {
        n: max(abs(row["backward"] - 1.0) for row in rows if row["n_iters"] == n)
        for n in result.settings.iterations
    }
    tolerance = ROUNDING[result.settings.dtype]
    if max(forward, *backward.values()) <= tolerance:
        verdict = "holds"
    elif forward <= tolerance:
        verdict = "holds only if the iteration has converged, or for rows, which come last"
    else:
        verdict = "does not hold"
    return Claim(
        "Products of doubly stochastic matrices have row and column sums of one",
        "mHC 2512.24880, eq. 6",
        f"{result.settings.depth} matrices of finite iterations: row sums off by {forward:.0e}; "
        "column sums by "
        + ", ".join(f"{error:.2g} ({n} iterations)" for n, error in backward.items()),
        verdict,
    )


def _claim_of_norm(result):
    rows = [row for row in result.rows if row["rule"] == "mhc"]
    norms = {
        n: max(row["largest_norm"] for row in rows if row["n_iters"] == n)
        for n in result.settings.iterations
    }
    beyond = _worst(rows, "norm_beyond_bound")
    tolerance = ROUNDING[result.settings.dtype]
    if max(norms.values()) <= 1.0 + tolerance:
        verdict = "holds"
    elif beyond <= tolerance:
        verdict = "holds only if the iteration has converged; else ‖H_res‖₂² ≤ largest column sum"
    else:
        verdict = "does not hold"
    return Claim(
        "‖H_res‖₂ ≤ 1",
        "mHC 2512.24880, eq. 6",
        "largest of all: " + ", ".join(f"{norm:.4f} ({n} iterations)" for n, norm in norms.items()),
        verdict,
    )


def _claim_of_streams(result, depth):
    settings = result.settings
    most = max(settings.iterations)
    left = {
        (c, scale): float(
            np.mean(
                [
                    row["second"]
                    for row in at(result, depth, "mhc", identity=c, scale=scale, n_iters=most)
                ]
            )
        )
        for c in settings.identities
        for scale in settings.scales
    }
    yes = [f"c = {c:g}, scale {scale:g}" for (c, scale), share in left.items() if share > APART]
    return Claim(
        f"Constrained mixing keeps the streams as an identity would (σ₂ > {APART:g}), over {depth} "
        "sub-layers",
        "mHC 2512.24880: it restores the identity mapping",
        "their mean is kept exactly; of their differences (σ₂ of the product) there is left "
        + ", ".join(f"{s:.1g} (c = {c:g}, scale {scale:g})" for (c, scale), s in left.items()),
        only_if(yes, left),
    )


def _curve(result, quantity, **where):
    """Depths, and the mean of a quantity over the seeds at each."""
    depths = list(dict.fromkeys(row["layer"] for row in result.rows))
    values = np.reshape(result.column(quantity, **where), (-1, len(depths)))
    return depths, values.mean(0), values.min(0), values.max(0)


_HC_COLOURS = (plotting.SKY, plotting.BLUE, plotting.GREEN, plotting.BLACK)
_ITERATION_STYLES = (":", "--", "-", "-.")


@plotting.styled
def plot(result):
    settings = result.settings
    figure, (growth, sums, streams) = plotting.new_figure(1, 3, size=(16, 6.8))
    _draw_growth(growth, result)
    _draw_sums(sums, result)
    _draw_streams(streams, result)
    growth.set_xlabel("sub-layers multiplied")
    streams.set_xlabel("sub-layers multiplied, of logits c I + scale · G")
    for ax in (growth, streams):
        ax.set_xlim(0, settings.depth * 1.02)
    return figure


def _legend_below(ax, n_columns):
    ax.legend(fontsize=12, loc="upper center", bbox_to_anchor=(0.45, -0.13), ncols=n_columns)


def _draw_growth(ax, result):
    settings = result.settings
    for scale, colour in zip(settings.free_scales, _HC_COLOURS, strict=False):
        depths, mean, low, high = _curve(result, "backward", rule="hc", scale=scale)
        ax.plot(depths, mean, color=colour, label=f"HC, scale {scale:g}")
        ax.fill_between(depths, low, high, color=colour, alpha=0.2, lw=0)
    scale, c = max(settings.scales), min(settings.identities)
    where = {"rule": "mhc", "scale": scale, "identity": c}
    for n_iters, style in zip(settings.iterations, _ITERATION_STYLES, strict=False):
        depths, mean, low, high = _curve(result, "backward", n_iters=n_iters, **where)
        label = f"mHC, scale {scale:g}, {n_iters} it."
        ax.plot(depths, mean, color=plotting.VERMILLION, linestyle=style, label=label)
    ax.set_yscale("log")
    top = max(row["backward"] for row in result.rows)
    ax.set_ylim(0.5, max(1e6, min(top, 1e12)))
    for value, words in ((PAPER_HC, "HC in the paper: 3000"), (PAPER_MHC, "mHC: 1.6")):
        ax.plot(
            min(PAPER_DEPTH, settings.depth), value, "*", color=plotting.PURPLE, ms=15, zorder=4
        )
        ax.annotate(
            words,
            (min(PAPER_DEPTH, settings.depth), value),
            xytext=(9, 5),
            textcoords="offset points",
            fontsize=12,
            color=plotting.PURPLE,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
    depth = min(PAPER_DEPTH, settings.depth)
    worst = _gain(at(result, depth, "mhc"))
    free = _gain(at(result, depth, "hc"))
    ax.set_title(
        f"After {depth} sub-layers free mixing has gains\n"
        f"up to {short(free)}, constrained up to {worst:.1f}"
    )
    ax.set_ylabel("composite gain: largest column sum")
    _legend_below(ax, 2)


def _draw_sums(ax, result):
    settings = result.settings
    depth = min(PAPER_DEPTH, settings.depth)
    colours = plotting.VERMILLION, plotting.ORANGE, plotting.BLUE, plotting.BLACK
    c = min(settings.identities)
    for n_iters, colour, style in zip(
        settings.iterations, colours, _ITERATION_STYLES, strict=False
    ):
        cells = [
            at(result, depth, "mhc", scale=scale, n_iters=n_iters, identity=c)
            for scale in settings.scales
        ]
        high = [_worst(rows, "backward") for rows in cells]
        low = [min(row["least_backward"] for row in rows) for rows in cells]
        label = f"{n_iters} iteration{'s' if n_iters > 1 else ''}"
        ax.plot(settings.scales, high, "o", ls=style, color=colour, label=label)
        ax.plot(settings.scales, low, "v", ls=style, color=colour)
    ax.axhline(1.0, color="grey", lw=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(settings.scales, [f"{scale:g}" for scale in settings.scales])
    ax.minorticks_off()
    ax.set_xlabel("standard deviation of the logits")
    ax.set_ylabel("largest (●) and least (▼) column sum")
    most = max(settings.iterations)
    rows = at(result, depth, "mhc", n_iters=most, identity=c)
    low, high = min(row["least_backward"] for row in rows), _worst(rows, "backward")
    ax.set_title(
        f"{most} iterations leave column sums of\n{low:.2f} … {high:.2f} after {depth} sub-layers"
    )
    _legend_below(ax, 3)


def _draw_streams(ax, result):
    settings = result.settings
    most = max(settings.iterations)
    colours = plotting.SKY, plotting.BLUE, plotting.GREEN, plotting.BLACK
    for c, style in zip(settings.identities, ("--", "-", ":", "-."), strict=False):
        for scale, colour in zip(settings.scales, colours, strict=False):
            depths, mean, _, _ = _curve(
                result, "second", rule="mhc", scale=scale, n_iters=most, identity=c
            )
            label = f"c = {c:g}, scale {scale:g}"
            ax.plot(depths, np.maximum(mean, 1e-17), color=colour, linestyle=style, label=label)
    ax.set_yscale("log")
    ax.set_ylim(1e-12, 3.0)
    ax.set_ylabel("σ₂ of the product: what is left\nof the differences between streams")
    depth = min(PAPER_DEPTH, settings.depth)
    least = min(settings.identities)
    left = _worst(at(result, depth, "mhc", n_iters=most, identity=least), "second")
    ax.set_title(
        f"With c = {least:g} the {settings.n_streams} streams have become one\n"
        f"after {depth} sub-layers: σ₂ ≤ {short(left)}"
        if left < 1e-3
        else f"After {depth} sub-layers σ₂ is at most {short(left)} for c = {least:g}"
    )
    _legend_below(ax, 2)


MIXING_GAIN = Experiment(
    name="mixing-gain",
    question="Does mixing of residual streams let signals and gradients grow with depth?",
    quick=Settings(),
    full=Settings(depth=1000, n_seeds=5, n_tokens=128, scales=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
