"""Lesson 13, whose layer is right?: its judges and predictions."""

import numpy as np

import mgt_np

from .judging import exercise
from .predicting import Prediction

Prediction(
    "13.a",
    choices={
        "shrinks": "The thought behind it: small differences are rounding. Rounding shrinks by 2²⁹ "
        "from float32 to float64; a difference of two formulas does not know about the dtype.",
        "stays": "Formulas differ by the same amount in every dtype; rounding alone would shrink.",
    },
)
Prediction(
    "13.b",
    within=1.2,
    thoughts=(
        (
            1.5,
            10.0,
            "The thought behind it: X is random, so everything shows. But the weights are inputs "
            "too, and at φ = 0 most of the formula is multiplied by zero or is symmetric.",
        ),
        (
            0.0,
            0.0,
            "Near: one bug does not pass through φ or through the mixing, a lost factor 2.",
        ),
    ),
)

NAMES = ("right", "transposed", "halved", "not mixed", "another")


@exercise("13.1")
def name_the_bug(answer, rng):
    """Which of three readings explains a wrong result, if one does."""
    kinds = (*NAMES[:-1], "symmetric", "almost", "another")
    for kind, scale in [(kind, scale) for scale in (1.0, 1e-7, 1e4) for kind in kinds]:
        X, y, H_post, H_res, got = _update_with(kind, scale, rng)
        said = answer(X.copy(), y.copy(), H_post.copy(), H_res.copy(), got.copy())
        truth = {"almost": "another", "symmetric": "right"}.get(kind, kind)
        if not isinstance(said, str) or said not in NAMES:
            return f"expected one of {', '.join(map(repr, NAMES))}, got {said!r}."
        if said != truth:
            return _why_misnamed(said, truth, kind, scale)
    return ""


def _update_with(kind, scale, rng):
    """Arrays of `mhc_update` in float32, and its result with a mistake of that kind."""
    n, d = int(rng.integers(3, 6)), int(rng.integers(3, 9))
    X, y = scale * rng.normal(size=(n, d)), scale * rng.normal(size=d)
    H_post, H_res = rng.uniform(0.5, 2.0, n), mgt_np.sinkhorn(rng.normal(size=(n, n)))
    H_res = 0.4 * H_res + 0.6 * np.roll(np.eye(n), 1, axis=1)  # far from symmetric
    H_res = 0.5 * (H_res + H_res.T) if kind == "symmetric" else H_res
    X, y, H_post, H_res = (a.astype(np.float32) for a in (X, y, H_post, H_res))
    transposed = np.ascontiguousarray(H_res.T)
    got = {
        "symmetric": lambda: mgt_np.mhc_update(X, y, H_post, H_res),
        "right": lambda: mgt_np.mhc_update(X, y, H_post, H_res),
        "transposed": lambda: mgt_np.mhc_update(X, y, H_post, transposed),
        "almost": lambda: mgt_np.mhc_update(X, y, H_post * np.float32(1.001), transposed),
        "halved": lambda: mgt_np.mhc_update(X, y, H_post * np.float32(0.5), H_res),
        "not mixed": lambda: mgt_np.mhc_update(X, y, H_post, np.eye(n, dtype=np.float32)),
        "another": lambda: mgt_np.mhc_update(X, -y, H_post, H_res),
    }[kind]()
    return X, y, H_post, H_res, got


def _why_misnamed(said, truth, kind, scale):
    if kind == "symmetric" and said == "transposed":
        return "H_res is symmetric there, and two readings explain `got`: return the first."
    if truth != "another" and said == "another":
        return (
            f"a result that is {truth!r} was refused, with entries of size {scale:g}: float32 "
            "rounds, so even the true reading is off by some 1e-7 of the largest entry."
        )
    if kind == "almost" and said == "transposed" and scale == 1.0:
        return (
            f"close is not equal: {said!r} is off by more than a hundred roundings of float32 "
            "here, since a second thing is wrong, so it is 'another'."
        )
    if scale < 1.0:
        return (
            f"with entries of size {scale:g} you say {said!r}, and it is {truth!r}: measure the "
            "error against the largest entry of the result, not against a fixed number."
        )
    if truth == "another":
        return f"you say {said!r}, but that reading does not give this result: 'another'."
    return f"you say {said!r}, and it is {truth!r}: compute each reading and compare with `got`."


@exercise("13.2")
def smallest(answer, rng):
    """The smallest mixing and streams on which a transposed mixing differs by a given amount."""
    for difference in rng.uniform(0.1, 1.9, 3):
        made = answer(float(difference))
        if not isinstance(made, tuple | list) or len(made) != 2:
            return "expected two arrays, H and X."
        H, X = (np.asarray(a, dtype=float) for a in made)
        hint = _why_no_witness(H, X, float(difference))
        if hint:
            return hint
    return ""


def _why_no_witness(H, X, difference):
    if H.ndim != 2 or H.shape[0] != H.shape[1]:
        return f"expected H to be n × n, got shape {H.shape}."
    if X.ndim != 2 or X.shape[0] != H.shape[0]:
        return f"expected X of n = {H.shape[0]} streams, n × d, got shape {X.shape}."
    sums = np.concatenate([H.sum(axis=0), H.sum(axis=1)])
    if H.min() < -1e-12 or np.max(np.abs(sums - 1.0)) > 1e-12:
        return "H is not doubly stochastic: entries ≥ 0, and every row and column sums to 1."
    if H.shape[0] < 3:
        return "a doubly stochastic matrix below 3 × 3 is (1) or (a, 1 − a; 1 − a, a): symmetric."
    if np.max(np.abs(H - H.T)) < 1e-12:
        return "your H is symmetric: H X and Hᵀ X are the same for every X."
    if H.shape[0] > 3:
        return f"{H.shape[0]} streams are more than needed."
    if X.shape[1] > 1:
        return f"{X.shape[1]} features a stream are more than needed."
    if np.max(np.abs(X)) > 1.0 + 1e-12:
        return "entries of X have to lie between −1 and 1."
    if np.ptp(X) < 1e-12:
        return "your streams are all equal: H and Hᵀ both keep those, so nothing shows."
    got = np.max(np.abs(H @ X - H.T @ X))
    if abs(got - difference) > 1e-9:
        said = f"the largest entry of |H X − Hᵀ X| is {got:.6g}, and should be {difference:.6g}"
        if X.min() >= 0.0 and got < difference:
            return f"{said}: entries of X may be negative, and +1 and −1 double it."
        return f"{said}."
    return ""


@exercise("13.3")
def survivor(answer, rng):
    """A layer norm that is wrong at every width and passes five tests, and inputs that show it."""
    made = answer()
    if not isinstance(made, tuple | list) or len(made) != 2 or not all(map(callable, made)):
        return "expected two functions: the layer, of x, and `kill`, of d."
    layer, kill = made
    for d in (512, 768, 1024):
        hint = _failed_test(layer, 3.0 * rng.normal(size=(int(rng.integers(2, 9)), d)))
        if hint:
            return f"your layer fails the test {hint}."
    for d in (3, 8, 64, 1024):
        hint = _why_not_killed(layer, np.asarray(kill(d), dtype=float), d)
        if hint:
            return hint
    return ""


def _why_not_killed(layer, x, d):
    """What is wrong with an input of d features that is to show the layer's mistake."""
    if x.ndim < 1 or x.shape[-1] != d or not np.isfinite(x).all():
        return f"expected kill({d}) to be finite, with {d} features, got shape {x.shape}."
    right, got = mgt_np.layer_norm(x), np.asarray(layer(x.copy()))
    if got.shape != right.shape:
        return f"on kill({d}) the layer returns shape {got.shape}, not {right.shape}."
    if not np.isfinite(right).all() or not np.isfinite(got).all():
        return f"on kill({d}) a layer returns NaN or infinity: show a difference in finite numbers."
    off = np.max(np.abs(got - right)) / max(np.max(np.abs(right)), 1e-300)
    if off > 0.01:
        return ""
    if d > 3:
        return (
            f"at d = {d} your input shows an error of {off:.2g}, after more than 0.01 at smaller "
            "d: look for a mistake that no width hides."
        )
    if off < 1e-12:
        return "on kill(3) the layer equals mgt_np.layer_norm: nothing is killed."
    return f"kill(3) shows an error of {off:.2g} only: find an input that shows over 0.01."


def _failed_test(layer, x):
    """The name of the first of the neighbour's tests that a layer fails on x."""
    y = np.asarray(layer(x.copy()))
    tests = {
        "'same shape'": lambda: y.shape == x.shape,
        "'mean 0 to 1e-9'": lambda: np.max(np.abs(y.mean(axis=-1))) < 1e-9,
        "'variance 1 to 1e-2'": lambda: np.max(np.abs(y.var(axis=-1) - 1.0)) < 1e-2,
        "'LN(2x + 5) = LN(x) to 1e-2'": lambda: (
            np.max(np.abs(layer(2.0 * x + 5.0) - y)) < 1e-2 * np.max(np.abs(y))
        ),
        "'features keep their order'": lambda: np.array_equal(
            np.argsort(y, axis=-1), np.argsort(x, axis=-1)
        ),
    }
    return next((name for name, passes in tests.items() if not passes()), "")
