"""Parameter trees: paths, rebuilding, mapping."""

from collections import namedtuple

import numpy as np
import pytest

from mgt_np import grad
from mgt_np.arrays import leaves_with_paths, tree_map

Pair = namedtuple("Pair", "a b")


def test_a_path_is_the_code_that_gets_there():
    tree = {"layers": [{"W": 1.0}, ({3: 2.0}, None)], "pair": Pair("x", [])}
    found = dict(leaves_with_paths(tree))
    assert found == {
        "['layers'][0]['W']": 1.0,
        "['layers'][1][0][3]": 2.0,
        "['layers'][1][1]": None,
        "['pair'][0]": "x",
    }
    for path, leaf in found.items():
        assert eval(f"tree{path}", {"tree": tree}) is leaf


def test_a_leaf_alone_is_a_tree():
    assert list(leaves_with_paths(1.0)) == [("", 1.0)]
    assert tree_map(lambda x: x + 1.0, 1.0) == 2.0


def test_map_keeps_the_nesting():
    tree = {"a": [1, (2, 3)], "pair": Pair(4, {}), "none": []}
    got = tree_map(lambda x: 10 * x, tree)
    assert got == {"a": [10, (20, 30)], "pair": Pair(40, {}), "none": []}
    assert isinstance(got["pair"], Pair)
    assert isinstance(got["a"][1], tuple)


def test_map_over_several_trees_pairs_leaves_by_path():
    first, second = {"a": 1, "b": [2, 3]}, {"b": [20, 30], "a": 10}
    assert tree_map(lambda x, y: x + y, first, second) == {"a": 11, "b": [22, 33]}


@pytest.mark.parametrize(
    "other", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": [2]}, [1, 2], {"a": 1, "c": 2}]
)
def test_map_over_trees_that_differ(other):
    with pytest.raises(ValueError, match=r"expected trees of one shape, but only one has \["):
        tree_map(lambda x, y: x, {"a": 1, "b": 2}, other)


def test_map_does_not_walk_into_an_array_beside_a_list():
    with pytest.raises(ValueError, match=r"one shape, but only one has \["):
        tree_map(lambda x, y: x, {"a": [1, 2]}, {"a": np.zeros(2)})
    with pytest.raises(ValueError, match="their containers differ"):
        tree_map(lambda x, y: x, {0: 1}, [1])
    with pytest.raises(ValueError, match="only one has "):
        tree_map(lambda x, y: x, {"a": 1}, 3)


def test_a_tree_that_contains_itself_is_refused():
    cyclic = {}
    cyclic["a"] = cyclic
    with pytest.raises(ValueError, match="expected a tree of arrays, got a dict that contains"):
        grad(lambda params: 0.0)(cyclic)
    listed = []
    listed.append(listed)
    with pytest.raises(ValueError, match="got a list that contains itself"):
        grad(lambda params: 0.0)(listed)
