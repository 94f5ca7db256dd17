"""The feed-forward sub-layer: its formula, its defaults, errors."""

import math

import numpy as np
import pytest

from mgt_np import (
    feed_forward,
    sigmoid,
    silu,
)

ERF = np.vectorize(math.erf)
FORMULAS = {
    "gelu": lambda x: 0.5 * x * (1.0 + ERF(x / math.sqrt(2.0))),
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": silu,
    "sigmoid": sigmoid,
}


@pytest.mark.parametrize("activation", FORMULAS)
def test_feed_forward_is_its_formula(activation, rng):
    """Vaswani et al., eq. 2."""
    x, W_1, W_2 = (rng.standard_normal(shape) for shape in ((2, 3, 4), (4, 6), (6, 5)))
    b_1, b_2 = rng.standard_normal(6), rng.standard_normal(5)
    expected = FORMULAS[activation](x @ W_1 + b_1) @ W_2 + b_2
    got = feed_forward(x, W_1, W_2, b_1, b_2, activation=activation)
    np.testing.assert_allclose(got, expected, atol=1e-13)
    expected = FORMULAS[activation](x @ W_1) @ W_2
    np.testing.assert_allclose(
        feed_forward(x, W_1, W_2, activation=activation), expected, atol=1e-13
    )


def test_feed_forward_uses_gelu_unless_told_and_is_its_bias_without_W_2(rng):
    x, W_1, b_2 = rng.standard_normal((3, 4)), rng.standard_normal((4, 6)), rng.standard_normal(4)
    W_2 = rng.standard_normal((6, 4))
    assert np.array_equal(feed_forward(x, W_1, W_2), feed_forward(x, W_1, W_2, activation="gelu"))
    assert np.array_equal(feed_forward(x, W_1, 0.0 * W_2, b_2=b_2), np.tile(b_2, (3, 1)))


def test_feed_forward_names_the_wrong_width_and_the_unknown_activation():
    x = np.ones((3, 4))
    with pytest.raises(ValueError, match="x has 4 features on axis −1, W_1 has 5"):
        feed_forward(x, np.ones((5, 6)), np.ones((6, 4)))
    with pytest.raises(ValueError, match="W_1 has 6 hidden features on axis −1, W_2 has 5"):
        feed_forward(x, np.ones((4, 6)), np.ones((5, 4)))
    with pytest.raises(ValueError, match="got 'gleu'; did you mean 'gelu'"):
        feed_forward(x, np.ones((4, 6)), np.ones((6, 4)), activation="gleu")
