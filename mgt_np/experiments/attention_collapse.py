"""Which parts of a layer stop attention from making all tokens equal?

Dong et al. (2103.03404) say what skip connections, MLPs and layer norm (LN) change about the
collapse of attention; Wu et al. (2405.18781) disagree about LN. Measured is ‖res(X)‖/‖X‖, in their
norm ‖·‖₁,∞, of Gaussian tokens under random weights, and of two clusters under chosen ones.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from mgt_np import layers, plotting
from mgt_np.analysis import relative_residual
from mgt_np.layers import layer_norm

from .claims import Claim
from .experiment import Where, cells, generator, seeds

DONG = "Dong et al. 2103.03404"
SMALL = 1e-6  # relative residual of tokens that we call equal, well above rounding
LOST = 0.1  # relative residual at the last layer below which a skip did not help


def _pre_ln_block(x, attend, mlp, depth):
    x = x + attend(layer_norm(x))
    return x + mlp(layer_norm(x))


ALONE = "attention"
VARIANTS = {  # what a layer makes of x
    ALONE: lambda x, attend, mlp, depth: attend(x),
    "LN(attention)": lambda x, attend, mlp, depth: layer_norm(attend(x)),
    "MLP(attention) × 1": lambda x, attend, mlp, depth: mlp(attend(x)),
    "MLP(attention) × 8": lambda x, attend, mlp, depth: 8.0 * mlp(attend(x)),
    "attention + skip": lambda x, attend, mlp, depth: x + attend(x),
    "LN(attention + skip)": lambda x, attend, mlp, depth: layer_norm(x + attend(x)),
    "a pre-LN block": _pre_ln_block,
    "attention/√depth + skip": lambda x, attend, mlp, depth: x + attend(x) / math.sqrt(depth),
    "attention, two clusters": lambda x, attend, mlp, depth: attend(x),
    "LN(attention), two clusters": lambda x, attend, mlp, depth: layer_norm(attend(x)),
}
MLPS, SKIPS, CLUSTERS = [*VARIANTS][2:4], [*VARIANTS][4:8], [*VARIANTS][8:]
NORMS = {"weights are random": (ALONE, "LN(attention)"), "weights are chosen": CLUSTERS}


@dataclass(frozen=True)
class Settings(Where):
    """Number and sizes of the layers; random weights have LeCun's scale."""

    seed: int = 0
    n_seeds: int = 3
    depth: int = 24
    n_tokens: int = 64
    d_model: int = 64
    n_heads: int = 4


QUICK = Settings()
FULL = Settings(n_seeds=10, depth=100, n_tokens=128)


def claims(settings):
    return [
        Claim(
            says="Skip connections stop attention from making all tokens equal",
            source=DONG,
            criterion=f"relative residual > {LOST:g} at layer {settings.depth} for every seed",
            measure=lambda result: {name: residuals(result, name)[:, -1].min() for name in SKIPS},
            passes=lambda residual: residual > LOST,
            only_if="a layer is {}",
            form="{:.2g}",
            title="Skip connections stop the collapse",
            readme=True,
        ),
        Claim(
            says="An MLP slows the collapse down",
            source=f"{DONG}: by its Lipschitz constant",
            criterion=f"relative residual < {SMALL:g} of every seed in more layers than without it",
            measure=lambda result: {
                name: tuple(collapsed_after(result, v) for v in (name, ALONE)) for name in MLPS
            },
            passes=lambda both: both[0] > both[1],
            only_if="a layer is {}",
            form="{:g} layers, {:g} without it",
        ),
        Claim(
            says="Layer normalisation plays no role in the collapse",
            source=f"{DONG}; refuted by Wu et al. 2405.18781; both as reported",
            criterion=f"relative residual < {SMALL:g} at layer {settings.depth} for every seed, "
            "without and with it",
            measure=lambda result: {
                condition: tuple(residuals(result, name)[:, -1].max() for name in names)
                for condition, names in NORMS.items()
            },
            passes=lambda both: all(residual < SMALL for residual in both),
            form="{:.1g} without it, {:.2g} with it",
            title="Layer norm plays no role in the collapse",
        ),
    ]


def residuals(result, variant):
    """The relative residuals (seeds, layers), that of the tokens themselves first."""
    return result.rows.where(variant=variant).grid("relative_residual", "seed", "layer")


def collapsed_after(result, variant):
    """The number of layers that make the tokens of every seed equal; infinite if no number does."""
    equal = np.all(residuals(result, variant) < SMALL, axis=0)
    return float(np.argmax(equal)) if np.any(equal) else math.inf


def tasks(settings):
    return cells(settings, variant=tuple(VARIANTS), seed=seeds(settings))


def work(there, variant, seed, depth, n_tokens, d_model, n_heads):
    draw, heads = (_clusters, 1) if variant in CLUSTERS else (_random, n_heads)
    X, weights = there.move(draw(generator(seed), depth, n_tokens, d_model))
    states = [X]
    for attention, mlp in weights:
        attend = partial(layers.multi_head_attention, **attention, n_heads=heads)
        X = VARIANTS[variant](X, attend, partial(layers.feed_forward, **mlp), depth)
        states.append(X)
    for layer, X in enumerate(states):
        row = {"variant": variant, "seed": seed[-1], "layer": layer}
        yield row | {"relative_residual": float(relative_residual(X))}


def _random(rng, depth, n_tokens, d_model):
    """Gaussian tokens, and the weights of attention and MLP in each layer."""
    start, weights = rng.standard_normal((n_tokens, d_model)), []
    for rng_layer in rng.spawn(depth):
        rng_attention, rng_mlp = rng_layer.spawn(2)
        attention = layers.init_multi_head_attention(rng_attention, d_model, bias=False)
        mlp = layers.init_feed_forward(rng_mlp, d_model, 4 * d_model, bias=False)
        weights.append((attention, mlp))
    return start, weights


def _clusters(rng, depth, n_tokens, d_model):
    """Tokens near ±u, and layers of one head: logits ±0.8, values that keep u, halve the rest."""
    I, u = np.eye(d_model), np.resize([1.0, -1.0], d_model)
    side = np.where(np.arange(n_tokens) < 0.6 * n_tokens, 1.0, -1.0)[:, None]
    W_q, W_v = 0.8 / math.sqrt(d_model) * I, 0.5 * (I + np.outer(u, u) / d_model)
    attention = {"W_q": W_q, "W_k": I, "W_v": W_v, "W_o": I}
    return side * u + 0.3 * rng.standard_normal((n_tokens, d_model)), [(attention, {})] * depth


ALT = (
    "Three panels: the tokens' relative residual over layers, logarithmic down to one millionth. "
    "Attention alone falls below it in three layers. Left: a plain skip leaves some thousandths "
    "after 24 layers, a pre-LN block a third, branches divided by √depth nearly all. Middle: an "
    "MLP delays the fall if it is multiplied by 8. Right: layer norm keeps two clusters apart."
)
PANELS = ((ALONE, *SKIPS), (ALONE, *MLPS), (*NORMS["weights are random"], *CLUSTERS))
STYLES = {  # the curves of a panel, one after the other
    "color": [plotting.BLACK, plotting.VERMILLION, plotting.SKY, plotting.BLUE, plotting.ORANGE],
    "marker": ["o", "s", "v", "^", "D"],
    "linestyle": ["-", "--", "-", "--", "-"],
}


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 3, size=(17, 7), sharey=True)
    for ax, claim, variants in zip(axes, judged, PANELS, strict=True):
        ax.set_prop_cycle(**STYLES)
        for variant in variants:
            values = np.maximum(residuals(result, variant), 1e-17)  # 0 has no logarithm
            n = int(min(collapsed_after(result, variant) + 1, values.shape[1]))
            plotting.band(ax, np.arange(n), values[:, :n], log=True, label=variant)
        ax.set(title=plotting.wrapped(claim.headline, 46), xlabel="layer", yscale="log")
        ax.set(xlim=(0, None), ylim=(SMALL, 2.0))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=12)
    axes[0].set_ylabel("difference between the tokens\n‖res(X)‖$_{1,∞}$ / ‖X‖$_{1,∞}$")
    return figure
