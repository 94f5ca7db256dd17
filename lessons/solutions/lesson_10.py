"""Solutions of lesson 10, and wrong answers with the words of their hints."""

import numpy as np


def adamw_step(theta, g, m, v, t, lr, beta1, beta2, eps, decay):
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * g**2
    m_hat, v_hat = m / (1.0 - beta1**t), v / (1.0 - beta2**t)
    return (1.0 - lr * decay) * theta - lr * m_hat / (np.sqrt(v_hat) + eps)


def lower_than(losses, mine):
    found = []
    for name, other in losses.items():
        d = np.subtract(losses[mine], other)
        if d.mean() + 2.0 * d.std(ddof=1) / np.sqrt(d.size) < 0.0:
            found.append(name)
    return found


def single_parts(l0, l12):
    harm = np.maximum(l12 - l0, 0.0)  # D has to lie below 0 and below N = l0 − l12
    return np.array([l0 - 0.01, l0 + harm + 0.02])


def _corrected(theta, g, m, v, t, lr, beta1, beta2, eps, decay, of_mean, of_square):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    m, v = m / (1 - beta1**t if of_mean else 1), v / (1 - beta2**t if of_square else 1)
    return (1 - lr * decay) * theta - lr * m / (np.sqrt(v) + eps)


def _eps_elsewhere(theta, g, m, v, t, lr, beta1, beta2, eps, decay, where):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    c = 1 - beta2**t
    below = {
        "root": np.sqrt(v / c + eps),
        "before": (np.sqrt(v) + eps) / np.sqrt(c),
        "square": v / c + eps,
        "none": np.sqrt(v / c),
    }[where]
    return (1 - lr * decay) * theta - lr * m / (1 - beta1**t) / below


def _l2(theta, g, *rest):
    return adamw_step(theta, g + rest[-1] * theta, *rest[:-1], 0.0)


def _uphill(theta, *rest):
    kept = (1 - rest[4] * rest[-1]) * theta
    return 2 * kept - adamw_step(theta, *rest)


def _decay_behind(theta, *rest):
    return (1 - rest[4] * rest[-1]) * adamw_step(theta, *rest[:-1], 0.0)


def _old_moments(theta, g, m, v, t, lr, beta1, beta2, eps, decay):
    step = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return (1 - lr * decay) * theta - lr * step


def _not_squared(theta, g, m, v, t, lr, beta1, beta2, eps, decay):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g
    step = m / (1 - beta1**t) / (np.sqrt(np.abs(v / (1 - beta2**t))) + eps)
    return (1 - lr * decay) * theta - lr * step


def _by(says):
    """The names of the rules of which `says`, given both lists of losses, is true."""

    def answer(losses, mine):
        a = np.array(losses[mine])
        return [name for name, each in losses.items() if says(a, np.array(each))]

    return answer


def _error(d, ddof=1):
    return d.std(ddof=ddof) / np.sqrt(d.size)


def _without_nan(a, b):
    d = (a - b)[np.isfinite(a - b)]
    return d.mean() + 2 * _error(d) < 0


SOLUTIONS = {"10.1": adamw_step, "10.2": lower_than, "10.3": single_parts}
WRONG = {
    "10.1": [
        (_l2, "went into the gradient"),
        (lambda *given: _corrected(*given, False, False), "without bias correction"),
        (lambda *given: _corrected(*given, True, False), "only the mean is corrected"),
        (lambda *given: _corrected(*given, False, True), "only the square is corrected"),
        (lambda *given: _eps_elsewhere(*given, "root"), "under the root"),
        (lambda *given: _eps_elsewhere(*given, "before"), "correct v, take the root"),
        (lambda *given: _eps_elsewhere(*given, "none"), "ε is missing"),
        (lambda *given: _eps_elsewhere(*given, "square"), "root of the second moment"),
        (lambda *given: adamw_step(*given[:-1], 0.0), "the decay is missing"),
        (lambda *given: adamw_step(*given[:-1], given[-1] / given[5]), "times the learning rate"),
        (lambda *given: adamw_step(*given[:-1], -given[-1]), "not larger"),
        (_uphill, "uphill"),
        (_decay_behind, "before the step, not behind it"),
        (lambda *given: adamw_step(*given[:4], given[4] - 1, *given[5:]), "the first is t = 1"),
        (_old_moments, "those before the step"),
        (
            lambda *given: adamw_step(*given[:6], given[7], given[6], *given[8:]),
            "β₁ and β₂ are swapped",
        ),
        (_not_squared, "mean of g², not of g"),
        (lambda *given: adamw_step(*given) - given[0], "that is the change"),
        (lambda *given: given[0] - adamw_step(*given), "what was taken off"),
        (lambda *given: adamw_step(*given)[0], "of shape"),
        (lambda *given: given[0], "should be"),
    ],
    "10.2": [
        (_by(lambda a, b: (b - a).mean() + 2 * _error(b - a) < 0), "the sign"),
        (_by(lambda a, b: a[0] < b[0]), "one seed"),
        (_by(lambda a, b: min(a) < np.nanmin(b)), "best seeds"),
        (_by(lambda a, b: a.mean() < b.mean()), "without their error"),
        (_by(lambda a, b: (a < b).all()), "each seed to be lower"),
        (_by(lambda a, b: sum(a < b) >= 2), "counts seeds"),
        (_by(lambda a, b: (a - b).mean() - 2 * _error(a - b) < 0), "even the upper end"),
        (_by(lambda a, b: (a - b).mean() + _error(a - b) < 0), "takes two"),
        (_by(lambda a, b: (a - b).mean() + 4.303 * _error(a - b) < 0), "right for 95 %"),
        (_by(lambda a, b: (a - b).mean() + 2 * _error(a - b, 0) < 0), "n − 1"),
        (_by(lambda a, b: (a - b).mean() + 2 * (a - b).std(ddof=1) < 0), "smaller by √n"),
        (
            _by(lambda a, b: (a - b).mean() + 2 * np.hypot(_error(a), _error(b)) < 0),
            "seeds are paired",
        ),
        (_by(_without_nan), "no evidence"),
        (_by(lambda a, b: (a - b).mean() + 2 * _error(a - b) <= 0), "not lower than itself"),
        (lambda losses, mine: [], "the list is empty"),
        (lambda losses, mine: mine, "put it in a list"),
        (lambda losses, mine: [True], "names of the given rules"),
        (lambda losses, mine: len(lower_than(losses, mine)), "a list of names"),
        (_by(lambda a, b: abs(a.mean() - b.mean()) > 0.3), "in your list"),
    ],
    "10.3": [
        (lambda l0, l12: np.array([l0 - 0.1, l0 - 0.1]), "say the same"),
        (lambda l0, l12: np.array([l0 - 0.1, l0 + 0.1]), "D = 0"),
        (lambda l0, l12: np.array([l0 - 0.1, l0 + 0.11]), "has to be below N"),
        (lambda l0, l12: single_parts(l0, l12)[::-1], "rows are swapped"),
        (lambda l0, l12: np.array([l0 + 0.1, l0 + 1.0]), "ℓ₁ < ℓ₀"),
        (lambda l0, l12: single_parts(l0, l12).T, "transposed"),
        (lambda l0, l12: single_parts(l0, l12)[:, 0], "for each seed"),
        (lambda l0, l12: np.array([l0 - 0.1, l0 + 5.0]), "stay below ln 256"),
        (lambda l0, l12: np.array([l0 - 5.0, l0 + 6.0]), "above 0"),
        (
            lambda l0, l12: np.array([l0 - 0.1, l0 + 0.1 + np.where(l12 < l0, 0.1, -0.05)]),
            "the two forms agree",
        ),
        (lambda l0, l12: single_parts(l0, l12) * np.nan, "NaN"),
        (lambda l0, l12: [0.1, 0.2, 0.3], "of shape"),
    ],
}
