"""How fast do attention layers make all tokens equal, and what stops them?

Dong et al. (2103.03404) prove that attention alone collapses doubly exponentially in depth, by a
cubic bound for each layer; Wu et al. (2405.18781) say what masks and layer norm change about it.
Random weights, Gaussian tokens. The residual of a collapsing state soon falls below the rounding
error of the common token; `apart` therefore carries the two separately, and stays exact.

Rows are (study, variant, seed, at, value): "depth" and "clusters", the relative residual at a
layer; "rate", ‖res(SA(X))‖₁,∞ at ‖res(X)‖₁,∞; "factor", c of the bound c ‖res(X)‖³ at γ; "apart"
and "bound", log₁₀ of ‖res‖₁,∞ and of its bound at a layer; "paths", the relative residual of all
paths of a length.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import (
    collapse_beta,
    composite_norm,
    head_maps,
    log_collapse_bound,
    path_length_terms,
    relative_residual,
    token_residual,
)
from mgt_np.arrays import array_namespace, to_host
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import (
    attention_weights,
    feed_forward,
    init_feed_forward,
    init_multi_head_attention,
    layer_norm,
    linear,
    multi_head_attention,
    scaled_dot_product_attention,
    softmax,
)

from .experiment import Claim, Experiment, Where, only_if

DONG = "Dong et al. 2103.03404"
WU = "Wu et al. 2405.18781"
SMALL = 1e-6  # relative residual that we call collapsed, well above rounding
LOST = 0.1  # relative residual at the last layer below which a skip did not help

# What one layer is made of; the branches of "skip/√L" are divided by the root of the depth.
VARIANTS = {
    "attention": {},
    "+ LN": {"norm": "post"},
    "+ MLP": {"mlp": 1.0},
    "+ MLP × 8": {"mlp": 8.0},
    "causal": {"causal": True},
    "+ skip": {"skip": True},
    "+ skip/√L": {"skip": True, "scaled": True},
    "+ skip, MLP": {"skip": True, "mlp": 1.0},
    "+ skip, LN": {"skip": True, "norm": "post"},
    "pre-LN block": {"skip": True, "norm": "pre", "mlp": 1.0},
}


@dataclass(frozen=True)
class Settings(Where):
    """Sizes; the residuals of the studies of rate are Gaussian tokens times a power of ten.

    `powers` is their range, in fourths; `start_powers` are those that go through several layers.
    """

    seed: int = 0
    n_seeds: int = 3
    depth: int = 24
    n_tokens: int = 64
    d_model: int = 64
    n_heads: int = 4
    powers: tuple[int, int] = (-5, 2)
    start_powers: tuple[int, ...] = (0, -4)
    n_apart: int = 6
    cluster_depth: int = 100


def tasks(settings):
    sizes = {name: getattr(settings, name) for name in ("n_tokens", "d_model", "n_heads")}
    sizes |= settings.where()
    todo = []
    for number in range(settings.n_seeds):
        common = {"seed": [settings.seed, number], **sizes}
        todo += [
            {"study": "depth", "variant": name, "depth": settings.depth, **common}
            for name in VARIANTS
        ]
        todo += [
            {"study": "rate", "powers": list(settings.powers), **common},
            *(
                {"study": "apart", "power": power, "depth": settings.n_apart, **common}
                for power in settings.start_powers
            ),
            {"study": "clusters", "depth": settings.cluster_depth, **common},
            {"study": "paths", "depth": settings.depth, **common},
        ]
    return todo


def work(study, seed, array_library, device, dtype, **options):
    there = place(array_library, device, dtype=dtype)

    def on_device(tree):
        return move(tree, there, dtype=dtype)

    # Growing states may overflow on the way in float32; the relative residual does not.
    with np.errstate(over="ignore", invalid="ignore"):
        rows = list(STUDIES[study](np.random.default_rng(seed), on_device, **options))
    return [
        {"study": name, "variant": variant, "seed": seed[-1], "at": at, "value": float(value)}
        for name, variant, at, value in rows
    ]


def _depth(rng, on_device, *, variant, depth, n_tokens, d_model, n_heads):
    x = on_device(rng.standard_normal((n_tokens, d_model)))
    yield "depth", variant, 0, relative_residual(x)
    for l, of_layer in enumerate(rng.spawn(depth), 1):
        of_attention, of_hidden = of_layer.spawn(2)
        x = _layer(
            x,
            on_device(init_multi_head_attention(of_attention, d_model, bias=False)),
            on_device(init_feed_forward(of_hidden, d_model, 4 * d_model, bias=False)),
            n_heads=n_heads,
            depth=depth,
            **VARIANTS[variant],
        )
        yield "depth", variant, l, relative_residual(x)


def _layer(
    x,
    attention,
    hidden,
    *,
    n_heads,
    depth,
    causal=False,
    skip=False,
    scaled=False,
    mlp=0.0,
    norm="none",
):
    sublayers = [partial(multi_head_attention, **attention, n_heads=n_heads, causal=causal)]
    if mlp:
        sublayers.append(lambda x: mlp * feed_forward(x, **hidden))
    for sublayer in sublayers:
        y = sublayer(layer_norm(x) if norm == "pre" else x)
        y = y / math.sqrt(depth) if scaled else y
        y = x + y if skip else y
        x = layer_norm(y) if norm == "post" else y
    return x


def apart(common, residual, W_q, W_k, W_v, W_o, *, n_heads):
    """One attention layer of the tokens `common + residual`, both exact however small the second.

    The logits that differ between queries are those of the residual alone, E. With p the attention
    to the common token, P − p = p ⊙ (x − p·x)/(1 + p·x), x = e^E − 1, and the common token and the
    residual of (P − p) residual W_V W_O + (common + p residual) W_V W_O are found apart.
    """
    xp = array_namespace(common)

    def heads(x, W):
        y = linear(x, W)
        return xp.moveaxis(xp.reshape(y, (*y.shape[:-1], n_heads, -1)), -2, -3)

    scale = math.sqrt(n_heads / W_q.shape[1])
    one_token = xp.expand_dims(common, axis=0)
    q, k, v = (heads(residual, W) for W in (W_q, W_k, W_v))
    p = softmax(xp.matmul(heads(one_token, W_q), xp.matrix_transpose(k)) * scale)
    x = xp.expm1(xp.matmul(q, xp.matrix_transpose(k)) * scale)
    px = xp.sum(p * x, axis=-1, keepdims=True)

    def joined(y):
        y = xp.moveaxis(y, -3, -2)
        return linear(xp.reshape(y, (y.shape[0], -1)), W_o)

    left = joined(xp.matmul(p * (x - px) / (1.0 + px), v))
    mean = xp.mean(left, axis=0)
    common = joined(heads(one_token, W_v) + xp.matmul(p, v))[0, :] + mean
    return common, left - mean


def _start(rng, on_device, n_tokens, d_model):
    """A common token and centred Gaussian residuals, both with features of order one."""
    return on_device(
        (
            rng.standard_normal(d_model),
            token_residual(rng.standard_normal((n_tokens, d_model))),
        )
    )


def _beta(params, n_heads):
    """The largest β of the heads of a layer."""
    xp = array_namespace(params["W_q"])
    W_qk = head_maps(params["W_q"], xp.matrix_transpose(params["W_k"]), n_heads=n_heads)
    W_v = head_maps(params["W_v"], params["W_o"], n_heads=n_heads)
    return float(xp.max(collapse_beta(W_qk, W_v)))


def _rate(rng, on_device, *, powers, n_tokens, d_model, n_heads):
    common, residual = _start(rng, on_device, n_tokens, d_model)
    params = on_device(init_multi_head_attention(rng, d_model, bias=False))
    for fourths in range(4 * powers[0], 4 * powers[1] + 1):
        R = residual * 10.0 ** (fourths / 4)
        norm = float(composite_norm(R))
        if fourths <= 0:  # beyond, e^E − 1 would overflow, and nothing is small any more
            left = apart(common, R, **params, n_heads=n_heads)[1]
        else:
            left = token_residual(multi_head_attention(common + R, **params, n_heads=n_heads))
        causal = multi_head_attention(common + R, **params, n_heads=n_heads, causal=True)
        yield "rate", "attention", norm, composite_norm(left)
        yield "rate", "causal", norm, composite_norm(token_residual(causal))
    for gamma in (1.0, math.sqrt(n_tokens)):
        # One layer of a residual of length 1 has the bound c.
        log_c = log_collapse_bound(
            on_device(np.ones(())),
            _beta(params, n_heads),
            n_layers=1,
            n_heads=n_heads,
            d_qk=d_model // n_heads,
            gamma=gamma,
        )
        yield "factor", "bound", gamma, math.exp(float(log_c))


def _apart(rng, on_device, *, power, depth, n_tokens, d_model, n_heads):
    common, residual = _start(rng, on_device, n_tokens, d_model)
    residual = residual * 10.0**power
    first = composite_norm(residual)
    layers = [
        on_device(init_multi_head_attention(of_layer, d_model, bias=False))
        for of_layer in rng.spawn(depth)
    ]
    beta = max(_beta(params, n_heads) for params in layers)
    tiny = float(np.finfo(to_host(residual).dtype).tiny)
    yield "apart", f"10^{power}", 0, math.log10(float(first))
    yield "bound", f"10^{power}", 0, math.log10(float(first))
    for l, params in enumerate(layers, 1):
        common, residual = apart(common, residual, **params, n_heads=n_heads)
        norm = float(composite_norm(residual))
        if norm <= tiny / np.finfo(float).eps:
            return
        options = {"n_layers": l, "n_heads": n_heads, "d_qk": d_model // n_heads}
        log_bound = float(log_collapse_bound(first, beta, **options))
        yield "apart", f"10^{power}", l, math.log10(norm)
        yield "bound", f"10^{power}", l, log_bound / math.log(10.0)


def _clusters(rng, on_device, *, depth, n_tokens, d_model, n_heads):
    """Two clusters ±u of tokens, W_QK = I/5 (16/√d), W_V = (I + uuᵀ/d)/2: LN keeps them apart."""
    u = np.tile([1.0, -1.0], d_model)[:d_model]
    side = np.where(np.arange(n_tokens) < 0.6 * n_tokens, 1.0, -1.0)[:, None]
    start = side * u + 0.3 * rng.standard_normal((n_tokens, d_model))
    x, W_v = on_device((start, 0.5 * (np.eye(d_model) + np.outer(u, u) / d_model)))
    scale = 0.8 / d_model  # logits of ±0.8 between tokens of length √d
    for variant, norm in (("without LN", None), ("with LN", layer_norm)):
        X = x if norm is None else norm(x)
        for l in range(depth + 1):
            yield "clusters", variant, l, relative_residual(X)
            X = scaled_dot_product_attention(X, X, linear(X, W_v), scale=scale)
            X = X if norm is None else norm(X)


def _paths(rng, on_device, *, depth, n_tokens, d_model, n_heads):
    X = x = on_device(rng.standard_normal((n_tokens, d_model)))
    xp = array_namespace(x)
    P, W = [], []
    for of_layer in rng.spawn(depth):
        params = on_device(init_multi_head_attention(of_layer, d_model, bias=False))
        q, k = (
            xp.moveaxis(xp.reshape(linear(x, params[name]), (n_tokens, n_heads, -1)), 0, 1)
            for name in ("W_q", "W_k")
        )
        P.append(attention_weights(q, k))
        W.append(head_maps(params["W_v"], params["W_o"], n_heads=n_heads))
        x = x + multi_head_attention(x, **params, n_heads=n_heads)
    residuals = relative_residual(path_length_terms(X, xp.stack(P), xp.stack(W)))
    for length in range(depth + 1):
        yield "paths", "+ skip", length, residuals[length]


STUDIES = {
    "depth": _depth,
    "rate": _rate,
    "apart": _apart,
    "clusters": _clusters,
    "paths": _paths,
}


def exponent(result, variant):
    """The exponent of ‖res(X)‖ in ‖res(SA(X))‖ over the smallest decade, by least squares."""
    lowest = 5  # fourths of a decade, and both ends
    slopes = []
    for seed in range(result.settings.n_seeds):
        at, value = (
            np.log(result.column(name, study="rate", variant=variant, seed=seed)[:lowest])
            for name in ("at", "value")
        )
        slopes.append(np.polyfit(at, value, 1)[0])
    return float(np.mean(slopes))


def last(result, study, variant, at):
    """The largest value of any seed at that layer."""
    return max(result.column("value", study=study, variant=variant, at=at))


def layers_until_small(result, variant):
    """The number of layers until the relative residual of every seed is below 1e-6, or None."""
    for l in range(result.settings.depth + 1):
        if last(result, "depth", variant, l) < SMALL:
            return l
    return None


def _layers(n):
    return "not at all" if n is None else f"after {n} layers"


def claims(result):
    return [
        _cubic_rate(result),
        _bound(result),
        _skip(result),
        _mlp(result),
        _layer_norm(result),
        _paths_claim(result),
    ]


def _cubic_rate(result):
    slopes = {variant: exponent(result, variant) for variant in ("attention", "causal")}
    cubic = abs(slopes["attention"] - 3.0) < 0.1
    masked = abs(slopes["causal"] - 3.0) < 0.1
    return Claim(
        "Attention alone makes tokens equal doubly exponentially: ‖res‖ is cubed by each layer",
        f"{DONG}, theorem 2.2; masks: {WU}; both as reported",
        f"exponent of small residuals {slopes['attention']:.2f}, under a causal mask "
        f"{slopes['causal']:.2f}; relative residual < {SMALL:g} "
        f"{_layers(layers_until_small(result, 'attention'))}, causal "
        f"{_layers(layers_until_small(result, 'causal'))} of {result.settings.depth}",
        "does not hold"
        if not cubic
        else "holds"
        if masked
        else "holds only if all tokens see each other; exponentially under a causal mask",
    )


def bound_of_rate(result):
    """The largest ratio of a measured residual to its bound, by γ; and where γ = 1 is of use."""
    worst, useful = {}, []
    for seed in range(result.settings.n_seeds):
        at, value = (
            np.asarray(result.column(name, study="rate", variant="attention", seed=seed))
            for name in ("at", "value")
        )
        factors = [row for row in result.rows if row["study"] == "factor" and row["seed"] == seed]
        for row in factors:
            ratio = float(np.max(value / (row["value"] * at**3)))
            worst[row["at"]] = max(worst.get(row["at"], 0.0), ratio)
        useful.append(factors[0]["value"] ** -0.5)
    return worst, useful


def _bound(result):
    worst, useful = bound_of_rate(result)
    gaussian = min(
        10.0 ** result.column("value", study="apart", variant="10^0", seed=seed, at=0)[0]
        for seed in range(result.settings.n_seeds)
    )
    ratios = ", ".join(f"γ = {gamma:g}: {ratio:.0e}" for gamma, ratio in worst.items())
    kept = max(worst.values()) <= 1.0
    return Claim(
        "‖res(SA(X))‖ ≤ 4γβH/√d_qk ‖res(X)‖³, with and without γ",
        f"{DONG}, as reported",
        f"largest measured/bound {ratios}; says something for ‖res‖ < {max(useful):.2g}, where "
        f"Gaussian tokens have {gaussian:.3g}",
        "does not hold"
        if not kept
        else "holds, and is vacuous at initialisation: needs tokens "
        f"{gaussian / max(useful):.0f} times closer"
        if gaussian > max(useful)
        else "holds",
    )


def _skip(result):
    depth = result.settings.depth
    residuals = {
        name: last(result, "depth", name, depth)
        for name in ("+ skip", "+ skip, LN", "pre-LN block", "+ skip/√L")
    }
    kept = [name for name, value in residuals.items() if value > LOST]
    numbers = ", ".join(f"{name} {value:.2g}" for name, value in residuals.items())
    return Claim(
        f"Skip connections stop the collapse: relative residual > {LOST:g}",
        DONG,
        f"relative residual at depth {depth}, LeCun weights: {numbers}",
        only_if(kept, residuals, "{}; else it is not stopped"),
    )


def _mlp(result):
    names = ("attention", "+ MLP", "+ MLP × 8")
    until = {name: layers_until_small(result, name) for name in names}
    alone = until["attention"]
    slower = {
        name: n is None or (alone is not None and n > alone) for name, n in list(until.items())[1:]
    }
    return Claim(
        "An MLP slows the collapse down",
        f"{DONG}: by its Lipschitz constant",
        f"relative residual < {SMALL:g}: "
        + ", ".join(f"{name} {_layers(n)}" for name, n in until.items()),
        "holds"
        if all(slower.values())
        else "holds only if the MLP amplifies, here × 8"
        if slower["+ MLP × 8"]
        else "does not hold",
    )


def _layer_norm(result):
    alone, normed = (layers_until_small(result, name) for name in ("attention", "+ LN"))
    depth = result.settings.cluster_depth
    without, with_norm = (
        last(result, "clusters", name, depth) for name in ("without LN", "with LN")
    )
    plays_a_role = with_norm > LOST > without
    both_collapse = alone is not None and normed is not None
    return Claim(
        "Layer normalisation plays no role in the collapse",
        f"{DONG}; refuted by {WU}; both as reported",
        f"random weights: collapsed {_layers(alone)}, with LN {_layers(normed)}; two clusters ±u "
        f"with W_V = (I + uuᵀ/d)/2 at depth {depth}: residual {without:.1g}, with LN "
        f"{with_norm:.2g}",
        "does not hold"
        if not both_collapse
        else "holds only if the weights are random: with chosen ones LN keeps the tokens apart"
        if plays_a_role
        else "holds",
    )


def _paths_claim(result):
    depth = result.settings.depth
    residuals = [last(result, "paths", "+ skip", l) for l in range(depth + 1)]
    rounding = 100.0 * float(np.finfo(result.settings.dtype).eps)
    tail = [value for value in residuals if value > rounding]
    falling = all(a > b for a, b in pairwise(tail))
    middle = depth // 2
    return Claim(
        "The rank of a network with skips is that of its short paths",
        f"{DONG}, as reported",
        f"relative residual of all paths through 0, 1, 2, {middle} of {depth} layers: "
        + ", ".join(f"{residuals[l]:.1g}" for l in (0, 1, 2, middle)),
        "holds" if falling and residuals[middle] < LOST * residuals[1] else "does not hold",
    )


def arrays(rows):
    """Relative residuals (variant, seed, layer) of the study of depth."""
    rows = [row for row in rows if row["study"] == "depth"]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    grid = {(r["variant"], r["seed"], r["at"]): r["value"] for r in rows}
    layers = sorted({row["at"] for row in rows})
    values = [[[grid[v, s, l] for l in layers] for s in seeds] for v in variants]
    return {"relative_residual": np.asarray(values)}


STYLES = {
    "attention": {"color": plotting.VERMILLION, "linestyle": "-", "marker": "o"},
    "+ LN": {"color": plotting.VERMILLION, "linestyle": "--", "marker": "s"},
    "+ MLP": {"color": plotting.ORANGE, "linestyle": "-", "marker": "v"},
    "+ MLP × 8": {"color": plotting.ORANGE, "linestyle": "--", "marker": "^"},
    "causal": {"color": plotting.PURPLE, "linestyle": "-", "marker": "D"},
    "+ skip": {"color": plotting.SKY, "linestyle": "-"},
    "+ skip/√L": {"color": plotting.BLUE, "linestyle": "-", "marker": "*"},
    "+ skip, MLP": {"color": plotting.SKY, "linestyle": "--"},
    "+ skip, LN": {"color": plotting.BLACK, "linestyle": ":"},
    "pre-LN block": {"color": plotting.GREEN, "linestyle": "-."},
}


@plotting.styled
def plot(result):
    figure, axes = plotting.new_figure(2, 2, size=(15, 11))
    (depth, rate), (bound, paths) = axes
    _draw_depth(depth, result)
    _draw_rate(rate, result)
    _draw_bound(bound, result)
    _draw_paths(paths, result)
    return figure


def _mean_over_seeds(result, study, variant):
    """Places, and the geometric means of the values there, none below 1e-17."""
    rows = [row for row in result.rows if (row["study"], row["variant"]) == (study, variant)]
    at = sorted({row["at"] for row in rows})
    values = [[max(r["value"], 1e-17) for r in rows if r["at"] == a] for a in at]
    return at, np.exp(np.mean(np.log(values), axis=1))


def _draw_depth(ax, result):
    for variant, style in STYLES.items():
        at, value = _mean_over_seeds(result, "depth", variant)
        ax.semilogy(at, value, label=variant, markevery=3, **style)
    ax.axhspan(1e-17, 1e-15, color="grey", alpha=0.2, lw=0)
    ax.annotate("rounding", (0.3, 1.2e-17), fontsize=12, color="dimgrey")
    ax.set_ylim(1e-17, 3.0)
    ax.set_xlabel("layer")
    ax.set_ylabel("‖res(X)‖$_{1,∞}$ / ‖X‖$_{1,∞}$")
    depth = result.settings.depth
    skip, scaled = (last(result, "depth", name, depth) for name in ("+ skip", "+ skip/√L"))
    ax.set_title(
        f"Attention alone collapses {_layers(layers_until_small(result, 'attention'))};\n"
        f"at layer {depth} skips leave {skip:.1g}, with branches of 1/√L {scaled:.2g}"
    )
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.42), ncols=2, fontsize=12)


def _draw_rate(ax, result):
    for variant in ("attention", "causal"):
        rows = [r for r in result.rows if (r["study"], r["variant"]) == ("rate", variant)]
        style = STYLES[variant]
        slope = exponent(result, variant)
        ax.loglog(
            [r["at"] for r in rows],
            [r["value"] for r in rows],
            linestyle="none",
            marker=style["marker"],
            markersize=5,
            color=style["color"],
            label=f"{variant}: exponent {slope:.2f} where small",
        )
    at = np.asarray(sorted({r["at"] for r in result.rows if r["study"] == "rate"}))
    for gamma, line in zip(sorted(bound_of_rate(result)[0]), ("-", "--"), strict=True):
        c = max(result.column("value", study="factor", at=gamma))
        ax.loglog(at, c * at**3, color=plotting.BLUE, ls=line, label=f"bound, γ = {gamma:g}")
    ax.loglog(at, at, color="grey", lw=1, ls=":", label="no change: a bound above says nothing")
    lowest = min(r["value"] for r in result.rows if r["study"] == "rate")
    ax.set_ylim(lowest / 3.0, 1e6)
    ax.set_xlabel("‖res(X)‖$_{1,∞}$")
    ax.set_ylabel("‖res(SA(X))‖$_{1,∞}$")
    power, masked = (exponent(result, variant) for variant in ("attention", "causal"))
    ax.set_title(
        f"One layer raises a small residual to the power {power:.2f},\n"
        f"under a causal mask to {masked:.2f}"
    )
    ax.legend(loc="lower right", fontsize=12)


def _draw_bound(ax, result):
    colours = (plotting.VERMILLION, plotting.BLUE, plotting.GREEN)
    for power, colour in zip(result.settings.start_powers, colours, strict=False):
        for study, style in (("apart", "o-"), ("bound", "s--")):
            rows = [
                r
                for r in result.rows
                if (r["study"], r["variant"], r["seed"]) == (study, f"10^{power}", 0)
            ]
            label = "measured" if study == "apart" else "bound, γ = 1"
            ax.plot(
                [r["at"] for r in rows],
                [r["value"] for r in rows],
                style,
                color=colour,
                label=f"{label}, tokens differ by {10.0**power:g}",
            )
    ax.axhline(0.0, color="grey", lw=1)
    ax.set_ylim(-260, 60)
    ax.set_xlabel("layer")
    ax.set_ylabel("log$_{10}$ ‖res‖$_{1,∞}$")
    power = result.settings.start_powers[0]
    measured, bound = (
        result.column("value", study=study, variant=f"10^{power}", seed=0)
        for study in ("apart", "bound")
    )
    ax.set_title(
        f"Tokens that differ by {10.0**power:g} (red): the residual {_direction(measured)},\n"
        f"the bound {_direction(bound)}"
    )
    ax.legend(loc="lower left", fontsize=12)


def _direction(values):
    return "falls" if values[-1] < values[0] else "does not fall"


def _draw_paths(ax, result):
    at, value = _mean_over_seeds(result, "paths", "+ skip")
    ax.semilogy(at, value, "o-", color=plotting.BLUE, label="all paths of that length, sum")
    for variant, colour, line in (
        ("with LN", plotting.GREEN, "-"),
        ("without LN", plotting.VERMILLION, "--"),
    ):
        layers, residual = _mean_over_seeds(result, "clusters", variant)
        stop = len(at)
        ax.semilogy(
            layers[:stop],
            residual[:stop],
            color=colour,
            ls=line,
            label=f"two clusters of tokens, {variant}",
        )
    ax.set_ylim(1e-17, 3.0)
    ax.set_xlabel("layers that a path goes through; layer for the clusters")
    ax.set_ylabel("‖res‖$_{1,∞}$ / ‖·‖$_{1,∞}$")
    middle, end = result.settings.depth // 2, result.settings.cluster_depth
    short, long = (last(result, "paths", "+ skip", length) for length in (1, middle))
    ax.set_title(
        f"Paths through 1 layer have residual {short:.1g}, through {middle} {long:.0e};\n"
        f"clusters at layer {end}: with LN {last(result, 'clusters', 'with LN', end):.2g}, "
        f"without {last(result, 'clusters', 'without LN', end):.0e}"
    )
    ax.legend(loc="lower left", bbox_to_anchor=(0.22, 0.1), fontsize=12)


ATTENTION_COLLAPSE = Experiment(
    name="attention-collapse",
    question="How fast does attention make all tokens equal, and what stops it?",
    quick=Settings(),
    full=Settings(n_seeds=10, depth=100, n_tokens=128, start_powers=(0, -2, -4)),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
    arrays=arrays,
)
