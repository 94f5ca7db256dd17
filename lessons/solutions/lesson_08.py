"""Solutions of lesson 08, and wrong answers with the words of their hints."""

import numpy as np


def sublayers_until(r, memory):
    return -2.0 * np.log(memory) / np.log(1.0 + r**2)


def memory_left(alpha, ratios):
    return np.prod(1.0 / np.sqrt(1.0 + (ratios / alpha) ** 2))


def even_steps(x_0, f, n_blocks, memory):
    n = 2 * n_blocks
    phi = 1.0 - memory ** (2.0 / n)
    length = x_0 / np.sqrt(1.0 - phi) ** np.arange(n)  # of x_0, x_1, …
    return length / f * np.sqrt(phi / (1.0 - phi))


def _part(r):
    return r**2 / (1.0 + r**2)


def _with_fraction(x_0, f, n, phi):
    return x_0 / np.sqrt(1.0 - phi) ** np.arange(n) / f * np.sqrt(phi / (1.0 - phi))


def _in_place_of_roots(x_0, f, n_blocks, memory):
    """φ/(1 − φ) in the place of its root."""
    return even_steps(x_0, f, n_blocks, memory) * np.sqrt(memory ** (-1.0 / n_blocks) - 1.0)


SOLUTIONS = {"08.1": sublayers_until, "08.2": memory_left, "08.3": even_steps}
WRONG = {
    "08.1": [
        (lambda r, memory: -np.log(memory) / np.log(1.0 + r**2), "half of it"),
        (lambda r, memory: -4.0 * np.log(memory) / np.log(1.0 + r**2), "twice too many"),
        (lambda r, memory: -2.0 * np.log(memory) / r**2, "puts r² in the place"),
        (lambda r, memory: -2.0 * np.log(memory) / _part(r), "exp(−Φ)"),
        (lambda r, memory: -np.log(memory) / np.log(1.0 + r), "adds the lengths"),
        (lambda r, memory: -2.0 * np.log(memory) / np.log(1.0 + r), "squares of the lengths"),
        (lambda r, memory: 2.0 * np.log(memory) / np.log(1.0 + r**2), "the sign"),
        (lambda r, memory: 2.0 * np.log(memory) / np.log(1.0 - r**2), "1 − r² is only near"),
        (lambda r, memory: np.log(memory) / np.log(1.0 - r), "do not subtract"),
        (lambda r, memory: int(np.ceil(sublayers_until(r, memory))), "do not round"),
        (lambda r, memory: f"{sublayers_until(r, memory)}", "leave the quotes away"),
        (lambda r, memory: 3.9, "should be"),
    ],
    "08.2": [
        (lambda alpha, ratios: np.prod((1.0 + ratios**2) ** -0.5), "post-LN's"),
        (lambda alpha, ratios: np.prod((1.0 + ratios**2 / alpha) ** -0.5), "of α too"),
        (lambda alpha, ratios: memory_left(alpha, ratios) ** 2, "take the root"),
        (lambda alpha, ratios: memory_left(1.0 / alpha, ratios), "divide by it"),
        (lambda alpha, ratios: np.prod(1.0 / (1.0 + ratios / alpha)), "lengths do not add"),
        (lambda alpha, ratios: memory_left(alpha, ratios[-1:]), "the last sub-layer leaves"),
        (
            lambda alpha, ratios: np.prod(alpha / np.sqrt(1.0 + (ratios / alpha) ** 2)),
            "no memory is above 1",
        ),
        (lambda alpha, ratios: 1.0 - np.sum(_part(ratios / alpha)), "the factors multiply"),
        (lambda alpha, ratios: 1.0 / np.sqrt(1.0 + (ratios / alpha) ** 2), "one number, got"),
        (lambda alpha, ratios: (1.0 + np.sum((ratios / alpha) ** 2)) ** -0.5, "as in pre-LN"),
        (lambda alpha, ratios: np.prod((alpha**2 + ratios**2) ** -0.5), "what is kept"),
        (lambda alpha, ratios: np.exp(-np.sum(_part(ratios / alpha))), "that is exp(−Φ), near"),
        (lambda alpha, ratios: np.exp(-np.sum(_part(ratios / alpha)) / 2), "limit for small φ"),
        (lambda alpha, ratios: np.exp(-np.sum((ratios / alpha) ** 2) / 2), "puts r²/α² in"),
        (lambda alpha, ratios: np.prod((1.0 + ratios / alpha) ** -0.5), "energies are squares"),
        (lambda alpha, ratios: np.prod((1.0 + ratios / alpha**2) ** -0.5), "r², not r"),
        (lambda alpha, ratios: np.prod((1.0 + ratios) ** -0.5), "and α², not α"),
        (lambda alpha, ratios: 0.1, "should be"),
    ],
    "08.3": [
        (
            lambda x_0, f, n_blocks, memory: np.full(
                2 * n_blocks, x_0 / f * np.sqrt((memory**-2 - 1.0) / (2 * n_blocks))
            ),
            "constant step",
        ),
        (
            lambda x_0, f, n_blocks, memory: np.full(
                2 * n_blocks, even_steps(x_0, f, n_blocks, memory)[0]
            ),
            "the stream grows",
        ),
        (
            lambda x_0, f, n_blocks, memory: (
                even_steps(x_0, f, n_blocks, memory) * memory ** (0.5 / n_blocks)
            ),
            "written over kept",
        ),
        (
            lambda x_0, f, n_blocks, memory: _with_fraction(
                x_0, f, 2 * n_blocks, 1.0 - memory ** (0.5 / n_blocks)
            ),
            "square of the memory",
        ),
        (
            lambda x_0, f, n_blocks, memory: _with_fraction(
                x_0, f, 2 * n_blocks, 1.0 - memory ** (2.0 / n_blocks)
            ),
            "leaves memory²",
        ),
        (
            lambda x_0, f, n_blocks, memory: _with_fraction(
                x_0, f, 2 * n_blocks, -np.log(memory) / n_blocks * 0.9
            ),
            "but the memory is",
        ),
        (
            lambda x_0, f, n_blocks, memory: _with_fraction(
                x_0, f, 2 * n_blocks, -np.log(memory) / n_blocks
            ),
            "for small φ only",
        ),
        (
            lambda x_0, f, n_blocks, memory: _in_place_of_roots(x_0, f, n_blocks, memory),
            "the step is the root",
        ),
        (
            lambda x_0, f, n_blocks, memory: (
                _in_place_of_roots(x_0, f, n_blocks, memory) * memory ** (1.0 / n_blocks)
            ),
            "φ is a part of an energy",
        ),
        (lambda x_0, f, *given: even_steps(x_0, f, *given) * f / x_0, "is missing: √"),
        (lambda x_0, f, *given: np.full(2 * given[0], even_steps(1.0, 1.0, *given)[0]), "c f/‖x"),
        (lambda x_0, f, *given: even_steps(x_0, f, *given) / x_0, "x_0 is missing"),
        (
            lambda x_0, f, n_blocks, memory: (
                even_steps(x_0, f, n_blocks, memory) / memory ** (0.5 / n_blocks)
            ),
            "not x_l.",
        ),
        (lambda *given: even_steps(*given)[::-1], "the order is reversed"),
        (lambda *given: even_steps(*given) ** 2, "squares of the steps"),
        (lambda x_0, f, *given: even_steps(x_0, f, *given) * f, "divide by f"),
        (lambda *given: even_steps(*given)[::2], "one step a block"),
        (lambda *given: float(even_steps(*given)[0]), "one for each sub-layer"),
        (
            lambda x_0, f, n_blocks, memory: np.linspace(0.1, 1.0, 2 * n_blocks),
            "sub-layer 1 writes the fraction",
        ),
    ],
}
