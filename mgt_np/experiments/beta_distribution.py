"""What β does a trained MGT choose, and does it turn negative in deep layers?

MGT's protocol (2601.01014) plots β by layer, and expects more of it below zero in layers 50 to 100.
For β < 0 the update grows the old state and subtracts the new one: it does not erase. β is that of
the attention sub-layers on held-out text, λ tanh(x W_β + b_β), where before training it is
tanh 0.05, one number a token or one a channel: the paper allows both. Rank is that of the state
which β reads. Both may merely follow the depth, so that what is judged of the two is what a
straight line over the layers leaves of each.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib import colormaps

from mgt_np import plotting
from mgt_np.arrays.checks import one_of

from .claims import Claim, extent
from .experiment import cells, seeds
from .trained import MODELS, START, Training, trained

RESUMES = True
PAPER = "MGT 2601.01014, a prediction for layers 50 to 100, as reported"
OURS = "our question to MGT 2601.01014"
CORRELATED = 0.5
ONLY_IF = "MGT has {}"


@dataclass(frozen=True)
class Settings(Training):
    """The numbers of layers, and what has a β of its own.

    Raises ValueError for depths that do not increase, and unless each β is a channel's or a
    token's, each once.
    """

    depths: tuple[int, ...] = (4, 8)
    beta_per: tuple[str, ...] = ("channel", "token")

    def __post_init__(self):
        super().__post_init__()
        if any(a >= b for a, b in pairwise(self.depths)):
            raise ValueError(f"expected depths that increase, got {self.depths}")
        for per in self.beta_per:
            one_of(("channel", "token"), beta_per=per)
        if len({*self.beta_per}) < len(self.beta_per):
            raise ValueError(f"expected each beta_per once, got {self.beta_per}")


QUICK = Settings()
FULL = Settings(
    data="wikitext-2",
    depths=(24, 48),
    d_model=32,
    n_heads=4,
    n_tokens=32,
    batch=8,
    n_steps=500,
    warmup=50,
    log_every=100,
    n_valid=8,
)


def claims(settings):
    after = f"after {settings.n_steps} steps"
    each = f"with each of {settings.n_seeds} seeds, {after}"
    return [
        Claim(
            says="β of a trained MGT is negative in its deep layers",
            source=PAPER,
            criterion=f"mean of β over the last quarter of layers < 0 {each}",
            measure=lambda result: each_run(result, deep_beta, max),
            passes=lambda beta: beta < 0.0,
            only_if=ONLY_IF,
            form="{:+.3f}",
            readme=True,
        ),
        Claim(
            says="In a trained MGT more of β is negative in deep layers than in the first ones",
            source=PAPER,
            criterion="fraction of β < 0, of tokens or of tokens and channels, between 0 and 1: "
            f"mean over the last quarter of layers − that over the first quarter > 0 {each}",
            measure=lambda result: each_run(result, more_negative, min),
            passes=lambda more: more > 0.0,
            only_if=ONLY_IF,
            form="{:+.3f}",
            title="More of β is negative in deep layers than in the first",
        ),
        Claim(
            says="β of a trained MGT falls with depth",
            source=PAPER,
            criterion=f"Spearman's ρ of layer and β ≤ −{CORRELATED} {each}",
            measure=lambda result: each_run(result, falling, max),
            passes=lambda rho: rho <= -CORRELATED,
            only_if=ONLY_IF,
            form="{:+.2f}",
        ),
        Claim(
            says="β and the effective rank go together across a trained MGT's layers, "
            "more than both follow the depth",
            source=OURS,
            criterion="Pearson's r of β and rank, a linear trend over the layers taken from both, "
            f"≥ {CORRELATED} or ≤ −{CORRELATED} {each}",
            measure=lambda result: each_run(result, beside_depth, span),
            passes=lambda r: r[0] >= CORRELATED or r[1] <= -CORRELATED,
            only_if=ONLY_IF,
            form="{:+.2f} … {:+.2f}",
            title="β and rank go together, beyond the depth",
            beside=with_the_trend,
        ),
        Claim(
            says="Training moves the mean β of MGT's layers from its start, tanh 0.05",
            source=OURS,
            criterion="mean over layers of |the layer's mean β − tanh 0.05| > half of tanh 0.05 "
            f"{each}",
            measure=lambda result: each_run(result, moved, min),
            passes=lambda by: by > START / 2,
            only_if=ONLY_IF,
            form="{:.3f}",
        ),
    ]


def each_run(result, number, reduce):
    """{condition: reduce(numbers)} of a function of β, its negative part and the rank by layer."""
    found = {}
    for (depth, per), runs in last_runs(result).items():
        numbers = [number(*run) for run in runs]
        known = not np.isnan(numbers).any()
        found[f"{depth} layers and one β a {per}"] = reduce(numbers if known else [math.nan])
    return found


def last_runs(result):
    """{(depth, β per): [(β, negative, rank) of each seed]}, arrays over layers after training."""
    last = result.rows.where(step=result.settings.n_steps)
    found = {}
    for depth in last.values("depth"):
        for per in last.values("beta_per"):
            rows = last.where(depth=depth, beta_per=per)
            names = ("beta", "beta_negative", "rank")
            grids = [rows.grid(name, "seed", "layer") for name in names]
            found[depth, per] = list(zip(*grids, strict=True))
    return found


def quarter(values):
    """How many layers a quarter is, at least one."""
    return max(1, len(values) // 4)


def deep_beta(beta, negative, rank):
    return float(np.mean(beta[-quarter(beta) :]))


def more_negative(beta, negative, rank):
    n = quarter(beta)
    return float(np.mean(negative[-n:]) - np.mean(negative[:n]))


def falling(beta, negative, rank):
    """Spearman's ρ of layer and β, NaN where β is the same everywhere; equal β share a place."""
    places = [np.mean(np.flatnonzero(np.sort(beta) == x)) if x == x else x for x in beta]
    return pearson(np.arange(len(beta)), np.asarray(places))


def beside_depth(beta, negative, rank):
    """Pearson's r of β and rank after each has lost its linear trend over the layers."""
    return pearson(detrended(beta), detrended(rank))


def moved(beta, negative, rank):
    return float(np.mean(np.abs(beta - START)))


def detrended(values):
    """What least squares leave of values over the layers, beside a constant and a slope."""
    layers = np.arange(len(values))
    trend = np.stack([np.ones(len(values)), layers - layers.mean()])
    unit = trend / np.linalg.norm(trend, axis=1, keepdims=True)
    return values - (unit @ values) @ unit


def pearson(x, y):
    x, y = x - np.mean(x), y - np.mean(y)
    size = math.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / size) if size > 0.0 else math.nan


def span(numbers):
    """The least and the largest number."""
    return min(numbers), max(numbers)


def with_the_trend(result):
    """The correlation that depth has not been taken from, in words; it decides nothing."""
    runs = [run for each in last_runs(result).values() for run in each]
    numbers = [pearson(beta, rank) for beta, _, rank in runs]
    unknown = int(np.isnan(numbers).sum())
    if unknown:  # the least and the largest of these are not defined
        return f"With the trend: nan in {unknown} of {len(numbers)} runs"
    return f"With the trend: {extent(numbers, '{:+.2f}')} in all runs"


def tasks(settings):
    return cells(settings, n_layers=settings.depths, per=settings.beta_per, seed=seeds(settings))


def work(there, n_layers, per, seed, folder, **sizes):
    """Train MGT, and yield a row for each logged step and layer, NaN where the run broke off."""
    options = MODELS["MGT"] | {"mgt_beta_per": per}
    run = trained(there, options, seed, folder, n_layers=n_layers, **sizes)
    fixed = {"depth": n_layers, "beta_per": per, "seed": seed[-1]}
    for row in run.layers:
        if row["layer"] < n_layers:
            measured = {name: row[name] for name in ("step", "layer", "beta", "beta_negative")}
            yield fixed | measured | {"rank": row["effective_rank"]}
    if run.broke:
        unknown = dict.fromkeys(("beta", "beta_negative", "rank"), math.nan)
        for layer in range(n_layers):
            yield fixed | {"step": sizes["n_steps"], "layer": layer} | unknown


ALT = (
    "Panels in two rows, β one number a channel above and one a token below. Left and middle: the "
    "mean β of each layer at several steps of training, light to dark, with the range over seeds, "
    "for the two depths. Right: β over effective rank, a point a layer and a seed."
)


@plotting.styled
def plot(result, judged):
    settings = result.settings
    kinds, depths = settings.beta_per, settings.depths
    steps = result.rows.values("step")
    figure, axes = plotting.new_figure(len(kinds), len(depths) + 1, size=(16.0, 9.5), squeeze=False)
    shades = colormaps["cividis"](np.linspace(0.95, 0.05, len(steps)))
    markers, colors = ("o", "^", "s", "v"), (plotting.BLUE, plotting.VERMILLION)
    for line, per in zip(axes, kinds, strict=True):
        for ax, depth in zip(line, depths, strict=False):
            chosen = result.rows.where(depth=depth, beta_per=per)
            for step, shade in zip(steps, shades, strict=True):
                rows = chosen.where(step=step)
                values = rows.grid("beta", "seed", "layer") if rows else np.full((1, depth), np.nan)
                plotting.band(ax, range(depth), values, color=shade, label=f"step {step}")
            ax.axhline(0.0, color="grey", lw=1.5)
            ax.axhline(START, color="grey", lw=1.5, ls=":", label="at the start")
            ax.set(xlabel="layer", ylabel=f"mean β, one a {per}")
            ax.set_title(f"{depth} layers")
            ax.xaxis.get_major_locator().set_params(integer=True)
        for (depth, _), marker, color in zip(
            [key for key in last_runs(result) if key[1] == per], markers, colors * 2, strict=False
        ):
            for beta, _, rank in last_runs(result)[depth, per]:
                line[-1].plot(rank, beta, marker, color=color, alpha=0.5, ms=5)
            line[-1].plot([], [], marker, color=color, label=f"{depth} layers")
        line[-1].axhline(0.0, color="grey", lw=1.5)
        line[-1].set(xlabel="effective rank of the state / min(N, d)", ylabel=f"β, one a {per}")
        line[-1].legend()
    for ax, claim, depth in zip(axes[0], (judged[0], judged[2]), depths, strict=False):
        ax.set_title(plotting.wrapped(f"{claim.headline}\n({depth} layers)", 42))
    axes[0][-1].set_title(plotting.wrapped(judged[3].headline, 42))
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(steps) + 1,
        title=f"shaded: range over {settings.n_seeds} seeds",
    )
    return figure
