"""How much do MGT's unpublished initial values matter?

MGT (2601.01014) gives no value for λ, ε, α, b_β or the scales of W_gate and W_β. Ours are the
defaults of `TransformerConfig`; here each is varied alone, from the same seeds. Of W_gate a layer
norm takes the scale away again, but for its ε: what is left is how far a step of AdamW turns it.
With b_β = ε = 0 the first β is 0, and the stack is its embedding until it learns. Where nothing
differs, one alternative in 17 is two standard errors lower by chance, with five seeds.
"""

import math
from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.models import TransformerConfig

from .claims import Claim
from .experiment import cells, seeds
from .trained import ERRORS, MODELS, Training, lower_by, trained

RESUMES = True
SOURCE = "our question to MGT 2601.01014, which gives no values"
LITTLE = 0.05  # nats a byte
DEFAULT = "default"  # the variant in which nothing is varied
SYMBOLS = {
    "mgt_alpha": "α",
    "mgt_lam": "λ",
    "mgt_eps": "ε",
    "mgt_b_beta": "b_β",
    "mgt_gate_scale": "the scale of W_gate",
    "mgt_beta_scale": "the scale of W_β",
}


@dataclass(frozen=True)
class Settings(Training):
    """The values beside the default, by the options' names. Scales are standard deviations.

    Raises ValueError for a value that is there twice.
    """

    n_layers: int = 2
    n_steps: int = 15
    mgt_alpha: tuple[float, ...] = (1e-3, 1.0)
    mgt_lam: tuple[float, ...] = (2.0,)
    mgt_eps: tuple[float, ...] = (0.05,)
    mgt_b_beta: tuple[float, ...] = (0.5,)
    mgt_gate_scale: tuple[float, ...] = (1e-2,)
    mgt_beta_scale: tuple[float, ...] = (1e-2,)

    def __post_init__(self):
        super().__post_init__()
        for name in SYMBOLS:
            values = getattr(self, name)
            if len({*values}) < len(values):
                raise ValueError(f"expected each value of {name} once, got {values}")


QUICK = Settings()
FULL = Settings(
    n_seeds=5,
    data="wikitext-2",
    n_layers=12,
    d_model=32,
    n_heads=4,
    n_tokens=32,
    batch=8,
    n_steps=250,
    warmup=25,
    log_every=50,
    n_valid=16,
    mgt_alpha=(1e-4, 1e-3, 1e-2, 1.0),
    mgt_lam=(0.5, 2.0),
    mgt_eps=(0.05, 0.5),
    mgt_b_beta=(-0.05, 0.0, 0.5),
    mgt_gate_scale=(1e-4, 1e-3, 1e-2),
    mgt_beta_scale=(1e-4, 1e-3, 1e-2, 0.18),  # the last is LeCun's, 1/√32
)


def claims(settings):
    after = f"after {settings.n_steps} steps"
    layers = f"{settings.n_layers} layers of MGT"
    errors = f"{ERRORS:g} standard errors over {settings.n_seeds} paired seeds"
    return [
        Claim(
            says=f"The loss of {layers} {after} depends by less than {LITTLE} nats a byte on a "
            "value that the paper leaves out, varied alone",
            source=SOURCE,
            criterion="largest − smallest of the mean losses over the values tried, the default "
            f"among them, + {errors} < {LITTLE} nats",
            measure=spreads,
            passes=lambda spread: spread[0] + ERRORS * spread[1] < LITTLE,
            only_if="what varies is {}",
            form="{:.3f} ± {:.3f} nats",
            title=f"The loss depends by less than {LITTLE} nats on a value left out of the paper",
        ),
        Claim(
            says=f"No other value that was tried gives {layers} a lower loss {after} than "
            "our default",
            source=SOURCE,
            criterion=f"the other's loss − the default's + {errors} ≥ 0, for each value tried; "
            "infinite where the other breaks off and the default does not",
            measure=best_alternatives,
            passes=lambda difference: difference >= 0.0,
            only_if="what varies is {}",
            form="{:+.3f} nats",
            title="No other value gives a lower loss than our default",
            beside=beaten_by,
        ),
    ]


def losses(result, setting):
    """{value: losses after training, one a seed}, of the default and of each other value."""
    found = {default(setting, result.settings.d_model): of_variant(result, DEFAULT)}
    rows = result.rows.where(setting=setting)
    for value in rows.values("value"):
        found[value] = of_variant(result, setting, value=value)
    return dict(sorted(found.items()))


def of_variant(result, setting, **value):
    return result.rows.where(setting=setting, **value).column("valid_loss")


def default(setting, d_model):
    """What `TransformerConfig` has where nothing is said: LeCun's scale of W_gate, W_β = 0."""
    unsaid = {"mgt_gate_scale": 1.0 / math.sqrt(d_model), "mgt_beta_scale": 0.0}
    return unsaid.get(setting, getattr(TransformerConfig, setting))


def spreads(result):
    """{setting: mean and standard error of the worst value's loss − the best value's}."""
    found = {}
    for setting, symbol in SYMBOLS.items():
        tried = np.asarray(list(losses(result, setting).values()))
        means = tried.mean(axis=1)  # a NaN among them is both the largest and the smallest
        found[symbol] = lower_by(tried[np.argmax(means)], tried[np.argmin(means)])
    return found


def best_alternatives(result):
    """{setting: the least of its upper ends}: infinite where each other value broke off.

    What broke off beats nothing; where the default did, nothing is known.
    """
    ended = np.isfinite(of_variant(result, DEFAULT)).all()
    none = math.inf if ended else math.nan
    found = {}
    for setting, symbol in SYMBOLS.items():
        ends = [end for end in upper_ends(result, setting).values() if math.isfinite(end)]
        found[symbol] = min(ends, default=none)
    return found


def upper_ends(result, setting):
    """{other value: mean + standard errors of its loss − the default's}."""
    usual = of_variant(result, DEFAULT)
    found = {}
    for value in result.rows.where(setting=setting).values("value"):
        mean, error = lower_by(of_variant(result, setting, value=value), usual)
        found[value] = mean + ERRORS * error
    return found


def beaten_by(result):
    """The values with a lower loss than the default's, in words."""
    better = [
        f"{symbol} = {value:g}"
        for setting, symbol in SYMBOLS.items()
        for value, end in upper_ends(result, setting).items()
        if end < 0.0
    ]
    return f"Lower: {', '.join(better) or 'none'}"


def tasks(settings):
    variants = [[DEFAULT, 0.0]]
    variants += [[name, value] for name in SYMBOLS for value in getattr(settings, name)]
    return cells(settings, variant=variants, seed=seeds(settings))


def work(there, variant, seed, folder, **sizes):
    """One row, of the last step; a run that broke off has a loss of NaN."""
    setting, value = variant
    options = MODELS["MGT"] | ({} if setting == DEFAULT else {setting: value})
    run = trained(there, options, seed, folder, **sizes)
    loss = math.nan if run.broke else run.log[-1]["valid_loss"]
    yield {"setting": setting, "value": value, "seed": seed[-1], "valid_loss": loss}


ALT = (
    "Six panels with one axis: how much the held-out loss after training lies above that of our "
    "default, seed by seed, over the values of α, λ, ε, b_β and of the scales of W_gate "
    "and W_β, with the range over seeds; our default, at zero, is a filled square."
)


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(2, 3, size=(15.0, 9.0), sharey=True)
    for ax, (setting, symbol) in zip(axes.flat, SYMBOLS.items(), strict=True):
        ours, tried = default(setting, result.settings.d_model), losses(result, setting)
        ax.axhline(0.0, color=plotting.BLUE, lw=1.5)
        for place, (value, each) in enumerate(tried.items()):
            differences = np.subtract(each, tried[ours])
            mean = differences.mean()
            ends = [[mean - differences.min()], [differences.max() - mean]]
            look = {"color": plotting.BLACK, "marker": "o", "mfc": "white", "ms": 10, "capsize": 6}
            if value == ours:
                look |= {"color": plotting.BLUE, "marker": "s", "mfc": plotting.BLUE}
            ax.errorbar(place, mean, yerr=ends, **look)
        ax.set_xticks(range(len(tried)), [f"{value:.2g}" for value in tried])
        ax.set_xlim(-0.5, len(tried) - 0.5)
        ax.set_xlabel(symbol)
    for ax in axes[:, 0]:
        ax.set_ylabel("loss − that of our default\n(nats a byte)")
    settings = result.settings
    figure.suptitle("\n".join(plotting.wrapped(each.headline, 130) for each in judged))
    figure.supxlabel(
        f"{settings.n_layers} layers, {settings.n_steps} steps; mean and range over "
        f"{settings.n_seeds} paired seeds; filled square and line: our default",
        fontsize=13,
    )
    return figure
