"""Do signals pass through an untrained stack?

‖J‖²/n, the mean squared singular value of the Jacobian J of n outputs by n inputs, is one where a
small change of the input keeps its size on average. Networks as in ReZero's notebook (2003.04887;
tbachlechner/ReZero-examples, fe7e7ef), with 0.1 for ReZero's step; no mask and no final norm.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.arrays import array_namespace, device, grad
from mgt_np.models import RESIDUAL_RULES, TransformerConfig
from mgt_np.models.decoder import connections

from .claims import Claim
from .experiment import Where, cells, generator, seeds

SOURCE = "ReZero 2003.04887, its notebook"
PRINTED = {("post_ln", 12): 0.810, ("pre_ln", 12): 10.242, ("rezero", 12): 1.059}  # printed
PRINTED |= {("post_ln", 128): 0.000, ("pre_ln", 128): 66.281, ("rezero", 128): 2.142}
NAMES = {"post_ln": "Post-LN", "pre_ln": "Pre-LN", "rezero": "ReZero", "mgt": "MGT"}
SAID = {"post_ln": ("vanishes", 0.0, 0.3), "pre_ln": ("grows", 3.0, np.inf)}  # bounds


@dataclass(frozen=True)
class Settings(Where):
    """Residual rules, depths in layers of two sub-layers each, and draws (`n_seeds`)."""

    seed: int = 0
    n_seeds: int = 12
    rules: tuple[str, ...] = tuple(NAMES)
    depths: tuple[int, ...] = (12, 128)


QUICK = Settings()
FULL = Settings(n_seeds=100, rules=(*NAMES, "deepnorm", "layerscale"))


def claims(settings):
    stacks = [(r, L) for r, L in PRINTED if r in settings.rules and L in settings.depths]
    agreement = Claim(
        says="Our stacks have the Jacobians of ReZero's notebook",
        source=SOURCE,
        criterion="factor between our median and its mean, rounded to 0.001, at most 2",
        measure=lambda result: {
            f"{NAMES[r]} of {L} layers": apart(result, r, L) for r, L in stacks
        },
        passes=lambda factor: factor <= 2.0,
        only_if="the stack is {}",
        form="× {:.2f}",
    )
    return [_of_rule(settings, rule) for rule in settings.rules] + [agreement] * bool(stacks)


def _of_rule(settings, rule):
    name, (does, low, high) = NAMES.get(rule, rule), SAID.get(rule, ("stays near one", 0.3, 3.0))
    return Claim(
        says=f"{name}'s Jacobian {does} at the start",
        source=SOURCE if rule in ("post_ln", "pre_ln", "rezero") else "our question",
        criterion=f"median of {settings.n_seeds} draws of ‖J‖²/n in [{low:g}, {high:g}]",
        measure=lambda result: {f"{L} layers": spread(result, rule, L) for L in settings.depths},
        passes=lambda measured: low <= measured[0] <= high,
        only_if="the stack has {}",
        form="{:.3g} (80 % of draws: {:.2g} … {:.2g})",
    )


def spread(result, rule, depth):
    """The median of ‖J‖²/n and its 10 % and 90 % quantiles over the draws."""
    draws = result.rows.where(rule=rule, depth=depth).column("mean_square")
    return tuple(np.quantile(draws, (0.5, 0.1, 0.9)).tolist())


def apart(result, rule, depth):
    """The factor between our median and the nearest number that rounds to the notebook's mean."""
    ours, theirs = spread(result, rule, depth)[0], PRINTED[rule, depth]
    return max(1.0, (theirs - 5e-4) / ours, ours / (theirs + 5e-4)) if ours > 0.0 else np.inf


def tasks(settings):
    return cells(settings, rule=settings.rules, depth=settings.depths, seed=seeds(settings))


def work(there, rule, depth, seed):
    sizes = {"d_model": 16, "n_heads": 4, "d_ff": 64, "n_layers": depth, "max_tokens": 4}
    options = {"activation": "relu", "causal": False, "rezero_alpha": 0.1, "dtype": there.dtype}
    config = TransformerConfig(vocab_size=1, residual=rule, **sizes, **options)
    J = jacobian(*there.move(drawn(config, seed)), config)
    mean_square = float(there.xp.sum(J * J)) / J.shape[0]
    yield {"rule": rule, "depth": depth, "seed": seed[-1], "mean_square": mean_square}


def drawn(config, seed):
    """The input, the blocks, and what reads them out: the same but for what the rule adds."""
    rule, rng, own = RESIDUAL_RULES[config.residual], generator(seed), generator(seed, 1)
    d, d_ff = config.d_model, config.d_ff
    x, blocks = rng.standard_normal((config.max_tokens, d)), []
    b_1, b_2 = rng.uniform(-1, 1, d_ff) / d**0.5, rng.uniform(-1, 1, d) / d_ff**0.5  # for all
    shapes = {"W_qkv": (d, 3 * d), "W_o": (d, d), "W_1": (d, d_ff), "W_2": (d_ff, d)}  # Xavier
    for i in range(0, 2 * config.n_layers, 2):
        W = {name: rng.uniform(-1, 1, n) * (6 / sum(n)) ** 0.5 for name, n in shapes.items()}
        W |= zip(("W_q", "W_k", "W_v"), np.split(W.pop("W_qkv"), 3, axis=1), strict=True)
        W |= {name: gain * W[name] for name, gain in rule.gains(config).items()}
        hidden = {"W_1": W.pop("W_1"), "W_2": W.pop("W_2"), "b_1": b_1, "b_2": b_2}
        block = {"attention": W, "feed_forward": hidden, "residual": rule.init_block(own, config)}
        for k, (part, n) in enumerate((("attention", d), ("feed_forward", d_ff))):
            block[f"{part}_residual"] = rule.init(own, config, i + k) | rule.init_inner(n, config)
        blocks.append(block)
    return x, blocks, rule.init_read(own, config)


def jacobian(x, blocks, read_out, config):
    """J of the last state by the input x: (n, n), a row for each output."""
    xp, rule, n = array_namespace(x), RESIDUAL_RULES[config.residual], x.shape[0] * x.shape[1]
    rows = xp.reshape(xp.eye(n, dtype=x.dtype, device=device(x)), (n, *x.shape))

    def picked(copies):  # output i of copy i, summed: the gradient by copy i is row i
        state = rule.expand(copies, config)
        for block in blocks:
            for _, sublayer, params in connections(block, config):
                state = rule.update(state, sublayer, params, config)
        y = rule.read(state, read_out, config)
        return array_namespace(y).sum(y * rows)

    return xp.reshape(grad(picked)(xp.broadcast_to(x, rows.shape)), (n, n))


ALT = (
    "Mean squared singular value of the Jacobian at 12 and 128 layers, a panel for each rule: "
    "post-LN's falls far below one, pre-LN's rises, ReZero's stays, MGT's falls."
)


@plotting.styled
def plot(result, judged):
    settings, n, k = result.settings, len(result.settings.depths), len(result.settings.rules)
    figure, axes = plotting.new_figure(1, k, size=(2.8 * k, 5.8), sharey=True, squeeze=False)
    for ax, rule, claim in zip(axes[0], settings.rules, judged, strict=False):
        draws = result.rows.where(rule=rule).grid("mean_square", "depth", "seed")
        places = np.arange(n)[:, None] + np.linspace(-0.2, 0.2, draws.shape[1])
        ax.semilogy(places.flat, draws.flat, "o", color=plotting.SKY, ms=6)
        ax.plot(np.median(draws, axis=1), "_", color=plotting.BLACK, ms=44, mew=4)
        theirs = np.maximum([PRINTED.get((rule, L), np.nan) for L in settings.depths], 5e-4)
        ax.plot(theirs, "D", color=plotting.VERMILLION, mfc="none", ms=11, mew=2.5)
        ax.axhline(1.0, color="grey", lw=1.5)
        ax.set_title(plotting.wrapped(claim.headline, 24))
        ax.set(xticks=range(n), xticklabels=settings.depths, xlabel="layers", xlim=(-0.5, n - 0.5))
    axes[0][0].set_ylabel("mean squared singular value\nof the Jacobian")
    names = ("one draw", "median", "notebook's mean of ten draws (0.000 is shown at 0.0005)")
    figure.legend(ax.lines[:3], names, loc="outside lower center", ncols=3, markerscale=0.6)
    return figure
