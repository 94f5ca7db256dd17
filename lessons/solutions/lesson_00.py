"""Solutions of lesson 00, and wrong answers with the words of their hints."""

import numpy as np

import mgt_np


def shapes(B, N, d, m):
    return (B, N, m), (B, N, d), (B, N, N), (B, d, m), (d, m), (m,)


def with_shape(place, shape):
    """The right six, but for one."""

    def wrong(B, N, d, m):
        six = list(shapes(B, N, d, m))
        six[place] = shape(B, N, d, m)
        return tuple(six)

    return wrong


def loss_gradient(Z, targets):
    P = mgt_np.softmax(Z)
    P[np.arange(len(targets)), targets] -= 1.0
    return P / len(targets)


def one_hot(Z, targets):
    return np.eye(Z.shape[1])[targets]


def library_gradient(Z, targets):
    return mgt_np.grad(lambda Z: mgt_np.cross_entropy(Z, targets))(Z)


def difference_quotient(Z, targets):
    gradient = np.zeros_like(Z)
    for place in np.ndindex(*Z.shape):
        step = np.zeros_like(Z)
        step[place] = 1e-5
        above = mgt_np.cross_entropy(Z + step, targets)
        gradient[place] = (above - mgt_np.cross_entropy(Z - step, targets)) / 2e-5
    return gradient


def tanh_forgotten(X, W, G):
    """Right where tanh′ = 1."""
    return G @ W.T, X.T @ G


def not_transposed(X, W, G):
    return G @ W, X.T @ G


def trap(N, d, m):
    return tanh_forgotten, np.ones((N, d))


def right_gradient(X, W, G):
    inner = G * (1.0 - np.tanh(X @ W) ** 2)
    return inner @ W.T, X.T @ inner


def doubled(X, W, G):
    return tuple(2.0 * part for part in right_gradient(X, W, G))


def reversed_sign(X, W, G):
    return tuple(-part for part in right_gradient(X, W, G))


def nothing(X, W, G):
    return np.zeros_like(X), np.zeros_like(W)


def shifted(X, W, G):
    return G @ W.T, X.T @ G + 1.0


SOLUTIONS = {
    "00.1": shapes,
    "00.2": loss_gradient,
    "00.3": trap,
}

WRONG = {
    "00.1": [
        (with_shape(0, lambda B, N, d, m: (N, m)), "the batch axis is lost"),
        (with_shape(0, lambda B, N, d, m: (B * N, m)), "does not join batch and tokens"),
        (with_shape(1, lambda B, N, d, m: (B, N, m)), "the shape of G"),
        (with_shape(2, lambda B, N, d, m: (B, d, d)), "features by features"),
        (with_shape(2, lambda B, N, d, m: (B, N, B, N)), "np.dot"),
        (with_shape(3, lambda B, N, d, m: (B, m, d)), "Gᵀ @ X"),
        (with_shape(3, lambda B, N, d, m: (d, m)), "not over texts"),
        (with_shape(4, lambda B, N, d, m: (B, d, m)), "share one W"),
        (with_shape(5, lambda B, N, d, m: (B, N, m)), "given to every token"),
        (with_shape(5, lambda B, N, d, m: m), "written (m,)"),
        (lambda B, N, d, m: ((2, 3, 4),) * 6, "it is not"),
        (lambda B, N, d, m: (B, N, m), "six shapes"),
    ],
    "00.2": [
        (lambda Z, t: mgt_np.softmax(Z) - one_hot(Z, t), "factor 1/N"),
        (lambda Z, t: (mgt_np.softmax(Z) - one_hot(Z, t)) / Z.shape[1], "number of classes"),
        (lambda Z, t: (one_hot(Z, t) - mgt_np.softmax(Z)) / len(Z), "sign is reversed"),
        (lambda Z, t: one_hot(Z, t) - mgt_np.softmax(Z), "is reversed, and the factor"),
        (lambda Z, t: (mgt_np.softmax(Z) - one_hot(Z, t)) / Z.size, "all N · C entries"),
        (lambda Z, t: mgt_np.softmax(Z) / len(Z), "term of the target"),
        (lambda Z, t: -one_hot(Z, t) / len(Z), "normaliser is missing"),
        (lambda Z, t: one_hot(Z, t) / len(Z), "of the target alone"),
        (lambda Z, t: -one_hot(Z, t), "of the target alone"),
        (lambda Z, t: one_hot(Z, t) * loss_gradient(Z, t), "only the target's logit"),
        (lambda Z, t: (mgt_np.softmax(Z, axis=0) - one_hot(Z, t)) / len(Z), "over the tokens"),
        (lambda Z, t: -one_hot(Z, t) / mgt_np.softmax(Z) / len(Z), "go on to z"),
        (lambda Z, t: mgt_np.cross_entropy(Z, t), "expected the gradient of shape"),
        (lambda Z, t: loss_gradient(Z, t).tolist()[0], "expected the gradient of shape"),
        (library_gradient, "derive it"),
        (difference_quotient, "difference quotient"),
    ],
    "00.3": [
        (lambda N, d, m: (right_gradient, np.ones((N, d))), "nothing to catch"),
        (lambda N, d, m: (doubled, np.ones((N, d))), "is doubled"),
        (lambda N, d, m: (reversed_sign, np.ones((N, d))), "other sign"),
        (lambda N, d, m: (not_transposed, np.ones((N, d))), "is G @ W.T"),
        (lambda N, d, m: (nothing, np.ones((N, d))), "only dW is zero"),
        (lambda N, d, m: (shifted, np.ones((N, d))), "at X = 0 your dW"),
        (lambda N, d, m: (tanh_forgotten, np.zeros((N, d))), "your X is zero"),
        (lambda N, d, m: (tanh_forgotten, 1e-6 * np.ones((N, d))), "further away"),
        (lambda N, d, m: (tanh_forgotten, np.ones((d, N + 1))), "your X of shape"),
        (lambda N, d, m: tanh_forgotten, "two things"),
        (lambda N, d, m: np.ones((N, d)), "two things"),
    ],
}
