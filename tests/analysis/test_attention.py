"""How spread out attention is: the formula of its entropy, limits, errors."""

import math

import numpy as np
import pytest

from mgt_np import (
    attention_entropy,
    attention_weights,
)


def test_entropy_is_its_formula(rng):
    """Zhai et al., §3."""
    P = rng.dirichlet(np.ones(6), (2, 5))
    expected = [[-sum(p * math.log(p) for p in row) for row in matrix] for matrix in P]
    np.testing.assert_allclose(attention_entropy(P), expected, rtol=1e-13)


def test_entropy_from_one_key_to_all():
    P = np.array([[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.25] * 4])
    np.testing.assert_allclose(attention_entropy(P), np.log([1.0, 2.0, 4.0]), rtol=1e-15)
    assert attention_entropy(np.zeros((1, 4))).tolist() == [0.0]


def test_entropy_of_causal_attention_is_at_most_the_logarithm_of_the_past(rng):
    q, k = rng.standard_normal((2, 3, 7, 4))
    entropy = attention_entropy(attention_weights(q, k, causal=True))
    assert np.all(entropy >= 0.0)
    assert np.all(entropy <= np.log(np.arange(1, 8)) + 1e-15)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="attention_entropy: expected P ≥ 0, got -"):
        attention_entropy(np.array([[1.1, -0.1]]))
