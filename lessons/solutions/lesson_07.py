"""Solutions of lesson 7, and wrong answers with the words of their hints."""

import numpy as np

import mgt_np


def forget_all(alpha):
    return 1.0 / alpha, 1.0 / alpha


def x_gradient(G, X, V, W_gate, W_beta, b_beta, alpha, lam, eps, norm_back):
    U, tanh = X @ W_gate, np.tanh(X @ W_beta + b_beta)
    beta, g = lam * tanh + eps, mgt_np.sigmoid(mgt_np.layer_norm(U))
    dbeta = np.sum(G * (V * g - alpha * X), axis=-1, keepdims=True)
    through_beta = lam * (1.0 - tanh**2) * dbeta @ W_beta.T
    through_gate = norm_back(U, beta * G * V * g * (1.0 - g)) @ W_gate.T
    return (1.0 - alpha * beta) * G + through_beta + through_gate


def best_gate(x, v):
    return np.clip(mgt_np.sphere_tangent(x, v) / v, 0.0, 1.0)


SOLUTIONS = {"07.1": forget_all, "07.2": best_gate, "07.3": x_gradient}


def beta_and_gate_held(G, X, V, W_gate, W_beta, b_beta, alpha, lam, eps, norm_back):
    return (1.0 - alpha * (lam * np.tanh(X @ W_beta + b_beta) + eps)) * G


def by_the_library(G, X, V, W_gate, W_beta, b_beta, alpha, lam, eps, norm_back):
    given = (V, W_gate, W_beta, b_beta, alpha)
    return mgt_np.grad(lambda X: np.sum(G * mgt_np.mgt_residual(X, *given, lam=lam, eps=eps)))(X)


def by_differences(G, X, V, W_gate, W_beta, b_beta, alpha, lam, eps, norm_back):
    gradient, given = np.zeros_like(X), (V, W_gate, W_beta, b_beta, alpha)
    for at in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[at] = 1e-5
        ends = [mgt_np.mgt_residual(X + s * step, *given, lam=lam, eps=eps) for s in (1, -1)]
        gradient[at] = np.sum(G * (ends[0] - ends[1])) / 2e-5
    return gradient


def gradient_without(what):
    """The right gradient with one factor or one path left out."""

    def wrong(G, X, V, W_gate, W_beta, b_beta, alpha, lam, eps, norm_back):
        U, tanh = X @ W_gate, np.tanh(X @ W_beta + b_beta)
        beta, g = lam * tanh + eps, mgt_np.sigmoid(mgt_np.layer_norm(U))
        a = 1.0 if what == "alpha" else alpha
        total = np.mean if what == "sum" else np.sum
        dbeta = total(G * (V * g - (0.0 if what == "x" else alpha) * X), axis=-1, keepdims=True)
        dz = lam * (1.0 if what == "tanh" else 1.0 - tanh**2) * dbeta
        dn = beta * G * (1.0 if what == "v" else V) * (1.0 if what == "sigmoid" else g * (1.0 - g))
        du = dn if what == "norm" else norm_back(X if what == "U" else U, dn)
        through_beta = 0.0 if what == "path of beta" else dz @ W_beta.T
        through_gate = (
            0.0 if what == "path of gate" else du @ (W_gate if what == "transpose" else W_gate.T)
        )
        return (1.0 if what == "erasure" else 1.0 - a * beta) * G + through_beta + through_gate

    return wrong


def swapped(x, v):
    return np.clip(mgt_np.sphere_tangent(v, x) / v, 0.0, 1.0)


def one_sphere_for_all(x, v):
    return np.clip((v - x * np.sum(x * v) / np.sum(x * x)) / v, 0.0, 1.0)


def length_not_squared(x, v):
    along = np.sum(x * v, axis=-1, keepdims=True) / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.clip((v - x * along) / v, 0.0, 1.0)


def rescaled(x, v, axis=-1):
    gate = mgt_np.sphere_tangent(x, v) / v
    low, high = (of(gate, axis=axis, keepdims=True) for of in (np.min, np.max))
    return (gate - low) / (high - low)


def zero_above_one(x, v):
    gate = mgt_np.sphere_tangent(x, v) / v
    return np.where((gate < 0.0) | (gate > 1.0), 0.0, gate)


WRONG = {
    "07.1": [
        (lambda alpha: (1.0, 1.0), "for α = 1 only"),
        (lambda alpha: (1.0 / alpha, 1.0), "writes βv"),
        (lambda alpha: (1.0, 1.0 / alpha), "is kept is 1 − αβ"),
        (lambda alpha: (alpha, alpha), "upside down"),
        (lambda alpha: (1.0 / alpha, alpha), "so the factor is β itself"),
        (lambda alpha: (2.0 / alpha, 2.0 / alpha), "minus sign"),
        (lambda alpha: (-1.0 / alpha, -1.0 / alpha), "amplifies"),
        (lambda alpha: (1.0 - alpha, 1.0 - alpha), "not a step size"),
        (lambda alpha: (1.0 / alpha, 0.0), "and writes βv"),
        (lambda alpha: (0.7, 0.7), "with your β"),
        (lambda alpha: 1.0 / alpha, "the pair"),
        (lambda alpha: "1/alpha", "the pair"),
        (lambda alpha: ("1/alpha", "1/alpha"), "leave the quotes away"),
    ],
    "07.2": [
        (lambda x, v: mgt_np.sphere_tangent(x, v) / v, "leaves [0, 1]"),
        (lambda x, v: np.maximum(mgt_np.sphere_tangent(x, v) / v, 0.0), "at most 1"),
        (lambda x, v: np.minimum(mgt_np.sphere_tangent(x, v) / v, 1.0), "at least 0"),
        (lambda x, v: np.clip(abs(mgt_np.sphere_tangent(x, v) / v), 0.0, 1.0), "signs differ"),
        (lambda x, v: np.clip(mgt_np.sphere_tangent(x, v), 0.0, 1.0), "still multiplies v"),
        (mgt_np.sphere_tangent, "not the gate that multiplies"),
        (length_not_squared, "not by ‖x‖."),
        (swapped, "projects x away from v"),
        (one_sphere_for_all, "a sphere of its own"),
        (lambda x, v: (mgt_np.sphere_tangent(x, v) * v > 0.0) * 1.0, "between off and on"),
        (lambda x, v: (mgt_np.sphere_tangent(x, v) / v > 0.5) * 1.0, "between off and on"),
        (rescaled, "rescaling moves every entry"),
        (lambda x, v: rescaled(x, v, axis=None), "rescaling moves every entry"),
        (zero_above_one, "1, not 0"),
        (lambda x, v: np.full(x.shape, 0.5), "½ is the gate"),
        (lambda x, v: np.ones(x.shape), "no gate at all"),
        (lambda x, v: np.clip(1.0 - mgt_np.sphere_tangent(x, v) / v, 0.0, 1.0), "what remains"),
        (lambda x, v: mgt_np.sigmoid(mgt_np.sphere_tangent(x, v) / v), "a sigmoid brings"),
    ],
    "07.3": [
        (beta_and_gate_held, "both depend on x"),
        (gradient_without("path of beta"), "x also moves β"),
        (gradient_without("path of gate"), "x also moves the gate"),
        (gradient_without("tanh"), "slope of tanh"),
        (gradient_without("sum"), "you take the mean"),
        (gradient_without("alpha"), "not 1 − β"),
        (gradient_without("erasure"), "the erasure is missing"),
        (gradient_without("x"), "the part −αx is missing"),
        (gradient_without("v"), "v is missing"),
        (gradient_without("sigmoid"), "slope of the sigmoid"),
        (gradient_without("norm"), "back through layer norm"),
        (gradient_without("U"), "behind the linear map"),
        (gradient_without("transpose"), "multiplied by W_gateᵀ"),
        (by_differences, "a few digits only"),
        (by_the_library, "derive it"),
        (lambda G, *_: G[0], "of shape"),
        (lambda G, *_: "G", "leave the quotes away"),
    ],
}
