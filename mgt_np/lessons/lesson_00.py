"""Lesson 00: judges of its exercises, and its predictions."""

import numpy as np

import mgt_np

from .judging import exercise, hint_for, without
from .predicting import Prediction

Prediction(
    "00.a",
    within=10.0,
    thoughts=(
        (-float("inf"), -1e-300, "That looks like an exponent: give h itself, as 1e-3."),
        (
            0.0,
            1e-6,
            "The smaller h, the better the tangent: true on paper. But the two values of f are "
            "rounded, and their difference is divided by h: the error grows like eps/h.",
        ),
        (
            5e-5,
            float("inf"),
            "You fear rounding more than you need to in float64: the error h²/6 of so large a "
            "step is far above eps/h. In float32, whose eps is larger, the best step is near 1e-2.",
        ),
    ),
)

Prediction(
    "00.b",
    choices={
        "automatic": "It differentiates the code that it is given, wrong axis included: it knows "
        "no equation with which to compare it.",
        "Taylor": "It compares the gradient with values of the same wrong code: the slope is that "
        "of a right gradient, since the gradient of this code is right.",
        "both": "Both take the code for the truth. Agreement of two derivations says nothing about "
        "a mistake from which both start.",
        "neither": "They test the gradient of the code, and that is right.",
    },
)


@exercise("00.1")
def shapes(answer, rng):
    """Six shapes of products, in order."""
    B, N, d, m = (int(n) for n in rng.permutation(np.arange(2, 10))[:4])
    got = answer(B, N, d, m)
    if not isinstance(got, tuple | list) or len(got) != 6:
        return "return six shapes, one after the other: (shape, shape, …)."
    names = ("X @ W + b", "G @ Wᵀ", "X @ Xᵀ", "Xᵀ @ G", "the gradient of W", "the gradient of b")
    right = ((B, N, m), (B, N, d), (B, N, N), (B, d, m), (d, m), (m,))
    usual = (
        {(N, m): "the batch axis is lost.", (B * N, m): "@ does not join batch and tokens."},
        {(B, N, m): "that is the shape of G.", (N, d): "the batch axis is lost."},
        {
            (B, d, d): "that is Xᵀ @ X: features by features.",
            (B, N, B, N): "that is np.dot: @ multiplies each text by itself alone.",
            (N, N): "the batch axis is lost.",
        },
        {
            (B, m, d): "that is Gᵀ @ X, its transpose.",
            (d, m): "@ sums over tokens, not over texts: the batch axis stays.",
        },
        {
            (B, d, m): "all texts share one W, so their gradients are added: it has W's shape.",
            (m, d): "that is the transpose: a gradient has the shape of what it belongs to.",
        },
        {
            (B, m): "all texts share one b: the gradient sums over texts as well.",
            (B, N, m): "b was given to every token, so its gradient sums over all of them.",
            (N,): "that sums over features: b has one entry for each feature.",
            (1, m): "that is a matrix of one row, and b is a vector.",
        },
    )
    for name, one, wanted, mistakes in zip(names, got, right, usual, strict=True):
        if one is ... or one is None:
            return f"{name}: put its shape in the place of the dots."
        if not isinstance(one, tuple):
            return f"{name}: expected a tuple, got {one!r}; a tuple of one number is written (m,)."
        if one != wanted:
            hint = mistakes.get(one, f"for B, N, d, m = {B}, {N}, {d}, {m} it is not {one}.")
            return f"{name}: {hint}"
    return ""


@exercise("00.2")
def loss_gradient(answer, rng):
    """The gradient of the mean cross-entropy with respect to its logits."""
    N, C = int(rng.integers(3, 8)), int(rng.integers(3, 8))
    Z, targets = 2.0 * rng.standard_normal((N, C)), rng.integers(0, C, N)
    P, one_hot = mgt_np.softmax(Z), np.eye(C)[targets]
    columns = mgt_np.softmax(Z, axis=0)
    right = (P - one_hot) / N
    with without(mgt_np.grad, mgt_np.value_and_grad):
        got = answer(Z.copy(), targets.copy())
    usual = [
        (N * right, "the loss is a mean over tokens: the factor 1/N is missing."),
        (right * N / C, "you divide by the number of classes; the mean is over tokens."),
        (-right, "the sign is reversed: that is the gradient of the log-likelihood."),
        (-N * right, "the sign is reversed, and the factor 1/N of the mean is missing."),
        (right / C, "you divide by all N · C entries; the mean is over the N tokens."),
        (P / N, "the term of the target is missing: z_t itself stands in log p_t."),
        (-one_hot / N, "the normaliser is missing: log Σ exp z depends on every logit."),
        *(
            (one * one_hot, "that is the term of the target alone: log Σ exp z depends on z too.")
            for one in (1.0 / N, 1.0, -1.0)
        ),
        (right * one_hot, "only the target's logit is there: the others move the normaliser."),
        ((columns - one_hot) / N, "softmax runs over the classes, and yours over the tokens."),
        (right * P * (1.0 - P), "p (1 − p) is one factor too many: log cancels it."),
        (-one_hot / P / N, "that is the gradient with respect to p: go on to z."),
    ]
    hint = hint_for(got, right, usual, rtol=1e-12, what="the gradient")
    if hint and np.shape(got) == right.shape and np.abs(np.asarray(got) - right).max() < 1e-5:
        return (
            "right to a few digits alone: that is a difference quotient, and not a derivation "
            "(or float32: compute in float64)."
        )
    return hint


@exercise("00.3")
def trap(answer, rng):
    """A gradient of tanh(XW) that is right at X = 0 alone, and an X that shows it."""
    N, d, m = (int(n) for n in rng.integers(2, 6, 3))
    got = answer(N, d, m)
    if not (isinstance(got, tuple | list) and len(got) == 2 and callable(got[0])):
        return "return two things: a function wrong(X, W, G), and an array X that catches it."
    wrong, X = got
    told = hint_for(X, np.zeros((N, d)), what="your X")
    if told and np.shape(X) != (N, d):
        return told
    X = np.asarray(X, dtype=float)
    errors, elsewhere = [], []
    for _ in range(12):
        W, G = rng.standard_normal((d, m)), rng.standard_normal((N, m))
        hint = _at_zero(wrong, np.zeros((N, d)), W, G)
        if hint:
            return hint
        errors.append(_error(wrong, X, W, G))
        elsewhere.append(_error(wrong, rng.standard_normal((N, d)), W, G))
    if not X.any():
        return "your X is zero, where the gradient is right: no check can catch it there."
    error = np.mean(errors)
    if error >= 0.1:
        return ""
    if max(elsewhere) < 1e-9:
        return "your function is the right gradient everywhere: there is nothing to catch."
    return (
        f"at your X the error is {error:.1g} of the right gradient, and a tenth is asked for: go "
        "further away from zero."
    )


def _right(X, W, G):
    inner = G * (1.0 - np.tanh(X @ W) ** 2)
    return inner @ W.T, X.T @ inner


def _at_zero(wrong, zero, W, G):
    """What is wrong with a gradient at X = 0, where it should be right."""
    try:
        got = wrong(zero.copy(), W.copy(), G.copy())
    except ValueError as error:
        return (
            f"wrong(X, W, G) raised ValueError: {error}. W and G both have m columns, so dX at "
            "X = 0 is G @ W.T; X and G both have N rows, so a dW is X.T @ (…)."
        )
    if not (isinstance(got, tuple | list) and len(got) == 2):
        return "wrong(X, W, G) should return two arrays, dX and dW."
    dX, dW = _right(zero, W, G)
    usual_X = [
        (2.0 * dX, "at X = 0 your dX is doubled: a factor shows there too."),
        (-dX, "at X = 0 your dX has the other sign: a sign shows there too."),
        (0.0 * dX, "at X = 0 your dX is zero: only dW is zero there, since tanh′(0) = 1."),
    ]
    if W.shape[0] == W.shape[1]:
        usual_X.append((G @ W, "at X = 0 your dX takes W as it is: it is G @ W.T."))
    hint = hint_for(got[0], dX, usual_X, what="at X = 0 your dX")
    return hint or hint_for(got[1], dW, what="at X = 0 your dW")


def _error(wrong, X, W, G):
    """The error of a gradient, relative to the right one; 0 where a shape is another."""
    got, right = wrong(X.copy(), W.copy(), G.copy()), _right(X, W, G)
    pairs = [(np.asarray(a, dtype=float), b) for a, b in zip(got, right, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return 0.0
    off = sum(np.sum((a - b) ** 2) for a, b in pairs)
    return float(np.sqrt(off / sum(np.sum(b**2) for _, b in pairs)))
