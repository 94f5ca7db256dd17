"""Hyper-parameters as they stand in a signature: "int ≥ 1", "float in [0, 1]", "'a' | 'b'"."""

import functools
import math
import operator
import re

import numpy as np

from .checks import one_of


class Choice:
    """One of the names of a registry, or an object of one of these types."""

    def __init__(self, names, *types):
        self.names, self.types = names, types

    def __repr__(self):
        return " | ".join([*map(repr, self.names), *(kind.__name__ for kind in self.types)])

    def __str__(self):
        return repr(self).replace(" | ", ", ")

    def __call__(self, name, value):
        """Return the value, or raise ValueError."""
        if isinstance(value, self.types):
            return value
        if not isinstance(value, str):
            raise TypeError(f"expected {name} to be one of {self}, got {said(value)}")
        one_of(self.names, **{name: value})
        return value


@functools.cache
def parse(text):
    """Return the function (name, value) → value of an option, or None if it is a shape's text.

    It raises ValueError for a value out of range, TypeError for one of another type.
    """
    if text in _NAMED:
        return _NAMED[text]
    if text.startswith("'"):
        return Choice([each.strip().strip("'") for each in text.split("|")])
    found = re.fullmatch(r"(float|int)(?: (≥|>) (\S+)| in ([\[(])(\S+), (\S+)([\])]))?", text)
    return None if found is None else _number(text, *found.groups())


def _number(text, kind, comparison, bound, opens, low, high, closes):
    least = float(bound or low or -math.inf)
    most = float(high or math.inf)
    # Without a bound, what is infinite is no number here, and NaN never is.
    above = operator.ge if comparison == "≥" or opens == "[" else operator.gt
    below = operator.le if closes == "]" else operator.lt

    def check(name, value):
        number = as_number(value)
        if number is None or (kind == "int" and not isinstance(number, int)):
            raise TypeError(f"expected {name} to be {_described(text)}, got {said(value)}")
        if not (above(number, least) and below(number, most)):
            raise ValueError(f"expected {name} to be {_described(text)}, got {number}")
        return number

    return check


def _described(text):
    return text.replace("float", "a number", 1).replace("int", "an integer", 1)


def said(x):
    """What an error says of an argument: its value if that is short, else its type."""
    short = x is None or isinstance(x, bool | int | float | str | type)
    return repr(x) if short else type(x).__name__


def as_number(value):
    """Return a Python number for a number of Python's or NumPy's, None for anything else."""
    kind = type(value)
    if kind is float or kind is int:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, int | np.integer):
        return operator.index(value)
    return None


def _boolean(name, value):
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"expected {name} to be True or False, got {said(value)}")
    return bool(value)


def _function(name, value):
    if not callable(value):
        raise TypeError(f"expected {name} to be a function, got {said(value)}")
    return value


def generator(name, value):
    """Return a generator of NumPy's, or raise TypeError for a seed and anything else."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(
            f"expected {name} to be a numpy.random.Generator, as from "
            f"numpy.random.default_rng(seed), got {said(value)}"
        )
    return value


def _dtype(name, value):
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = None
    if value is None or dtype is None or dtype.kind != "f":
        raise ValueError(
            f"expected {name} to be a floating dtype such as 'float64', got {said(value)}"
        )
    return dtype.name


def _scale(name, value):
    number = as_number(value)
    if number is not None and 0.0 <= number < math.inf:
        return number
    if isinstance(value, str) and value == "lecun":
        return value
    raise ValueError(f"expected {name} to be 'lecun' or a number ≥ 0, got {said(value)}")


_NAMED = {
    "bool": _boolean,
    "dtype": _dtype,
    "function": _function,
    "generator": generator,
    "'lecun' | float ≥ 0": _scale,
}

# Options that are right or wrong by their type alone, whatever their value.
BY_TYPE = (_function, generator)
