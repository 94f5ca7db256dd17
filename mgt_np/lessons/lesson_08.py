"""Judges and predictions of lesson 8, rank evolution."""

from functools import partial

import numpy as np

from mgt_np.layers import feed_forward, layer_norm, multi_head_attention
from mgt_np.models import TransformerConfig, init_transformer

from .judging import exercise, hint_for
from .predicting import Prediction

Prediction(
    "08.a",
    choices={
        "above 0.5": "That is right for 0.02 at depth 100. But a small branch slows the clock and "
        "does not stop it: every sub-layer still rewrites a part of the state.",
        "between": "It passes through there on its way. The clock goes on, and with it the loss.",
        "below 0.1": "The clock runs slower and does not stop.",
    },
)
Prediction(
    "08.b",
    within=1.25,
    thoughts=(
        (0.0, 4.5, "The clock slows down, but a sum of 1/(n₀ + l) has no limit."),
        (7.0, 12.0, "That is twice as much, as if Φ grew like √n: the length does, not Φ."),
        (
            12.01,
            1e6,
            "That is a clock linear in depth, as post-LN's. Pre-LN's stream grows, so that each "
            "sub-layer rewrites a smaller part of it.",
        ),
    ),
)


@exercise("08.1")
def post_ln_half_life(answer, rng):
    """After how many sub-layers (1 + r²)^(−n/2) is the memory."""
    r, memory = rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.6)
    n = -2.0 * np.log(memory) / np.log1p(r**2)
    phi = r**2 / (1.0 + r**2)
    usual = [
        (
            n / 2.0,
            "half of it: you took `memory`, a cosine, for an energy, which is its square, or you "
            "counted blocks.",
        ),
        (2.0 * n, "twice too many: each sub-layer takes the root of 1 − φ, not the square."),
        (
            -2.0 * np.log(memory) / r**2,
            "that puts r² in the place of ln(1 + r²): r need not be small.",
        ),
        (
            -2.0 * np.log(memory) / phi,
            "that is exp(−Φ) for the product: it holds for small φ only, and the exact answer is "
            "as short.",
        ),
        (
            -np.log(memory) / np.log1p(r),
            "that adds the lengths, 1 + r: at right angles the squares add.",
        ),
        (
            -2.0 * np.log(memory) / np.log1p(r),
            "ln(1 + r) should be ln(1 + r²): the squares of the lengths add.",
        ),
        (
            2.0 * np.log(memory) / np.log1p(-(r**2)),
            "1 − r² is only near what is kept of the energy: that is 1/(1 + r²).",
        ),
        (
            np.log(memory) / np.log1p(-r),
            "lengths do not subtract: the part kept of the length is 1/√(1 + r²), not 1 − r.",
        ),
        (-n, "the sign is the other one: the logarithm of the memory is negative."),
        (np.ceil(n), "do not round: n need not be whole here."),
        (np.floor(n), "do not round: n need not be whole here."),
    ]
    return hint_for(answer(r, memory), n, usual, rtol=1e-6, what="the number of sub-layers")


def deepnorm_run(alpha, n_blocks, rng, d=64, n_tokens=48):
    """Return ‖F(x)‖/‖x‖ of every sub-layer of an untrained DeepNorm decoder, and its memory."""
    config = TransformerConfig(
        vocab_size=64,
        d_model=d,
        n_heads=4,
        n_layers=n_blocks,
        d_ff=2 * d,
        max_tokens=n_tokens,
        residual="deepnorm",
        deepnorm_alpha=alpha,
        deepnorm_gain=1.0,
    )
    params = init_transformer(rng, config)
    start = x = params["tokens"][rng.integers(64, size=n_tokens)] + params["positions"]
    ratios = []
    for block in params["blocks"]:
        attention = partial(multi_head_attention, n_heads=4, causal=True, **block["attention"])
        for F in (attention, partial(feed_forward, **block["feed_forward"])):
            y = F(x)
            ratios.append(np.linalg.norm(y) / np.linalg.norm(x))
            x = layer_norm(alpha * x + y)
    cosine = layer_norm(start, eps=0.0) * layer_norm(x, eps=0.0)
    return np.array(ratios), float(np.mean(cosine))


_NOT_SQUARED = "energies are squares: r², not r, and α², not α."


@exercise("08.2")
def memory_of_deepnorm(answer, rng):
    """Within 0.1 of what is measured: the product of 1/√(1 + r²/α²) is."""
    small, large = rng.uniform(1.2, 1.6), rng.uniform(2.4, 3.0)  # no one number fits both
    return _unlike_deepnorm(answer, small, rng) or _unlike_deepnorm(answer, large, rng)


def _unlike_deepnorm(answer, alpha, rng):
    """What is wrong with a prediction of one run's memory."""
    r, measured = deepnorm_run(alpha, int(rng.integers(5, 9)), rng)
    right = np.prod((1.0 + (r / alpha) ** 2) ** -0.5)
    got = answer(alpha, r.copy())
    phi = (r / alpha) ** 2 / (1.0 + (r / alpha) ** 2)
    usual = [
        (
            np.prod((alpha**2 + r**2) ** -0.5),
            "α also multiplies what is kept: each factor is α/√(α² + r²).",
        ),
        (
            np.exp(-np.sum(phi)),
            "that is exp(−Φ), near the energy's share s²: take the root, and the exact product.",
        ),
        (
            np.exp(-0.5 * np.sum(phi)),
            "exp(−Φ/2) is the limit for small φ: the product itself is exact, and as short.",
        ),
        (
            np.exp(-0.5 * np.sum((r / alpha) ** 2)),
            "that puts r²/α² in the place of ln(1 + r²/α²): r need not be small.",
        ),
        *((np.prod((1.0 + r / a) ** -0.5), _NOT_SQUARED) for a in (alpha, alpha**2)),
        (np.prod((1.0 + r) ** -0.5), _NOT_SQUARED),
        (
            np.prod((1.0 + r**2) ** -0.5),
            "that is post-LN's: here α x is kept, so that what is written is smaller beside it.",
        ),
        (
            np.prod((1.0 + r**2 / alpha) ** -0.5),
            "r²/α should be r²/α²: energies are squares, of α too.",
        ),
        (
            right**2,
            "that is the energy's share: the memory is a cosine, so take the root.",
        ),
        (
            np.prod((1.0 + (r * alpha) ** 2) ** -0.5),
            "α multiplies the state and not the branch: divide by it.",
        ),
        (
            np.prod(alpha * (1.0 + (r / alpha) ** 2) ** -0.5),
            "the norm takes the factor α out again: no memory is above 1.",
        ),
        (
            np.prod(1.0 / (1.0 + r / alpha)),
            "lengths do not add, energies do: at right angles it is √(1 + r²/α²).",
        ),
        (
            (1.0 + (r[-1] / alpha) ** 2) ** -0.5,
            "that is what the last sub-layer leaves: multiply over all of them.",
        ),
        (
            (1.0 + np.sum((r / alpha) ** 2)) ** -0.5,
            "that adds up energies, as in pre-LN: here every norm shrinks the state again.",
        ),
        (
            1.0 - np.sum((r / alpha) ** 2 / (1.0 + (r / alpha) ** 2)),
            "1 − Φ is the first term only: the factors multiply.",
        ),
    ]
    hint = hint_for(got, right, usual, what="the memory")
    near = np.shape(got) == () and hint.startswith("for a test input")
    return "" if near and abs(float(got) - measured) < 0.1 else hint


@exercise("08.3")
def even_forgetting(answer, rng):
    """Steps with which every sub-layer writes the same fraction; any signs."""
    x_0, f = rng.uniform(2.0, 9.0, 2)
    n_blocks, memory = int(rng.integers(3, 12)), rng.uniform(0.2, 0.8)
    n = 2 * n_blocks
    phi = 1.0 - memory ** (2.0 / n)
    length = x_0 * (1.0 - phi) ** (-0.5 * np.arange(n))  # of the state before each sub-layer
    right = length / f * np.sqrt(phi / (1.0 - phi))
    got = answer(x_0, f, n_blocks, memory)
    constant = x_0 / f * np.sqrt((memory**-2 - 1.0) / n)
    growing = x_0 * (1.0 + phi) ** (0.5 * np.arange(n))
    usual = [
        (
            np.full(n, constant),
            "the memory is right, but with a constant step the first sub-layers rewrite more than "
            "the last.",
        ),
        (
            np.full(n, right[0]),
            "the stream grows: measure each step against the length of x_{l−1}, not of x_0.",
        ),
        (
            length / f * np.sqrt(phi),
            "φ is the part of the *new* state: written over kept is φ/(1 − φ).",
        ),
        (
            growing / f * np.sqrt(phi),
            "φ is the part of the *new* state: written over kept is φ/(1 − φ).",
        ),
        (
            right / np.sqrt(1.0 - phi),
            "measure each step against the state before the sub-layer, x_{l−1}, not x_l.",
        ),
        *(
            (length / f * part, "φ is a part of an energy: the step is the root of it.")
            for part in (phi, phi / (1.0 - phi))
        ),
        *(
            (steps, "‖x_{l−1}‖/f is missing: √(φ/(1 − φ)) is c f/‖x_{l−1}‖, not the step.")
            for steps in (right * f / x_0, np.full(n, right[0] * f / x_0))
        ),
        (right / x_0, "x_0 is missing: the steps grow with the length of the embedding."),
        (right[::-1], "the order is reversed: the longer the stream, the larger the step."),
        (right**2, "those are the squares of the steps."),
        (right * f, "those are the lengths c f that are written: divide by f."),
    ]
    hint = hint_for(got, right, usual, rtol=1e-6, what="the array of steps")
    if " of shape " in hint and np.shape(got) == ():
        return "expected an array of n = 2 · n_blocks steps, one for each sub-layer."
    if " of shape " in hint and np.shape(got) == (n_blocks,):
        return "that is one step a block: every block has two sub-layers."
    if hint.startswith("for a test input"):
        return _uneven(np.asarray(got, dtype=float), x_0, f, memory)
    return hint


def _uneven(c, x_0, f, memory):
    """What such steps do: "" where each writes as much and the memory is right."""
    energy = x_0**2 + np.cumsum((c * f) ** 2)
    phi = (c * f) ** 2 / energy
    if not np.allclose(phi, phi[0], rtol=1e-5):
        first, last = phi[[0, -1]]
        return f"sub-layer 1 writes the fraction {first:.3g} of its new state, the last {last:.3g}."
    left = x_0 / np.sqrt(energy[-1])
    if np.isclose(left, memory, rtol=1e-6):
        return ""
    if np.isclose(left, np.sqrt(memory), rtol=1e-6):
        return "∏(1 − φ) is the square of the memory: it is a cosine, and φ a part of an energy."
    if np.isclose(left, memory**2, rtol=1e-6):
        return "that leaves memory²: the product runs over 2 · n_blocks sub-layers."
    if np.isclose(phi[0], -2.0 * np.log(memory) / len(c), rtol=1e-6):
        return "φ = −2 ln(memory)/n is not exact: ∏(1 − φ) is exp(−nφ) for small φ only."
    return f"the fractions are equal, but the memory is {left:.3g}, and should be {memory:.3g}."
