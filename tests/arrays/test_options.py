"""Options by their texts: what each admits, and returns."""

import math

import numpy as np
import pytest

from mgt_np.arrays import Choice, options

ADMITTED = [
    ("int ≥ 1", np.int32(2), 2),
    ("float", -3, -3),
    ("float > 0", np.float32(0.5), 0.5),
    ("float in [0, 1]", 1.0, 1.0),
    ("float in [0, 1)", np.asarray(0.0), 0.0),
    ("bool", np.bool_(True), True),
    ("dtype", np.float32, "float32"),
    ("'lecun' | float ≥ 0", "lecun", "lecun"),
    ("'a' | 'b'", "b", "b"),
]
REFUSED = [
    ("int ≥ 1", 0, ValueError, "expected n to be an integer ≥ 1, got 0"),
    ("int ≥ 1", 1.0, TypeError, "expected n to be an integer ≥ 1, got 1.0"),
    ("float", -math.inf, ValueError, "expected n to be a number, got -inf"),
    ("float > 0", 0.0, ValueError, "expected n to be a number > 0, got 0.0"),
    ("float in [0, 1)", 1.0, ValueError, r"expected n to be a number in \[0, 1\), got 1.0"),
    ("float ≥ 0", np.float64(-1), ValueError, "expected n to be a number ≥ 0, got -1.0"),
    ("float ≥ 0", True, TypeError, "expected n to be a number ≥ 0, got True"),
    ("dtype", "int64", ValueError, "expected n to be a floating dtype .* got 'int64'"),
    ("generator", 0, TypeError, "expected n to be a numpy.random.Generator, .* got 0"),
    ("function", "relu", TypeError, "expected n to be a function, got 'relu'"),
    ("'lecun' | float ≥ 0", np.ones(2), ValueError, "'lecun' or a number ≥ 0, got ndarray"),
    ("'gelu' | 'relu'", "gela", ValueError, "one of 'gelu', 'relu', got 'gela'; did you mean"),
]


@pytest.mark.parametrize(("text", "value", "admitted"), ADMITTED)
def test_admitted(text, value, admitted):
    got = options.parse(text)("n", value)
    assert got == admitted
    assert type(got) is type(admitted)


@pytest.mark.parametrize(("text", "value", "error", "message"), REFUSED)
def test_refused(text, value, error, message):
    with pytest.raises(error, match=message):
        options.parse(text)("n", value)


def test_texts_of_shapes_are_no_options():
    assert [options.parse(text) for text in ("... d", "number | d", "int ...", "floats")] == [
        None
    ] * 4


def test_choices_may_be_objects():
    choice = Choice({"a": 1}, dict)
    assert choice("c", {"x": 1}) == {"x": 1}
    assert repr(choice) == "'a' | dict"
    with pytest.raises(TypeError, match="expected c to be one of 'a', dict, got list"):
        choice("c", [])
