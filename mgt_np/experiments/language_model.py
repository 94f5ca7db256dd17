"""Does MGT train into a better language model than its peers at equal depth?

MGT's protocol (2601.01014) trains 48 layers on WikiText-2 beside Post-LN, and reports no loss.
Here: bytes, small widths, three seeds, one learning rate for all models, none of them tuned; two
controls that the paper lacks, pre-LN with a step as small as MGT's first, and with 1/√L.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting

from .claims import Claim
from .experiment import cells, seeds
from .trained import (
    ERRORS,
    MGT,
    MODELS,
    STYLES,
    Training,
    at_end,
    check_models,
    curves,
    is_lower,
    lower_by,
    mgt_against,
    trained_rows,
)

RESUMES = True
PAPER = "MGT 2601.01014, a prediction, as reported"
KEPT = 0.5  # effective rank over min(N, d) that MGT predicts for itself


@dataclass(frozen=True)
class Settings(Training):
    """The number of layers, and the models that are compared."""

    n_layers: int = 4
    models: tuple[str, ...] = tuple(MODELS)

    def __post_init__(self):
        super().__post_init__()
        check_models(self.models, MODELS)


QUICK = Settings()
FULL = Settings(
    data="wikitext-2",
    n_layers=48,
    d_model=32,
    n_heads=4,
    n_tokens=32,
    batch=16,
    n_steps=600,
    warmup=50,
    log_every=50,
    n_valid=16,
)


def claims(settings):
    beats = f"mean over seeds of MGT's loss − the other's + {ERRORS:g} standard errors < 0"
    trained = f"{settings.n_layers} layers of width {settings.d_model}, trained"
    return [
        Claim(
            says=f"{trained} for {settings.n_steps} steps, have a lower loss with MGT than with "
            "other rules",
            source=PAPER,
            criterion=f"{beats}, after {settings.n_steps} steps",
            measure=at_equal_steps,
            passes=is_lower,
            only_if="the other is {}",
            form="{:+.3f} ± {:.3f} nats",
            title="MGT's loss is lower than other rules'",
            readme=True,
        ),
        Claim(
            says=f"{trained} until steps × weights are equal, have a lower loss with MGT than with "
            "other rules",
            source="our question to MGT 2601.01014",
            criterion=f"{beats}, at the last logged steps of at most the cheaper run's steps × "
            "weights, where the dearer run's learning rate has not come to its end",
            measure=at_equal_arithmetic,
            passes=is_lower,
            only_if="the other is {}",
            form="{:+.3f} ± {:.3f} nats",
            readme=True,
        ),
        Claim(
            says=f"{settings.n_layers} trained layers predict bytes better than counts of bytes do",
            source="our question to MGT 2601.01014",
            criterion="loss < that of bytes counted in the train split, with each seed",
            measure=lambda result: result.rows.where(step=settings.n_steps).by(
                "{model}", lambda row: row["valid_loss"] - row["unigram"], np.max
            ),
            passes=lambda difference: difference < 0.0,
            only_if="the rule is {}",
            form="{:+.2f} nats",
        ),
        Claim(
            says=f"The last state has an effective rank above {KEPT} after training",
            source=PAPER,
            criterion=f"rank / min(N, d) > {KEPT} with each of {settings.n_seeds} seeds",
            measure=lambda result: result.rows.where(step=settings.n_steps).by(
                "{model}", "rank", np.min
            ),
            passes=lambda rank: rank > KEPT,
            only_if="the rule is {}",
            title="The rank stays above one half in training",
        ),
    ]


def at_equal_steps(result):
    """{other model: mean and standard error of MGT's loss − its own}."""
    return mgt_against(at_end(result))


def at_equal_arithmetic(result):
    """The same, each pair at the last logged steps within the arithmetic of the cheaper run."""
    mine = result.rows.where(model=MGT)
    found = {}
    for model in result.rows.values("model"):
        if model != MGT:
            other = result.rows.where(model=model)
            budget = min(arithmetic(rows[-1]) for rows in (mine, other))
            found[model] = lower_by(within(mine, budget), within(other, budget))
    return found


def arithmetic(row):
    """Steps times weights, up to a row: the part of the arithmetic that `n_weights` counts."""
    return row["step"] * row["weights"]


def within(rows, budget):
    """The losses, one a seed, at the last logged step that the budget pays for; else NaN."""
    step = max((row["step"] for row in rows if arithmetic(row) <= budget), default=None)
    found = {row["seed"]: row["valid_loss"] for row in rows.where(step=step)}
    return [found.get(seed, np.nan) for seed in rows.values("seed")]


def tasks(settings):
    return cells(settings, model=settings.models, seed=seeds(settings))


def work(there, model, seed, folder, **sizes):
    return trained_rows(there, model, seed, folder, **sizes)


ALT = (
    "Two panels. Left: the loss on held-out text over the steps of training, a curve a rule with "
    "the range over seeds, the unigram's loss as a line. Right: the effective rank of the last "
    "state over the steps, with MGT's threshold of one half."
)


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 2, size=(15.0, 7.0))
    panels = (
        (judged[0], "valid_loss", "held-out loss (nats a byte)"),
        (judged[3], "rank", "effective rank of the last state / min(N, d)"),
    )
    for ax, (claim, column, label) in zip(axes, panels, strict=True):
        for model in result.settings.models:
            plotting.band(ax, *curves(result, model, column), label=model, **STYLES[model])
        ax.set(xlabel="training steps", ylabel=label)
        ax.set_title(plotting.wrapped(claim.headline, 60))
    unigram = np.mean(result.rows.column("unigram"))
    axes[0].axhline(unigram, color="grey", lw=1.5, label="unigram")
    axes[1].axhline(KEPT, color="grey", lw=1.5)
    place = {"transform": axes[1].get_yaxis_transform(), "va": "top"}
    axes[1].text(0.01, KEPT - 0.01, "MGT's threshold", **place)
    axes[1].set_ylim(0, 1)
    settings = result.settings
    layers, steps, n_seeds = settings.n_layers, settings.n_steps, settings.n_seeds
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        title=f"{layers} layers, {steps} steps; shaded: range over {n_seeds} seeds",
    )
    return figure
