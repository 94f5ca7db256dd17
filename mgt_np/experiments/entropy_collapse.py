"""When does attention put everything on one key, and does σReparam stop it?

Zhai et al. (2303.06296): the entropy of attention has a lower bound that falls exponentially with
the spectral norm of W_K W_Qᵀ, training becomes unstable where it collapses, and Ŵ = γ W/σ(W) keeps
it. One attention layer learns to move each token by one place, Y = roll(X) W, by plain gradient
descent, at learning rates up to those that break it; without a step, at weights of any scale.
"""

import math
from dataclasses import dataclass

import numpy as np

from mgt_np import layers, plotting
from mgt_np.analysis import attention_entropy, attention_entropy_bound
from mgt_np.arrays import array_namespace, tree_map, value_and_grad

from .claims import Claim
from .experiment import Where, cells, generator, seeds

PAPER = "Zhai et al. 2303.06296"
PLAIN, LEARNED, FIXED = "plain weights", "σReparam", "σReparam, γ = 1 for queries and keys"
GAMMAS = {PLAIN: "", LEARNED: "qkv", FIXED: "v"}  # which γ are learned; the others stay 1
DIVERGED = 10.0  # times the loss at the start


@dataclass(frozen=True)
class Settings(Where):
    """Sizes; `scales` multiply the LeCun weights W_q and W_k together, `rates` are of learning."""

    seed: int = 0
    n_seeds: int = 3
    n_tokens: int = 32
    d_model: int = 16
    n_sequences: int = 8
    scales: tuple[float, ...] = (0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    rates: tuple[float, ...] = (1.0, 3.0, 10.0, 20.0, 30.0)
    n_steps: int = 100


QUICK = Settings()
FULL = Settings(n_seeds=10, n_tokens=64, d_model=32, n_steps=1000)


def claims(settings):
    return [
        *_of_the_bound(),
        Claim(
            says="Entropy falls as the spectral norm of the weights grows",
            source=PAPER,
            criterion="change of the mean entropy from each scale to the next < 0, for every seed",
            measure=lambda result: {"largest change": np.diff(grid(result, "entropy")).max()},
            passes=lambda step: step < 0.0,
        ),
        Claim(
            says="σReparam keeps the entropy of attention up",
            source=PAPER,
            criterion="mean entropy > 0.9 of the highest before, wherever no run diverged",
            measure=lambda result: {
                "nothing is trained": kept(result, LEARNED, "scale"),
                "γ of queries and keys is fixed at 1": kept(result, FIXED, "rate"),
                "γ is learned": kept(result, LEARNED, "rate"),
            },
            passes=lambda ratio: ratio > 0.9,
            beside=lambda result: f"Plain weights: {kept(result, PLAIN, 'rate'):.2f}",
        ),
        Claim(
            says="Training is stable at higher learning rates with σReparam",
            source=PAPER,
            criterion="the highest rate up to which 0 runs diverged > that of plain weights",
            measure=lambda result: {"rates": (stable(result, LEARNED), stable(result, PLAIN))},
            passes=lambda rates: rates[0] > rates[1],
            form="{:g} with, {:g} without",
            title="σReparam trains at higher learning rates",
        ),
    ]


def _of_the_bound():
    return [
        Claim(
            says="The entropy has a lower bound that falls exponentially with ‖W_K W_Qᵀ‖₂ ‖XXᵀ‖₂",
            source=f"{PAPER}, theorem 3.1 as we know it",
            criterion="entropy − bound ≥ −1e-6 log T, for every query of every run",
            measure=lambda result: result.rows.by("lowest difference", "slack", np.min),
            passes=lambda slack: slack >= -1e-6,
        ),
        Claim(
            says="That bound says something about the entropy before training",
            source="our question to theorem 3.1 of 2303.06296",
            criterion="bound > 0.05 log T, for every seed",
            measure=lambda result: result.rows.where(trained=0, weights=PLAIN).by(
                "{scale:g}", "bound", np.min
            ),
            passes=lambda bound: bound > 0.05,
            only_if="W_q W_kᵀ is {} times LeCun's",
        ),
    ]


def grid(result, column, weights=PLAIN, axis="scale"):
    """Values (seeds, scales) before training, or (seeds, rates) after it."""
    rows = result.rows.where(trained=int(axis == "rate"), weights=weights)
    return rows.grid(column, "seed", axis)


def kept(result, weights, axis):
    """The lowest mean entropy where no run diverged, over σReparam's highest before training."""
    whole = ~grid(result, "diverged", weights, axis).any(axis=0)
    entropy = grid(result, "entropy", weights, axis).mean(axis=0)[whole]
    return min(entropy, default=math.nan) / grid(result, "entropy", LEARNED).max()


def stable(result, weights):
    """The highest learning rate up to which no run diverged, 0 if there is none."""
    diverged = grid(result, "diverged", weights, "rate").any(axis=0)
    return [0.0, *result.settings.rates][np.argmax([*diverged, True])]


def tasks(settings):
    still = cells(settings, weights=(PLAIN, LEARNED), scale=settings.scales, seed=seeds(settings))
    learn = cells(settings, weights=GAMMAS, rate=settings.rates, seed=seeds(settings))
    still = [cell | {"rate": 0.0, "n_steps": 0} for cell in still]
    return still + [cell | {"scale": 1.0} for cell in learn]


def work(there, weights, scale, rate, n_steps, seed, n_tokens, d_model, n_sequences):
    rng = generator(seed)
    X = rng.standard_normal((n_sequences, n_tokens, d_model))
    W, W_q, W_k, W_v = rng.standard_normal((4, d_model, d_model)) / math.sqrt(d_model)
    params = {"W_q": math.sqrt(scale) * W_q, "W_k": math.sqrt(scale) * W_k, "W_v": W_v}
    params |= {f"gamma_{name}": np.ones(()) for name in GAMMAS[weights]}
    X, Y, params = there.move((X, np.roll(X, 1, axis=-2) @ W, params))
    params, losses, diverged = _descend(params, X, Y, weights, rate, n_steps)
    labels = {"trained": int(n_steps > 0), "weights": weights, "scale": scale, "rate": rate}
    ends = {"steps": len(losses) - 1, "diverged": int(diverged), "loss": losses[-1]}
    yield {**labels, "seed": seed[-1], **ends, **_measured(X, *_acting(params, weights)[:2])}


@np.errstate(over="ignore", invalid="ignore")
def _descend(params, X, Y, weights, rate, n_steps):
    """Return the last parameters that did not diverge, the losses, and whether any diverged."""

    def loss(params):
        q, k, v = (layers.linear(X, W) for W in _acting(params, weights))
        error = layers.scaled_dot_product_attention(q, k, v) - Y
        return array_namespace(error).mean(error * error)

    losses, last = [], params
    for _ in range(n_steps + 1):
        value, gradient = value_and_grad(loss)(params)
        losses.append(float(value))
        if not losses[-1] < DIVERGED * losses[0]:  # NaN too, which counts as the limit
            return last, [*losses[:-1], DIVERGED * losses[0]], True
        last, params = params, tree_map(lambda p, g: p - rate * g, params, gradient)
    return last, losses, False


def _acting(params, weights):
    """W_q, W_k, W_v as they act on the tokens."""
    if weights == PLAIN:
        return [params["W_" + n] for n in "qkv"]
    return [layers.sigma_reparam(params["W_" + n], params.get("gamma_" + n, 1.0)) for n in "qkv"]


def _measured(X, W_q, W_k):
    """Entropies and their bound over log T, and the spectral norm of W_q W_kᵀ."""
    xp, T = array_namespace(X), X.shape[-2]
    P = layers.attention_weights(layers.linear(X, W_q), layers.linear(X, W_k))
    entropy = attention_entropy(P)
    norm = layers.spectral_norm(xp.matmul(W_q, xp.matrix_transpose(W_k)))
    longest = norm * xp.max(layers.spectral_norm(X)) ** 2 / math.sqrt(X.shape[-1])
    lowest, bound = xp.min(entropy), attention_entropy_bound(longest, T)
    values = {"entropy": xp.mean(entropy), "lowest_entropy": lowest, "bound": bound}
    values["slack"] = lowest - bound
    return {n: float(x) / math.log(T) for n, x in values.items()} | {"norm": float(norm)}


ALT = (
    "Three panels. Left: as the weights grow, the mean entropy of attention falls from log T to 0; "
    "with σReparam it stays near log T; the lower bound is above 0 only for small weights. Middle "
    "and right: entropy and error after training over the learning rate; crosses: diverged runs."
)
STYLES = {
    PLAIN: {"color": plotting.VERMILLION, "marker": "o", "ls": "-"},
    LEARNED: {"color": plotting.BLUE, "marker": "s", "ls": "--"},
    FIXED: {"color": plotting.BLACK, "marker": "^", "ls": "-."},
}


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 3, size=(16.5, 6.0))
    before, entropy, loss = axes
    scales, red = result.settings.scales, plotting.VERMILLION
    for weights in (PLAIN, LEARNED):
        plotting.band(before, scales, grid(result, "entropy", weights), **STYLES[weights])
    lowest, bound = (grid(result, name).min(axis=0) for name in ("lowest_entropy", "bound"))
    before.plot(scales, lowest, ":", color=red, label="plain weights, lowest query")
    before.plot(scales, bound, "d-", color="grey", label="lower bound, plain weights")
    before.set(xscale="log", ylim=(0, 1), xlabel="scale of W$_q$W$_k^⊤$ (1: LeCun's weights)")
    before.xaxis.set_major_formatter("{x:g}")
    _draw_rates(entropy, result, "entropy")
    _draw_rates(loss, result, "loss")
    numbers = "mean entropy / log T before", "mean entropy / log T after", "mean square error after"
    for ax, claim, number in zip(axes, judged[2:], numbers, strict=True):
        ax.set(title=plotting.wrapped(claim.headline, 48), ylabel=f"{number} training")
    entropy.set_ylim(0, 1)
    handles = [line for ax in (entropy, before) for line in ax.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _draw_rates(ax, result, column):
    """The mean and extent up to the highest stable rate, and each run beyond it."""
    rates = np.asarray(result.settings.rates)
    top = 1.2 * grid(result, "loss", LEARNED).max()  # where the losses of diverged runs are cut
    for shift, (weights, style) in zip((0.96, 1.0, 1.04), STYLES.items(), strict=True):
        values = np.minimum(grid(result, column, weights, "rate"), top)
        diverged = grid(result, "diverged", weights, "rate") == 1
        joined = rates <= stable(result, weights)
        plotting.band(ax, rates[joined], values[:, joined], label=weights, **style)
        each = np.broadcast_to(shift * rates, values.shape)
        for runs, marker in ((~diverged & ~joined, style["marker"]), (diverged, "x")):
            ax.plot(each[runs], values[runs], marker, color=style["color"], ms=8, mew=2)
    ax.plot([], [], "xk", ms=8, mew=2, label="run that diverged (error off the scale)")
    ax.set(xscale="log", xlabel="learning rate")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
