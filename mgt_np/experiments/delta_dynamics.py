"""What does Deep Delta Learning do over depth, to errors, state and gradient?

DDL (2601.00417), d_v = 1, at the start of training: x' = x + β (v − k̂ᵀx) k̂ with k̂ = k/√(‖k‖² + ε²),
and the control that its authors ask for, which writes only: x' = x + β v k̂. With a v that knows
nothing of x a step takes β(2 − β)(k̂ᵀx)² from ‖x‖² and adds β²v²: what is erased can balance what
is written, in the state. The gradient sees more than I − βk̂k̂ᵀ, for k̂ depends on x too.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps

from mgt_np import plotting
from mgt_np.arrays import array_namespace, grad, to_host
from mgt_np.layers import (
    cross_entropy,
    deep_delta_coefficients,
    deep_delta_residual,
    delta_rule,
    rms_norm,
    unit_direction,
)
from mgt_np.models import RESIDUAL_RULES, hidden_states, transformer
from mgt_np.models.decoder import connections

from .claims import Claim, extent, short
from .experiment import Where, cells, generator
from .states import decoder_of_text, measured

TOLERANCE = {"float64": 1e-12, "float32": 1e-4}
DELTA, WRITE = "delta", "write only"
EPS = 1e-5  # the ε of k̂ in the authors' code
DEVIATIONS = {"deviation_without_eps": 0.0, "deviation": EPS}
BOUNDED = 1.5  # growth of the state's norm over the stack that we call bounded
EXPLOSION = 1e3  # the first layer's gradient over the last one's that we call an explosion


@dataclass(frozen=True)
class Settings(Where):
    """Initial gates β₀ and depth; every `every`-th layer is measured.

    `widths` are run at β₀ = 1 beside `d_model`, for the gradient; the sequences that compare the
    two forms of `delta_rule` have `n_steps` tokens, β uniform within 0.5 of β₀.
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


QUICK = Settings()
FULL = Settings(depth=400, n_windows=4, n_tokens=64, widths=(16, 32, 128), n_steps=400)


def claims(settings):
    return [*_of_steps(settings), *_of_ends(settings)]


def _of_steps(settings):
    tolerance, depth = TOLERANCE[settings.dtype], settings.depth
    return [
        Claim(
            says="An update leaves (1 − β) of the error k̂ᵀx − v: β = 1 overwrites exactly",
            source="DDL 2601.00417, PDF of July 2026",
            criterion=f"largest deviation ≤ {tolerance:g} of the layer's largest error",
            measure=lambda result: {
                f"ε = {short(eps)}": worst(result, column) for column, eps in DEVIATIONS.items()
            },
            passes=lambda deviation: deviation <= tolerance,
            only_if="{} in k̂ = k/√(‖k‖² + ε²)",
            form="{:.0e}",
            beside=_left_by_eps,
        ),
        Claim(
            says="The erasure bounds the state's norm",
            source="our reading of DDL's write-only control",
            criterion=f"it grows at most {BOUNDED:g}-fold over {depth} layers",
            passes=lambda ratio: ratio <= BOUNDED,
            **_at_each_gate("growth", np.max, "× {:.2g}"),
        ),
        Claim(
            says="In Deep Delta Learning ‖I − βkkᵀ‖ ≤ 1 keeps the gradient from exploding",
            source="a reading of DDL's theorem 3.1 that its authors warn of",
            criterion=f"at layer 1 it is at most {EXPLOSION:g} times that at layer {depth}",
            passes=lambda ratio: ratio <= EXPLOSION,
            title="‖I − βkkᵀ‖ ≤ 1 keeps the gradient from exploding",
            readme=True,
            **_at_each_gate("gradient", lambda slopes: slopes[0] / slopes[-1], "× {:.2g}"),
        ),
    ]


def _of_ends(settings):
    tolerance, depth = TOLERANCE[settings.dtype], settings.depth
    return [
        Claim(
            says=f"DDL keeps normalised effective rank > 0.5 at depth {depth}",
            source="MGT 2601.01014, a prediction, as reported, of its delta part",
            criterion="normalised effective rank > 0.5",
            passes=lambda rank: rank > 0.5,
            **_at_each_gate("effective_rank", lambda ranks: ranks[-1], "{:.2f}"),
        ),
        Claim(
            says="The delta rule in chunks (WY form) equals the recurrence, gradients too",
            source="Yang et al. 2406.06484",
            criterion=f"largest difference ≤ {tolerance:g} over {settings.n_steps} tokens",
            measure=lambda result: {"gated, β near each β₀": worst(result, "sequence_difference")},
            passes=lambda difference: difference <= tolerance,
            form="{:.1e}",
        ),
    ]


def worst(result, column):
    """The largest value of a column in the networks that erase."""
    return np.max(result.rows.where(update=DELTA).column(column))


def _left_by_eps(result):
    """What ε leaves of an error beside (1 − β) of it, βε²/‖k‖², at most: β < 2."""
    shortest = min(result.rows.where(update=DELTA).column("shortest_k"))
    return f"Shortest ‖k‖ {shortest:.2g}: 2ε²/‖k‖² = {2.0 * (EPS / shortest) ** 2:.0e}"


def _at_each_gate(column, number_of, form):
    """What claims on a column over the layers share: a number for each β₀, write only beside."""

    def measure(result, update=DELTA):
        rows = result.rows.where(update=update, d_model=result.settings.d_model)
        return {
            f"β₀ = {b:g}": number_of(rows.where(beta_init=b).grid(column, "layer"))
            for b in result.settings.beta_inits
        }

    def beside(result):
        return f"Write only: {extent(measure(result, WRITE).values(), form)}"

    return {"measure": measure, "beside": beside, "form": form, "only_if": "{} (of those tried)"}


def tasks(settings):
    seed, d = [[settings.seed]], settings.d_model
    gates = {"beta_init": settings.beta_inits, "update": (DELTA, WRITE)}
    widths = [width for width in settings.widths if width != d]
    others = cells(settings, beta_init=[1.0], update=[DELTA], d_model=widths, seed=seed)
    return cells(settings, **gates, d_model=[d], seed=seed) + others


def work(there, beta_init, update, d_model, every, n_steps, seed, depth, **sizes):
    network = {"residual": "ddl", "ddl_beta_init": beta_init, "ddl_erase": update == DELTA}
    network |= {"d_model": d_model, "depth": depth, "seed": seed, "dtype": there.dtype}
    config, *drawn = decoder_of_text(**network, **sizes)
    params, text = there.move(drawn)
    states = hidden_states(params, text, config)
    inputs, targets = text[:, :-1], text[:, 1:]
    slopes = grad(lambda p: cross_entropy(transformer(p, inputs, config), targets))(params)
    difference = _difference_of_forms(there, seed, beta_init, n_steps)
    _, norm_at_start = measured(states[0])
    for layer in sorted({1, *range(every, depth + 1, every), depth}):
        rank, norm = measured(states[layer])
        slope = slopes["blocks"][layer - 1]["attention"]["W_o"]
        yield {
            **{"beta_init": beta_init, "update": update, "d_model": d_model, "layer": layer},
            **{"growth": norm / norm_at_start, "effective_rank": rank},
            **_overwriting(states[layer - 1], params["blocks"][layer - 1], config),
            "gradient": float(np.linalg.norm(to_host(slope))),
            "sequence_difference": difference,
        }


def _overwriting(x, block, config):
    """How far an attention sub-layer's update is from leaving (1 − β) of its error k̂ᵀx − v.

    As it is and with ε = 0, relative to the largest error; and the length of its shortest k.
    """
    _, attention, params = next(connections(block, config))
    context = rms_norm(x, **params["norm"], eps=config.ddl_norm_eps)
    k, gate = attention(context), {**params["update"], "context": context}
    exact = deep_delta_residual(x, k, **gate, v_input=context, eps=0.0, erase=config.ddl_erase)
    as_it_is = RESIDUAL_RULES["ddl"].update(x, attention, params, config)
    found = {"shortest_k": float(np.min(np.linalg.norm(to_host(k), axis=-1)))}
    for (column, eps), after in zip(DEVIATIONS.items(), (exact, as_it_is), strict=True):
        direction, beta, v = map(to_host, deep_delta_coefficients(k, **gate, eps=eps))
        before, left = (np.sum(direction * to_host(y), axis=-1) - v[..., 0] for y in (x, after))
        deviation = np.abs(left - (1.0 - beta) * before)
        found[column] = float(np.max(deviation) / np.max(np.abs(before)))
    return found


def _difference_of_forms(there, seed, beta_init, n_steps):
    """The largest difference of the delta rule in chunks to that step by step, gradients too."""
    rng = generator(seed, round(100 * beta_init))
    low, high = max(beta_init - 0.5, 0.0), min(beta_init + 0.5, 2.0)
    q, k, v, R = rng.standard_normal((4, n_steps, 16))
    beta, log_alpha = rng.uniform(low, high, n_steps), -0.1 * rng.random(n_steps)
    arrays = there.move([q, unit_direction(k, eps=0.0), v, beta, log_alpha, R])

    def gradients(form):
        def scalar(arrays):
            *inputs, R = arrays
            answers = delta_rule(*inputs, form=form, chunk_size=16)
            return array_namespace(answers).sum(answers * R)

        return map(to_host, grad(scalar)(arrays))  # the one for R is the answers

    pairs = zip(gradients("recurrent"), gradients("chunked"), strict=True)
    return float(np.max([np.max(np.abs(a - b)) for a, b in pairs]))


ALT = (
    "Three panels. Left: over layers the state's norm grows with the initial gate β₀, less with "
    "erasure than without. Middle: backwards the gradient grows by many orders of magnitude with "
    "erasure, the more the larger β₀, and little without. Right: at β₀ = 1 in several widths."
)
MARKERS = "os^Dv"
LINES = {DELTA: ("-", "erase and write"), WRITE: (":", "write only")}


@plotting.styled
def plot(result, judged):
    figure, (state, gradient, width) = plotting.new_figure(1, 3, size=(17.5, 6.6))
    settings, (_, bounded, keeps, *_) = result.settings, judged
    for ax, claim, limit in ((state, bounded, BOUNDED), (gradient, keeps, EXPLOSION)):
        ax.axhline(limit, color="grey", lw=1)
        ax.annotate("limit", (1.0, limit), xycoords=("axes fraction", "data"), va="center")
        ax.set(title=plotting.wrapped(claim.headline, 50), xlabel="layer")
    for b, look in _looks("viridis", settings.beta_inits):
        for update, (line, name) in LINES.items():
            rows = result.rows.where(beta_init=b, update=update, d_model=settings.d_model)
            x, style = rows.column("layer"), {**look, "ls": line, "label": f"β₀ = {b:g}, {name}"}
            slopes = rows.grid("gradient", "layer")
            state.plot(x, rows.column("growth"), **style)
            gradient.semilogy(x, slopes / slopes[-1], **style)
    figure.legend(*state.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    at_one = result.rows.where(beta_init=1.0, update=DELTA)
    for d, look in _looks("plasma", sorted(at_one.values("d_model"))):
        slopes = at_one.where(d_model=d).grid("gradient", "layer")
        x = 2.0 * (settings.depth - np.asarray(at_one.values("layer"))) / d
        width.semilogy(x, slopes / slopes[-1], **look, label=f"d = {d}")
    width.set(title="Gradient at β₀ = 1 for several widths d", xlabel="sub-layers to the end / d")
    state.set_ylabel("norm of the state / at the start")
    for ax in (gradient, width):
        ax.set_ylabel("gradient of attention's W$_o$ / at the last layer")
    width.legend(loc="upper left")
    return figure


def _looks(colours, values):
    """Yield pairs of a value and its style: colours in order, and a marker."""
    shades = colormaps[colours](np.linspace(0.0, 0.85, len(values)))
    for i, (value, shade) in enumerate(zip(values, shades, strict=True)):
        yield value, {"color": shade, "marker": MARKERS[i % len(MARKERS)], "markevery": 2}
