"""Lesson 2, layer norm and feed-forward: judges of its exercises, and its predictions."""

import numpy as np

import mgt_np

from .judging import Forbidden, exercise, hint_for, without
from .predicting import Prediction

Prediction(
    "02.a",
    choices={
        "0": "Tokens of different direction stay different: only equal ones become one point.",
        "1": "Each token is rescaled by a number of its own, so a line does not stay a line.",
        "2": "The line is bent into an arc, and an arc needs a plane.",
        "3": "All results have mean 0, so they lie in a plane at most.",
    },
)
Prediction(
    "02.b",
    within=1.3,
    thoughts=(
        (0.9, 1.1, "LN(x) does not change, but a step of the same size now turns x far less."),
        (50.0, 1e300, "The chain rule for 100·x adds a factor 100, but on the other side."),
        (0.0, 5e-3, "One division by s is on the way, not two."),
    ),
)


@exercise("02.1")
def twin(answer, rng):
    """Another token with the same layer norm, that is no multiple of the first."""
    x = rng.standard_normal(int(rng.integers(3, 9))) + rng.choice([-1.0, 1.0])
    try:
        with without(mgt_np.layer_norm):
            y = answer(x.copy())
    except Forbidden:
        return "without a call of layer norm: which changes of x leave its result as it is?"
    told = hint_for(y, x, what="the twin")
    if "expected" in told or "NaN" in told:
        return told
    y = np.asarray(y, dtype=float)
    wanted, cos = mgt_np.layer_norm(x, eps=0.0), x @ y / np.linalg.norm(x)
    if np.ptp(y) < 1e-12:
        return "a token of equal features has no layer norm with ε = 0: 0/0."
    got = mgt_np.layer_norm(y, eps=0.0)
    if np.linalg.norm(y - x) < 1e-9:
        return "that is x itself."
    if np.linalg.norm(y - x) < 1.0 and np.allclose(got, wanted, atol=1e-9):
        return "the same layer norm, but nearer than 1: go further."
    if np.allclose(got, -wanted, atol=1e-9):
        return "that has minus the layer norm of x: the scale has to be positive."
    if not np.allclose(got, wanted, atol=1e-9):
        if np.allclose(mgt_np.rms_norm(y, eps=0.0), mgt_np.rms_norm(x, eps=0.0)):
            return "same RMS norm, not the same layer norm."
        if np.allclose(np.sort(y), np.sort(x)):
            return "the same features in another order have the same μ and σ, but another LN."
        return "its layer norm is another: add one number to every feature, or scale x."
    if abs(abs(cos) - np.linalg.norm(y)) < 1e-9 * np.linalg.norm(y):
        return "that is a multiple of x: use the other invariance too."
    return ""


def _gradient(x, gain, G, eps, change=""):
    """∂⟨G, LN(x)⟩/∂x, or what one of the usual mistakes makes of it."""
    statistics = 0 if change in ("all axes", "axis of μ and σ") else -1
    d = x.shape[statistics]

    def mean(a):
        return a.mean(axis=0 if change in ("axis", "all axes") else -1, keepdims=True)

    centred = x - x.mean(axis=statistics, keepdims=True)
    square = (centred * centred).sum(axis=statistics, keepdims=True)
    s = np.sqrt(square / d + eps)
    if change == "d - 1":
        s = np.sqrt(square / (d - 1) + eps)
    elif change == "eps outside":
        s = np.sqrt(square / d) + eps
    elif change == "no eps":
        s = np.sqrt(square / d)
    elif change == "no root":
        s = square / d + eps
    D, y = (G if change in ("no gain", "gain last") else G * gain), centred / s
    along = y * mean(y * D) * (d if change == "sum" else 1)
    if change == "divided by the length":  # as if ε were 0
        along = centred * (centred * D).sum(axis=-1, keepdims=True) / square
    elif change == "raw x":
        along = x / s * mean(x / s * D)
    D = {"no variance": D, "no paths": D, "sign": D + along}.get(change, D - along)
    D = D if change in ("no mean", "no paths") else D - mean(D)
    D = D if change == "no scale" else D / s
    return D * gain if change == "gain last" else D


CHANGES = {
    "no paths": "that holds μ and σ fixed: both depend on x.",
    "no mean": "the path through the mean is lost: the result has to sum to 0.",
    "no variance": "the path through the variance is lost: the part along x̂ is missing.",
    "d - 1": "layer norm's variance divides by d, not by d − 1.",
    "eps outside": "ε stands inside the root: √(σ² + ε).",
    "no eps": "ε is missing in s.",
    "no root": "you divide by the variance: s is its root.",
    "sum": "the part along x̂ takes a mean over features, 1/d of the sum.",
    "divided by the length": "the projection onto x̂ divides by d, also where ε makes ‖x̂‖² < d.",
    "no gain": "the gain is lost: LN multiplies by it last, so its gradient comes first.",
    "gain last": "the gain belongs to G, before the projections: the order is turned backwards.",
    "no scale": "the factor 1/s is missing.",
    "sign": "the part along x̂ is taken away, not added.",
    "axis": "x̂ is right, but the means of the two projections run over axis −1 as well.",
    "all axes": "the means run over the features of one token (axis −1), not over tokens.",
    "axis of μ and σ": "μ and σ are means over the features of one token: axis −1 in x̂ and s too.",
    "raw x": "x̂ is the centred token over s, not x/s.",
}


@exercise("02.2")
def layer_norm_gradient(answer, rng):
    """The gradient of ⟨G, LN(x)⟩ with gain, with respect to x."""
    N, d = int(rng.integers(3, 7)), int(rng.integers(3, 9))
    x, G = rng.standard_normal((2, N, d)) + 0.5
    gain, eps = rng.uniform(0.5, 1.5, d), rng.uniform(0.1, 0.5)
    right = mgt_np.grad(lambda x: np.sum(G * mgt_np.layer_norm(x, gain, eps=eps)))(x)
    usual = [(_gradient(x, gain, G, eps, change), hint) for change, hint in CHANGES.items()]
    with without(mgt_np.grad, mgt_np.value_and_grad):
        got = answer(x, gain, G, eps)
    hint = hint_for(got, right, usual, rtol=1e-12, what="the gradient")
    if hint and np.shape(got) == right.shape and np.allclose(got, right, 1e-5, 1e-5):
        return (
            "right to a few digits alone: that is a difference quotient, and not a derivation "
            "(or float32: compute in float64)."
        )
    return hint


@exercise("02.3")
def falling_rank(answer, rng):
    """A set of tokens of rank 2 whose layer norm has rank 1."""
    d = int(rng.integers(3, 13))
    got = answer(d)
    try:
        X = np.asarray(got, dtype=float)
    except (TypeError, ValueError) as error:
        return f"expected a matrix of numbers: {error}"
    if X.ndim != 2 or X.shape[1] != d:
        return f"expected a matrix with {d} columns for d = {d}, got shape {X.shape}."
    if not np.isfinite(X).all():
        return "the set holds NaN or infinity."
    if len(X) < 2:
        return "one token has rank 1 at most: give two or more."
    before = int(mgt_np.matrix_rank(X, rtol=1e-9))
    after = int(mgt_np.matrix_rank(mgt_np.layer_norm(X), rtol=1e-9))
    if before < 2:
        return f"your set has rank {before} before layer norm: 2 is asked for."
    if before > 2:
        return f"your set has rank {before}, more than 2: use combinations of two tokens."
    if after > 1 and np.abs(X.mean(axis=1)).max() < 1e-9 * np.abs(X).max():
        return "every token has mean 0 already, so centring takes nothing away."
    if after > 1:
        return "rank 2 after layer norm: which direction does centring remove? Put it in the span."
    return ""
