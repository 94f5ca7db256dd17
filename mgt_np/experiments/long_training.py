"""Is MGT still stable after 200 passes over a small corpus, with β of either sign?

MGT's protocol (2601.01014) has 200 layers and 200 epochs as its far end, and says that a negative β
erases; by its equation it amplifies, x' = (1 + α|β|) x − |β| v, and β > 0 erases. Here: a piece of
a text, bytes, one learning rate; MGT from starts β = tanh b_β of either sign, and a form of it that
can only erase, β = 1 + tanh z in (0, 2), from the β that MGT starts with.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from mgt_np import plotting
from mgt_np.data import load_corpus, windows
from mgt_np.training import load_task
from mgt_np.training.loop import EXPLODED

from .claims import Claim, short
from .experiment import cells, seeds
from .trained import (
    ERRORS,
    MGT,
    MODELS,
    SMALL,
    START,
    Training,
    by_model,
    check_models,
    curves,
    is_lower,
    mgt_against,
    trained,
)

RESUMES = True
OURS = "our question to MGT 2601.01014"
ERASING = "MGT with β > 0 only"
FORMS = {
    MGT: MODELS[MGT],
    **{f"MGT with b_β = {b:g}": {"residual": "mgt", "mgt_b_beta": b} for b in (-0.05, -0.5, -2.0)},
    ERASING: {
        "residual": "mgt",
        "mgt_lam": 1.0,
        "mgt_eps": 1.0,
        "mgt_b_beta": math.atanh(START - 1.0),  # the β of MGT's start
    },
    SMALL: MODELS[SMALL],
}
RISE = 0.1  # nats a byte that the training loss may lie above an earlier one; ours
GROWTH = 100.0  # times that the state may be as large as the embedding; ours


@dataclass(frozen=True)
class Settings(Training):
    """Forms of MGT, and bytes of the piece of text that is passed over.

    Raises ValueError for models that are not among `FORMS`, MGT and another, and for a number of
    steps that is no multiple of `log_every`: each logged loss is a mean over as many steps.
    """

    n_layers: int = 6
    n_bytes: int = 128
    models: tuple[str, ...] = (MGT, "MGT with b_β = -2", ERASING, SMALL)

    def __post_init__(self):
        super().__post_init__()
        check_models(self.models, FORMS)
        if self.n_steps % self.log_every:
            raise ValueError(
                f"expected n_steps to be a multiple of log_every, {self.log_every}, "
                f"got {self.n_steps}"
            )


QUICK = Settings(n_steps=40)
FULL = Settings(
    data="wikitext-2",
    n_layers=200,
    n_bytes=192,
    models=tuple(FORMS),
    batch=8,
    n_steps=300,
    warmup=30,
    log_every=25,
)


def claims(settings):
    layers = f"{settings.n_layers} layers"
    stacks = (
        f"Each of {len(settings.models)} stacks of {layers}, MGT from several β and pre-LN with as "
        "small steps,"
    )
    long = f"over {passes(settings, settings.n_steps):g} passes of {settings.n_bytes} bytes"
    each = f"with each of {settings.n_seeds} seeds"
    return [
        Claim(
            says=f"{stacks} trains to the end {long}",
            source=OURS,
            criterion=f"the loss is finite and the gradients' norm < {short(EXPLODED)} at each of "
            f"{settings.n_steps} steps, {each}",
            measure=lambda result: at_the_end(result).by("{model}", "train_loss", ended),
            passes=lambda part: part == 1.0,
            only_if="it is {}",
            form="{:.0%} of the runs",
            title=f"{layers} train to the end",
        ),
        Claim(
            says=f"{stacks} learns more than the frequencies of its bytes {long}",
            source=OURS,
            criterion="mean training loss of the last logged steps < entropy of the piece's "
            f"bytes, {each}",
            measure=excesses,
            passes=does_learn,
            only_if="it is {}",
            form="{:+.2f} nats",
            title=f"{layers} learn more than the frequencies of bytes",
            beside=held_out,
        ),
        Claim(
            says=f"{stacks} keeps what it has learned {long}",
            source=OURS,
            criterion=f"no logged loss, a mean over {settings.log_every} steps, is {RISE} nats "
            f"above an earlier one, and the last < entropy of the piece's bytes, {each}",
            measure=rises,
            passes=does_keep,
            only_if="it is {}",
            form="{:.2f} nats, {:+.2f} against the bytes' entropy",
        ),
        Claim(
            says=f"{stacks} keeps its last state bounded {long}",
            source=OURS,
            criterion=f"mean norm of the last state < {GROWTH:g} times the embedding's, at each "
            f"logged step, {each}",
            measure=lambda result: result.rows.by("{model}", "growth", np.max),
            passes=lambda growth: growth < GROWTH,
            only_if="it is {}",
            title=f"The state stays bounded behind {layers}",
        ),
        Claim(
            says=f"{layers} of MGT that start with b_β = 0.05 have a lower training loss than its "
            f"other forms and pre-LN with as small steps, {long}",
            source=OURS,
            criterion=f"mean over seeds of MGT's loss − the other's + {ERRORS:g} standard errors "
            "< 0, of the last logged steps",
            measure=against_the_others,
            passes=is_lower,
            only_if="the other is {}",
            form="{:+.3f} ± {:.3f} nats",
        ),
    ]


def passes(settings, step):
    """How often each byte of the piece has been seen, on average, after some steps."""
    return step * settings.batch * settings.n_tokens / settings.n_bytes


def at_the_end(result):
    return result.rows.where(step=result.settings.n_steps)


def ended(losses):
    """The part of the runs that did not break off."""
    return np.mean(np.isfinite(losses))


def excesses(result):
    """{model: the most that the last training loss lies above the entropy of the bytes}."""
    return at_the_end(result).by("{model}", lambda row: row["train_loss"] - row["entropy"], np.max)


def does_learn(excess):
    return excess < 0.0


def rises(result):
    """{model: the most that a logged training loss lies above an earlier one, and its excess}."""
    found, above = {}, excesses(result)
    for model in result.rows.values("model"):
        _, losses = curves(result, model, "train_loss")
        # gaps before a run broke off are NaN, and so is the most of what has one
        rise = float(np.max(losses - np.minimum.accumulate(losses, axis=1)))
        found[model] = (rise, above[model])
    return found


def does_keep(numbers):
    """Whether no loss rises; a stack that learns nothing has nothing to keep."""
    rise, excess = numbers
    return rise < RISE and does_learn(excess)


def against_the_others(result):
    """{other model: mean and standard error of MGT's training loss − its own}."""
    return mgt_against(by_model(at_the_end(result), "train_loss"))


def held_out(result):
    rows = at_the_end(result)
    losses = rows.by("{model}", "valid_loss", np.mean)
    said = "; ".join(f"{model} {loss:.2f}" for model, loss in losses.items())
    return f"Held-out loss, nats: {said}"


def tasks(settings):
    return cells(settings, model=settings.models, seed=seeds(settings))


def work(there, model, seed, folder, n_bytes, **sizes):
    """Train one form, and return a dict for each logged step; a broken run ends with NaN.

    growth is the mean norm of the last state over that of the embedding; entropy that of the
    frequencies of the piece's bytes, in nats. Raises ValueError for more bytes than there are.
    """
    text = load_corpus(sizes["data"]).tokens
    if n_bytes > text.size:
        raise ValueError(f"expected n_bytes of at most the text's {text.size}, got {n_bytes}")
    piece = text[:n_bytes]
    task = over_and_over(piece, sizes)
    run = trained(there, FORMS[model], seed, folder, task=task, **sizes)
    fixed = {"model": model, "seed": seed[-1], "entropy": entropy(piece)}
    names = ("train_loss", "valid_loss", "gradient_norm")
    rows = []
    for row in run.log:
        norms = run.layers.where(step=row["step"]).column("state_norm")
        measured = {name: row[name] for name in names} | {"growth": norms[-1] / norms[0]}
        rows.append(fixed | {"step": row["step"]} | measured)
    if run.broke:
        unknown = dict.fromkeys((*names, "growth"), math.nan)
        rows.append(fixed | {"step": sizes["n_steps"]} | unknown)
    return rows


def over_and_over(piece, sizes):
    """The task of a text, but what it trains on are windows of a piece alone."""
    batch, n_tokens = sizes["batch"], sizes["n_tokens"]

    def draw(rng):
        examples = windows(piece, n_tokens, batch=batch, rng=rng)
        return examples[:, :-1], examples[:, 1:]

    task = load_task(sizes["data"], batch=batch, n_tokens=n_tokens, n_valid=sizes["n_valid"])
    return replace(task, batch=draw)


def entropy(piece):
    p = np.unique(piece, return_counts=True)[1] / piece.size
    return float(-np.sum(p * np.log(p)))


ALT = (
    "Two panels over the passes. Left: the training loss of each form, with the range over seeds, "
    "beside the entropy of the piece's bytes. Right: how many times the embedding's norm the last "
    "state's is, on a logarithmic axis. The legend says how many runs broke off."
)
STYLES = dict(
    zip(
        FORMS,
        (
            {"color": plotting.BLUE, "marker": "o", "ls": "-"},
            {"color": plotting.SKY, "marker": "v", "ls": "-"},
            {"color": plotting.ORANGE, "marker": "s", "ls": "-."},
            {"color": plotting.VERMILLION, "marker": "x", "ls": "--"},
            {"color": plotting.GREEN, "marker": "D", "ls": "-"},
            {"color": plotting.BLACK, "marker": "^", "ls": ":"},
        ),
        strict=True,
    )
)


@plotting.styled
def plot(result, judged):
    settings = result.settings
    figure, (left, right) = plotting.new_figure(1, 2, size=(15.0, 7.4))
    for ax, column in ((left, "train_loss"), (right, "growth")):
        for model in settings.models:
            steps, values = curves(result, model, column)
            places = [passes(settings, step) for step in steps]
            label = f"{model}{broken(result, model)}"
            plotting.band(ax, places, values, label=label, **STYLES[model])
    entropies = result.rows.column("entropy")
    left.axhline(entropies[0], color="grey", lw=1.5, label="entropy of the bytes")
    right.axhline(GROWTH, color="grey", lw=1.5, ls="--")
    place = {"transform": right.get_yaxis_transform(), "va": "top"}
    right.text(0.01, GROWTH * 0.95, "bound", **place)
    every = f"mean over {settings.log_every} steps"
    left.set(xlabel="passes", ylabel=f"training loss, {every} (nats a byte)")
    right.set(xlabel="passes", ylabel="norm of the last state / of the embedding", yscale="log")
    for ax, claim in ((left, judged[1]), (right, judged[3])):
        ax.set_title(plotting.wrapped(claim.headline, 60))
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        title=f"mean, shaded: range over {settings.n_seeds} seeds",
    )
    return figure


def broken(result, model):
    """How many runs broke off, for a legend: nothing of them may be left to draw."""
    losses = at_the_end(result).where(model=model).column("train_loss")
    count = int(np.sum(np.isnan(losses)))
    return f" ({count} of {len(losses)} broke off)" if count else ""
