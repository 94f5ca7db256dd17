"""Rows: selection in their order, and grids that have every combination once."""

import numpy as np
import pytest

from mgt_np.experiments import Rows

ROWS = Rows(
    {"rule": rule, "layer": layer, "value": value}
    for rule, layer, value in [("b", 2, 0.1), ("b", 1, 0.2), ("a", 2, 0.3), ("a", 1, 0.4)]
)


def test_rows_are_a_sequence():
    assert len(ROWS) == 4
    assert ROWS[-1] == {"rule": "a", "layer": 1, "value": 0.4}
    assert Rows(list(ROWS)) == ROWS
    assert Rows(reversed(ROWS)) != ROWS
    assert list(ROWS) != ROWS  # a list of dicts has no columns
    with pytest.raises(TypeError, match="unhashable"):
        hash(ROWS)


def test_selection_keeps_the_order():
    assert ROWS.where(rule="a").column("value") == [0.3, 0.4]
    assert ROWS.where(rule="a", layer=2).column("value") == [0.3]
    assert ROWS.where(rule="c") == Rows([])
    assert ROWS.where() == ROWS
    assert ROWS.values("layer") == [2, 1]
    assert ROWS.values("rule") == ["b", "a"]
    with pytest.raises(KeyError, match="seed"):
        ROWS.where(seed=1)


def test_a_grid_has_an_axis_for_each_column():
    np.testing.assert_array_equal(ROWS.grid("value", "rule", "layer"), [[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_array_equal(ROWS.grid("value", "layer", "rule"), [[0.1, 0.3], [0.2, 0.4]])
    np.testing.assert_array_equal(ROWS.where(rule="a").grid("value", "layer"), [0.3, 0.4])
    assert ROWS.where(rule="a", layer=1).grid("value") == 0.4
    tall = Rows([*ROWS, {**ROWS[0], "rule": "c"}, {**ROWS[1], "rule": "c"}])
    wanted = [[0.1, 0.2], [0.3, 0.4], [0.1, 0.2]]
    np.testing.assert_array_equal(tall.grid("value", "rule", "layer"), wanted)
    shuffled = Rows([ROWS[0], ROWS[2], ROWS[1], ROWS[3]])
    np.testing.assert_array_equal(shuffled.grid("value", "rule", "layer"), [[0.1, 0.2], [0.3, 0.4]])


def test_a_grid_with_a_hole_is_refused():
    message = r"grid of value: expected one row with rule = 'a', layer = 1, got 0"
    with pytest.raises(ValueError, match=message):
        Rows(list(ROWS)[:3]).grid("value", "rule", "layer")


def test_a_grid_with_two_rows_in_one_place_is_refused():
    with pytest.raises(ValueError, match=r"expected one row with rule = 'b', got 2"):
        ROWS.grid("value", "rule")
    with pytest.raises(ValueError, match=r"expected one row with nothing to tell them, got 4"):
        ROWS.grid("value")


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"grid of value: expected rows, got none"):
        Rows([]).grid("value", "rule")


def test_numbers_by_condition():
    rows = Rows([{"b": b, "x": b * i} for b in (2.0, 0.5) for i in range(3)])
    assert rows.by("b = {b:g}", "x", max) == {"b = 2": 4.0, "b = 0.5": 1.0}
    assert list(rows.by("b = {b:g}", "x", max)) == ["b = 2", "b = 0.5"]
    signs = rows.by(lambda row: "small" if row["b"] < 1 else "large", lambda row: -row["x"], min)
    assert signs == {"large": -4.0, "small": -1.0}
    assert Rows([]).by("{b}", "x", max) == {}
    with pytest.raises(KeyError):
        rows.by("{c}", "x", max)
