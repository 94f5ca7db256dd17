"""Lesson 04, the Delta Operator: judges of its exercises, and its predictions."""

import numpy as np

import mgt_np

from .judging import exercise, hint_for, unit
from .predicting import Prediction


@exercise("04.1")
def inverse(answer, rng):
    """What the inverse's step size is, for steps on either side of 1."""
    for beta in (rng.uniform(0.1, 0.9), rng.uniform(1.1, 1.9), rng.uniform(-2.0, -0.2)):
        usual = [
            (
                -beta,
                "−β undoes A only to first order: (I + βkkᵀ)(I − βkkᵀ) = I − β²kkᵀ.",
            ),
            (
                1.0 / (1.0 - beta),
                "that is the eigenvalue that the inverse needs along k, not yet its step size.",
            ),
            (
                beta / (1.0 - beta),
                "the sign is the other one: A(β, k) has a minus before its step size.",
            ),
            (1.0 - beta, "1 − β is the eigenvalue of A itself along k."),
            (beta, "the same step twice undoes itself for a reflection alone, β = 2."),
            (1.0 / beta, "1/β inverts the number; what has to be inverted is the factor 1 − β."),
            (2.0 - beta, "step sizes don't add up to 2: the factors 1 − β multiply."),
        ]
        hint = hint_for(answer(beta), beta / (beta - 1.0), usual, what="the step size")
        if hint:
            return hint
    return ""


@exercise("04.2")
def mirror(answer, rng):
    """Whether the reflection along the answer maps x to y, which have the same length, not 1."""
    for d in (2, 3, 7):
        x, y = rng.uniform(0.3, 0.8) * unit(rng, 2, d)
        difference = x - y
        length = np.linalg.norm(difference)
        k = difference / length
        got = answer(x.copy(), y.copy())
        k = k * _sign(got, k)
        mistakes = [
            (difference, "the line is right, but k has not length 1."),
            (k / length, "you divided by the squared length: k has not length 1."),
            (
                difference / np.sqrt(2.0 - 2.0 * (x @ y)),
                "that holds for x and y of length 1; here they have another length.",
            ),
            (
                difference / np.linalg.norm(x),
                "you divided by the length of x: divide by the length of x − y.",
            ),
            (
                (x + y) / np.linalg.norm(x + y),
                "this reflection maps x to −y: x + y lies in the mirror that you want.",
            ),
            (x + y, "x + y lies in the mirror that you want, and k has not length 1."),
            (x / np.linalg.norm(x), "along x itself the reflection maps x to −x."),
            (y / np.linalg.norm(y), "along y the reflection changes what x has of y, no more."),
        ]
        usual = [(-k, "")]
        usual += [(sign * value, hint) for value, hint in mistakes for sign in (1.0, -1.0)]
        usual.append(
            (
                np.eye(d) - 2.0 * np.outer(k, k),
                "that is the matrix of the reflection; return its direction k.",
            )
        )
        hint = hint_for(got, k, usual, what="k (its sign is free)")
        if hint and np.shape(got) == (d,) and np.allclose(got, k, 1e-4, 1e-4):
            return "k is right to a few digits alone: no ε in its norm, and float64 throughout."
        if hint:
            return hint
    return ""


def _sign(got, k):
    """The sign that turns k towards the answer: it is free."""
    try:
        return -1.0 if np.dot(np.asarray(got, dtype=float), k) < 0.0 else 1.0
    except (TypeError, ValueError):
        return 1.0


@exercise("04.3")
def turn_plane(answer, rng):
    """Whether two reflections turn the plane of a and b by the angle, and nothing else."""
    for d in (3, 4, 6):
        a, b = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
        angle = float(rng.uniform(0.3, 1.4) * rng.choice([-1.0, 1.0]))
        hint = _turns(answer(a, b, angle), a, b, angle)
        if hint:
            return hint
    return ""


def _turns(K, a, b, angle):
    """What is wrong with directions K that should turn the plane of a and b by the angle."""
    d, turn = len(a), _rotation(a, b, angle)
    K, told = _array(K, "directions as the rows of an array")
    if told:
        return told
    if K.shape == (d, d) and np.allclose(K, turn):
        return "that is the matrix of the rotation; return the directions of its reflections."
    if K.ndim == 1 or K.shape == (1, d):
        return "one reflection has determinant −1, a rotation has +1: one row cannot do it."
    if K.shape == (d, 2):
        return f"directions are the rows of K, shape (2, {d}); yours stand in its columns."
    if K.ndim != 2 or K.shape[1] != d:
        return f"expected rows with {d} features, got shape {K.shape}."
    if not np.allclose(np.linalg.norm(K, axis=1), 1.0):
        return "a row of K has not length 1."
    got = mgt_np.delta_product(K, 2.0)
    if np.allclose(got, turn, atol=1e-9):
        return "" if len(K) == 2 else f"it turns as it should, but fewer than {len(K)} rows do."
    across = np.eye(d) - np.outer(a, a) - np.outer(b, b)
    if not np.allclose(got @ across, across, atol=1e-9):
        return "a vector orthogonal to a and b moves: directions have to lie in their plane."
    for other, hint in (
        (2.0 * angle, "this turns by twice the angle: two reflections double what is between."),
        (
            -angle,
            "this turns from b towards a: the first row is applied first (or a sign is off).",
        ),
        (-2.0 * angle, "this turns by twice the angle, and from b towards a."),
        (np.radians(angle), "the angle is in radians already; you converted it once more."),
        (
            np.pi,
            "that is half a turn: your rows stand at a right angle, and two reflections double "
            "what is between. The angle between the rows counts.",
        ),
        (angle - np.pi, "one row lies along b: measure both rows from a."),
        (np.pi - angle, "one row lies along b: measure both rows from a."),
        (
            np.copysign(0.5 * np.pi, b @ got @ a),
            "your rows stand at 45°, whatever the angle is: it has to decide what is between.",
        ),
        (0.0, "nothing turns: two equal reflections undo each other."),
    ):
        if np.allclose(got, _rotation(a, b, other), atol=1e-9):
            return hint
    made = np.arctan2(b @ got @ a, a @ got @ a)
    return f"for the angle {angle:.4g} the image of a stands at the angle {made:.4g}."


def _rotation(a, b, angle):
    """The rotation by the angle in the plane of a and b, from a towards b."""
    in_plane = np.outer(a, a) + np.outer(b, b)
    quarter = np.outer(b, a) - np.outer(a, b)
    return np.eye(len(a)) + (np.cos(angle) - 1.0) * in_plane + np.sin(angle) * quarter


@exercise("04.4")
def undo(answer, rng):
    """Whether directions and steps make the inverse of a product."""
    for n, d in ((2, 3), (4, 6), (5, 3)):
        K, beta = unit(rng, n, d), rng.uniform(0.2, 0.8, n) * rng.choice([-1.0, 1.0], n)
        hint = _undoes(answer(K.copy(), beta.copy()), K, beta)
        if hint:
            return hint
    return ""


def _undoes(result, K, beta):
    """What is wrong with (directions, steps) that should undo the product of K and β."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        return "return two things, the directions and the step sizes: no matrix."
    (directions, told), (steps, told_too) = (
        _array(part, name) for part, name in zip(result, ("directions", "step sizes"), strict=True)
    )
    if told or told_too:
        return told or told_too
    if directions.ndim != 2 or directions.shape[1] != K.shape[1]:
        return f"expected directions with {K.shape[1]} features, got shape {directions.shape}."
    if steps.shape not in {(), directions.shape[:1]}:
        return f"expected one step size a direction, got shape {steps.shape}."
    inverse = beta / (beta - 1.0)
    usual = [
        (K, inverse, "each step is inverted, but the order stays: (A₂A₁)⁻¹ = A₁⁻¹A₂⁻¹."),
        (K[::-1], beta[::-1], "that is the transpose: it is the inverse for reflections alone."),
        (K[::-1], beta, "the order of the directions turns round, but β is as it was."),
        (K[::-1], inverse, "each direction has to keep its own β: turn both round."),
        (K[::-1], -beta[::-1], "a step of −β undoes a step of β to first order alone."),
        (K[::-1], -inverse[::-1], "the sign of the step sizes is the other one."),
        (
            K[::-1],
            1.0 / (1.0 - beta[::-1]),
            "1/(1 − β) is the eigenvalue of the inverse along k, not yet its step size.",
        ),
        (K, -beta, "−β undoes β to first order alone, and the last step has to go first."),
        (
            K,
            1.0 / (1.0 - beta),
            "1/(1 − β) is the eigenvalue, not the step size, and the last step has to go first.",
        ),
        (K, beta, "that is the product itself, unchanged."),
    ]
    right = np.linalg.inv(mgt_np.delta_product(K, beta))
    return hint_for(
        mgt_np.delta_product(directions, steps),
        right,
        [(mgt_np.delta_product(k, b), hint) for k, b, hint in usual],
        rtol=1e-7,
        atol=1e-9,
        what="the product of your steps",
    )


def _array(value, what):
    """The value as an array of floats, and what is wrong with it if it is none."""
    try:
        return np.asarray(value, dtype=float), ""
    except (TypeError, ValueError):
        return None, f"expected {what}, got a {type(value).__name__} that is no array of numbers."


Prediction(
    "04.a",
    choices={
        "one": "A step with β = 2 changes where everything points, but it mirrors. A is symmetric, "
        "so its eigenvalues are real; those of a rotation by 30° are not.",
        "two": "Two reflections do rotate. Is one step enough?",
        "none": "No single step rotates, but a product of symmetric matrices need not be "
        "symmetric.",
    },
)
Prediction(
    "04.b",
    choices={
        "above 0.5": "Norm 1 says that nothing grows, not that anything stays. What one step keeps "
        "whole, a later one shrinks.",
        "0.001 to 0.5": "Each step loses a share of what is left, so the loss is exponential in "
        "the number of steps; 200 are many for 8 directions.",
        "below 0.001": "Each step takes one direction alone, and the losses take time to add up.",
    },
)
