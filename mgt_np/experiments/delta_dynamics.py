"""What does Deep Delta Learning do over depth? Its gate, its errors, state and gradient.

DDL (2601.00417), d_v = 1, at the start of training: x' = x + β (v − k̂ᵀx) k̂ over the gate's β₀,
and the control that its authors ask for, which writes only: x' = x + β v k̂. With a v that knows
nothing of x a step takes β(2 − β)(k̂ᵀx)² from ‖x‖² and adds β²v²: what is erased can balance what
is written, in the state. The gradient sees more than I − βk̂k̂ᵀ, for k̂ depends on x too.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.arrays import array_namespace, grad, to_host
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import (
    cross_entropy,
    deep_delta_coefficients,
    delta_rule,
    multi_head_attention,
    rms_norm,
    unit_direction,
)
from mgt_np.models import RESIDUAL_RULES, hidden_states, transformer

from .experiment import Claim, Experiment, Where, only_if, short
from .states import decoder_of_text, measured

TOLERANCE = {"float64": 1e-12, "float32": 1e-4}
DELTA, WRITE = "delta", "write only"
EPS = 1e-5  # of the unit direction
BOUNDED = 1.5  # growth of the state's norm over the stack that we call bounded
EXPLOSION = 1e3  # the first layer's gradient over the last one's that we call an explosion


@dataclass(frozen=True)
class Settings(Where):
    """Initial gates and depth; every `every`-th layer is measured.

    `widths` are run at β₀ = 1 beside `d_model`, for the gradient; the sequences that hold the two
    forms of `delta_rule` to each other have `n_steps` tokens, β uniform within 0.5 of β₀.
    """

    seed: int = 0
    depth: int = 200
    data: str = "python-docs"
    beta_inits: tuple[float, ...] = (0.02, 0.5, 1.0, 1.5, 1.98)
    widths: tuple[int, ...] = (16, 32)
    every: int = 10
    d_model: int = 64
    n_heads: int = 4
    n_tokens: int = 32
    n_windows: int = 1
    n_steps: int = 64


def tasks(settings):
    names = ("seed", "depth", "data", "every", "n_heads", "n_tokens", "n_windows", "n_steps")
    sizes = {name: getattr(settings, name) for name in names}
    runs = [
        (beta_init, update, settings.d_model)
        for beta_init in settings.beta_inits
        for update in (DELTA, WRITE)
    ]
    runs += [(1.0, DELTA, d) for d in settings.widths if (1.0, DELTA, d) not in runs]
    return [
        {"beta_init": beta_init, "update": update, "d_model": d, **sizes, **settings.where()}
        for beta_init, update, d in runs
    ]


def work(beta_init, update, d_model, every, n_steps, seed, array_library, device, dtype, **sizes):
    there = place(array_library, device, dtype=dtype)
    config, params, text = decoder_of_text(
        residual="ddl",
        ddl_beta_init=beta_init,
        ddl_erase=update == DELTA,
        d_model=d_model,
        seed=seed,
        dtype=dtype,
        **sizes,
    )
    params, text = move((params, text), there)
    states = hidden_states(params, text, config)
    slopes = grad(lambda p: cross_entropy(transformer(p, text[:, :-1], config), text[:, 1:]))(
        params
    )
    _, norm_at_start = measured(states[0])
    sequence = _difference_of_forms(beta_init, n_steps, seed, there, dtype)
    rows = []
    for layer in sorted({1, *range(every, config.n_layers + 1, every), config.n_layers}):
        block, slope = params["blocks"][layer - 1], slopes["blocks"][layer - 1]
        rank, norm = measured(states[layer])
        rows.append(
            {
                "beta_init": beta_init,
                "update": update,
                "d_model": d_model,
                "layer": layer,
                "growth": norm / norm_at_start,
                "effective_rank": rank,
                **_step(states[layer - 1], block, config),
                "gradient": float(np.linalg.norm(to_host(slope["attention"]["W_o"]))),
                "sequence_difference": sequence,
            }
        )
    return rows


def _step(x, block, config):
    """Take one attention sub-layer apart: its gate, and its error before and after."""
    params = block["attention_residual"]

    def attend(x):
        return multi_head_attention(x, **block["attention"], n_heads=config.n_heads, causal=True)

    after = RESIDUAL_RULES["ddl"].update(x, attend, params, config)
    context = rms_norm(x, **params["norm"])
    k = attend(context)
    direction, beta, v = deep_delta_coefficients(k, **params["update"], context=context)
    x, after, k, direction, beta, v = map(to_host, (x, after, k, direction, beta, v))
    before, left = (np.sum(direction * y, axis=-1) - v[..., 0] for y in (x, after))
    low, median, high = np.quantile(beta, (0.1, 0.5, 0.9))
    return {
        "beta_low": float(low),
        "beta_median": float(median),
        "beta_high": float(high),
        "error_before": _root_mean_square(before),
        "error_after": _root_mean_square(left),
        "expected_after": _root_mean_square((1.0 - beta) * before),
        "deviation": float(np.max(np.abs(left - (1.0 - beta) * before)) / np.max(np.abs(before))),
        "shortest_k": float(np.min(np.linalg.norm(k, axis=-1))),
    }


def _mean(values):
    return float(np.mean(values)) if values else float("nan")


def _root_mean_square(x):
    return float(np.sqrt(np.mean(x * x)))


def _difference_of_forms(beta_init, n_steps, seed, there, dtype):
    """The largest difference of the delta rule in chunks to that step by step, gradients too."""
    rng = np.random.default_rng([seed, round(100 * beta_init)])
    q, k, v, R = move(tuple(rng.standard_normal((4, n_steps, 16))), there, dtype=dtype)
    low, high = max(beta_init - 0.5, 0.0), min(beta_init + 0.5, 2.0)
    gates = rng.uniform(low, high, n_steps), -0.1 * rng.random(n_steps)
    beta, log_alpha = move(gates, there, dtype=dtype)
    arrays = [q, unit_direction(k, eps=0.0), v, beta, log_alpha]

    def of_form(form):
        def scalar(arrays):
            o = delta_rule(*arrays, form=form, chunk_size=16)
            return array_namespace(o).sum(o * R)

        return [delta_rule(*arrays, form=form, chunk_size=16), *grad(scalar)(arrays)]

    pairs = zip(of_form("recurrent"), of_form("chunked"), strict=True)
    return max(float(np.max(np.abs(to_host(a) - to_host(b)))) for a, b in pairs)


def claims(result):
    return [
        _overwriting(result),
        _norm(result),
        _gradient(result),
        _rank(result),
        _forms(result),
    ]


def _series(result, name, beta_init, update=DELTA, d_model=None):
    """A column over the layers of one network."""
    d = d_model or result.settings.d_model
    return np.asarray(result.column(name, beta_init=beta_init, update=update, d_model=d))


def _only_at(found, result):
    """The verdict on a claim that was found true at these β₀."""
    return only_if(found, result.settings.beta_inits, "β₀ = {} (of those tried)")


def _overwriting(result):
    deviation = max(result.column("deviation", update=DELTA))
    shortest = min(result.column("shortest_k", update=DELTA))
    missing = 2.0 * EPS**2 / shortest**2
    exact = deviation <= TOLERANCE[result.settings.dtype]
    as_far_as = deviation <= missing + TOLERANCE[result.settings.dtype]
    return Claim(
        "An update leaves (1 − β) of the error k̂ᵀx − v: β = 1 overwrites exactly",
        "DDL 2601.00417, PDF of July 2026",
        f"largest deviation {deviation:.0e} of the largest error, shortest sub-layer output "
        f"‖k‖ = {shortest:.2g}; 1 − β‖k̂‖² allows 2ε²/‖k‖² = {missing:.0e}, all of it at ‖k‖ = 0",
        "holds"
        if exact
        else "holds only if ‖k‖ ≫ ε (1e-5 in the code)"
        if as_far_as
        else "does not hold",
    )


def _norm(result):
    settings = result.settings
    growth = {
        update: [max(_series(result, "growth", b, update)) for b in settings.beta_inits]
        for update in (DELTA, WRITE)
    }
    listed = ", ".join(f"{b:g}" for b in settings.beta_inits)
    by_update = "; ".join(
        f"{update} ×{', ×'.join(f'{g:.2g}' for g in growth[update])}" for update in growth
    )
    fine = [b for b, g in zip(settings.beta_inits, growth[DELTA], strict=True) if g <= BOUNDED]
    return Claim(
        f"The erasure bounds the state's norm (growth ≤ {BOUNDED:g} over {settings.depth} layers)",
        "our reading of DDL's write-only control",
        f"largest growth at β₀ = {listed}: {by_update}",
        _only_at(fine, result),
    )


def _ratios(result, update=DELTA):
    """The first layer's gradient over the last one's, for each β₀."""
    series = [_series(result, "gradient", b, update) for b in result.settings.beta_inits]
    return [float(g[0] / g[-1]) for g in series]


def _gradient(result):
    settings = result.settings
    ratios = _ratios(result)
    fine = [b for b, r in zip(settings.beta_inits, ratios, strict=True) if r <= EXPLOSION]
    listed = ", ".join(
        f"{short(r)} at {b:g}" for b, r in zip(settings.beta_inits, ratios, strict=True)
    )
    return Claim(
        "‖I − βkkᵀ‖ ≤ 1 for 0 ≤ β ≤ 2 keeps the gradient from exploding (growing by more than "
        f"{short(EXPLOSION)} backwards)",
        "a reading of DDL's theorem 3.1 that its authors warn of",
        f"first layer's gradient over the last one's, {settings.depth} layers: {listed} "
        f"(write only: at most {max(_ratios(result, WRITE)):.0f}). k depends on x",
        _only_at(fine, result),
    )


def _rank(result):
    settings = result.settings
    ranks = {
        update: [_series(result, "effective_rank", b, update)[-1] for b in settings.beta_inits]
        for update in (DELTA, WRITE)
    }
    fine = [b for b, r in zip(settings.beta_inits, ranks[DELTA], strict=True) if r > 0.5]
    return Claim(
        f"DDL keeps normalised effective rank > 0.5 at depth {settings.depth}",
        "MGT 2601.01014, a prediction, as reported, of its delta part",
        f"lowest {min(ranks[DELTA]):.2f}; writing only {min(ranks[WRITE]):.2f}"
        + (": it is not the erasure that keeps it" if min(ranks[WRITE]) > 0.5 else ""),
        _only_at(fine, result),
    )


def _forms(result):
    worst = max(result.column("sequence_difference"))
    return Claim(
        "The delta rule in chunks (WY form) equals the recurrence, gradients too",
        "Yang et al. 2406.06484",
        f"largest difference {worst:.1e} over {result.settings.n_steps} tokens, β in [0, 2], gated",
        "holds" if worst <= TOLERANCE[result.settings.dtype] else "does not hold",
    )


COLOURS = (plotting.SKY, plotting.BLUE, plotting.BLACK, plotting.ORANGE, plotting.VERMILLION)


@plotting.styled
def plot(result):
    figure, axes = plotting.new_figure(2, 3, size=(17, 10.5))
    (norm, gradient, rank), (error, gate, width) = axes
    settings = result.settings
    for b, colour in zip(settings.beta_inits, COLOURS, strict=False):
        for update, style in ((DELTA, "-"), (WRITE, ":")):
            layers = _series(result, "layer", b, update)
            look = {"color": colour, "linestyle": style}
            norm.plot(layers, _series(result, "growth", b, update), **look)
            rank.plot(layers, _series(result, "effective_rank", b, update), **look)
            slope = _series(result, "gradient", b, update)
            gradient.semilogy(layers, slope / slope[-1], **look)
        _draw_error(error, result, b, colour)
        layers = _series(result, "layer", b)
        low, high = (_series(result, f"beta_{end}", b) for end in ("low", "high"))
        gate.fill_between(layers, low, high, facecolor=colour, alpha=0.15, lw=0)
        for end in (low, high):
            gate.plot(layers, end, color=colour, lw=0.8)
        gate.plot(layers, _series(result, "beta_median", b), color=colour)

    most = {update: max(result.column("growth", update=update)) for update in (DELTA, WRITE)}
    norm.set_title(
        f"State: grows up to ×{most[DELTA]:.2g} with erasure,\n×{most[WRITE]:.2g} writing only"
    )
    norm.set_ylabel("norm of the state / at the start")
    norm.axhline(1.0, color="grey", lw=1)
    worst, mild = max(_ratios(result)), max(_ratios(result, WRITE))
    gradient.set_title(
        f"Gradient: grows up to ×{short(worst)} backwards\nwith erasure, ×{short(mild)} without"
    )
    gradient.set_ylabel("gradient of W$_o$ / at the last layer")
    kept = {u: min(result.column("effective_rank", update=u)) for u in (DELTA, WRITE)}
    rank.set_title(
        f"Rank: {kept[DELTA]:.2f} or more with erasure,\n{kept[WRITE]:.2f} or more writing only"
    )
    rank.axhline(0.5, color="grey", lw=1)
    rank.annotate("MGT's threshold", (0, 0.5), va="bottom", fontsize=12, color="dimgrey")
    rank.set_ylabel("effective rank / min(N, d)")
    rank.set_ylim(0.0, 1.02)
    moved = max(abs(r["beta_median"] - r["beta_init"]) for r in result.rows if r["update"] == DELTA)
    gate.set_title(f"Gate: its median within {moved:.1g} of β₀\n(band: 10 to 90 % of the tokens)")
    gate.set_ylabel("β")
    gate.set_ylim(-0.05, 2.05)
    for ax in (norm, gradient, rank, gate):
        ax.set_xlabel("layer")
    _draw_legend(norm, settings)
    error.set_title(
        "Error after an update beside (1 − β) of it:\nwith erasure (dots), writing only (crosses)"
    )
    error.set_xlabel("rms of (1 − β) e before, e = k̂ᵀx − v")
    error.set_ylabel("rms of e after")
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    for axis in (error.xaxis, error.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    error.set_aspect("equal", adjustable="datalim")
    _draw_widths(width, result)
    return figure


def _draw_error(ax, result, b, colour):
    for update, marker in ((DELTA, "o"), (WRITE, "x")):
        ax.loglog(
            _series(result, "expected_after", b, update),
            _series(result, "error_after", b, update),
            marker,
            color=colour,
            ms=4,
            mew=1,
            zorder=3 if update == DELTA else 2,
        )


def _draw_legend(ax, settings):
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=colour, label=f"β₀ = {b:g}")
        for b, colour in zip(settings.beta_inits, COLOURS, strict=False)
    ]
    lines += [
        Line2D([], [], color="grey", linestyle=style, label=update)
        for update, style in ((DELTA, "-"), (WRITE, ":"))
    ]
    ax.legend(handles=lines, fontsize=11, loc="upper left")


def _draw_widths(ax, result):
    """The gradients of several widths at β₀ = 1, over sub-layers to the end per feature."""
    rates = []
    widths = sorted(set(result.column("d_model", beta_init=1.0, update=DELTA)))
    for d, marker, colour in zip(widths, "s^oDv", COLOURS, strict=False):
        layers = _series(result, "layer", 1.0, d_model=d)
        slope = _series(result, "gradient", 1.0, d_model=d)
        steps = 2.0 * (layers[-1] - layers)
        ax.semilogy(
            steps / d, slope / slope[-1], marker, color=colour, mfc="none", label=f"d = {d}"
        )
        if slope.size > 1:
            rates.append(np.log(slope[0] / slope[-1]) * d / steps[0])
    ax.set_title(
        f"Gradient at β₀ = 1: about exp({_mean(rates):.1f} n/d),\nn sub-layers, d features"
    )
    ax.set_xlabel("sub-layers to the end / width, n/d")
    ax.set_ylabel("gradient of W$_o$ / at the last layer")
    ax.legend(loc="upper left")


DELTA_DYNAMICS = Experiment(
    name="delta-dynamics",
    question="What does Deep Delta Learning do over depth?",
    quick=Settings(),
    full=Settings(depth=400, n_windows=4, n_tokens=64, widths=(16, 32, 128), n_steps=400),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
