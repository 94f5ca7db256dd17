"""Attention with the common token kept apart: the layer itself, and far below its rounding."""

import numpy as np
import pytest
from mpmath import mp

from mgt_np import (
    init_multi_head_attention,
    multi_head_attention,
    separated_attention,
    token_residual,
)


@pytest.fixture
def layer(rng):
    return init_multi_head_attention(rng, 8, bias=False)


def tokens(rng, *leading):
    return rng.standard_normal((*leading, 8)), token_residual(rng.standard_normal((*leading, 6, 8)))


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_it_is_multi_head_attention(rng, layer, size):
    common, residual = tokens(rng)
    got, got_residual = separated_attention(common, size * residual, **layer, n_heads=2)
    expected = multi_head_attention(common + size * residual, **layer, n_heads=2)
    np.testing.assert_allclose(got, np.mean(expected, axis=0), rtol=0.0, atol=1e-14)
    np.testing.assert_allclose(got_residual, token_residual(expected), rtol=0.0, atol=1e-14)


def test_each_sequence_is_attended_to_by_itself(rng, layer):
    common, residual = tokens(rng, 2, 3)
    together = separated_attention(common, residual, **layer, n_heads=4)
    for i in np.ndindex(2, 3):
        alone = separated_attention(common[i], residual[i], **layer, n_heads=4)
        for got, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(got[i], expected, rtol=1e-12, atol=1e-15)


def test_equal_tokens_stay_equal(rng, layer):
    common = rng.standard_normal(8)
    mean, residual = separated_attention(common, np.zeros((6, 8)), **layer, n_heads=2)
    np.testing.assert_allclose(mean, common @ layer["W_v"] @ layer["W_o"], atol=1e-14)
    assert not np.any(residual)


def test_small_residuals_are_cubed_far_below_rounding(rng, layer):
    common, residual = tokens(rng)
    one, two = (
        separated_attention(common, s * residual, **layer, n_heads=2)[1] for s in (1e-20, 1e-21)
    )
    np.testing.assert_allclose(1000.0 * two, one, rtol=1e-11, atol=0.0)
    assert 0.0 < np.max(np.abs(one)) < 1e-55


def test_the_residual_is_that_of_eighty_digits(rng):
    """One head of three tokens, 1e-15 apart, by the definition in arithmetic of 80 digits."""
    common, residual = rng.standard_normal(2), 1e-15 * token_residual(rng.standard_normal((3, 2)))
    layer = init_multi_head_attention(rng, 2, bias=False)
    with mp.workdps(80):
        W_q, W_k, W_v, W_o = (mp.matrix(layer[name].tolist()) for name in layer)
        X = mp.matrix(residual.tolist()) + mp.matrix([common.tolist()] * 3)
        logits = (X * W_q) * (X * W_k).T / mp.sqrt(2)
        P = logits.apply(mp.exp)
        for i in range(3):
            P[i, :] /= sum(P[i, :])
        Y = P * X * W_v * W_o
        columns = [sum(Y[i, j] for i in range(3)) / 3 for j in range(2)]
        exact = np.array([[float(Y[i, j] - columns[j]) for j in range(2)] for i in range(3)])
    got = separated_attention(common, residual, **layer, n_heads=1)[1]
    assert 0.0 < np.max(np.abs(exact)) < 1e-40
    np.testing.assert_allclose(got, exact, rtol=1e-9, atol=1e-9 * np.max(np.abs(exact)))
