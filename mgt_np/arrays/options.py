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
            raise TypeError(f"expected {name} to be one of {self}, got {_said(value)}")
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
    above = operator.gt if comparison == ">" or opens == "(" else operator.ge
    below = operator.le if closes == "]" else operator.lt  # an infinity is no number here

    def check(name, value):
        number = as_number(value)
        if number is None or (kind == "int" and not isinstance(number, int)):
            raise TypeError(f"expected {name} to be {_described(text)}, got {_said(value)}")
        if not (above(number, least) and below(number, most)):  # nor is NaN
            raise ValueError(f"expected {name} to be {_described(text)}, got {value!r}")
        return number

    return check


def _described(text):
    return text.replace("float", "a number", 1).replace("int", "an integer", 1)


def _said(value):
    return repr(value) if value is None or isinstance(value, str | bool) else type(value).__name__


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
        raise TypeError(f"expected {name} to be True or False, got {value!r}")
    return bool(value)


def _function(name, value):
    if not callable(value):
        raise TypeError(f"expected {name} to be a function, got {type(value).__name__}")
    return value


def _generator(name, value):
    if not isinstance(value, np.random.Generator):
        raise TypeError(
            f"expected {name} to be a numpy.random.Generator, as from "
            f"numpy.random.default_rng(seed), got {type(value).__name__}"
        )
    return value


def _dtype(name, value):
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = None
    if value is None or dtype is None or dtype.kind != "f":
        raise ValueError(f"expected {name} to be a floating dtype such as 'float64', got {value!r}")
    return dtype.name


def _scale(name, value):
    number = as_number(value)
    if value != "lecun" if number is None else not 0.0 <= number < math.inf:
        raise ValueError(f"expected {name} to be 'lecun' or a number ≥ 0, got {value!r}")
    return value if number is None else number


_NAMED = {
    "bool": _boolean,
    "dtype": _dtype,
    "function": _function,
    "generator": _generator,
    "'lecun' | float ≥ 0": _scale,
}

# Options that are right or wrong by their type alone, whatever their value.
BY_TYPE = (_function, _generator)
