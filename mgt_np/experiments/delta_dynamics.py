"""What does Deep Delta Learning do over depth, to errors, state and gradient?

DDL (2601.00417), d_v = 1, at the start of training: x' = x + β (v − k̂ᵀx) k̂ with k̂ = k/√(‖k‖² + ε²),
and the control that its authors ask for, which writes only: x' = x + β v k̂. With a v that knows
nothing of x a step takes β(2 − β)(k̂ᵀx)² from ‖x‖² and adds β²v²: what is erased can balance what
is written, in the state. The gradient sees more than I − βk̂k̂ᵀ, for k̂ depends on x too.
"""

from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib import colormaps

from mgt_np import layers, plotting
from mgt_np.arrays import array_namespace, grad, to_host
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
    """Initial gates β₀ and sizes; `widths` are run at β₀ = 1, beside `d_model`."""

    seed: int = 0
    depth: int = 200
    data: str = "python-docs"
    beta_inits: tuple[float, ...] = (0.02, 0.5, 1.0, 1.5, 1.98)
    widths: tuple[int, ...] = (16, 32)
    every: int = 10  # which layers are measured
    d_model: int = 64
    n_heads: int = 4
    n_tokens: int = 32
    n_windows: int = 1
    n_steps: int = 64  # tokens of the sequences that compare the two forms of `delta_rule`


QUICK = Settings()
FULL = Settings(depth=400, n_windows=4, n_tokens=64, widths=(16, 32, 128), n_steps=400)


def claims(settings):
    tolerance, gated = TOLERANCE[settings.dtype], "gated, β near each β₀"
    overwriting = Claim(
        says="An update leaves (1 − β) of the error k̂ᵀx − v: β = 1 overwrites exactly",
        source="DDL 2601.00417, PDF of July 2026",
        criterion=f"largest deviation ≤ {tolerance:g} of the layer's largest error",
        measure=lambda result: {
            f"ε = {short(eps)}": np.max(result.rows.where(update=DELTA).column(column))
            for column, eps in DEVIATIONS.items()
        },
        passes=lambda deviation: deviation <= tolerance,
        only_if="{} in k̂ = k/√(‖k‖² + ε²)",
        form="{:.0e}",
        beside=_left_by_eps,
    )
    forms = Claim(
        says="The delta rule in chunks (WY form) equals the recurrence, gradients too",
        source="Yang et al. 2406.06484",
        criterion=f"largest difference ≤ {tolerance:g} over {settings.n_steps} tokens",
        measure=lambda result: result.rows.by(gated, "sequence_difference", np.max),
        passes=lambda difference: difference <= tolerance,
        form="{:.1e}",
    )
    return [overwriting, *_of_each_gate(settings.depth), forms]


def _left_by_eps(result):
    """What ε leaves of an error beside (1 − β) of it, βε²/‖k‖², at most: β < 2."""
    shortest = min(result.rows.where(update=DELTA).column("shortest_k"))
    return f"Shortest ‖k‖ {shortest:.2g}: 2ε²/‖k‖² = {2.0 * (EPS / shortest) ** 2:.0e}"


def _of_each_gate(depth):
    return [
        Claim(
            says="The erasure bounds the state's norm",
            source="our reading of DDL's write-only control",
            criterion=f"it grows at most {BOUNDED:g}-fold over {depth} layers",
            passes=lambda ratio: ratio <= BOUNDED,
            **_over_layers("growth", np.max, "× {:.2g}"),
        ),
        Claim(
            says="In Deep Delta Learning ‖I − βkkᵀ‖ ≤ 1 keeps the gradient from exploding",
            source="a reading of DDL's theorem 3.1 that its authors warn of",
            criterion=f"at layer 1 it is at most {EXPLOSION:g} times that at layer {depth}",
            passes=lambda ratio: ratio <= EXPLOSION,
            title="‖I − βkkᵀ‖ ≤ 1 keeps the gradient from exploding",
            readme=True,
            **_over_layers("gradient", lambda slopes: slopes[0] / slopes[-1], "× {:.2g}"),
        ),
        Claim(
            says=f"DDL keeps normalised effective rank > 0.5 at depth {depth}",
            source="MGT 2601.01014, a prediction, as reported, of its delta part",
            criterion="normalised effective rank > 0.5",
            passes=lambda rank: rank > 0.5,
            **_over_layers("effective_rank", lambda ranks: ranks[-1], "{:.2f}"),
        ),
    ]


def _over_layers(column, reduce, form):
    """What claims on a column over the layers share: a number for each β₀, write only beside."""

    def measure(result, update=DELTA):
        rows = result.rows.where(update=update, d_model=result.settings.d_model)
        return rows.by("β₀ = {beta_init:g}", column, reduce)

    def beside(result):
        return f"Write only: {extent(measure(result, WRITE).values(), form)}"

    return {"measure": measure, "beside": beside, "form": form, "only_if": "{} (of those tried)"}


def tasks(settings):
    seed, d = [[settings.seed]], settings.d_model
    gates = {"beta_init": settings.beta_inits, "update": (DELTA, WRITE)}
    widths = [width for width in settings.widths if width != d]
    others = cells(settings, beta_init=[1.0], update=[DELTA], d_model=widths, seed=seed)
    return cells(settings, **gates, d_model=[d], seed=seed) + others


def work(there, beta_init, update, every, n_steps, seed, **sizes):
    rule = {"residual": "ddl", "ddl_beta_init": beta_init, "ddl_erase": update == DELTA}
    config, *drawn = decoder_of_text(seed=seed, dtype=there.dtype, **rule, **sizes)
    params, text = there.move(drawn)
    states = hidden_states(params, text, config)
    inputs, targets = text[:, :-1], text[:, 1:]
    slopes = grad(lambda p: layers.cross_entropy(transformer(p, inputs, config), targets))(params)
    labels = {"beta_init": beta_init, "update": update, "d_model": config.d_model}
    difference = _difference_of_forms(there, seed, beta_init, n_steps)
    _, norm_at_start = measured(states[0])
    for layer in sorted({1, *range(every, config.n_layers + 1, every), config.n_layers}):
        rank, norm = measured(states[layer])
        slope = slopes["blocks"][layer - 1]["attention"]["W_o"]
        yield {
            **labels,
            **{"layer": layer, "growth": norm / norm_at_start, "effective_rank": rank},
            **_overwriting(states[layer - 1], params["blocks"][layer - 1], config),
            "gradient": float(np.linalg.norm(to_host(slope))),
            "sequence_difference": difference,
        }


def _overwriting(x, block, config):
    """How far an attention sub-layer's update is from leaving (1 − β) of its error k̂ᵀx − v.

    With each ε, relative to the largest error; and the length of its shortest k.
    """
    _, attention, params = next(connections(block, config))
    context = layers.rms_norm(x, **params["norm"], eps=config.ddl_norm_eps)
    k, gate = attention(context), params["update"] | {"context": context, "v_input": context}
    found = {"shortest_k": float(np.min(np.linalg.norm(to_host(k), axis=-1)))}
    for column, eps in DEVIATIONS.items():
        if eps:  # as the decoder does it
            after = RESIDUAL_RULES["ddl"].update(x, attention, params, config)
        else:
            after = layers.deep_delta_residual(x, k, **gate, eps=0.0, erase=config.ddl_erase)
        coefficients = layers.deep_delta_coefficients(k, **gate, eps=eps)
        direction, beta, v = map(to_host, coefficients)
        before, left = (np.sum(direction * to_host(y), axis=-1) - v[..., 0] for y in (x, after))
        deviation = np.abs(left - (1.0 - beta) * before)
        found[column] = float(np.max(deviation) / np.max(np.abs(before)))
    return found


def _difference_of_forms(there, seed, beta_init, n_steps):
    """The largest difference of the delta rule in chunks to that step by step, gradients too.

    β is uniform within 0.5 of β₀.
    """
    rng = generator(seed, round(100 * beta_init))
    low, high = max(beta_init - 0.5, 0.0), min(beta_init + 0.5, 2.0)
    q, k, v, R = rng.standard_normal((4, n_steps, 16))
    beta, log_alpha = rng.uniform(low, high, n_steps), -0.1 * rng.random(n_steps)
    arrays = there.move([q, layers.unit_direction(k, eps=0.0), v, beta, log_alpha, R])

    def scalar(arrays, form):
        *inputs, R = arrays
        answers = layers.delta_rule(*inputs, form=form, chunk_size=16)
        return array_namespace(answers).sum(answers * R)  # its gradient by R is the answers

    pairs = zip(*(grad(scalar)(arrays, form) for form in ("recurrent", "chunked")), strict=True)
    return float(np.max([np.max(np.abs(to_host(a) - to_host(b))) for a, b in pairs]))


ALT = (
    "Two panels. Left: over layers the state's norm grows with the initial gate β₀, less with "
    "erasure than without. Right: backwards the gradient grows by many orders of magnitude with "
    "erasure, the more the larger β₀, and little without."
)
LINES = {DELTA: ("-", "erase and write"), WRITE: (":", "write only")}


@plotting.styled
def plot(result, judged):
    figure, (state, gradient) = plotting.new_figure(1, 2, size=(16.5, 6.6))
    betas, rows = result.settings.beta_inits, result.rows.where(d_model=result.settings.d_model)
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(betas)))
    for b, shade, marker in zip(betas, shades, cycle("os^Dv"), strict=False):
        for update, (line, name) in LINES.items():
            of_one = rows.where(beta_init=b, update=update)
            x, slopes = of_one.column("layer"), of_one.grid("gradient", "layer")
            look = {"color": shade, "marker": marker, "markevery": 2, "ls": line}
            state.plot(x, of_one.column("growth"), **look, label=f"β₀ = {b:g}, {name}")
            gradient.semilogy(x, slopes / slopes[-1], **look)
    state.set_ylabel("norm of the state / at the start")
    gradient.set_ylabel("gradient of attention's W$_o$ / at the last layer")
    for ax, claim, limit in ((state, judged[1], BOUNDED), (gradient, judged[2], EXPLOSION)):
        ax.axhline(limit, color="grey", lw=1)
        ax.annotate("limit", (1.0, limit), xycoords=("axes fraction", "data"), va="center")
        ax.set(title=plotting.wrapped(claim.headline, 60), xlabel="layer")
    figure.legend(loc="outside lower center", ncols=5)
    return figure
