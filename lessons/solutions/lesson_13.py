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


def last_that_explains(X, y, H_post, H_res, got):
    found = "another"
    for name, value in readings(X, y, H_post, H_res).items():
        if np.max(np.abs(got - value)) < 1e-5 * np.max(np.abs(value)):
            found = name
    return found


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


def zeros_and_ones(difference):
    return CYCLE, 0.5 * difference * np.array([[1.0], [0.0], [0.0]])


def too_large(difference):
    return CYCLE, difference * np.array([[11.0], [0.0], [0.0]])


def small(d):
    """Features as small as the root of ε."""
    return 0.01 * (-1.0) ** np.arange(d) + 0.001 * np.arange(d) / d


def survivor():
    return lambda x: mgt_np.layer_norm(x, eps=1e-2), small


def least_deviation():
    """Another solution: a least standard deviation in the place of ε."""

    def layer(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.maximum(x.std(axis=-1, keepdims=True), 0.1)

    return layer, small


def unbiased():
    def layer(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + 1e-5)

    return layer, lambda d: np.where(np.arange(d) % 2, 1.0, -1.0)


def shape_switch():
    return lambda x: mgt_np.layer_norm(x) if x.shape[-1] > 100 else x, small


def nothing_wrong():
    return mgt_np.layer_norm, small


def minus():
    return lambda x: -mgt_np.layer_norm(x), small


def rms():
    return mgt_np.rms_norm, small


def by_variance():
    def layer(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / (x.var(axis=-1, keepdims=True) + 1e-5)

    return layer, small


def only_centred():
    return lambda x: x - x.mean(axis=-1, keepdims=True), small


def large_input():
    return survivor()[0], lambda d: 3.0 * np.random.default_rng(0).normal(size=(4, d))


def array_input():
    return survivor()[0], small(3)


def one_width():
    return survivor()[0], lambda d: small(3)


def nan_when_narrow():
    return lambda x: mgt_np.layer_norm(x) if x.shape[-1] > 9 else x * np.nan, small


SOLUTIONS = {"13.1": name_the_bug, "13.2": smallest, "13.3": survivor}
WRONG = {
    "13.1": [
        (exactly_equal, "was refused"),
        (nearest, "close is not equal"),
        (fixed_tolerance, "against the largest entry"),
        (tolerance_of_a_percent, "close is not equal"),
        (never_another, "you say 'halved', but that reading"),
        (halved_and_transposed_confused, "compute each reading"),
        (last_that_explains, "return the first"),
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
        (zeros_and_ones, "+1 and −1 double it"),
        (too_large, "between −1 and 1"),
        (lambda difference: CYCLE, "expected two arrays"),
    ],
    "13.3": [
        (nothing_wrong, "nothing is killed"),
        (minus, "keep their order"),
        (rms, "'mean 0"),
        (by_variance, "'variance 1"),
        (only_centred, "'variance 1"),
        (large_input, "over 0.01"),
        (nan_when_narrow, "NaN or infinity"),
        (array_input, "expected two functions"),
        (one_width, "with 8 features"),
        (unbiased, "no width hides"),
        (shape_switch, "at d = 1024"),
    ],
}
