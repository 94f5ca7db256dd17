"""Solutions of lesson 13, and wrong answers with the words of their hints."""

import numpy as np

import mgt_np


def readings(X, y, H_post, H_res):
    X, y, H_post, H_res = (np.asarray(a, dtype=float) for a in (X, y, H_post, H_res))
    written = np.outer(H_post, y)
    return {
        "right": H_res @ X + written,
        "transposed": H_res.T @ X + written,
        "halved": H_res @ X + 0.5 * written,
        "not mixed": X + written,
    }


def name_the_bug(X, y, H_post, H_res, got):
    for name, value in readings(X, y, H_post, H_res).items():
        if np.max(np.abs(got - value)) < 1e-5 * np.max(np.abs(value)):
            return name
    return "another"


def exactly_equal(X, y, H_post, H_res, got):
    for name, value in readings(X, y, H_post, H_res).items():
        if np.array_equal(got, value):
            return name
    return "another"


def nearest(X, y, H_post, H_res, got):
    found = readings(X, y, H_post, H_res)
    return min(found, key=lambda name: np.max(np.abs(got - found[name])))


def fixed_tolerance(X, y, H_post, H_res, got):
    for name, value in readings(X, y, H_post, H_res).items():
        if np.max(np.abs(got - value)) < 1e-5:
            return name
    return "another"


def tolerance_of_a_percent(X, y, H_post, H_res, got):
    for name, value in readings(X, y, H_post, H_res).items():
        if np.max(np.abs(got - value)) < 1e-2 * np.max(np.abs(value)):
            return name
    return "another"


def never_another(X, y, H_post, H_res, got):
    name = name_the_bug(X, y, H_post, H_res, got)
    return "halved" if name == "another" else name


def halved_and_transposed_confused(X, y, H_post, H_res, got):
    name = name_the_bug(X, y, H_post, H_res, got)
    return {"halved": "transposed", "transposed": "halved"}.get(name, name)


CYCLE = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def smallest(difference):
    return CYCLE, 0.5 * difference * np.array([[1.0], [-1.0], [0.0]])


def two_streams(difference):
    return np.array([[0.3, 0.7], [0.7, 0.3]]), np.array([[1.0], [-1.0]])


def rows_only(difference):
    return np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]), np.ones((3, 1))


def equal_streams(difference):
    return CYCLE, np.full((3, 1), 0.5)


def symmetric(difference):
    return np.full((3, 3), 1.0 / 3.0), np.array([[1.0], [0.0], [0.0]])


def four_streams(difference):
    return np.roll(np.eye(4), 1, axis=1), np.array([[1.0], [0.0], [0.0], [0.0]])


def two_features(difference):
    return CYCLE, np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])


def always_two(difference):
    return CYCLE, np.array([[1.0], [-1.0], [0.0]])


def too_large(difference):
    return CYCLE, difference * np.array([[11.0], [0.0], [0.0]])


def survivor():
    def unbiased(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + 1e-5)

    return unbiased, np.array([1.0, -1.0])


def large_eps():
    """Another solution: ε = 0.01 instead of 1e-5 shows on small features."""
    return lambda x: mgt_np.layer_norm(x, eps=1e-2), np.array([0.01, -0.01, 0.02])


def nothing_wrong():
    return lambda x: mgt_np.layer_norm(x), np.array([1.0, -1.0])


def minus():
    return lambda x: -mgt_np.layer_norm(x), np.array([1.0, -1.0])


def rms():
    return lambda x: mgt_np.rms_norm(x), np.array([1.0, 3.0])


def by_variance():
    def layer(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / (x.var(axis=-1, keepdims=True) + 1e-5)

    return layer, np.array([1.0, -3.0])


def only_centred():
    return lambda x: x - x.mean(axis=-1, keepdims=True), np.array([1.0, -3.0])


def wide_input():
    return survivor()[0], np.random.default_rng(0).normal(size=(4, 768))


def nan_when_narrow():
    return lambda x: mgt_np.layer_norm(x) if x.shape[-1] > 9 else x * np.nan, np.array([1.0, -1.0])


def swapped():
    return np.array([1.0, -1.0]), survivor()[0]


SOLUTIONS = {"13.1": name_the_bug, "13.2": smallest, "13.3": survivor}
WRONG = {
    "13.1": [
        (exactly_equal, "was refused"),
        (nearest, "close is not equal"),
        (fixed_tolerance, "against the largest entry"),
        (tolerance_of_a_percent, "close is not equal"),
        (never_another, "you say 'halved', but that reading"),
        (halved_and_transposed_confused, "compute each reading"),
        (lambda *arrays: "swapped", "expected one of"),
        (lambda *arrays: 1, "expected one of"),
    ],
    "13.2": [
        (two_streams, "below 3 × 3"),
        (rows_only, "not doubly stochastic"),
        (equal_streams, "all equal"),
        (symmetric, "your H is symmetric"),
        (four_streams, "more than needed"),
        (two_features, "features a stream"),
        (always_two, "and should be"),
        (too_large, "between −1 and 1"),
        (lambda difference: CYCLE, "expected two arrays"),
    ],
    "13.3": [
        (nothing_wrong, "nothing is killed"),
        (minus, "keep their order"),
        (rms, "'mean 0"),
        (by_variance, "'variance 1"),
        (only_centred, "'variance 1"),
        (wide_input, "0.01 or more"),
        (nan_when_narrow, "NaN or infinity"),
        (swapped, "a function of x, and an array"),
    ],
}
