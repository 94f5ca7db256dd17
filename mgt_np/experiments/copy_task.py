"""How deep, and over what distance, does a trained MGT copy?

MGT's paper (2601.01014) names a synthetic copy task and publishes neither its details nor a number.
Here: read symbols, then give them back in order (`copy_task`), each symbol as many tokens back as
the distance says, which is fixed within a run. New examples at each step, three seeds, one learning
rate for all rules, and a threshold that is ours: 0.9 of the symbols right.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from mgt_np import plotting
from mgt_np.settings import FIXED
from mgt_np.training.tasks import N_SYMBOLS

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
    is_lower,
    mgt_against,
    trained,
)

RESUMES = True
COPIES = 0.9  # accuracy; ours
FALL = 0.05  # of the accuracy, that is still none; ours


@dataclass(frozen=True)
class Settings(OverDepths):
    """Tokens of an example: a symbol stands (n_tokens + 1)/2 places back.

    Raises ValueError for n_tokens that do not increase, beside what `OverDepths` does.
    """

    data: str = field(default="copy", metadata=FIXED)
    n_tokens: tuple[int, ...] = (3, 5)
    models: tuple[str, ...] = (MGT, "Post-LN")

    def __post_init__(self):
        super().__post_init__()
        if any(a >= b for a, b in pairwise(self.n_tokens)):
            raise ValueError(f"expected n_tokens that increase, got {self.n_tokens}")


QUICK = Settings(d_model=32, batch=8, n_steps=60, log_every=30)
FULL = Settings(
    n_tokens=(9, 17, 33),
    depths=(2, 6, 12, 24),
    models=(MGT, "Post-LN", "Pre-LN", SMALL, "Pre-LN/√L", "ReZero"),
    d_model=32,
    n_heads=4,
    batch=16,
    n_steps=300,
    warmup=30,
    log_every=50,
    n_valid=16,
)


def claims(settings):
    depth, distance = settings.depths[-1], distance_of(settings.n_tokens[-1])
    shallow, deep = layers(settings.depths[0]), layers(depth)
    after = f"after {settings.n_steps} steps, with each of {settings.n_seeds} seeds"
    copies = f"accuracy ≥ {COPIES} {after}"
    depths = listed(settings.depths)
    distances = listed([distance_of(n_tokens) for n_tokens in settings.n_tokens])
    return [
        Claim(
            says=f"MGT of {depths} layers learns to copy {N_SYMBOLS} symbols over {distances} "
            "tokens",
            source="MGT 2601.01014 names a copy task, without numbers; the threshold is ours",
            criterion=copies,
            measure=of_mgt,
            passes=does_copy,
            only_if="it has {}",
            title="MGT learns to copy at each depth and over each distance",
        ),
        Claim(
            says=f"{deep} learn to copy {N_SYMBOLS} symbols over {distance} tokens under each rule",
            source="our question to MGT 2601.01014",
            criterion=copies,
            measure=lambda result: (
                farthest(result).where(layers=depth).by("{model}", "accuracy", np.min)
            ),
            passes=does_copy,
            only_if="the rule is {}",
            title=f"{deep} learn to copy over {distance} tokens",
        ),
        Claim(
            says=f"{deep} of MGT copy over {distance} tokens with fewer errors than other rules'",
            source="our question to MGT 2601.01014",
            criterion="mean over seeds of MGT's error rate − the other's + "
            f"{ERRORS:g} standard errors < 0, after {settings.n_steps} steps",
            measure=fewer_errors,
            passes=is_lower,
            only_if="the other is {}",
            form="{:+.3f} ± {:.3f}",
            title=f"{deep} of MGT make fewer errors than other rules' over {distance} tokens",
        ),
        Claim(
            says=f"Models of {shallow} learn to copy over {distance} tokens, and deeper ones, of "
            f"up to {deep}, copy as well",
            source="our question to MGT 2601.01014",
            criterion=f"accuracy of {shallow} ≥ {COPIES}, and accuracy − that of {shallow} ≥ "
            f"−{FALL} at each depth, {after}",
            measure=gained,
            passes=does_not_fall,
            only_if="the rule is {}",
            form=f"{shallow} {{:.3f}}, deeper {{:+.3f}}",
        ),
    ]


def distance_of(n_tokens):
    """How many places before its copy a symbol stands."""
    return (n_tokens + 1) // 2


def layers(n):
    return f"{n} layer{'s' * (n > 1)}"


def listed(numbers):
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


def does_copy(accuracy):
    return accuracy >= COPIES


def of_mgt(result):
    """{depth and distance: the least of MGT's accuracies over seeds}."""
    return result.rows.where(model=MGT).by(
        lambda row: f"{layers(row['layers'])} over {row['distance']} tokens", "accuracy", np.min
    )


def farthest(result):
    """The rows of the longest distance."""
    return result.rows.where(distance=distance_of(result.settings.n_tokens[-1]))


def fewer_errors(result):
    """{other model: mean and standard error of MGT's error rate − its own}, deepest, farthest."""
    deepest = farthest(result).where(layers=result.settings.depths[-1])
    accuracies = by_model(deepest, "accuracy")
    return mgt_against({model: np.subtract(1.0, each) for model, each in accuracies.items()})


def gained(result):
    """{model: the least accuracy of the fewest layers, and the least that depth adds to it}."""
    found = {}
    for model in result.rows.values("model"):
        accuracy = farthest(result).where(model=model).grid("accuracy", "layers", "seed")
        found[model] = (float(np.min(accuracy[0])), float(np.min(accuracy[1:] - accuracy[0])))
    return found


def does_not_fall(numbers):
    """Whether deeper models copy as well; a rule that copies at no depth does not pass."""
    few, added = numbers
    return does_copy(few) and added >= -FALL


def tasks(settings):
    return cells(
        settings,
        model=settings.models,
        n_layers=settings.depths,
        n_tokens=settings.n_tokens,
        seed=seeds(settings),
    )


def work(there, model, n_layers, n_tokens, seed, folder, **sizes):
    sizes |= {"n_layers": n_layers, "n_tokens": n_tokens}
    run = trained(there, MODELS[model], seed, folder, **sizes)
    last = {"accuracy": math.nan, "valid_loss": math.nan} if run.broke else run.log[-1]
    yield {
        "model": model,
        "layers": n_layers,
        "distance": distance_of(n_tokens),
        "seed": seed[-1],
        "accuracy": last["accuracy"],
        "valid_loss": last["valid_loss"],
    }


ALT = (
    "A panel for each distance: the part of symbols copied right after training, over the number "
    "of layers, a curve a rule with its range over seeds, beside the threshold of 0.9 and chance."
)


@plotting.styled
def plot(result, judged):
    settings, rows = result.settings, result.rows
    figure, axes = plotting.new_figure(
        1, len(settings.n_tokens), size=(15.0, 7.4), sharey=True, squeeze=False
    )
    for ax, distance in zip(axes[0], rows.values("distance"), strict=True):
        for i, model in enumerate(settings.models):
            # at an accuracy of one all curves lie on one another: their markers stand side by side
            places = np.arange(len(settings.depths)) + 0.11 * (i - (len(settings.models) - 1) / 2)
            accuracy = rows.where(distance=distance, model=model).grid("accuracy", "seed", "layers")
            mean = accuracy.mean(0)
            ranges = np.abs([accuracy.min(0) - mean, accuracy.max(0) - mean])
            style = STYLES[model] | {"lw": 1.2, "elinewidth": 2.5, "label": model}
            ax.errorbar(places, mean, ranges, **style)
        ax.axhline(COPIES, color="grey", lw=1.5, ls="--", label=f"threshold, {COPIES}")
        ax.axhline(1 / N_SYMBOLS, color="grey", lw=1.5, label=f"chance, 1/{N_SYMBOLS}")
        ax.set(xlabel="layers", ylim=(0, 1.03), title=f"over {distance} tokens")
        ax.set_xticks(range(len(settings.depths)), settings.depths)
    axes[0, 0].set_ylabel(f"symbols copied right after {settings.n_steps} steps")
    found = "\n".join(plotting.wrapped(judged[i].headline, 150) for i in (0, 2))
    figure.suptitle(found, x=0.01, ha="left", fontsize=13)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        title=f"bars: range over {settings.n_seeds} seeds",
    )
    return figure
