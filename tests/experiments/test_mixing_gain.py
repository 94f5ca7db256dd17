"""The mixing experiment: verdicts follow the rows, and the rows what they are said to be."""

import dataclasses

import numpy as np
import pytest
from small_settings import small_run

from mgt_np.experiments import EXPERIMENTS, mixing_gain

MIXING = EXPERIMENTS["mixing-gain"]


@pytest.fixture(scope="module")
def result():
    return small_run("mixing-gain")


def verdicts(result, **values):
    """The first words of the verdicts after some columns were overwritten in rows of a rule."""
    rows = [
        {**row, **{name: value for name, value in values.items() if name != "rule"}}
        if row["rule"] == values.get("rule", row["rule"])
        else row
        for row in result.rows
    ]
    return [claim.verdict for claim in MIXING.claims(dataclasses.replace(result, rows=rows))]


def test_verdicts_follow_the_rows(result):
    assert verdicts(result, rule="hc", forward=4000.0)[0] == "holds"
    assert verdicts(result, rule="hc", forward=2.0, backward=2.0)[0] == "does not hold"
    assert verdicts(result, rule="mhc", backward=1.5)[1] == "holds"
    assert verdicts(result, rule="mhc", backward=1.7)[1] == "does not hold"
    assert verdicts(result, forward=1.0, backward=1.0)[2] == "holds"
    assert verdicts(result, forward=1.0, backward=1.1)[2].endswith("or for rows, which come last")
    assert verdicts(result, forward=1.1)[2] == "does not hold"
    assert verdicts(result, largest_norm=1.0)[3] == "holds"
    worse = {"largest_norm": 1.1, "norm_beyond_bound": 0.0}
    assert verdicts(result, **worse)[3].endswith("≤ largest column sum")
    assert verdicts(result, **worse | {"norm_beyond_bound": 0.1})[3] == "does not hold"
    assert verdicts(result, second=0.5)[4] == "holds"
    assert verdicts(result, second=0.01)[4] == "does not hold"


def test_rows_of_the_smallest_case():
    """One token, one layer: the sums and singular values of one matrix, by NumPy."""
    options = {"seed": 3, "depth": 1, "n_streams": 3, "n_tokens": 1, "scale": 2.0}
    options |= {"array_library": "numpy", "device": None, "dtype": "float64", "identity": 1.0}
    G = 2.0 * np.random.default_rng(3).standard_normal((3, 3))
    M = np.exp(np.eye(3) + G)
    M = M / np.sum(M, axis=0)
    M = M / np.sum(M, axis=1, keepdims=True)
    (row,) = mixing_gain.work(rule="mhc", n_iters=1, **options)
    assert row["forward"] == pytest.approx(1.0, abs=1e-14)
    assert row["backward"] == pytest.approx(np.max(np.sum(M, axis=0)), rel=1e-12)
    assert row["least_backward"] == pytest.approx(np.min(np.sum(M, axis=0)), rel=1e-12)
    values = np.linalg.svdvals(M)
    assert (row["largest_norm"], row["second"]) == pytest.approx(tuple(values[:2]), rel=1e-12)
    (row,) = mixing_gain.work(rule="hc", n_iters=0, **options)
    assert row["largest_norm"] == pytest.approx(np.linalg.norm(np.eye(3) + G, 2), rel=1e-12)


def test_what_the_experiment_is_about(result):
    """Free products grow, constrained ones do not; rows are exact, columns after more steps."""
    by_depth = {
        layer: [row["forward"] for row in mixing_gain.at(result, layer, "hc", scale=0.5)]
        for layer in (1, 6)
    }
    assert np.mean(by_depth[6]) > 2.0 * np.mean(by_depth[1])
    for row in mixing_gain.at(result, 6, "mhc"):
        assert row["forward"] == pytest.approx(1.0, abs=1e-13)
        assert row["norm_beyond_bound"] <= 1e-13
    errors = {
        n: max(row["backward"] - 1.0 for row in mixing_gain.at(result, 6, "mhc", n_iters=n))
        for n in (1, 5)
    }
    assert errors[5] < 0.5 * errors[1]
