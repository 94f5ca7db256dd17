"""Judges and predictions of lesson 03: rank, and why attention alone loses it."""

import numpy as np

from mgt_np.analysis import effective_rank, path_length_terms, path_terms
from mgt_np.layers import attention_weights, init_multi_head_attention

from .judging import exercise, hint_for, without
from .predicting import Prediction

Prediction(
    "03.a",
    within=3.0,
    thoughts=(
        (
            0.05,
            2.0,
            "The path around all layers does carry X unchanged. But the residual is measured "
            "against the whole state, and what the layers add to every token alike grows.",
        ),
        (
            0.0,
            0.006,
            "Near zero is where attention without a skip ends. With one, X itself is still "
            "there in full: it only becomes a small part of a state that grows.",
        ),
    ),
)
Prediction(
    "03.b",
    choices={
        "above 5": "That would make it a property of the network. But the weights are the same, "
        "and only the spacing of the numbers is finer: what float64 does not see at layer 40 was "
        "rounding of float32.",
        "near 1": "That is what the eigenvalues say; see the picture.",
    },
)


@exercise("03.1")
def rank_of_values(answer, rng):
    """The effective rank of given singular values, some of them zero."""
    cases = [np.array([2.0, 1.0, 1.0, 0.0])]
    for n_zeros in (1, 3):
        values = rng.uniform(0.2, 4.0, size=rng.integers(3, 8))
        cases.append(np.append(values, np.zeros(n_zeros)))
    for s in cases:
        with without(effective_rank), np.errstate(all="ignore"):
            got = answer(s.copy())
        right = np.exp(_entropy(s / np.sum(s)))
        told = hint_for(got, right, _usual_ranks(s))
        if told and isinstance(got, float | np.floating) and np.isclose(got, right, rtol=1e-4):
            return (
                "right to a few digits alone: leave the zeros out instead of adding an ε, and "
                "compute in float64."
            )
        if told:
            return told
    return ""


def _entropy(p):
    p = p[p > 0.0]
    return -np.sum(p * np.log(p))


def _usual_ranks(s):
    p, square = s / np.sum(s), s * s
    entropy, n_positive = _entropy(p), np.count_nonzero(s)
    return [
        (np.nan, "0 · ln 0 is NaN in floating point: leave the zero values out."),
        (entropy, "that is the entropy H: the rank is its exponential."),
        (
            np.exp(entropy / np.log(2.0)),
            "the logarithm is to base 2, but the exponential to base e: take one base for both.",
        ),
        (
            np.exp(_entropy(square / np.sum(square))),
            "you squared the singular values: p is proportional to σ itself.",
        ),
        (np.exp(_entropy(s)), "p has to sum to one: divide by the sum of all σ first."),
        (
            np.exp(_entropy(s / np.sqrt(np.sum(square)))),
            "you divided by the length of the vector σ: p has to sum to one, so divide by the sum.",
        ),
        (np.exp(-entropy), "the sign of the entropy is lost: the result must be at least 1."),
        (np.exp2(entropy), "natural logarithm, but powers of 2: take one base for both."),
        (
            np.sum(square) / np.max(square),
            "that is the stable rank: take the exponential of the entropy.",
        ),
        (n_positive, "that is the plain rank: a small σ must count for less than a large one."),
        (np.exp(entropy) / len(s), "that is divided by the number of σ: count directions instead."),
        (
            np.sum(s) ** 2 / np.sum(square),
            "that is (Σσ)²/Σσ², another measure: take the exponential of the entropy.",
        ),
    ]


@exercise("03.2")
def worst_vector(answer, rng):
    """Dobrushin's coefficient, and a vector that shrinks by no more than that."""
    for n in (4, 3, 6):
        P = rng.dirichlet(np.full(n, 0.7), size=n)
        got = answer(P.copy())
        if not isinstance(got, tuple | list) or len(got) != 2:
            return "return two things, δ and u, in this order."
        if np.shape(got[0]) == (len(P),):
            return "the order is δ first, then u."
        told = hint_for(got[0], _delta(P), _usual_deltas(P), what="δ") or _about_u(got[1], P)
        if told:
            return told
    return ""


def _apart(P):
    """c_j = P_aj − P_bj for all pairs of rows a, b."""
    return P[:, None, :] - P[None, :, :]


def _delta(P):
    return 0.5 * np.max(np.sum(np.abs(_apart(P)), axis=-1))


def _usual_deltas(P):
    c = _apart(P)
    sums = np.sum(np.abs(c), axis=-1)
    sizes = np.sort(np.abs(np.linalg.eigvals(P)))
    return [
        (2.0 * _delta(P), "the factor ½ is missing: δ is at most 1."),
        (1.0 - _delta(P), "that is the overlap of the worst pair, 1 − δ."),
        (np.sum(sums) / (2.0 * sums.size), "that is the mean over pairs: take the worst pair."),
        (
            0.5 * np.max(np.diagonal(sums, 1)),
            "you compared neighbouring rows only: take all pairs a, b.",
        ),
        (
            np.max(np.abs(c)),
            "that is the largest single entry of |c|: add up |c| over all keys j.",
        ),
        (
            np.max(np.sqrt(np.sum(c * c, axis=-1))),
            "that is the Euclidean distance of rows: add absolute values, not squares.",
        ),
        (_delta(P.T), "you compared columns: it is the rows of P that sum to one."),
        (sizes[-2], "that is the second eigenvalue's size: a rate in the long run, not a bound."),
    ]


def _about_u(u, P):
    told = hint_for(u, u, what="u") if np.shape(u) == (len(P),) else _no_vector(u, len(P))
    if told:
        return told
    u, right = np.asarray(u, dtype=float), _delta(P)
    size = np.ptp(u)
    if size == 0.0:
        return "u is the same for all tokens: it has no oscillation to lose."
    left = np.ptp(P @ u) / size
    if left >= right * (1.0 - 1e-9):
        return ""
    c = _apart(P).reshape(-1, len(P))
    if np.any(np.max(np.abs(c / _scale(c) - u / np.max(np.abs(u))), axis=-1) < 1e-9):
        return "u is the difference of the two rows itself: give every key with c > 0 the same u."
    if np.any(np.max(np.abs(np.abs(c) / _scale(c) - u / np.max(np.abs(u))), axis=-1) < 1e-9):
        return "u is |c|, where the sign is lost: make u large where c > 0, small elsewhere."
    if np.count_nonzero(u - np.min(u)) == 1:
        return "one key alone is too few: set u to 1 for every key with c > 0."
    return f"your u keeps {left:.4g} of its oscillation; some vector keeps δ = {right:.4g}."


def _scale(c):
    largest = np.max(np.abs(c), axis=-1, keepdims=True)
    return np.where(largest == 0.0, 1.0, largest)


def _no_vector(u, n):
    return hint_for(u, np.zeros(n), what="u")


@exercise("03.3")
def paths_of_two_layers(answer, rng):
    """Two layers of attention with skips as a sum of four paths."""
    for n, d in ((4, 3), (3, 5)):
        x = rng.standard_normal((n, d))
        first, second = (init_multi_head_attention(rng, d, bias=False) for _ in range(2))
        with without(path_terms, path_length_terms):
            got = answer(x.copy(), dict(first), dict(second))
        right = _paths(x, first, second)
        usual = _usual_paths(x, first, second)
        told = hint_for(got, right, usual, what="the stack of four terms")
        if told:
            return told
    return ""


def _weights(x, layer, scale=None):
    return attention_weights(x @ layer["W_q"], x @ layer["W_k"], scale=scale)


def _terms(x, P1, P2, W1, W2):
    return np.stack([x, P1 @ x @ W1, P2 @ x @ W2, P2 @ P1 @ x @ W1 @ W2])


def _paths(x, first, second, scale=None):
    W1, W2 = (layer["W_v"] @ layer["W_o"] for layer in (first, second))
    P1 = _weights(x, first, scale)
    return _terms(x, P1, _weights(x + P1 @ x @ W1, second, scale), W1, W2)


def _usual_paths(x, first, second):
    W1, W2 = (layer["W_v"] @ layer["W_o"] for layer in (first, second))
    P1 = _weights(x, first)
    x1 = x + P1 @ x @ W1
    P2 = _weights(x1, second)
    right = _terms(x, P1, P2, W1, W2)
    P_other, P_first = _weights(x, second), _weights(P1 @ x @ W1, second)
    swapped_P, swapped_W = P1 @ P2 @ x @ W1 @ W2, P2 @ P1 @ x @ W2 @ W1
    nothing = np.zeros_like(x)
    return [
        (
            _terms(x, P1, P_other, W1, W2),
            "the second layer attends by what it is given: its P comes from the first layer's "
            "output, not from x.",
        ),
        (
            _terms(x, P1, P_first, W1, W2),
            "the second layer is given x plus the first layer's write: the skip is missing in its "
            "P.",
        ),
        (
            np.stack([x, right[1], P_other @ x @ W2, P_first @ P1 @ x @ W1 @ W2]),
            "paths share the weights that the whole network used: P² comes from x + the first "
            "layer's write.",
        ),
        (np.stack([*right[:3], swapped_P]), "P¹ acts first, so it stands to the right: P² P¹."),
        (np.stack([*right[:3], swapped_W]), "W¹ acts first, so it stands to the left: W¹ W²."),
        (
            np.stack([*right[:3], P1 @ P2 @ x @ W2 @ W1]),
            "both products are reversed: the first layer stands next to x on either side.",
        ),
        (
            right[[0, 2, 1, 3]],
            "the paths are in another order: the first layer alone comes second.",
        ),
        (
            np.stack([x, right[1], P2 @ x1 @ W2, nothing]),
            "the sum is right, but the third term is what the second layer writes of all it is "
            "given: take the part of x and that of the first layer's write apart.",
        ),
        (
            np.stack([x, right[1], P2 @ x1 @ W2, right[3]]),
            "the path through both layers is counted twice: the third term sees x alone.",
        ),
        (
            _terms(x, P1, P2, first["W_v"], second["W_v"]),
            "W_o is missing: a layer's map is W_v W_o.",
        ),
        (_paths(x, first, second, 1.0), "the scale 1/√d of the scores is missing in P."),
        (np.sum(right, axis=0), "that is the output: return its four terms, stacked."),
        (right[1:], "the path around both layers, x itself, is missing."),
    ]
