"""Does MGT's gate do what a projection on a tangent space would?

MGT (2601.01014) lets σ(LN(x W_gate)) ⊙ v stand in for the projection P v on the tangent space at x,
said to be too costly, of a manifold that what we could read does not name. Here P is that of the
sphere through x, that of the plane fitted to the tokens nearest to x, and, as what a gate should
find easy, that of the first axes, the same for all x; the gate is as it starts, and as gradient
descent makes it for this very purpose.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import local_tangent_basis
from mgt_np.arrays import array_namespace, value_and_grad
from mgt_np.layers import init_mgt_residual, sphere_tangent, tangent_gate, tangent_projection
from mgt_np.models import RESIDUAL_RULES, hidden_states
from mgt_np.models.decoder import connections

from .claims import Claim
from .experiment import Where, cells, generator, seeds
from .states import decoder_of_text

SPACES = {
    "sphere": "the sphere's",
    "fitted plane": "a plane fitted to the neighbours of x",
    "first axes": "the span of the first axes at every x",
}
NONE, START, ANOTHER = "none", "at the start", "another token's"
OWN, OTHER, BEST = "fitted, its own tokens", "fitted, other tokens", "best of all"
GOOD = 0.1  # squared error, relative to ‖P v‖², of what we call an approximation


@dataclass(frozen=True)
class Settings(Where):
    """Tokens at the last block of an untrained decoder: half to fit a gate to, half to test it.

    A fitted plane has `rank` dimensions, of the chords to `n_neighbours` tokens; so many axes are
    taken as well. The gate takes `n_steps` steps of gradient descent at `rate`.
    """

    seed: int = 0
    n_seeds: int = 2
    data: str = "python-docs"
    rules: tuple[str, ...] = ("mgt", "pre_ln")
    depth: int = 9
    rank: int = 8
    n_neighbours: int = 16
    n_steps: int = 200
    rate: float = 3.0
    d_model: int = 64
    n_heads: int = 4
    n_tokens: int = 64
    n_windows: int = 8


QUICK = Settings()
FULL = Settings(n_seeds=5, depth=48, n_steps=2000, n_windows=32)


def claims(settings):
    n_fitted = settings.n_windows * settings.n_tokens // 2
    rule = f"mean squared error ≤ {GOOD:g}, and at most half that of v itself"
    common = {
        "passes": lambda pair: pair[0] <= GOOD and pair[0] <= 0.5 * pair[1],
        "only_if": "the tangent space is {}",
        "form": "error {:.3f}, of v itself {:.3f}",
    }
    return [
        Claim(
            says="MGT's gate, σ(LN(x W_gate)) ⊙ v, approximates the projection of v on the tangent "
            "space at x",
            source="MGT 2601.01014, as reported",
            criterion=f"random weights: {rule}",
            measure=lambda result: compared(result, START),
            title="MGT's gate approximates a tangent projection",
            beside=lambda result: f"With another token's gate: {_listed(errors(result, ANOTHER))}",
            readme=True,
            **common,
        ),
        Claim(
            says="A gate fitted to that projection approximates it on other tokens",
            source="our reading of the same",
            criterion=f"{settings.n_steps} steps of descent on {n_fitted} tokens; others: {rule}",
            measure=lambda result: compared(result, OTHER),
            title="A gate fitted to it approximates it on other tokens",
            beside=lambda result: f"With the best positive gate: {_listed(errors(result, BEST))}",
            **common,
        ),
    ]


def errors(result, gate):
    """The squared error on each of the spaces: a mean over decoders, sub-layers and seeds."""
    rows = result.rows.where(gate=gate)
    return rows.grid("error", "space", "rule", "sublayer", "seed").mean(axis=(1, 2, 3))


def compared(result, gate):
    """The error with a gate and that without any, on each of the spaces."""
    pairs = zip(errors(result, gate), errors(result, NONE), strict=True)
    return dict(zip(SPACES.values(), pairs, strict=True))


def _listed(numbers):
    return ", ".join(f"{number:.3f}" for number in numbers)


def tasks(settings):
    return cells(settings, rule=settings.rules, seed=seeds(settings))


def work(there, rule, seed, rank, n_neighbours, n_steps, rate, **sizes):
    config, params, text = decoder_of_text(residual=rule, seed=seed, dtype=there.dtype, **sizes)
    rng = generator(seed, 2)
    residual = init_mgt_residual(rng, config.d_model)
    start = {name: residual[name] for name in ("W_gate", "gain", "bias")}
    halves = np.array_split(rng.permutation(text.size), 2)
    params, text, start, halves = there.move((params, text, start, halves))
    take = there.xp.take
    for sublayer, x, v in last_block(params, text, config):
        for space, target in projections(x, v, rank, n_neighbours).items():
            seen, held = ([take(a, part, axis=0) for a in (x, v, target)] for part in halves)
            fitted = fit(start, seen, n_steps, rate)
            labels = {"rule": rule, "sublayer": sublayer, "seed": seed[-1], "space": space}
            for gate, number in _errors_by_gate(start, fitted, seen, held).items():
                yield {**labels, "gate": gate, "error": float(number)}


def last_block(params, text, config):
    """Each sub-layer of the last block: its name, the state x that comes in, and its output v."""
    x = hidden_states(params, text, config)[-2, ...]
    xp, block = array_namespace(x), params["blocks"][-1]
    for name, sublayer, residual in connections(block, config):
        written = []

        def remember(z, sublayer=sublayer, written=written):
            written.append(sublayer(z))
            return written[0]

        after = RESIDUAL_RULES[config.residual].update(x, remember, residual, config)
        yield name, *(xp.reshape(state, (-1, config.d_model)) for state in (x, written[0]))
        x = after


def projections(x, v, rank, n_neighbours):
    """P v, token by token, for each of the spaces."""
    xp = array_namespace(x)
    plane = local_tangent_basis(x, rank=rank, n_neighbours=n_neighbours)
    outside = xp.zeros_like(v[:, rank:])
    return {
        "sphere": sphere_tangent(x, v),
        "fitted plane": tangent_projection(v, plane),
        "first axes": xp.concat([v[:, :rank], outside], axis=-1),
    }


def error(w, target):
    """min over c of ‖c w − P v‖²/‖P v‖²: how strong the gate is, is β's business."""
    xp = array_namespace(w)
    along = xp.sum(w * target)
    return 1.0 - along * along / (xp.sum(w * w) * xp.sum(target * target))


def gated_error(gate, x, v, target):
    """The error of the gate's v at some tokens."""
    return error(tangent_gate(x, **gate) * v, target)


def fit(gate, tokens, n_steps, rate):
    """The gate after gradient descent on its error at these tokens."""
    step = value_and_grad(lambda gate: gated_error(gate, *tokens))
    for _ in range(n_steps):
        _, gradient = step(gate)
        gate = {name: weights - rate * gradient[name] for name, weights in gate.items()}
    return gate


def _errors_by_gate(start, fitted, seen, held):
    (x, v, target), xp = held, array_namespace(held[0])
    best = xp.where(target * v > 0.0, target, 0.0)  # no positive gate gives another sign than v's
    return {
        NONE: error(v, target),
        START: gated_error(start, *held),
        ANOTHER: gated_error(start, xp.roll(x, 1, axis=0), v, target),
        OWN: gated_error(fitted, *seen),
        OTHER: gated_error(fitted, *held),
        BEST: error(best, target),
    }


ALT = (
    "Squared errors on three tangent spaces. Left, random weights: MGT's gate takes v no nearer to "
    "its projection. Right: a fitted gate takes it there on the first axes alone."
)
PANELS = ((NONE, START, ANOTHER), (NONE, OWN, OTHER, BEST))
LOOKS = {
    NONE: ("v itself, no gate", "|", plotting.BLACK),
    START: ("MGT's gate, random weights", "o", plotting.BLUE),
    ANOTHER: ("that gate, from another token", "s", plotting.ORANGE),
    OWN: ("fitted gate, its own tokens", "^", plotting.SKY),
    OTHER: ("fitted gate, other tokens", "o", plotting.BLUE),
    BEST: ("best positive gate", "D", plotting.GREEN),
}


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 2, size=(12.5, 5.8), sharey=True)
    for ax, claim, gates in zip(axes, judged, PANELS, strict=True):
        ax.set_title(plotting.wrapped(claim.headline, 60))
        _draw(ax, result, gates)
        ax.legend(loc="upper right", fontsize=12)
        ax.set_xlabel("squared error of output w, best c: ‖c w − P v‖²/‖P v‖²\n(mean and range)")
    d, rank = result.settings.d_model, result.settings.rank
    sizes = zip(SPACES, (d - 1, rank, rank), strict=True)
    names = [f"{space}:\n{n} of {d}\ndimensions" for space, n in sizes]
    axes[0].set_yticks(range(len(SPACES)), names)
    axes[0].set_ylim(len(SPACES) - 0.5, -0.5)
    axes[0].set_ylabel("tangent space at the token x")
    return figure


def _draw(ax, result, gates):
    for i, space in enumerate(SPACES):
        for j, gate in enumerate(gates):
            label, marker, color = LOOKS[gate]
            values = result.rows.where(space=space, gate=gate).column("error")
            y = i + 0.2 * (j - (len(gates) - 1) / 2)
            ax.plot([min(values), max(values)], [y, y], color=color, lw=3, alpha=0.4)
            ax.plot(np.mean(values), y, marker, color=color, ms=9, mew=2, label="" if i else label)
        ax.axhline(i + 0.5, color="grey", lw=1)
    ax.set_xlim(-0.02, 1.0)
    ax.grid(visible=False, axis="y")
