"""States of real text: how they grow, and what is measured where they overflow."""

import numpy as np
import pytest

from mgt_np.experiments.states import measured, states_of_text


def test_negative_beta_explodes():
    states = states_of_text(
        residual="mgt",
        mgt_b_beta=-0.5,
        mgt_alpha=1.0,
        depth=20,
        data="python-docs",
        seed=0,
        n_windows=1,
        n_tokens=8,
        d_model=8,
        n_heads=2,
    )
    growth = measured(states[-1])[1] / measured(states[0])[1]
    assert growth == pytest.approx((1 + np.tanh(0.5)) ** 40, rel=0.2)


def test_an_overflowing_state_has_no_rank_and_an_infinite_norm():
    rank, norm = measured(np.full((1, 2, 3), np.inf))
    assert np.isnan(rank)
    assert norm == np.inf
