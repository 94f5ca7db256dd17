"""Does a stack of MGT still train at 200 layers, where its peers do not?

MGT's protocol (2601.01014) goes from 12 to 200 layers, and reports no loss. Here: bytes, narrow
decoders, few steps, three seeds. All rules get the same two learning rates, none is tuned for one
rule, and each is judged, at each depth, by its better one, which is picked on the same held-out
batches and seeds that then judge it: a rule that fails fails at both.
"""

import math
from dataclasses import dataclass

import numpy as np

from mgt_np import plotting

from .claims import Claim
from .experiment import cells, seeds
from .rows import Rows
from .trained import (
    ERRORS,
    MGT,
    SMALL,
    STYLES,
    OverDepths,
    by_model,
    is_lower,
    lower_by,
    mgt_against,
    trained_rows,
)

RESUMES = True
PAPER = "MGT 2601.01014, a prediction, as reported"
OURS = "our question to MGT 2601.01014"
GROWTH = 0.05  # nats a byte that more layers may cost, 0.07 bits; ours


@dataclass(frozen=True)
class Settings(OverDepths):
    """Depths, rules and learning rates: with less than these few steps reach no unigram's loss.

    Raises ValueError for a rate that is there twice, beside what `OverDepths` does.
    """

    lr: tuple[float, ...] = (3e-3, 1e-2)
    depths: tuple[int, ...] = (2, 4)
    models: tuple[str, ...] = (MGT, "Post-LN", "Pre-LN", SMALL)

    def __post_init__(self):
        super().__post_init__()
        if len({*self.lr}) < len(self.lr):
            raise ValueError(f"expected each lr once, got {self.lr}")


QUICK = Settings(log_every=20)
FULL = Settings(
    data="wikitext-2",
    depths=(12, 24, 48, 100, 200),
    models=(MGT, "Post-LN", "Pre-LN", SMALL, "Pre-LN/√L", "DeepNorm", "ReZero"),
    batch=8,
    n_steps=150,
    warmup=15,
    log_every=150,
    n_valid=16,
)


def claims(settings):
    shallow, deep = settings.depths[0], settings.depths[-1]
    after = f"after {settings.n_steps} steps, at the better of {len(settings.lr)} learning rates"
    learns = f"loss < that of bytes counted in the train split, with each seed, {after}"
    return [
        Claim(
            says=f"Stacks of {deep} layers learn more than the frequencies of bytes under each of "
            f"{len(settings.models)} residual rules",
            source=OURS,
            criterion=learns,
            measure=lambda result: deepest(result).by("{model}", excess, np.max),
            passes=does_learn,
            only_if="the rule is {}",
            form="{:+.2f} nats",
            title=f"{deep} layers learn more than the frequencies of bytes",
            beside=rates_and_ranks,
        ),
        Claim(
            says=f"MGT learns more than the frequencies of bytes at each depth from {shallow} to "
            f"{deep} layers",
            source=PAPER,
            criterion=learns,
            measure=lambda result: (
                at_better_rate(result).where(model=MGT).by("{layers} layers", excess, np.max)
            ),
            passes=does_learn,
            only_if="it has {}",
            form="{:+.2f} nats",
        ),
        Claim(
            says=f"A rule that learns with {shallow} layers learns as well with {deep}",
            source="MGT 2601.01014 predicts it of MGT, as reported",
            criterion=f"mean over seeds of the loss of {deep} layers − that of {shallow} + "
            f"{ERRORS:g} standard errors < {GROWTH} nats, and the loss of {deep} layers < that of "
            f"counted bytes, with each seed, {after}",
            measure=growth,
            passes=does_not_grow,
            only_if="the rule is {}",
            form="{:+.3f} ± {:.3f} nats, {:+.2f} against counted bytes",
            title=f"With {deep} layers a rule learns as well as with {shallow}",
        ),
        Claim(
            says=f"{deep} layers of MGT have a lower loss than {deep} layers of other rules",
            source=PAPER,
            criterion=f"mean over seeds of MGT's loss − the other's + {ERRORS:g} standard errors "
            f"< 0, {after}",
            measure=against_the_others,
            passes=is_lower,
            only_if="the other is {}",
            form="{:+.3f} ± {:.3f} nats",
        ),
    ]


def excess(row):
    """A loss above that of bytes counted in the train split, on the same batches."""
    return row["valid_loss"] - row["unigram"]


def does_learn(excess):
    return excess < 0.0


def at_better_rate(result):
    """The rows of each model and depth at its better learning rate."""
    found = []
    for model in result.rows.values("model"):
        for layers in result.rows.values("layers"):
            found += better(result.rows.where(model=model, layers=layers))
    return Rows(found)


def better(rows):
    """The rows at the rate of the lowest mean loss; worst is a rate at which a run broke off."""

    def mean_loss(lr):
        mean = np.mean(rows.where(lr=lr).column("valid_loss"))
        return math.inf if math.isnan(mean) else mean

    return rows.where(lr=min(rows.values("lr"), key=mean_loss))


def deepest(result):
    return at_better_rate(result).where(layers=result.settings.depths[-1])


def growth(result):
    """{model: mean and standard error of the loss added by depth, and the largest excess}."""
    rows, (shallow, *_, deep) = at_better_rate(result), result.settings.depths
    found = {}
    for model in rows.values("model"):
        few, many = (rows.where(model=model, layers=layers) for layers in (shallow, deep))
        added = lower_by(many.column("valid_loss"), few.column("valid_loss"))
        found[model] = (*added, float(np.max([excess(row) for row in many])))
    return found


def does_not_grow(numbers):
    """Whether the loss grows by less than GROWTH beyond doubt, and something was learned.

    Noise only makes it harder, and a rule that learns nothing at any depth does not pass.
    """
    mean, error, excess = numbers
    return mean + ERRORS * error < GROWTH and does_learn(excess)


def against_the_others(result):
    """{other model: mean and standard error of MGT's loss − its own}, deepest."""
    return mgt_against(by_model(deepest(result)))


def rates_and_ranks(result):
    rates = deepest(result).by("{model}", "lr", np.min)
    ranks = deepest(result).by("{model}", "rank", np.mean)
    said = [f"{model} {rates[model]:g}, {rank:.2f}" for model, rank in ranks.items()]
    return f"Better rate, effective rank of the last state / min(N, d): {'; '.join(said)}"


def tasks(settings):
    return cells(
        settings,
        model=settings.models,
        n_layers=settings.depths,
        lr=settings.lr,
        seed=seeds(settings),
    )


def work(there, model, lr, seed, folder, **sizes):
    last = trained_rows(there, model, seed, folder, lr=lr, **sizes)[-1]
    yield last | {"lr": lr}


ALT = (
    "Two panels. Left: the loss on held-out text after training over the number of layers, a curve "
    "a rule at its better learning rate with the range over seeds, the unigram's loss as a line. "
    "Right: for the deepest stacks the loss of each seed at each learning rate. Runs that "
    "broke off stand beyond a dotted line."
)


@plotting.styled
def plot(result, judged):
    settings = result.settings
    losses = np.asarray(result.rows.column("valid_loss"))
    gone = np.nanmax(losses, initial=0.0) + 0.1  # where runs that broke off are drawn
    unigram = np.mean(result.rows.column("unigram"))
    figure, (left, right) = plotting.new_figure(1, 2, size=(15.0, 7.4), width_ratios=(3, 2))
    over_depth(left, result, gone)
    left.axhline(unigram, color="grey", lw=1.5, label="unigram")
    left.set(xlabel="layers", ylabel=f"held-out loss after {settings.n_steps} steps (nats a byte)")
    left.set_title(plotting.wrapped(judged[2].headline, 70))
    each_seed(right, result, gone)
    right.axvline(unigram, color="grey", lw=1.5)
    place = {"transform": right.get_xaxis_transform(), "rotation": 90, "ha": "right"}
    right.text(unigram, 0.02, "unigram", **place)
    right.set_title(plotting.wrapped(judged[0].headline, 52))
    right.set_xlabel(f"held-out loss of {settings.depths[-1]} layers (nats a byte)")
    if np.isnan(losses).any():
        note = {"color": "grey", "lw": 1.5, "ls": ":"}
        left.axhline(gone - 0.05, **note)
        right.axvline(gone - 0.05, **note)
        left.text(0.01, gone, "broke off", transform=left.get_yaxis_transform(), va="center")
        place = {"transform": right.get_xaxis_transform(), "rotation": 90, "ha": "center"}
        right.text(gone, 0.02, "broke off", **place)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        title=f"left: each rule at its better rate; bars: range over {settings.n_seeds} seeds",
    )
    return figure


def over_depth(ax, result, gone):
    settings, rows = result.settings, at_better_rate(result)
    for i, model in enumerate(settings.models):
        # rules lie on one another: their markers stand side by side
        places = np.arange(len(settings.depths)) + 0.07 * (i - (len(settings.models) - 1) / 2)
        losses = rows.where(model=model).grid("valid_loss", "seed", "layers")
        mean = np.nan_to_num(losses.mean(0), nan=gone)  # one run that broke off is no mean
        losses = np.nan_to_num(losses, nan=gone)
        ranges = np.abs([losses.min(0) - mean, losses.max(0) - mean])
        style = STYLES[model] | {"lw": 1.4, "elinewidth": 2.5, "label": model}
        ax.errorbar(places, mean, ranges, **style)
    ax.set_xticks(range(len(settings.depths)), settings.depths)


def each_seed(ax, result, gone):
    settings = result.settings
    rows = result.rows.where(layers=settings.depths[-1])
    for i, lr in enumerate(settings.lr):
        of_rate = rows.where(lr=lr)
        places = [settings.models.index(row["model"]) for row in of_rate]
        places = np.asarray(places) + 0.3 * (i - (len(settings.lr) - 1) / 2)
        losses = np.nan_to_num(of_rate.column("valid_loss"), nan=gone)
        color, marker = ((plotting.SKY, "o"), (plotting.VERMILLION, "^"))[i % 2]
        style = {"s": 70, "marker": marker, "edgecolors": color, "facecolors": "none"}
        ax.scatter(losses, places, label=f"rate {lr:g}", **style | {"linewidths": 2.0})
    names = [plotting.wrapped(model, 16) for model in settings.models]
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.legend(loc="best", frameon=True)
