"""Recorded measures of other implementations, to 1e-12, absolute and relative to their size."""

import math

import numpy as np
import pytest

from mgt_np import (
    composite_norm,
    effective_rank,
    participation_ratio,
    relative_residual,
    stable_rank,
    state_norm,
)
from mgt_np.arrays import to_host

MEASURES = {
    "erank_sigma_uncentered": effective_rank,
    "erank_sigma_centered_GAP2": lambda X: effective_rank(X, center=True),
    "erank_sigma2_uncentered_LDSB": lambda X: effective_rank(X, power=2),
    "stable_rank": stable_rank,
    "participation_ratio_sigma2": participation_ratio,
    "norm_composite": composite_norm,
    "residual_ratio_composite": relative_residual,
    "norm_l2": lambda X: state_norm(X) * math.sqrt(X.shape[-2]),
}


@pytest.mark.parametrize("state", ["random", "near_rank1", "collapsed"])
@pytest.mark.parametrize("name", MEASURES)
def test_recorded_measures(name, state, golden, library):
    f = golden("rank_measures")
    got = to_host(MEASURES[name](library.asarray(f[f"in.{state}"])))
    expected = f[f"out.{state}.{name}"]
    assert got.shape == expected.shape
    error = np.max(np.abs(got - expected))
    assert error <= 1e-12
    assert error <= 1e-12 * np.max(np.abs(expected))
