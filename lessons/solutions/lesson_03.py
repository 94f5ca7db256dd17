"""Solutions of lesson 03, and wrong answers with the words of their hints."""

import numpy as np

import mgt_np


def rank_of(s):
    p = s[s > 0.0] / np.sum(s)
    return np.exp(-np.sum(p * np.log(p)))


def worst(P):
    c = P[:, None, :] - P[None, :, :]
    sums = 0.5 * np.sum(np.abs(c), axis=-1)
    i, j = np.unravel_index(np.argmax(sums), sums.shape)
    return sums[i, j], np.where(c[i, j] > 0.0, 1.0, 0.0)


def weights(x, layer):
    return mgt_np.attention_weights(x @ layer["W_q"], x @ layer["W_k"])


def maps(*layers):
    return (layer["W_v"] @ layer["W_o"] for layer in layers)


def four_paths(x, first, second):
    W1, W2 = maps(first, second)
    P1 = weights(x, first)
    P2 = weights(x + P1 @ x @ W1, second)
    return np.stack([x, P1 @ x @ W1, P2 @ x @ W2, P2 @ P1 @ x @ W1 @ W2])


SOLUTIONS = {"03.1": rank_of, "03.2": worst, "03.3": four_paths}


def zero_kept(s):
    p = s / np.sum(s)
    return np.exp(-np.sum(p * np.log(p)))


def entropy_alone(s):
    return np.log(rank_of(s))


def base_2(s):
    p = s[s > 0.0] / np.sum(s)
    return np.exp(-np.sum(p * np.log2(p)))


def squares(s):
    return rank_of(s**2)


def unnormalised(s):
    s = s[s > 0.0]
    return np.exp(-np.sum(s * np.log(s)))


def by_length(s):
    p = s[s > 0.0] / np.linalg.norm(s)
    return np.exp(-np.sum(p * np.log(p)))


def no_minus(s):
    return 1.0 / rank_of(s)


def normalised(s):
    return rank_of(s) / len(s)


def ratio_of_sums(s):
    return np.sum(s) ** 2 / np.sum(s**2)


def library(s):
    return mgt_np.effective_rank(np.diag(s))


def pairs(P):
    c = P[:, None, :] - P[None, :, :]
    return c, 0.5 * np.sum(np.abs(c), axis=-1)


def with_delta(delta):
    return lambda P: (delta(P), worst(P)[1])


def worst_row(P):
    c, sums = pairs(P)
    return c.reshape(-1, len(P))[np.argmax(sums)]


def one_key(P):
    u = np.zeros(len(P))
    u[np.argmax(worst_row(P))] = 1.0
    return worst(P)[0], u


def lonely(P):
    return worst(P)[0], np.arange(len(P)) * 1.0


def own_weights_of_x(x, first, second):
    (W1, W2), P1, P2 = maps(first, second), weights(x, first), weights(x, second)
    return np.stack([x, P1 @ x @ W1, P2 @ x @ W2, P2 @ P1 @ x @ W1 @ W2])


def without_skip_in_P(x, first, second):
    (W1, W2), P1 = maps(first, second), weights(x, first)
    P2 = weights(P1 @ x @ W1, second)
    return np.stack([x, P1 @ x @ W1, P2 @ x @ W2, P2 @ P1 @ x @ W1 @ W2])


def weights_of_each_path(x, first, second):
    (W1, W2), P1 = maps(first, second), weights(x, first)
    write = P1 @ x @ W1
    P_x, P_write = weights(x, second), weights(write, second)
    return np.stack([x, write, P_x @ x @ W2, P_write @ write @ W2])


def last_term(term):
    """The right terms, and another for the path through both layers."""

    def answer(x, first, second):
        (W1, W2), right = maps(first, second), four_paths(x, first, second)
        P1 = weights(x, first)
        return np.stack([*right[:3], term(P1, weights(x + right[1], second), x, W1, W2)])

    return answer


def telescope(x, first, second):
    right = four_paths(x, first, second)
    return np.stack([x, right[1], right[2] + right[3], 0.0 * x])


def counted_twice(x, first, second):
    right = four_paths(x, first, second)
    return np.stack([x, right[1], right[2] + right[3], right[3]])


def no_output_map(x, first, second):
    P1 = weights(x, first)
    W1, W2 = first["W_v"], second["W_v"]
    P2 = weights(x + P1 @ x @ first["W_v"] @ first["W_o"], second)
    return np.stack([x, P1 @ x @ W1, P2 @ x @ W2, P2 @ P1 @ x @ W1 @ W2])


def by_library(x, first, second):
    (W1, W2), P1 = maps(first, second), weights(x, first)
    P2 = weights(x + P1 @ x @ W1, second)
    P, W = np.stack([P1, P2])[:, None], np.stack([W1, W2])[:, None]
    return mgt_np.path_terms(x, P, W, skips=True)[[0, 2, 1, 3]]


WRONG = {
    "03.1": [
        (zero_kept, "leave the zero values out"),
        (entropy_alone, "that is the entropy"),
        (base_2, "one base for both"),
        (squares, "you squared"),
        (unnormalised, "divide by the sum of all σ first"),
        (by_length, "length of the vector"),
        (no_minus, "sign of the entropy"),
        (np.count_nonzero, "plain rank"),
        (lambda s: np.exp2(np.log(rank_of(s))), "powers of 2"),
        (lambda s: np.sum(s**2) / np.max(s) ** 2, "stable rank"),
        (lambda s: np.exp(-np.sum(s / np.sum(s) * np.log(s / np.sum(s) + 1e-6))), "adding an ε"),
        (normalised, "divided by the number"),
        (ratio_of_sums, "another measure"),
        (lambda s: 2.0**1.5, "for a test input"),
        (lambda s: "2.83", "leave the quotes away"),
        (library, "derive it"),
    ],
    "03.2": [
        (with_delta(lambda P: 2.0 * worst(P)[0]), "factor ½"),
        (with_delta(lambda P: 1.0 - worst(P)[0]), "overlap"),
        (with_delta(lambda P: np.mean(pairs(P)[1])), "mean over pairs"),
        (with_delta(lambda P: np.max(np.diagonal(pairs(P)[1], 1))), "neighbouring rows"),
        (with_delta(lambda P: np.max(np.abs(pairs(P)[0]))), "largest single entry"),
        (with_delta(lambda P: np.max(np.linalg.norm(pairs(P)[0], axis=-1))), "Euclidean"),
        (with_delta(lambda P: worst(P.T)[0]), "columns"),
        (with_delta(lambda P: np.sort(np.abs(np.linalg.eigvals(P)))[-2]), "second eigenvalue"),
        (with_delta(lambda P: 0.5), "for a test input δ is 0.5"),
        (lambda P: worst(P)[0], "return two things"),
        (lambda P: worst(P)[::-1], "δ first, then u"),
        (lambda P: (worst(P)[0], np.ones(len(P))), "no oscillation"),
        (lambda P: (worst(P)[0], worst_row(P)), "difference of the two rows"),
        (lambda P: (worst(P)[0], np.abs(worst_row(P))), "the sign is lost"),
        (one_key, "one key alone"),
        (lonely, "your u keeps"),
    ],
    "03.3": [
        (own_weights_of_x, "not from x"),
        (weights_of_each_path, "paths share the weights"),
        (without_skip_in_P, "skip is missing in its P"),
        (last_term(lambda P1, P2, x, W1, W2: P1 @ P2 @ x @ W1 @ W2), "to the right"),
        (last_term(lambda P1, P2, x, W1, W2: P2 @ P1 @ x @ W2 @ W1), "to the left"),
        (last_term(lambda P1, P2, x, W1, W2: P1 @ P2 @ x @ W2 @ W1), "both products"),
        (lambda *given: four_paths(*given)[[0, 2, 1, 3]], "another order"),
        (telescope, "the sum is right"),
        (counted_twice, "counted twice"),
        (no_output_map, "W_o is missing"),
        (lambda *given: np.sum(four_paths(*given), axis=0), "that is the output"),
        (lambda *given: four_paths(*given)[1:], "path around both layers"),
        (lambda x, first, second: np.stack([x, x, x, x]), "for a test input"),
        (by_library, "derive it"),
    ],
}
