"""Solutions of lesson 04, and wrong answers with the words of their hints."""

import numpy as np

import mgt_np


def inverse_beta(beta):
    return beta / (beta - 1.0)  # (1 − β)(1 − β′) = 1


def mirror(x, y):
    return (x - y) / np.linalg.norm(x - y)


def turn_plane(a, b, angle):
    half = 0.5 * angle
    return np.stack([a, np.cos(half) * a + np.sin(half) * b])  # the later one is half ahead


def undo(K, beta):
    return K[::-1], (beta / (beta - 1.0))[::-1]


SOLUTIONS = {"04.1": inverse_beta, "04.2": mirror, "04.3": turn_plane, "04.4": undo}


def _unit(x):
    return x / np.linalg.norm(x)


def _two_rows(a, b, first, second):
    return np.array([np.cos(t) * a + np.sin(t) * b for t in (first, second)])


def _rotation(a, b, angle):
    K = turn_plane(a, b, angle)
    return mgt_np.delta_product(K, 2.0)


WRONG = {
    "04.1": [
        (lambda beta: -beta, "only to first order"),
        (lambda beta: 1.0 / (1.0 - beta), "eigenvalue that the inverse needs"),
        (lambda beta: beta / (1.0 - beta), "the sign is the other one"),
        (lambda beta: 1.0 - beta, "eigenvalue of A itself"),
        (lambda beta: beta, "for a reflection alone"),
        (lambda beta: 1.0 / beta, "inverts the number"),
        (lambda beta: 2.0 - beta, "don't add up to 2"),
        (lambda beta: -1.5, "for a test input the step size is -1.5"),
        (lambda beta: str(beta / (beta - 1.0)), "leave the quotes away"),
        (lambda beta: [beta / (beta - 1.0)], "got a list"),
    ],
    "04.2": [
        (lambda x, y: x - y, "the line is right"),
        (lambda x, y: (y - x) / ((x - y) @ (x - y)), "squared length"),
        (lambda x, y: (x - y) / np.sqrt(2.0 - 2.0 * (x @ y)), "holds for x and y of length 1"),
        (lambda x, y: (x - y) / np.linalg.norm(x), "by the length of x − y"),
        (lambda x, y: _unit(x + y), "maps x to −y"),
        (lambda x, y: x + y, "lies in the mirror"),
        (lambda x, y: (y - x) / (np.linalg.norm(y - x) + 1e-6), "no ε in its norm"),
        (lambda x, y: _unit(x), "maps x to −x"),
        (lambda x, y: _unit(y), "along y the reflection"),
        (lambda x, y: mgt_np.delta_operator(mirror(x, y), 2.0), "return its direction k"),
        (lambda x, y: np.array([1.0, 0.0]), "for a test input k"),
        (lambda x, y: float(mirror(x, y)[0]), "of shape (2,), got shape ()"),
    ],
    "04.3": [
        (lambda a, b, angle: _two_rows(a, b, 0.0, angle), "twice the angle: two"),
        (lambda a, b, angle: turn_plane(a, b, angle)[::-1], "from b towards a: the first"),
        (lambda a, b, angle: _two_rows(a, b, angle, 0.0), "twice the angle, and"),
        (lambda a, b, angle: turn_plane(a, b, np.radians(angle)), "converted it once more"),
        (lambda a, b, angle: np.stack([a, b]), "half a turn"),
        (lambda a, b, angle: np.stack([b, turn_plane(a, b, angle)[1]]), "lies along b"),
        (lambda a, b, angle: np.stack([turn_plane(a, b, angle)[1], b]), "lies along b"),
        (lambda a, b, angle: np.stack([a, _unit(a + b)]), "at 45°"),
        (lambda a, b, angle: np.stack([a, a]), "nothing turns"),
        (lambda a, b, angle: np.stack([a, np.cos(angle / 2) * a]), "has not length 1"),
        (lambda a, b, angle: turn_plane(a, b, angle)[1:], "determinant −1"),
        (lambda a, b, angle: turn_plane(a, b, angle).T, "stand in its columns"),
        (lambda a, b, angle: np.tile(turn_plane(a, b, angle / 2), (2, 1)), "fewer than 4 rows"),
        (lambda a, b, angle: turn_plane(*np.eye(len(a))[:2], angle), "orthogonal to a and b moves"),
        (_rotation, "the matrix of the rotation"),
        (lambda a, b, angle: turn_plane(a, b, 0.2), "the image of a stands at the angle"),
        (lambda a, b, angle: "a, b", "got a str"),
    ],
    "04.4": [
        (lambda K, beta: (K, beta / (beta - 1.0)), "the order stays"),
        (lambda K, beta: (K[::-1], beta[::-1]), "that is the transpose"),
        (lambda K, beta: (K[::-1], beta), "β is as it was"),
        (lambda K, beta: (K[::-1], beta / (beta - 1.0)), "keep its own β"),
        (lambda K, beta: (K[::-1], -beta[::-1]), "to first order alone"),
        (lambda K, beta: (K[::-1], (beta / (1.0 - beta))[::-1]), "the sign of the step sizes"),
        (lambda K, beta: (K[::-1], 1.0 / (1.0 - beta[::-1])), "eigenvalue of the inverse"),
        (lambda K, beta: (K, -beta), "the last step has to go first"),
        (lambda K, beta: (K, 1.0 / (1.0 - beta)), "not the step size, and"),
        (lambda K, beta: (K, beta), "the product itself"),
        (lambda K, beta: np.linalg.inv(mgt_np.delta_product(K, beta)), "return two things"),
        (lambda K, beta: (K.T, beta), "features, got shape"),
        (lambda K, beta: (K, beta[:, None]), "one step size a direction"),
        (lambda K, beta: (K, 2.0), "the product of your steps"),
    ],
}
