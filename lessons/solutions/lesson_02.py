"""Solutions of lesson 2, and wrong answers with the words of their hints."""

import numpy as np

import mgt_np


def twin(x):
    return 2.0 * x + 5.0


def layer_norm_gradient(x, gain, G, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    s = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    y, D = centred / s, G * gain
    D = D - y * (y * D).mean(axis=-1, keepdims=True)
    return (D - D.mean(axis=-1, keepdims=True)) / s


def falling_rank(d):
    return np.stack([np.arange(d), np.arange(d) + 1.0])


SOLUTIONS = {"02.1": twin, "02.2": layer_norm_gradient, "02.3": falling_rank}


def by_the_library(x, gain, G, eps):
    return mgt_np.grad(lambda x: np.sum(G * mgt_np.layer_norm(x, gain, eps=eps)))(x)


def by_differences(x, gain, G, eps):
    gradient = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        above = mgt_np.layer_norm(x + step, gain, eps=eps)
        gradient[place] = np.sum(G * (above - mgt_np.layer_norm(x - step, gain, eps=eps))) / 2e-5
    return gradient


def gradient_with(mistake):
    """The right gradient with one usual mistake."""

    def wrong(x, gain, G, eps):
        axis = 0 if mistake == "axis" else -1
        ddof = 1 if mistake == "d - 1" else 0
        variance = x.var(axis=-1, keepdims=True, ddof=ddof)
        s = np.sqrt(variance) + eps if mistake == "eps" else np.sqrt(variance + eps)
        s = s**2 if mistake == "no root" else s
        y, D = (x - x.mean(axis=-1, keepdims=True)) / s, G * (1.0 if mistake == "gain" else gain)
        if mistake != "variance path":
            along = np.sum if mistake == "sum" else np.mean
            D = D - y * along(y * D, axis=axis, keepdims=True)
        if mistake != "mean path":
            D = D - D.mean(axis=axis, keepdims=True)
        return D if mistake == "scale" else D / s

    return wrong


def over_tokens(x, gain, G, eps, axis=0):
    centred = x - x.mean(axis=0, keepdims=True)
    s = np.sqrt((centred**2).mean(axis=0, keepdims=True) + eps)
    y, D = centred / s, G * gain
    D = D - y * (y * D).mean(axis=axis, keepdims=True)
    return (D - D.mean(axis=axis, keepdims=True)) / s


def statistics_over_tokens(x, gain, G, eps):
    return over_tokens(x, gain, G, eps, axis=-1)


def both_held(x, gain, G, eps):
    return G * gain / np.sqrt(x.var(axis=-1, keepdims=True) + eps)


def centred_plane(d):
    wave = np.arange(d) - (d - 1) / 2.0
    return np.stack([wave, wave**2 - np.mean(wave**2)])


WRONG = {
    "02.1": [
        (lambda x: 3.0 * x, "the other invariance"),
        (lambda x: 5.0 - 2.0 * x, "has to be positive"),
        (lambda x: x, "x itself"),
        (lambda x: mgt_np.layer_norm(x, eps=0.0), "without a call of layer norm"),
        (lambda x: x + 1e-3, "go further"),
        (lambda x: np.ones_like(x), "equal features"),
        (lambda x: x[::-1].copy(), "another order"),
        (lambda x: x + 3.0 * np.arange(len(x)), "add one number"),
        (lambda x: x[:-1], "of shape"),
        (lambda x: "2x + 5", "leave the quotes away"),
    ],
    "02.2": [
        (both_held, "both depend on x"),
        (gradient_with("mean path"), "through the mean"),
        (gradient_with("variance path"), "through the variance"),
        (gradient_with("d - 1"), "not by d − 1"),
        (gradient_with("sum"), "1/d of the sum"),
        (gradient_with("no root"), "s is its root"),
        (by_differences, "difference quotient"),
        (gradient_with("eps"), "inside the root"),
        (gradient_with("gain"), "the gain is lost"),
        (gradient_with("scale"), "factor 1/s"),
        (by_the_library, "derive it"),
        (lambda x, gain, G, eps: gradient_with("gain")(x, gain, G, eps) * gain, "belongs to G"),
        (lambda x, gain, G, eps: layer_norm_gradient(x, gain, G, 0.0), "is missing in s"),
        (gradient_with("axis"), "of the two projections"),
        (over_tokens, "features of one token (axis −1), not over tokens"),
        (statistics_over_tokens, "in x̂ and s too"),
        (lambda x, gain, G, eps: 0.5, "of shape"),
    ],
    "02.3": [
        (lambda d: np.random.default_rng(0).standard_normal((5, 2)) @ np.eye(2, d), "rank 2 after"),
        (centred_plane, "mean 0 already"),
        (lambda d: np.outer([1.0, 2.0], np.arange(d)), "rank 1 before"),
        (lambda d: np.eye(d), "more than 2"),
        (lambda d: np.arange(d)[None], "one token"),
        (lambda d: np.arange(20.0).reshape(2, 10)[:, :2], "columns for d"),
        (lambda d: np.full((2, d), np.nan), "NaN"),
        (lambda d: "any plane", "a matrix of numbers"),
    ],
}
