"""Does MGT's gate do what a projection on the tangent space would? Both on hidden states of text.

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
from mgt_np.arrays import device as device_of
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import (
    init_mgt_residual,
    sphere_tangent,
    tangent_gate,
    tangent_projection,
)
from mgt_np.models import RESIDUAL_RULES, hidden_states
from mgt_np.models.decoder import connections

from .experiment import Claim, Experiment, Where, only_if
from .states import decoder_of_text

SPACES = {
    "sphere": "that of the sphere",
    "fitted plane": "the plane fitted to the neighbours",
    "first axes": "the span of the first axes, the same at every x",
}
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


def tasks(settings):
    names = ("data", "depth", "rank", "n_neighbours", "n_steps", "rate")
    names += ("d_model", "n_heads", "n_tokens", "n_windows")
    sizes = {name: getattr(settings, name) for name in names}
    return [
        {"rule": rule, "seed": settings.seed + i, **sizes, **settings.where()}
        for rule in settings.rules
        for i in range(settings.n_seeds)
    ]


def work(
    rule,
    seed,
    rank,
    n_neighbours,
    n_steps,
    rate,
    array_library="numpy",
    device=None,
    dtype="float64",
    **sizes,
):
    config, params, text = decoder_of_text(residual=rule, seed=seed, dtype=dtype, **sizes)
    rng = np.random.default_rng([seed, 1])
    start = init_mgt_residual(rng, config.d_model, dtype=dtype)
    start = {name: start[name] for name in ("W_gate", "gain", "bias")}
    to_fit, to_test = np.array_split(rng.permutation(text.size), 2)
    there = place(array_library, device, dtype=dtype)
    params, text, start, to_fit, to_test = move((params, text, start, to_fit, to_test), there)
    rows = []
    for sublayer, x, v in _last_block(params, text, config):
        planes = _planes(x, rank, n_neighbours)
        for space in SPACES:
            seen, held = (_Tokens(x, v, planes.get(space), part) for part in (to_fit, to_test))
            fitted = _fit(start, seen, n_steps, rate)
            rows += [
                {
                    "rule": rule,
                    "sublayer": sublayer,
                    "seed": seed,
                    "space": space,
                    "gate": name,
                    "error": float(tokens.error(w)),
                    "inside": float(tokens.inside(w)),
                }
                for name, tokens, w in (
                    ("none", held, held.v),
                    ("at the start", held, held.gated(start)),
                    ("another token's", held, held.gated_by_another(start)),
                    ("fitted, its own tokens", seen, seen.gated(fitted)),
                    ("fitted, other tokens", held, held.gated(fitted)),
                    ("best of all", held, held.best()),
                )
            ]
    return rows


def _planes(x, rank, n_neighbours):
    """A basis (n, d, rank) for each space that has one."""
    xp, (n, d) = array_namespace(x), x.shape
    axes = xp.eye(d, dtype=x.dtype, device=device_of(x))[:, :rank]
    return {
        "fitted plane": local_tangent_basis(x, rank=rank, n_neighbours=n_neighbours),
        "first axes": xp.broadcast_to(axes, (n, d, rank)),
    }


def _last_block(params, text, config):
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


class _Tokens:
    """Some of the tokens: states x, branches v, and the projections P v of these."""

    def __init__(self, x, v, plane, part):
        self.xp = array_namespace(x)
        self.x, self.v = (self.xp.take(a, part, axis=0) for a in (x, v))
        self.plane = None if plane is None else self.xp.take(plane, part, axis=0)
        self.target = self.project(self.v)

    def project(self, w):
        if self.plane is None:
            return sphere_tangent(self.x, w)
        return tangent_projection(w, self.plane)

    def gated(self, gate):
        return tangent_gate(self.x, **gate) * self.v

    def gated_by_another(self, gate):
        """As strong a gate, that knows nothing of x."""
        return self.xp.flip(tangent_gate(self.x, **gate), axis=0) * self.v

    def best(self):
        """What no positive gate can better: P v where its sign is that of v, else 0."""
        return self.xp.where(self.target * self.v > 0.0, self.target, 0.0)

    def error(self, w):
        """min over c of ‖c w − P v‖²/‖P v‖²: how strong the gate is, is β's business."""
        xp = array_namespace(w)
        along = xp.sum(xp.multiply(w, self.target))
        lengths = xp.multiply(xp.sum(w * w), self.xp.sum(self.target * self.target))
        return 1.0 - along * along / lengths

    def inside(self, w):
        """The mean part of w's energy that lies in the tangent space."""
        xp, projected = self.xp, self.project(w)
        return xp.mean(xp.sum(projected * projected, axis=-1) / xp.sum(w * w, axis=-1))


def _fit(gate, tokens, n_steps, rate):
    """The gate after gradient descent on its squared error."""
    step = value_and_grad(lambda gate: tokens.error(tokens.gated(gate)))
    for _ in range(n_steps):
        _, gradient = step(gate)
        gate = {name: weights - rate * gradient[name] for name, weights in gate.items()}
    return gate


def claims(result):
    settings = result.settings
    errors = {
        (space, gate): float(np.mean(result.column("error", space=space, gate=gate)))
        for space in SPACES
        for gate in GATES
    }
    return [
        Claim(
            "σ(LN(x W_gate)) ⊙ v approximates the projection of v on the tangent space at x: "
            f"squared error ≤ {GOOD:g}, and half that of v",
            "MGT 2601.01014, as reported",
            "random weights, mean squared errors: "
            + _measured(errors, ("none", "at the start", "another token's")),
            _verdict(errors, "at the start"),
        ),
        Claim(
            "A gate fitted to that projection approximates it on other tokens, twice as well as no "
            "gate does",
            "our reading of the same",
            f"{settings.n_steps} steps of descent on {settings.n_windows * settings.n_tokens // 2} "
            "tokens: " + _measured(errors, ("none", "fitted, other tokens", "best of all")),
            _verdict(errors, "fitted, other tokens"),
        ),
    ]


def _measured(errors, gates):
    """Mean errors, space by space."""
    return "; ".join(
        f"{space}: " + ", ".join(f"{GATES[gate]} {errors[space, gate]:.3f}" for gate in gates)
        for space in SPACES
    )


def _verdict(errors, gate):
    """Good is an error of at most GOOD, and at most half that of v without any gate."""
    good = [
        space
        for space in SPACES
        if errors[space, gate] <= GOOD and errors[space, gate] <= 0.5 * errors[space, "none"]
    ]
    return only_if([SPACES[space] for space in good], SPACES, "the tangent space is {}")


GATES = {
    "none": "v, no gate",
    "at the start": "MGT's gate",
    "another token's": "another token's gate",
    "fitted, its own tokens": "fitted, its own tokens",
    "fitted, other tokens": "fitted, other tokens",
    "best of all": "best positive gate",
}


@plotting.styled
def plot(result):
    settings = result.settings
    figure, axes = plotting.new_figure(2, 3, size=(15, 7.6), sharey=True)
    dimensions = {"sphere": settings.d_model - 1}
    for j, space in enumerate(SPACES):
        for i, quantity in enumerate(("error", "inside")):
            _draw(axes[i, j], result, space, quantity)
        dimension = dimensions.get(space, settings.rank)
        random = dimension / settings.d_model
        axes[1, j].axvline(random, color="grey", lw=1)
        side, aside = ("left", 4) if random < 0.5 else ("right", -4)
        axes[1, j].annotate(
            "random v",
            (random, -4.55),
            (aside, 0),
            textcoords="offset points",
            ha=side,
            fontsize=11,
        )
        axes[0, j].set_title(f"{space}: {dimension} of {settings.d_model} dimensions")
        axes[0, j].set_xlabel("squared error ‖c w − P v‖²/‖P v‖²")
        axes[1, j].set_xlabel("part of w's energy in the tangent space")
    axes[0, 1].legend(loc="upper left", fontsize=11)
    figure.suptitle(_finding(result), fontsize=14, x=0.01, ha="left")
    return figure


def _draw(ax, result, space, quantity):
    looks = {"attention": ("o", plotting.BLUE), "feed_forward": ("s", plotting.VERMILLION)}
    for y, gate in enumerate(GATES):
        for k, rule in enumerate(result.settings.rules):
            for sublayer, (marker, colour) in looks.items():
                values = result.column(
                    quantity, space=space, gate=gate, rule=rule, sublayer=sublayer
                )
                ax.plot(
                    values,
                    [-y - 0.15 * k] * len(values),
                    marker,
                    color=colour,
                    mfc="none" if k else colour,
                    label=f"{rule}, {sublayer}" if y == 0 else None,
                )
    ax.set_yticks([-y - 0.075 for y in range(len(GATES))], list(GATES.values()))
    ax.set_xlim(-0.03, 1.03)


def _finding(result):
    errors = {
        space: [
            np.mean(result.column("error", space=space, gate=gate))
            for gate in ("none", "at the start")
        ]
        for space in SPACES
    }
    nearer = [space for space, (none, gated) in errors.items() if gated < none]
    where = f"nearer on the {' and '.join(nearer)}" if nearer else "nowhere nearer"
    each = ", ".join(f"{space} {b:.2f} (v itself: {a:.2f})" for space, (a, b) in errors.items())
    return (
        f"MGT's gate at random weights comes {where} to the tangent projection than v does.\n"
        f"Squared error: {each}"
    )


TANGENCY = Experiment(
    name="tangency",
    question="Does MGT's soft gate do what a projection on a tangent space would?",
    quick=Settings(),
    full=Settings(n_seeds=5, depth=48, n_steps=2000, n_windows=32),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
