"""Which part of MGT's update helps: the gate, the erasure, β, or all of them together?

MGT's protocol (2601.01014) removes its parts in turn, and names a "synergy coefficient" of which no
formula is published. Both of ours take four models, 2 × 2, with losses ℓ₀ (neither part), ℓ₁, ℓ₂
(one) and ℓ₁₂ (both), and N = ℓ₀ − ℓ₁₂, D = (ℓ₀ − ℓ₁) + (ℓ₀ − ℓ₂): the interaction N − D, in nats,
and the ratio N/D. For D > 0 they agree on the sign; where D is not above 0 there is no ratio.
The gate has d² weights in a sub-layer, a sixth more than a block without it; it is a half in the
mean at the start, so that a gate of ½ is its control as much as one of 1.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.layers import MHC_CONVENTIONS

from .claims import Claim
from .experiment import cells, seeds
from .trained import (
    ERRORS,
    MGT,
    MODELS,
    SMALL,
    START,
    Training,
    at_end,
    is_lower,
    lower_by,
    trained,
)

RESUMES = True
PAPER = "MGT 2601.01014, a question of its protocol, as reported"
NEGLIGIBLE = 0.01  # nats: differences between published rules begin there

NO_GATE, HALF, NO_ERASURE = "gate 1", "gate ½", "α = 0"
CONSTANT, ONE = "β held at its start", "β = 1"
NEITHER, GATE_ALONE = "gate 1, α = 0", "gate alone: β = 1, α = 0"
WRITE_ONLY, IDENTITY = "DDL, write only", "mHC, H_res = I"
UNMIXED = dataclasses.replace(MHC_CONVENTIONS["paper"], mixing="circulant", gamma=0.0)

VARIANTS = {
    MGT: MODELS[MGT],
    NO_GATE: {"residual": "mgt_ddl_only"},
    # (β/2) (F − 2α x) = β (F/2 − α x)
    HALF: {"residual": "mgt_ddl_only", "mgt_lam": 0.5, "mgt_alpha": 0.2},
    NO_ERASURE: {"residual": "mgt", "mgt_alpha": None},
    CONSTANT: {"residual": "mgt", "mgt_lam": 0.0, "mgt_eps": START},
    ONE: {"residual": "mgt", "mgt_lam": 0.0, "mgt_eps": 1.0},
    NEITHER: {"residual": "mgt_ddl_only", "mgt_alpha": None},
    GATE_ALONE: {"residual": "mgt_mhc_only"},
    **{name: MODELS[name] for name in ("Pre-LN", SMALL, "ReZero", "DDL")},
    WRITE_ONLY: {"residual": "ddl", "ddl_erase": False},
    "mHC": MODELS["mHC"],
    IDENTITY: {"residual": "mhc", "mhc_convention": UNMIXED},
}
PARTS = {
    "the gate (else 1)": NO_GATE,
    "the gate (else ½)": HALF,
    "the erasure": NO_ERASURE,
    "a β that is learned": CONSTANT,
    "β (else 1)": ONE,
}
# names of the four models of a square: neither part, one, the other, both
SQUARES = {
    "gate × erasure, β in all four": (NEITHER, NO_ERASURE, NO_GATE, MGT),
    "gate × (β and erasure)": ("Pre-LN", GATE_ALONE, NO_GATE, MGT),
}
OTHERS = ("Pre-LN", SMALL, "ReZero", "DDL", "mHC")


@dataclass(frozen=True)
class Settings(Training):
    """The number of layers."""

    n_layers: int = 3
    d_model: int = 8
    n_tokens: int = 8
    log_every: int = 20
    n_valid: int = 2


QUICK = Settings()
FULL = Settings(
    data="wikitext-2",
    n_layers=12,
    d_model=32,
    n_heads=4,
    n_tokens=32,
    batch=16,
    n_steps=400,
    warmup=50,
    log_every=200,
    n_valid=16,
)


def claims(settings):
    after = f"after {settings.n_steps} steps of {settings.n_layers} layers"
    lower = f"+ {ERRORS:g} standard errors < 0, {after}"
    above = f"− {ERRORS:g} standard errors"
    return [
        Claim(
            says=f"Each part of MGT's update lowers the loss of {settings.n_layers} trained layers",
            source=PAPER,
            criterion=f"mean over seeds of MGT's loss − its loss without the part {lower}",
            measure=without_a_part,
            passes=is_lower,
            only_if="the part is {}",
            form="{:+.3f} ± {:.3f} nats",
            title="Each part of MGT's update lowers its loss",
            readme=True,
        ),
        Claim(
            says=f"Two parts of MGT lower the loss of {settings.n_layers} trained layers by more "
            "than the sum of what each does alone",
            source=f"{PAPER}; the formula, N − D, is ours",
            criterion=f"mean over seeds of N − D {above} > 0, {after}",
            measure=interactions,
            passes=lambda mine: mine[0] - ERRORS * mine[1] > 0.0,
            only_if="the parts are {}",
            form="{:+.3f} ± {:.3f} nats",
            title="Two parts of MGT do more than the sum of each alone (N − D > 0)",
            readme=True,
        ),
        Claim(
            says="The ratio of what two parts of MGT together lower the loss by to the sum of what "
            "each does alone, N/D, is above 1",
            source=f"{PAPER}; the formula, N/D, is ours",
            criterion=f"means over seeds of D {above} > 0 (else there is no ratio), "
            f"and of N/D {above} > 1, {after}",
            measure=ratios,
            passes=lambda mine: mine[0] - ERRORS * mine[1] > 1.0,
            only_if="the parts are {}",
            form="N/D {:.2f} ± {:.2f}, D {:+.3f} ± {:.3f} nats",
        ),
        Claim(
            says="Other rules reach a lower loss than the whole of MGT",
            source="our question to MGT 2601.01014",
            criterion=f"mean over seeds of the rule's loss − MGT's {lower}",
            measure=of_other_rules,
            passes=is_lower,
            only_if="the rule is {}",
            form="{:+.3f} ± {:.3f} nats",
        ),
        Claim(
            says="Erasing along k lowers DDL's loss, beside DDL that only writes",
            source="DDL 2601.00417, a control that its authors ask for",
            criterion=f"mean over seeds of DDL's loss − that of β v k alone {lower}",
            measure=lambda result: pairs(result, {"DDL − write only": ("DDL", WRITE_ONLY)}),
            passes=is_lower,
            form="{:+.3f} ± {:.3f} nats",
        ),
        Claim(
            says="mHC that starts near H_res = I loses nothing where H_res = I all along",
            source="our question to mHC 2512.24880",
            criterion=f"mean over seeds of its loss with H_res = I − mHC's + {ERRORS:g} "
            f"standard errors < {NEGLIGIBLE} nats, {after}",
            measure=lambda result: pairs(result, {"H_res = I − mHC": (IDENTITY, "mHC")}),
            passes=lambda mine: is_lower((mine[0] - NEGLIGIBLE, mine[1])),
            form="{:+.3f} ± {:.3f} nats",
        ),
    ]


def pairs(result, named):
    """{condition: mean and standard error of one model's loss − another's, seed by seed}."""
    losses = at_end(result)
    return {name: lower_by(losses[mine], losses[other]) for name, (mine, other) in named.items()}


def without_a_part(result):
    return pairs(result, {part: (MGT, other) for part, other in PARTS.items()})


def of_other_rules(result):
    return pairs(result, {other: (other, MGT) for other in OTHERS})


def gains(result, square):
    """N and D of a square, an array over seeds each: what both parts gain, and each alone."""
    losses = at_end(result)
    neither, one, other, both = (np.asarray(losses[name]) for name in SQUARES[square])
    return neither - both, (neither - one) + (neither - other)


def interactions(result):
    return {square: lower_by(*gains(result, square)) for square in SQUARES}


def ratios(result):
    """{square: mean and error of N/D, mean and error of D}: NaN for N/D where D may be 0."""
    found = {}
    for square in SQUARES:
        both, sum_of_each = gains(result, square)
        mean, error = lower_by(sum_of_each, 0.0)
        above_0 = mean - ERRORS * error > 0.0
        ratio = lower_by(both / sum_of_each, 0.0) if above_0 else (math.nan, math.nan)
        found[square] = (*ratio, mean, error)
    return found


def tasks(settings):
    return cells(settings, model=tuple(VARIANTS), seed=seeds(settings))


def work(there, model, seed, folder, **sizes):
    """Train one variant; its loss after the last step, NaN where the run broke off."""
    run = trained(there, VARIANTS[model], seed, folder, **sizes)
    loss = math.nan if run.broke else run.log[-1]["valid_loss"]
    yield {"model": model, "seed": seed[-1], "step": sizes["n_steps"], "valid_loss": loss}


ALT = (
    "Two panels. Left: the loss on held-out text of MGT, of MGT without one or more of its parts, "
    "and of other rules, ordered by their mean over seeds, a dot a seed. Right: the interaction of "
    "two pairs of parts with two standard errors, the ratio in words beside it."
)


@plotting.styled
def plot(result, judged):
    figure, (ax, right) = plotting.new_figure(1, 2, size=(15.0, 7.5), width_ratios=(1.25, 1.0))
    losses = at_end(result)
    order = sorted(losses, key=lambda model: -np.mean(losses[model]))
    for place, model in enumerate(order):
        own = model not in (*OTHERS, WRITE_ONLY, IDENTITY)
        color = plotting.BLACK if not own else plotting.BLUE
        color = plotting.VERMILLION if model == MGT else color
        ax.plot(losses[model], [place] * len(losses[model]), "o", color=color, alpha=0.6, ms=7)
        ax.plot(np.mean(losses[model]), place, "|", color=color, ms=20, mew=2.5)
    ax.axvline(np.mean(losses[MGT]), color=plotting.VERMILLION, lw=1, ls=":")
    ax.set_yticks(range(len(order)), [label(model) for model in order])
    ax.set_xlabel("held-out loss (nats a byte); dots: seeds, bars: their means")
    ax.set_title(plotting.wrapped(judged[0].headline, 62))

    for place, (square, number) in enumerate(reversed(interactions(result).items())):
        ratio, error, total, its_error = ratios(result)[square]
        right.errorbar(
            number[0], place, xerr=ERRORS * number[1], fmt="o", color=plotting.BLUE, capsize=6
        )
        both, sum_of_each = gains(result, square)
        differences = both - sum_of_each
        right.plot(differences, np.full(differences.shape, place - 0.08), "|", color="grey", ms=10)
        said = "N/D: none" if math.isnan(ratio) else f"N/D = {ratio:.2f} ± {error:.2f}"
        text = f"{square}\n{said}   (D = {total:+.3f} ± {its_error:.3f})"
        at = {"xycoords": ("axes fraction", "data"), "va": "bottom"}
        right.annotate(text, (0.02, place + 0.12), **at, bbox={"color": "white", "pad": 1.0})
    right.axvline(0.0, color="grey", lw=1.5)
    right.set(yticks=[], ylim=(-0.4, len(SQUARES) - 0.4))
    right.set_xlabel(f"N − D (nats): mean and {ERRORS:g} standard errors; strokes: seeds")
    right.set_title(plotting.wrapped(judged[1].headline, 52))
    settings = result.settings
    figure.supxlabel(
        f"{settings.n_layers} layers, {settings.n_steps} steps, {settings.n_seeds} seeds. "
        "Red: MGT; blue: parts of it left out; black: other rules",
        fontsize=13,
    )
    return figure


def label(model):
    """A variant's name on the axis: those of MGT say so."""
    mgts = (NO_GATE, HALF, NO_ERASURE, CONSTANT, ONE, NEITHER)
    return f"MGT, {model}" if model in mgts else model
