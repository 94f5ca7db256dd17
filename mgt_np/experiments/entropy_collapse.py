"""When does attention put everything on one key, and does σReparam stop it?

Zhai et al. (2303.06296): the entropy of attention has a lower bound that falls exponentially with
the spectral norm of W_K W_Qᵀ, training becomes unstable where it collapses, and Ŵ = γ W/σ(W) keeps
it. One attention layer learns to move each token by one place, Y = roll(X) W, by plain gradient
descent, at learning rates up to those that break it; without a step, at weights of any scale.
"""

import math
from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import attention_entropy, attention_entropy_bound
from mgt_np.arrays import array_namespace, tree_map, value_and_grad
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import attention_weights, linear, sigma_reparam, spectral_norm

from .experiment import Claim, Experiment, Where

PAPER = "Zhai et al. 2303.06296"
DIVERGED = 10.0  # times the loss at the start
COLLAPSED = 0.05  # mean entropy over its maximum


@dataclass(frozen=True)
class Settings(Where):
    """Sizes; `scales` multiply the LeCun weights W_q and W_k together, `rates` are of learning."""

    seed: int = 0
    n_seeds: int = 3
    n_tokens: int = 32
    d_model: int = 16
    n_sequences: int = 8
    scales: tuple[float, ...] = (0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    rates: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0, 14.0, 20.0, 30.0, 50.0)
    n_steps: int = 100


def tasks(settings):
    sizes = {name: getattr(settings, name) for name in ("n_tokens", "d_model", "n_sequences")}
    runs = [(scale, 0.0, 0) for scale in settings.scales]
    runs += [(1.0, rate, settings.n_steps) for rate in settings.rates]
    return [
        {
            "reparam": reparam,
            "scale": scale,
            "rate": rate,
            "n_steps": n_steps,
            "seed": [settings.seed, number],
            **sizes,
            **settings.where(),
        }
        for number in range(settings.n_seeds)
        for reparam in (False, True)
        for scale, rate, n_steps in runs
    ]


def work(
    reparam,
    scale,
    rate,
    n_steps,
    seed,
    n_tokens,
    d_model,
    n_sequences,
    array_library,
    device,
    dtype,
):
    there = place(array_library, device, dtype=dtype)
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_sequences, n_tokens, d_model))
    W, *weights = rng.standard_normal((4, d_model, d_model)) / math.sqrt(d_model)
    Y = np.roll(X, 1, axis=-2) @ W
    params = dict(zip(("W_q", "W_k", "W_v"), weights, strict=True))
    for name in ("W_q", "W_k"):
        params[name] = math.sqrt(scale) * params[name]
    if reparam:
        params |= {f"gamma_{name}": np.ones(()) for name in "qkv"}
    X, Y, params = move((X, Y, params), there, dtype=dtype)

    def loss(params):
        W_q, W_k, W_v = _weights(params)
        P = attention_weights(linear(X, W_q), linear(X, W_k))
        xp = array_namespace(P)
        error = xp.subtract(xp.matmul(P, linear(X, W_v)), Y)
        return xp.mean(error * error)

    first = float(loss(params))
    losses, kept, diverged = [first], params, False
    for _ in range(n_steps):
        _, gradient = value_and_grad(loss)(params)
        params = tree_map(lambda p, g: p - rate * g, params, gradient)
        with np.errstate(over="ignore", invalid="ignore"):
            losses.append(float(loss(params)))
        diverged = not losses[-1] < DIVERGED * first
        if diverged:
            break
        kept = params
    return [
        {
            "weights": "σReparam" if reparam else "plain",
            "scale": scale,
            "rate": rate,
            "seed": seed[-1],
            "steps": len(losses) - 1,
            "diverged": int(diverged),
            "loss": DIVERGED * first if diverged else losses[-1],
            **_measured(X, kept),
        }
    ]


def _weights(params):
    """W_q, W_k, W_v as they act: reparametrised where there is a γ."""
    if "gamma_q" not in params:
        return [params[f"W_{name}"] for name in "qkv"]
    return [sigma_reparam(params[f"W_{name}"], params[f"gamma_{name}"]) for name in "qkv"]


def _measured(X, params):
    """Entropies over their maximum, the bound on them, and the spectral norm of W_Q W_Kᵀ."""
    W_q, W_k, _ = _weights(params)
    xp, n_keys = array_namespace(X), X.shape[-2]
    scale = 1.0 / math.sqrt(X.shape[-1])
    entropy = attention_entropy(attention_weights(linear(X, W_q), linear(X, W_k)))
    norm = spectral_norm(xp.matmul(W_q, xp.matrix_transpose(W_k)))
    longest = scale * norm * xp.max(spectral_norm(X)) ** 2
    logits = scale * xp.matmul(linear(X, W_q), xp.matrix_transpose(linear(X, W_k)))
    most = math.log(n_keys)
    return {
        "entropy": float(xp.mean(entropy)) / most,
        "lowest_entropy": float(xp.min(entropy)) / most,
        "bound": float(attention_entropy_bound(longest, n_keys)) / most,
        "norm": float(norm),
        "logit_std": float(xp.std(logits)),
    }


def of_scale(result, name, weights="plain"):
    """(seed, scale) values without training."""
    return np.asarray(
        [
            [
                result.column(name, weights=weights, scale=scale, rate=0.0, seed=seed)[0]
                for scale in result.settings.scales
            ]
            for seed in range(result.settings.n_seeds)
        ]
    )


def of_rate(result, name, weights):
    """(seed, rate) values after training."""
    return np.asarray(
        [
            [
                result.column(name, weights=weights, rate=rate, seed=seed)[0]
                for rate in result.settings.rates
            ]
            for seed in range(result.settings.n_seeds)
        ]
    )


def claims(result):
    return [_bound(result), _scale(result), _training(result), _stability(result)]


def _bound(result):
    lowest, bound = (of_scale(result, name) for name in ("lowest_entropy", "bound"))
    i = result.settings.scales.index(1.0)
    kept = np.all(lowest >= bound - 1e-9)
    useful = [
        scale
        for scale, low in zip(result.settings.scales, bound.min(axis=0), strict=True)
        if low > COLLAPSED
    ]
    return Claim(
        "The entropy has a lower bound that falls exponentially with ‖W_K W_Qᵀ‖₂ ‖XXᵀ‖₂",
        f"{PAPER}, theorem 3.1 as we know it",
        f"entropy minus bound ≥ {np.min(lowest - bound):.1g} of log T; at LeCun weights the bound "
        f"is {bound[:, i].max():.0e} of it, the lowest entropy {lowest[:, i].min():.2f}",
        "does not hold"
        if not kept
        else f"holds, and says something only for scales ≤ {max(useful):g} of LeCun's"
        if useful
        else "holds, and says nothing",
    )


def _scale(result):
    entropy, spread = (of_scale(result, name).mean(axis=0) for name in ("entropy", "logit_std"))
    most = math.log(result.settings.n_tokens)
    gaussian = 1.0 - spread**2 / (2.0 * most)
    small = spread < 1.0
    error = np.max(np.abs(entropy - gaussian)[small], initial=0.0)
    falls = np.all(np.diff(entropy) < 0.0)
    first = next(
        (s for s, e in zip(result.settings.scales, entropy, strict=True) if e < COLLAPSED), None
    )
    return Claim(
        "Entropy falls as the spectral norm of the weights grows",
        PAPER,
        f"mean entropy/log T from {entropy[0]:.2f} to {entropy[-1]:.3f} over scales "
        f"{result.settings.scales[0]:g} … {result.settings.scales[-1]:g}; it is log T − s²/2, s "
        f"the logits' standard deviation, to {error:.1g} for s < 1",
        ("holds" if first is None else f"holds: below {COLLAPSED:g} from scale {first:g}")
        if falls
        else "does not hold",
    )


def _training(result):
    rates = result.settings.rates
    parts, lowest = [], {}
    for weights in ("plain", "σReparam"):
        entropy = of_rate(result, "entropy", weights)
        stable = ~np.any(of_rate(result, "diverged", weights), axis=0)
        kept = entropy.mean(axis=0)[stable]
        lowest[weights] = float(kept.min()) if kept.size else 0.0
        parts.append(f"{weights} {lowest[weights]:.2f}")
    start = of_scale(result, "entropy", "σReparam")
    one_start = np.ptp(start) < 0.1 * start.mean()
    return Claim(
        "σReparam keeps the entropy of attention up: 0.9 of that at the start, or more",
        PAPER,
        f"lowest mean entropy/log T after {result.settings.n_steps} steps that did not diverge, "
        f"rates {rates[0]:g} … {rates[-1]:g}: {', '.join(parts)}; σReparam at the start "
        f"{start.min():.2f} … {start.max():.2f} over all scales",
        "holds"
        if lowest["σReparam"] > 0.9 * start.mean()
        else "holds only if γ stays: at the start at any scale; learned, γ lets it fall"
        if one_start
        else "does not hold",
    )


def highest_stable_rate(result, weights):
    """The largest learning rate up to which no seed diverged, 0 if there is none."""
    highest = 0.0
    for rate, diverged in zip(
        result.settings.rates, of_rate(result, "diverged", weights).any(axis=0), strict=True
    ):
        if diverged:
            break
        highest = rate
    return highest


def _stability(result):
    highest = {weights: highest_stable_rate(result, weights) for weights in ("plain", "σReparam")}
    best = {
        weights: float(of_rate(result, "loss", weights).mean(axis=0).min()) for weights in highest
    }
    return Claim(
        "Training is stable at higher learning rates with σReparam",
        PAPER,
        "no seed diverges up to rate "
        + ", ".join(f"{rate:g} ({weights})" for weights, rate in highest.items())
        + "; lowest loss "
        + ", ".join(f"{value:.2f} ({weights})" for weights, value in best.items()),
        "holds" if highest["σReparam"] > highest["plain"] else "does not hold",
    )


def arrays(rows):
    """Entropies over their maximum, in the order of the rows."""
    return {"entropy": np.asarray([row["entropy"] for row in rows])}


COLOURS = {
    "plain": (plotting.VERMILLION, "o", "-"),
    "σReparam": (plotting.BLUE, "s", "--"),
}


@plotting.styled
def plot(result):
    figure, (scale, entropy, loss) = plotting.new_figure(1, 3, size=(17.5, 5.6))
    _draw_scale(scale, result)
    _draw_training(entropy, result, "entropy", "mean entropy / log T after training")
    _draw_training(loss, result, "loss", "mean square error after training")
    low = {weights: of_rate(result, "entropy", weights).mean(axis=0).min() for weights in COLOURS}
    entropy.set_ylim(0.0, 1.0)
    entropy.set_title(
        f"After training the mean entropy is as low as\n{low['plain']:.2f} (plain), "
        f"{low['σReparam']:.2f} (σReparam)"
    )
    highest = {weights: highest_stable_rate(result, weights) for weights in COLOURS}
    loss.set_yscale("log")
    loss.set_title(
        f"σReparam trains up to rate {highest['σReparam']:g},\nplain weights up to "
        f"{highest['plain']:g} (crosses diverged)"
    )
    return figure


def _draw_scale(ax, result):
    scales = np.asarray(result.settings.scales)
    spread = of_scale(result, "logit_std").mean(axis=0)
    gaussian = 1.0 - spread**2 / (2.0 * math.log(result.settings.n_tokens))
    for weights, (colour, marker, line) in COLOURS.items():
        mean = of_scale(result, "entropy", weights).mean(axis=0)
        ax.semilogx(scales, mean, line, marker=marker, color=colour, label=f"{weights}, mean")
    lowest = of_scale(result, "lowest_entropy").min(axis=0)
    ax.semilogx(scales, lowest, ":", color=plotting.VERMILLION, label="plain, lowest")
    shown = gaussian > 0.0
    ax.semilogx(scales[shown], gaussian[shown], color="grey", lw=1, label="log T − s²/2")
    bound = of_scale(result, "bound").min(axis=0)
    ax.semilogx(scales, bound, "-.", color=plotting.BLACK, label="lower bound")
    ax.set_ylim(-0.02, 1.45)
    ax.set_yticks(np.linspace(0.0, 1.0, 6))
    ax.set_xlabel("scale of W$_q$W$_k^⊤$ (1: LeCun)")
    ax.set_ylabel("entropy / log T, untrained")
    mean = of_scale(result, "entropy").mean(axis=0)
    informative = [
        f"{scale:g}" for scale, low in zip(scales, bound, strict=True) if low > COLLAPSED
    ]
    ax.set_title(
        f"Large weights: mean entropy {mean[-1]:.2f} at scale {scales[-1]:g}.\nThe bound exceeds "
        f"{COLLAPSED:g} {f'up to {informative[-1]}' if informative else 'nowhere'}"
    )
    ax.legend(loc="upper left", ncols=2, fontsize=12)


def _draw_training(ax, result, name, label):
    rates = np.asarray(result.settings.rates)
    for weights, (colour, marker, line) in COLOURS.items():
        values = of_rate(result, name, weights)
        diverged = of_rate(result, "diverged", weights).any(axis=0)
        mean = values.mean(axis=0)
        ax.semilogx(rates, mean, line, marker=marker, color=colour, label=weights)
        ax.semilogx(
            rates[diverged],
            mean[diverged],
            linestyle="none",
            marker="x",
            markersize=14,
            markeredgewidth=2.5,
            color=colour,
        )
    ax.set_xlabel("learning rate")
    ax.set_ylabel(label)
    ax.legend(loc="best")


ENTROPY_COLLAPSE = Experiment(
    name="entropy-collapse",
    question="When does attention put everything on one key, and does σReparam stop it?",
    quick=Settings(),
    full=Settings(n_seeds=10, n_tokens=64, d_model=32, n_steps=1000),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
    arrays=arrays,
)
