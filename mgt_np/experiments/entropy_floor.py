"""How far above the known entropy of a language does a trained model stay, by rule and depth?

The language is a Markov chain on 32 symbols: one token of context tells all that there is to know,
so that depth should buy nothing, and should cost nothing where a rule trains well. The papers
(MGT 2601.01014 and its peers) have no such test. The excess is a model's loss on held-out tokens
less that of the chain's own probabilities on the same tokens; it is at least 0 in expectation.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from mgt_np import plotting
from mgt_np.settings import FIXED
from mgt_np.training.tasks import generated_language

from .claims import Claim
from .experiment import cells, seeds
from .trained import (
    ERRORS,
    MGT,
    MODELS,
    SMALL,
    STYLES,
    OverDepths,
    by_model,
    curves,
    is_lower,
    lower_by,
    mgt_against,
    trained,
)

RESUMES = True
SOURCE = "our question to MGT 2601.01014"
NEAR = 0.1  # nats a token above the floor
GROWTH = 0.05  # nats a token
SAMPLING = 0.01  # nats a token, by which chance can bring a loss below the floor


@dataclass(frozen=True)
class Settings(OverDepths):
    """The source is the language, whatever text is asked for."""

    data: str = field(default="known-entropy", metadata=FIXED)
    n_steps: int = 40
    log_every: int = 20
    depths: tuple[int, ...] = (1, 3)


QUICK = Settings()
FULL = Settings(
    depths=(2, 6, 12, 24),
    models=(MGT, "Post-LN", "Pre-LN", SMALL, "Pre-LN/√L", "DeepNorm", "ReZero"),
    d_model=32,
    n_heads=4,
    n_tokens=32,
    batch=16,
    n_steps=500,
    warmup=50,
    log_every=50,
    n_valid=16,
)


def claims(settings):
    after = f"after {settings.n_steps} steps"
    shallow, deep = settings.depths[0], settings.depths[-1]
    depths = ", ".join(map(str, settings.depths))
    every = f"with each of {settings.n_seeds} seeds, at each depth of {depths} layers"
    return [
        Claim(
            says=f"Decoders of {shallow} to {deep} layers come within {NEAR} nats of the entropy "
            "of a Markov chain",
            source=SOURCE,
            criterion=f"excess < {NEAR} nats a token {after}, {every}",
            measure=lambda result: at_end(result).by("{model}", "excess", np.max),
            passes=lambda excess: excess < NEAR,
            only_if="the rule is {}",
            form="{:.3f} nats",
            title=f"Each rule comes within {NEAR} nats of the floor at every depth",
        ),
        Claim(
            says=f"{deep} trained layers of MGT stay closer to the entropy of a Markov chain than "
            "other rules' do",
            source=SOURCE,
            criterion=f"mean over seeds of MGT's excess − the other's + {ERRORS:g} standard errors "
            f"< 0, {after}",
            measure=against_others,
            passes=is_lower,
            only_if="the other is {}",
            form="{:+.3f} ± {:.3f} nats",
            title=f"MGT's excess is lower than other rules' at {deep} layers",
        ),
        Claim(
            says=f"Where one token of context suffices, {deep} layers learn as well as {shallow}",
            source=SOURCE,
            criterion=f"mean over seeds of the excess of {deep} layers − that of {shallow} "
            f"+ {ERRORS:g} standard errors < {GROWTH} nats a token, and the excess of {deep} "
            f"layers < {without_context():.3f} nats, that of the best model without context, with "
            f"each seed, {after}",
            measure=growths,
            passes=does_not_grow,
            only_if="the rule is {}",
            form="{:+.3f} ± {:.3f} nats, {:+.2f} against the best without context",
            title=f"{deep} layers learn as well as {shallow}",
        ),
        Claim(
            says="No trained decoder's loss lies below the entropy of a Markov chain by more than "
            "sampling allows",
            source="a check: below it a target would have leaked",
            criterion=f"excess > −{SAMPLING} nats a token at each logged step before a run breaks "
            f"off, {every}",
            measure=lambda result: result.rows.by("{model}", "excess", least),
            passes=lambda excess: excess > -SAMPLING,
            only_if="the rule is {}",
            form="{:+.3f} nats",
        ),
    ]


def at_end(result, **where):
    return result.rows.where(step=result.settings.n_steps, **where)


def against_others(result):
    """{other model: mean and standard error of MGT's excess − its own, at the deepest}."""
    return mgt_against(by_model(at_end(result, layers=result.settings.depths[-1]), "excess"))


def growths(result):
    """{model: mean and standard error of the excess added by depth, and how far above none}.

    The last is the largest excess of the deepest − that of the best model without context.
    """
    (shallow, *_, deep), found = result.settings.depths, {}
    for model in result.rows.values("model"):
        few, many = (
            at_end(result, model=model, layers=layers).column("excess")
            for layers in (shallow, deep)
        )
        found[model] = (*lower_by(many, few), float(np.max(many)) - without_context())
    return found


def does_not_grow(numbers):
    """Whether the excess does not grow; a rule that learns nothing at any depth does not pass."""
    mean, error, above = numbers
    return mean + ERRORS * error < GROWTH and above < 0.0


def without_context():
    """The excess of the symbols' own frequencies: the least that needs no context."""
    language = generated_language()
    return language.unigram_entropy - language.entropy_rate


def least(excesses):
    """The least number: a run that broke off leaks nothing. NaN where there is none."""
    return min((x for x in excesses if not math.isnan(x)), default=math.nan)


def tasks(settings):
    axes = {"n_layers": settings.depths, "model": settings.models}
    return cells(settings, **axes, seed=seeds(settings))


def work(there, model, seed, folder, **sizes):
    """A row for each logged step; a run that broke off has a last one of NaN."""
    run = trained(there, MODELS[model], seed, folder, **sizes)
    fixed = {"model": model, "layers": run.config.n_layers, "seed": seed[-1]}
    losses = {row["step"]: row["valid_loss"] for row in run.log}
    if run.broke:
        losses[sizes["n_steps"]] = math.nan
    for step, loss in losses.items():
        yield fixed | {"step": step, "valid_loss": loss, "excess": loss - run.task.valid_floor}


ALT = (
    "Two panels, a curve a rule with the range over seeds, on an axis that is logarithmic above "
    "0.01 nats: left the excess over the language's entropy after training, over depth; right the "
    "excess of the deepest models over the steps of training. Lines at the threshold of 0.1 and at "
    "the best excess without context."
)


def over_depths(result, model):
    """The depths, and the excesses (seeds, depths) after training."""
    depths = result.settings.depths
    return depths, at_end(result, model=model).grid("excess", "seed", "layers")


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 2, size=(15.0, 8.0), sharey=True)
    settings = result.settings
    deepest = dataclasses.replace(result, rows=result.rows.where(layers=settings.depths[-1]))
    for model in settings.models:
        style = STYLES[model] | {"label": model}
        plotting.band(axes[0], *over_depths(result, model), **style)
        plotting.band(axes[1], *curves(deepest, model, "excess"), **style)
    axes[0].set_xscale("log")
    axes[0].set_xticks(settings.depths, map(str, settings.depths))
    axes[0].minorticks_off()
    axes[0].set(xlabel="layers", ylabel="excess over the entropy (nats a token)")
    axes[1].set(xlabel=f"training steps of {settings.depths[-1]} layers")
    blind = without_context()
    for ax, titles in zip(axes, ((judged[0], judged[2]), (judged[1],)), strict=True):
        ax.set_yscale("symlog", linthresh=SAMPLING, linscale=0.3)
        ax.axhline(blind, color="grey", lw=1.5, zorder=0, label="best without context")
        ax.axhline(NEAR, color="grey", lw=1.5, ls="--", zorder=0, label=f"within {NEAR:g} nats")
        ax.set_title("\n".join(plotting.wrapped(each.headline, 68) for each in titles))
    ticks = (0.0, SAMPLING, 0.03, NEAR, 0.3, 1.0, 3.0)
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    lowest = min(filter(math.isfinite, result.rows.column("excess")), default=0.0)
    axes[0].set_ylim(bottom=min(0.0, lowest - SAMPLING))
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        title=f"{settings.n_steps} steps; shaded: range over {settings.n_seeds} seeds",
    )
    return figure
