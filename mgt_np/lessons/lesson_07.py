"""Lesson 7, the MGT block: judges of its exercises, and its predictions."""

import numpy as np

import mgt_np

from .judging import exercise, hint_for, without
from .predicting import Prediction

Prediction(
    "07.a",
    within=3.0,
    thoughts=(
        (
            -1e300,
            1.0,
            "Summaries of the paper say that negative β erases. The kept part is 1 − αβ, here 1.1.",
        ),
        (1.0, 1e4, "Growth compounds: 200 steps of 10 % multiply, they do not add up."),
        (1e4, 1e300, "Each step multiplies by 1.1."),
    ),
)
Prediction(
    "07.b",
    within=1.01,
    thoughts=(
        (
            1.0,
            1.0,
            "That is the Delta Operator I − βkkᵀ. MGT's update has no k: it erases all directions.",
        ),
        (0.0, 0.0, "Something is erased, so some eigenvalue is not 1."),
        (2.0, 7.0, "No direction is singled out, so all are treated alike."),
    ),
)
Prediction(
    "07.c",
    choices={
        "gate": "It is called a soft projection, but at random weights it knows nothing of v.",
        "no gate": "A random v has only 1/d of its energy along x, so leaving it alone is hard to "
        "beat.",
        "same": "A gate that differs between features turns v away from where it pointed.",
    },
)


@exercise("07.1")
def forget_all(answer, rng):
    """The step that leaves nothing of x, and the factor with which it leaves v."""
    alpha = rng.uniform(0.2, 0.8) if rng.random() < 0.5 else rng.uniform(1.3, 3.0)
    usual = [
        ((1.0, 1.0), "that replaces x by v for α = 1 only: a part 1 − α of x is left."),
        ((1.0 / alpha, 1.0), "β is right, but the step writes βv and not v."),
        ((1.0, 1.0 / alpha), "the part of x that is kept is 1 − αβ: set that to 0."),
        ((alpha, alpha), "that is upside down: αβ has to be 1."),
        ((1.0 / alpha, alpha), "β is right; what is written is βv, so the factor is β itself."),
        ((2.0 / alpha, 2.0 / alpha), "there αβ = 2: the old state comes back with a minus sign."),
        ((-1.0 / alpha, -1.0 / alpha), "negative β keeps 1 + α|β| of x: it amplifies."),
        ((1.0 - alpha, 1.0 - alpha), "1 − α is what β = 1 keeps of x, not a step size."),
    ]
    got = answer(alpha)
    if not isinstance(got, (tuple, list, np.ndarray)) or np.shape(got) != (2,):
        return "expected the pair (beta, factor), two numbers."
    if any(isinstance(one, str) for one in got):
        return "expected the pair (beta, factor), two numbers: leave the quotes away."
    what, right = "the pair (beta, factor)", (1.0 / alpha, 1.0 / alpha)
    hint = hint_for(got, right, usual, rtol=1e-6, what=what)
    if hint.startswith("for a test input"):
        beta, factor = map(float, got)
        if np.isclose(alpha * beta, 1.0):
            return f"β is right, and writes βv: the factor is {beta:.3g} and not {factor:.3g}."
        return f"of x the part 1 − αβ is left, {1.0 - alpha * beta:.3g} with your β: set that to 0."
    return hint


@exercise("07.2")
def best_gate(answer, rng):
    """The gate in [0, 1] whose g ⊙ v comes nearest to the tangent projection of v."""
    N, d = int(rng.integers(3, 8)), int(rng.integers(3, 10))
    x, v = rng.standard_normal((2, N, d)) * rng.uniform(0.5, 3.0)
    v = v + rng.uniform(0.5, 1.0) * x  # so that the projection turns the sign of some features
    dot = np.sum(x * v, axis=-1, keepdims=True)
    square = np.sum(x * x, axis=-1, keepdims=True)
    target = v - x * dot / square
    ratio = target / v
    swapped = x - v * dot / np.sum(v * v, axis=-1, keepdims=True)
    usual = [
        (ratio, "an entry leaves [0, 1]: this is the projection itself, which no gate can be."),
        (
            np.maximum(ratio, 0.0),
            "a gate is at most 1: where the projection enlarges v, it is 1.",
        ),
        (
            np.minimum(ratio, 1.0),
            "a gate is at least 0: where the projection turns v's sign, it is 0.",
        ),
        (
            np.clip(np.abs(ratio), 0.0, 1.0),
            "where signs differ the best gate is 0, not |ratio|.",
        ),
        (np.clip(target, 0.0, 1.0), "that clips the projection; the gate still multiplies v."),
        (target, "that is the projection of v, not the gate that multiplies v."),
        (
            np.clip((v - x * dot / np.sqrt(square)) / v, 0.0, 1.0),
            "the projection divides by ‖x‖², not by ‖x‖.",
        ),
        (
            np.clip(swapped / v, 0.0, 1.0),
            "that projects x away from v: it is v that is to lie in the tangent space at x.",
        ),
        (
            np.clip((v - x * np.sum(x * v) / np.sum(x * x)) / v, 0.0, 1.0),
            "each token has a sphere of its own: sum over the features, not over the tokens.",
        ),
        *(
            (binary.astype(float), "between off and on a better value stands: T/v.")
            for binary in (ratio > 0.0, ratio > 0.5, ratio >= 1.0)
        ),
        *(
            (
                rescaled,
                "rescaling moves every entry: move those alone that lie outside [0, 1], each to "
                "the nearer end.",
            )
            for rescaled in _rescaled(ratio)
        ),
        (np.ones((N, d)), "1 is no gate at all: v keeps its part along x."),
        (
            np.clip((v - target) / v, 0.0, 1.0),
            "that is the gate for the part of v along x: the tangent part is what remains.",
        ),
        (
            mgt_np.sigmoid(ratio),
            "a sigmoid brings every number into (0, 1), but not to the lowest point there.",
        ),
        (np.full((N, d), 0.5), "½ is the gate of W_gate = 0: it halves v and knows nothing of x."),
        (
            np.where(ratio < 0.0, 0.0, np.where(ratio > 1.0, 0.0, ratio)),
            "above 1 the nearest allowed value is 1, not 0: the error is a parabola in each entry.",
        ),
    ]
    return hint_for(answer(x, v), np.clip(ratio, 0.0, 1.0), usual, rtol=1e-6, what="the gate")


def _rescaled(ratio):
    """The ratio brought into [0, 1] by its least and largest entry, of a token or of all."""
    found = []
    for axis in (-1, None):
        for r in (ratio, np.maximum(ratio, 0.0)):
            low, high = (of(r, axis=axis, keepdims=True) for of in (np.min, np.max))
            with np.errstate(all="ignore"):  # a token without a positive ratio
                found += [
                    (r - low) / (high - low),
                    r / high,
                    r / np.abs(r).max(axis, keepdims=True),
                ]
    return found


def norm_back(U, D):
    """Pull the gradient D back through layer_norm(U), ε = 10⁻⁵, rows being tokens."""
    centred = U - U.mean(axis=-1, keepdims=True)
    s = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)
    n = centred / s
    D = D - n * (n * D).mean(axis=-1, keepdims=True)
    return (D - D.mean(axis=-1, keepdims=True)) / s


def _gradient(G, X, V, W_gate, W_beta, b_beta, alpha, lam, eps, back, change=""):
    """∂⟨G, MGT(X)⟩/∂X, or what one of the usual mistakes makes of it."""
    U, tanh = X @ W_gate, np.tanh(X @ W_beta + b_beta)
    beta, g = lam * tanh + eps, mgt_np.sigmoid(mgt_np.layer_norm(U))
    R = V * g - (0.0 if change == "R without x" else alpha) * X
    kept = {"no alpha": 1.0 - beta, "no erasure": 1.0, "no direct": -alpha * beta}
    kept["sign"] = 1.0 + alpha * beta
    through_state = kept.get(change, 1.0 - alpha * beta) * G
    dbeta = (np.mean if change == "mean" else np.sum)(G * R, axis=-1, keepdims=True)
    slope = {"no tanh'": lam, "no lam": 1.0 - tanh**2, "beta'": lam * (1.0 - beta**2)}
    through_beta = slope.get(change, lam * (1.0 - tanh**2)) * dbeta @ W_beta.T
    dg = {"no V": beta * G, "no beta": G * V}.get(change, beta * G * V)
    dn = dg if change == "no sigmoid'" else dg * g * (1.0 - g)
    du = {"no norm": dn, "norm of X": back(X, dn), "order": back(dn, U)}.get(change, back(U, dn))
    through_gate = du @ (W_gate if change == "W_gate as it is" else W_gate.T)
    through_beta = 0.0 if change in ("beta held", "both held") else through_beta
    through_gate = 0.0 if change in ("gate held", "both held") else through_gate
    return through_state + through_beta + through_gate


CHANGES = {
    "both held": "that holds β and the gate fixed: both depend on x.",
    "beta held": "that holds β fixed: x also moves β.",
    "gate held": "that holds the gate fixed: x also moves the gate.",
    "no tanh'": "the slope of tanh, 1 − tanh², is missing on the way through β.",
    "beta'": "the slope is λ(1 − tanh²), not λ(1 − β²): β is λ tanh z + ε.",
    "mean": "all features of a token share its β: their parts are summed, and you take the mean.",
    "no lam": "λ is missing on the way through β.",
    "no alpha": "α is missing: the state keeps 1 − αβ, not 1 − β.",
    "no erasure": "the erasure is missing: the state itself passes (1 − αβ)G, not G.",
    "no direct": "the identity is missing: x' = x + … passes G as well.",
    "R without x": "β multiplies v ⊙ g − αx: the part −αx is missing there.",
    "no V": "the gate multiplies v: v is missing in the gradient of the gate.",
    "no beta": "β is missing on the way through the gate: it scales all that is written.",
    "no sigmoid'": "the slope of the sigmoid, g(1 − g), is missing.",
    "sign": "the erasure subtracts: the state itself passes (1 − αβ)G, not (1 + αβ)G.",
    "W_gate as it is": "back through U = X W_gate the gradient is multiplied by W_gateᵀ.",
    "norm of X": "the norm stands behind the linear map: go back through that of U = X W_gate.",
    "order": "norm_back takes U first, then the gradient.",
    "no norm": "the gradient has to go back through layer norm: norm_back(U, D).",
}


@exercise("07.3")
def x_gradient(answer, rng):
    """The gradient of ⟨G, MGT(X)⟩ with respect to X."""
    N, d = int(rng.integers(3, 7)), int(rng.integers(3, 9))
    G, X, V = rng.standard_normal((3, N, d))
    W_gate, W_beta = rng.standard_normal((d, d)), rng.standard_normal((d, 1)) / np.sqrt(d)
    b_beta, alpha = rng.standard_normal(1), rng.uniform(0.3, 0.9)
    lam, eps = rng.uniform(0.5, 1.5), rng.uniform(0.1, 0.4)
    given = (G, X, V, W_gate, W_beta, b_beta, alpha, lam, eps)

    def loss(X):
        return np.sum(
            G * mgt_np.mgt_residual(X, V, W_gate, W_beta, b_beta, alpha, lam=lam, eps=eps)
        )

    right = mgt_np.grad(loss)(X)
    usual = [(_gradient(*given, norm_back, change), hint) for change, hint in CHANGES.items()]
    with without(mgt_np.grad, mgt_np.value_and_grad):
        got = answer(*given, norm_back)
    hint = hint_for(got, right, usual, rtol=1e-11, what="the gradient")
    if hint.startswith("for a test input") and np.allclose(got, right, 1e-4, 1e-4):
        return "right to a few digits only: use the derived formula, in float64, no differences."
    return hint
