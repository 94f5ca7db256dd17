"""The paths of attention with skips: their residuals by another route, verdicts by the rows."""

import math
from itertools import combinations

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np import (
    attention_weights,
    init_multi_head_attention,
    multi_head_attention,
    relative_residual,
)
from mgt_np.experiments import path_lengths
from mgt_np.experiments.experiment import generator

NAME = "path-lengths"


def test_the_rule_at_its_boundary():
    nan = math.nan
    failing = [(1.0, 0.05), (0.5, 0.1), (nan, 0.05), (0.5, nan)]
    check_boundaries(NAME, ([(0.9999, 0.0999)], failing))


def halving(row):
    """With three layers the middle is length 1 itself: no other length could be below it."""
    return 0.01 ** row["length"]


def verdict(**columns):
    return verdicts(small_run(NAME, depth=4), **columns)


def test_the_verdict_follows_the_rows():
    assert verdict(relative_residual=halving) == ["holds"]
    assert verdict(relative_residual=lambda row: 0.5 ** row["length"]) == ["does not hold"]
    assert verdict(relative_residual=0.5) == ["does not hold"]
    assert verdict(relative_residual=math.nan) == ["does not hold"]


def test_every_seed_counts():
    def slow(row):
        return 0.5 ** row["length"] if row["seed"] == 1 else halving(row)

    assert verdict(relative_residual=slow) == ["does not hold"]

    def rising(row):
        return 1e-3 if row["seed"] == 0 and row["length"] == 3 else 0.1 * halving(row)

    assert verdict(relative_residual=rising) == ["does not hold"]


def test_what_is_rounding_may_rise():
    def rounded(row):
        return [1.0, 0.1, 1e-3, 1e-15, 2e-15][row["length"]]

    assert verdict(relative_residual=rounded) == ["holds"]
    result = changed(small_run(NAME, depth=4), relative_residual=rounded)
    assert path_lengths.falls(result) == pytest.approx((0.1, 0.01))
    risen = [1.0, 0.1, 1e-3, 1e-13, 2e-13]
    assert verdict(relative_residual=lambda row: risen[row["length"]]) == ["does not hold"]


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_are_sums_over_the_paths_that_the_network_takes(seed):
    """Each set of layers, one after the other; no sum over lengths is made."""
    rng = generator([0, seed])
    X = x = rng.standard_normal((8, 8))
    layers = []
    for rng_layer in rng.spawn(3):
        weights = init_multi_head_attention(rng_layer, 8, bias=False)
        q, k = (np.moveaxis((x @ weights[n]).reshape(8, 2, 4), 1, 0) for n in ("W_q", "W_k"))
        layers.append((attention_weights(q, k), weights))
        x = x + multi_head_attention(x, **weights, n_heads=2)

    def through(X, layer):
        P, weights = layer
        values = np.moveaxis((X @ weights["W_v"]).reshape(8, 2, 4), 1, 0)
        return np.moveaxis(P @ values, 0, 1).reshape(8, 8) @ weights["W_o"]

    terms = []
    for length in range(4):
        term = np.zeros((8, 8))
        for chosen in combinations(layers, length):
            path = X
            for layer in chosen:
                path = through(path, layer)
            term += path
        terms.append(term)
    np.testing.assert_allclose(sum(terms), x, atol=1e-12)  # they are all of the network
    rows = small_run(NAME).rows.where(seed=seed)
    assert rows.column("length") == [0, 1, 2, 3]
    expected = [float(relative_residual(term)) for term in terms]
    assert rows.column("relative_residual") == pytest.approx(expected, rel=1e-9)
