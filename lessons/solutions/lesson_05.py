"""Solutions of lesson 05, and wrong answers with the words of their hints."""

import math

import numpy as np

import mgt_np


def writes_needed(beta, share):
    factor = abs(1.0 - beta)
    return 1 if factor == 0.0 else math.ceil(math.log(share) / math.log(factor))


def write_gradients(G, X, k, v, beta):
    return G, beta * (G @ v), beta * (G.T @ k), k @ G @ v


def _corrections(S, k, v, beta):
    D = np.diag(beta)
    return np.linalg.solve(np.eye(len(k)) + D @ np.tril(k @ k.T, -1), D @ (v - k @ S))


def delta_chunk(S, q, k, v, beta):
    U = _corrections(S, k, v, beta)
    return q @ S + np.tril(q @ k.T) @ U, S + k.T @ U


def _with_delta_gradients(G, X, k, v, beta):
    r, g = v - k @ X, k @ G
    return G - beta * np.outer(k, g), beta * (G @ r - X @ g), beta * g, g @ r


def _by_autograd(G, X, k, v, beta):
    def loss(p):
        return (G * (p["X"] + p["beta"] * p["k"][:, None] * p["v"])).sum()

    slopes = mgt_np.grad(loss)({"X": X, "k": k, "v": v, "beta": np.asarray(beta)})
    return tuple(slopes[name] for name in ("X", "k", "v", "beta"))


def _no_read_of_the_state(S, q, k, v, beta):
    U = _corrections(0 * S, k, v, beta)
    return q @ S + np.tril(q @ k.T) @ U, S + k.T @ U


def _no_interaction(S, q, k, v, beta):
    U = beta[:, None] * (v - k @ S)
    return q @ S + np.tril(q @ k.T) @ U, S + k.T @ U


def _beta_twice(S, q, k, v, beta):
    U = beta[:, None] * _corrections(S, k, v, beta)
    return q @ S + np.tril(q @ k.T) @ U, S + k.T @ U


def _reversed(S, q, k, v, beta):
    D = np.diag(beta)
    U = np.linalg.solve(np.eye(len(k)) + D @ np.triu(k @ k.T, 1), D @ (v - k @ S))
    return q @ S + np.tril(q @ k.T) @ U, S + k.T @ U


def _beta_on_the_right(S, q, k, v, beta):
    D = np.diag(beta)
    U = np.linalg.solve(np.eye(len(k)) + np.tril(k @ k.T, -1) @ D, D @ (v - k @ S))
    return q @ S + np.tril(q @ k.T) @ U, S + k.T @ U


def _state_lost(S, q, k, v, beta):
    U = _corrections(S, k, v, beta)
    return np.tril(q @ k.T) @ U, k.T @ U


def _no_cross_chunk_read(S, q, k, v, beta):
    U = _corrections(S, k, v, beta)
    return np.tril(q @ k.T) @ U, S + k.T @ U


def _own_write_unseen(S, q, k, v, beta):
    U = _corrections(S, k, v, beta)
    return q @ S + np.tril(q @ k.T, -1) @ U, S + k.T @ U


def _no_mask(S, q, k, v, beta):
    U = _corrections(S, k, v, beta)
    return q @ S + q @ k.T @ U, S + k.T @ U


def _no_beta(S, q, k, v, beta):
    return delta_chunk(S, q, k, v, np.ones_like(beta))


def _token_by_token(S, q, k, v, beta):
    outputs = []
    for q_t, k_t, v_t, beta_t in zip(q, k, v, beta, strict=True):
        S = S + beta_t * np.outer(k_t, v_t - k_t @ S)
        outputs.append(q_t @ S)
    return np.array(outputs), S


def _by_the_package(S, q, k, v, beta):
    return mgt_np.delta_rule(q, k, v, beta, initial_state=S, with_state=True)


SOLUTIONS = {"05.1": writes_needed, "05.2": write_gradients, "05.3": delta_chunk}
WRONG = {
    "05.1": [
        (lambda beta, share: math.ceil(math.log(share) / math.log(1.0 - beta)), "changes its sign"),
        (lambda beta, share: math.floor(math.log(share) / math.log(abs(1 - beta))), "write short"),
        (lambda beta, share: math.log(share) / math.log(abs(1.0 - beta)), "whole"),
        (lambda beta, share: math.ceil(math.log(share) / math.log(beta)), "not by β"),
        (lambda beta, share: math.ceil(-math.log(share) / beta), "exp(−β)"),
        (lambda beta, share: math.ceil((1.0 - share) / beta), "LEFT"),
        (lambda beta, share: math.ceil(math.log(share) / math.log(abs(1.0 - beta))), "one write"),
        (lambda beta, share: 459, "should be"),
        (lambda beta, share: "13", "quotes"),
    ],
    "05.2": [
        (_with_delta_gradients, "no A stands before G"),
        (lambda G, X, k, v, beta: (G, G @ v, beta * G.T @ k, k @ G @ v), "step size is missing"),
        (lambda G, X, k, v, beta: (G, beta * G @ (v - k @ X), beta * G.T @ k, k @ G @ v), "erased"),
        (lambda G, X, k, v, beta: (G, beta * G.T @ k, beta * G @ v, k @ G @ v), "changed places"),
        (
            lambda G, X, k, v, beta: (G, beta * G @ v, beta * G.T @ k, beta * k @ G @ v),
            "has no β left",
        ),
        (lambda G, X, k, v, beta: (G, beta * G.T @ v, beta * G @ k, k @ G @ v), "raised"),
        (lambda G, X, k, v, beta: (beta * G, beta * G @ v, beta * G.T @ k, k @ G @ v), "as it is"),
        (lambda G, X, k, v, beta: G, "four gradients"),
        (lambda G, X, k, v, beta: (np.eye(len(k)), beta * v, beta * k, 1.0), "without G"),
        (_by_autograd, "derive it"),
    ],
    "05.3": [
        (_no_read_of_the_state, "lacks the read K S"),
        (_no_interaction, "each other's writes"),
        (_beta_twice, "applied twice"),
        (_reversed, "order is reversed"),
        (_beta_on_the_right, "wrong side"),
        (_state_lost, "before the chunk is lost"),
        (_no_cross_chunk_read, "outputs lack Q S"),
        (_own_write_unseen, "own token's write"),
        (_no_mask, "later tokens"),
        (lambda S, q, k, v, beta: q @ S, "two things"),
        (_no_beta, "dropped out"),
        (lambda *inputs: delta_chunk(*inputs)[::-1], "outputs first"),
        (_token_by_token, "by a loop"),
        (_by_the_package, "derive it"),
    ],
}
