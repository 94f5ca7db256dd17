"""Shapes by their texts: what fits, and what is told of what does not."""

import pytest

from mgt_np.arrays import shapes

FIT = [
    [("... d", (2, 3, 4)), ("d d", (4, 4))],
    [("... d", (4,)), ("#... d", (4,))],
    [("... d", (2, 3, 4)), ("#... 1", (3, 1))],
    [("... d", (2, 3, 4)), ("number | #... 1 | d", ())],
    [("... n d", (3, 2)), ("n·d n", (6, 3)), ("n!", (6,))],
    [("2·h", (6,)), ("h", (3,))],
    [("n!", (24,)), ("n", (4,))],
    [("bool #n #m", (1, 5)), ("n m", (3, 5))],
    [("d d | d", (3,)), ("d", (3,))],
]
MISFIT = [
    ([("... d", (2, 3)), ("d d", (3, 4))], "b", " with d = 3", "a has d = 3 on axis −1, b has 4"),
    ([("... d", (2, 4)), ("... d", (1, 4))], "b", " with ... = (2,) as in a", ""),
    ([("... d", (4,)), ("#... d", (2, 4))], "b", " with ... = () as in a", ""),
    ([("d≥1", (0,))], "a", " with d≥1", ""),
    ([("2·h", (5,))], "a", "", ""),
    ([("n!", (5,))], "a", "", ""),
    (
        [("n d", (2, 3)), ("n·d", (5,))],
        "b",
        " with n·d = 6",
        "n = 2 is axis 0 of a, d = 3 is axis 1 of a".replace("axis 0", "axis −2").replace(
            "axis 1", "axis −1"
        ),
    ),
    ([("n d", (2,))], "a", "", ""),
]


def match(arguments, **sizes):
    named = [(name, shapes.parse(t), s) for name, (t, s) in zip("abc", arguments, strict=False)]
    shapes.match(named, sizes, {})


@pytest.mark.parametrize("arguments", FIT, ids=str)
def test_what_fits(arguments):
    match(arguments)


@pytest.mark.parametrize(("arguments", "name", "wanted", "detail"), MISFIT)
def test_what_does_not_fit_is_told(arguments, name, wanted, detail):
    with pytest.raises(shapes.Mismatch) as caught:
        match(arguments)
    assert (caught.value.name, caught.value.wanted, caught.value.detail) == (name, wanted, detail)


def test_words_say_what_a_length_counts():
    spec = shapes.parse("d")
    with pytest.raises(shapes.Mismatch, match="a has 3 features on axis −1, b has 4"):
        shapes.match([("a", spec, (3,)), ("b", spec, (4,))], {}, {"d": "features"})


def test_texts():
    spec = shapes.parse("none | int ... N≥1 d, ≥ 0")
    assert (spec.kind, spec.none, spec.conditions, spec.number) == ("int", True, ("≥ 0",), False)
    for text in ("... d, odd", "d≥", "#!"):
        with pytest.raises(ValueError, match="expected"):
            shapes.parse(text)
