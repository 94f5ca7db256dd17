"""What a judge of an exercise is made of: inputs drawn afresh, and a hint for each known mistake.

    @exercise("04.1")
    def inverse(answer, rng):
        beta = rng.uniform(0.1, 0.9)
        usual = [(1.0 / beta, "that is 1/β: the inverse undoes the step, not the number.")]
        return hint_for(answer(beta), beta / (beta - 1.0), usual)

A judge returns what is wrong in words, or "" for a right answer.
"""

import inspect
import math
import sys
from contextlib import contextmanager
from numbers import Real

import numpy as np

EXERCISES = {}  # number, "LESSON.EXERCISE": its judge


def exercise(number):
    """Enter a judge, a function (answer, rng) → hint, as that of the exercise `number`."""

    def enter(judge):
        EXERCISES[number] = judge
        return judge

    return enter


class Unanswered(Exception):
    """The dots are still there."""


def answered(answer):
    """Return the answer, a function as one that raises `Unanswered` where it returns the dots."""
    if answer is ... or answer is None:
        raise Unanswered
    if not callable(answer):
        return answer

    def call(*args, **kwargs):
        result = answer(*args, **kwargs)
        if result is ... or result is None:
            raise Unanswered
        if isinstance(result, tuple) and any(x is ... or x is None for x in result):
            raise Unanswered
        return result

    return call


def hint_for(got, right, usual=(), *, rtol=1e-9, atol=1e-12, what="the answer"):
    """Return "" where `got` is `right`, the hint of the usual mistake that it is, or what it is.

    `right` is a number or an array, `usual` a list of (value, hint). Shapes have to agree.
    """
    told = _not_numbers(got, right, what)
    if told:
        return told
    got, right = np.asarray(got, dtype=float), np.asarray(right, dtype=float)
    for value, hint in [(right, ""), *usual]:
        value = np.asarray(value, dtype=float)
        if got.shape == value.shape and np.allclose(got, value, rtol, atol, equal_nan=True):
            return hint
    if got.shape != right.shape:
        wanted = f"of shape {right.shape}" if right.shape else "to be one number"
        return f"expected {what} {wanted}, got shape {got.shape}."
    if not np.isfinite(got).all():
        return f"{what} holds NaN or infinity for a test input."
    if np.allclose(got, right, 1e-6, atol):
        return f"for a test input {what} is right to a few digits only: compute in float64."
    if got.shape == ():
        return f"for a test input {what} is {got:.6g}, and should be {right:.6g}."
    off = np.unravel_index(np.argmax(np.abs(got - right)), got.shape)
    place = "".join(f"[{i}]" for i in off)
    return f"for a test input {what}{place} is {got[off]:.6g}, and should be {right[off]:.6g}."


def _not_numbers(got, right, what):
    """What is wrong with an answer that is no number, or no array of numbers."""
    wanted = "one number" if np.ndim(right) == 0 else f"an array of shape {np.shape(right)}"
    if got is None or got is ...:
        raise Unanswered
    if isinstance(got, str):
        return f"expected {what} to be {wanted}, got the text {got!r}: leave the quotes away."
    if callable(got):
        return f"expected {what} to be {wanted}, got a function: call it."
    if np.ndim(right) == 0 and not isinstance(got, Real | np.ndarray | np.generic):
        return f"expected {what} to be {wanted}, got a {type(got).__name__}."
    try:
        np.asarray(got, dtype=float)
    except (TypeError, ValueError):
        return f"expected {what} to be {wanted}, got a {type(got).__name__}."
    return ""


class Forbidden(Exception):
    """A function was called that the exercise asks to derive."""


@contextmanager
def without(*functions):
    """Let none of these Python functions be called within: the exercise asks to derive them.

    Functions of this package are found in their fused forms too. A judge puts it round its calls of
    the answer alone.
    """
    names = {}
    for function in functions:
        forms = getattr(function, "forms", {})
        for one in (inspect.unwrap(function), *forms.values()):
            if hasattr(one, "__code__"):
                names[one.__code__] = function.__name__

    def watch(frame, event, arg):
        if event == "call" and frame.f_code in names:
            raise Forbidden(names[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def unit(rng, *shape):
    """Vectors of length one, uniform on the sphere; the last axis holds the features."""
    k = rng.standard_normal(shape)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


def is_number(x):
    """Say whether that is a finite number."""
    return isinstance(x, Real | np.generic) and math.isfinite(x)
