"""Does MGT's gate do what a projection on a tangent space would?

MGT (2601.01014) lets σ(LN(x W_gate)) ⊙ v stand in for the projection P v on the tangent space at x,
said to be too costly, of a manifold that what we could read does not name. Here P is that of the
sphere through x, that of the plane fitted to the tokens nearest to x, and, as what a gate should
find easy, that of the first axes, the same for all x; the gate is as it starts, and as gradient
descent makes it for this very purpose.
"""

from dataclasses import dataclass, replace

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
    at_random = Claim(
        says="MGT's gate, σ(LN(x W_gate)) ⊙ v, approximates the projection of v on the tangent "
        "space at x",
        source="MGT 2601.01014, as reported",
        criterion=f"random weights: {rule}",
        measure=lambda result: compared(result, START),
        passes=lambda pair: pair[0] <= GOOD and pair[0] <= 0.5 * pair[1],
        only_if="the tangent space is {}",
        form="error {:.3f}, of v itself {:.3f}",
        title="MGT's gate approximates a tangent projection",
        beside=lambda result: f"With another token's gate: {_listed(errors(result, ANOTHER))}",
        readme=True,
    )
    fitted = replace(
        at_random,
        says="A gate fitted to that projection approximates it on other tokens",
        source="our reading of the same",
        criterion=f"{settings.n_steps} steps of descent on {n_fitted} tokens; others: {rule}",
        measure=lambda result: compared(result, OTHER),
        title="A gate fitted to it approximates it on other tokens",
        beside=lambda result: f"With the best positive gate: {_listed(errors(result, BEST))}",
        readme=False,
    )
    return [at_random, fitted]


def errors(result, gate):
    """The squared error on each of the spaces: a mean over decoders, sub-layers and seeds."""
    return result.rows.where(gate=gate).by(lambda row: SPACES[row["space"]], "error", np.mean)


def compared(result, gate):
    """The error with a gate and that without any, on each of the spaces."""
    without = errors(result, NONE)
    return {space: (error, without[space]) for space, error in errors(result, gate).items()}


def _listed(numbers):
    return ", ".join(f"{number:.3f}" for number in numbers.values())


def tasks(settings):
    return cells(settings, rule=settings.rules, seed=seeds(settings))


def work(there, rule, seed, rank, n_neighbours, n_steps, rate, **sizes):
    config, params, text = decoder_of_text(residual=rule, seed=seed, dtype=there.dtype, **sizes)
    rng = generator(seed, 2)
    residual = init_mgt_residual(rng, config.d_model)
    start = {name: residual[name] for name in ("W_gate", "gain", "bias")}
    halves = np.array_split(rng.permutation(text.size), 2)
    params, text, start, halves = there.move((params, text, start, halves))
    for sublayer, x, v in last_block(params, text, config):
        for space, target in projections(x, v, rank, n_neighbours).items():
            seen, held = (
                [there.xp.take(a, half, axis=0) for a in (x, v, target)] for half in halves
            )
            fitted = fit(start, seen, n_steps, rate)
            labels = {"rule": rule, "sublayer": sublayer, "seed": seed[-1], "space": space}
            for gate, number in _errors_by_gate(start, fitted, seen, held).items():
                yield {**labels, "gate": gate, "error": float(number)}


def last_block(params, text, config):
    """Each sub-layer of the last block: its name, the state x that comes in, and its output v."""
    x = hidden_states(params, text, config)[-2, ...]
    for name, sublayer, residual in connections(params["blocks"][-1], config):
        written = []

        def remember(z, sublayer=sublayer, written=written):
            written.append(sublayer(z))
            return written[0]

        after = RESIDUAL_RULES[config.residual].update(x, remember, residual, config)
        yield name, *(array_namespace(x).reshape(z, (-1, config.d_model)) for z in (x, *written))
        x = after


def projections(x, v, rank, n_neighbours):
    """P v, token by token, for each of the spaces."""
    xp = array_namespace(x)
    plane = local_tangent_basis(x, rank=rank, n_neighbours=n_neighbours)
    return {
        "sphere": sphere_tangent(x, v),
        "fitted plane": tangent_projection(v, plane),
        "first axes": xp.concat([v[:, :rank], xp.zeros_like(v[:, rank:])], axis=-1),
    }


def error(w, target):
    """min over c of ‖c w − P v‖²/‖P v‖²: how strong the gate is, is β's business."""
    xp = array_namespace(w)
    along = xp.sum(w * target)
    return 1.0 - along * along / (xp.sum(w * w) * xp.sum(target * target))


def fit(gate, tokens, n_steps, rate):
    """The gate after gradient descent on its error at these tokens."""
    x, v, target = tokens
    step = value_and_grad(lambda gate: error(tangent_gate(x, **gate) * v, target))
    for _ in range(n_steps):
        _, gradient = step(gate)
        gate = {name: weights - rate * gradient[name] for name, weights in gate.items()}
    return gate


def _errors_by_gate(start, fitted, seen, held):
    (x_seen, v_seen, target_seen), (x, v, target), xp = seen, held, array_namespace(held[0])
    best = xp.where(target * v > 0.0, target, 0.0)  # no positive gate gives another sign than v's
    return {
        NONE: error(v, target),
        START: error(tangent_gate(x, **start) * v, target),
        ANOTHER: error(tangent_gate(xp.roll(x, 1, axis=0), **start) * v, target),
        OWN: error(tangent_gate(x_seen, **fitted) * v_seen, target_seen),
        OTHER: error(tangent_gate(x, **fitted) * v, target),
        BEST: error(best, target),
    }


ALT = (
    "Squared errors on three tangent spaces. MGT's gate with random weights takes v no nearer to "
    "its projection, on the sphere further away. A fitted gate takes it there on the first axes."
)
LOOKS = {
    NONE: ("v itself, no gate", "|", plotting.BLACK),
    START: ("MGT's gate, random weights", "o", plotting.BLUE),
    ANOTHER: ("that gate, from another token", "s", plotting.ORANGE),
    OWN: ("fitted gate, its own tokens", "^", plotting.SKY),
    OTHER: ("fitted gate, other tokens", "v", plotting.VERMILLION),
    BEST: ("best positive gate", "D", plotting.GREEN),
}


@plotting.styled
def plot(result, judged):
    figure, ax = plotting.new_figure(size=(12.5, 6.6))
    for i, (gate, (label, marker, color)) in enumerate(LOOKS.items()):
        values = result.rows.where(gate=gate).grid("error", "space", "rule", "sublayer", "seed")
        y, values = np.arange(len(SPACES)) + 0.14 * (i - 2.5), values.reshape(len(SPACES), -1)
        ax.hlines(y, values.min(1), values.max(1), color=color, lw=3, alpha=0.4)
        ax.plot(values.mean(1), y, marker, color=color, ms=9, mew=2, label=label)
    ax.hlines((0.5, 1.5), -0.02, 1.0, color="grey", lw=1)
    d, rank = result.settings.d_model, result.settings.rank
    dimensions = zip(SPACES, (d - 1, rank, rank), strict=True)
    names = [f"{space}:\n{n} of {d}\ndimensions" for space, n in dimensions]
    ax.set_yticks(range(len(SPACES)), names)
    ax.set(xlim=(-0.02, 1.0), ylim=(2.5, -0.5), ylabel="tangent space at the token x")
    ax.set_xlabel("squared error of output w, best c: ‖c w − P v‖²/‖P v‖² (mean and range)")
    ax.set_title("\n".join(claim.headline for claim in judged))
    ax.grid(visible=False, axis="y")
    figure.legend(loc="outside right center")
    return figure
