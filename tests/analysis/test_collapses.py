"""The four collapses: what each measure says of a collapsed state, and the symmetries as laws."""

import dataclasses

import numpy as np
import pytest

import mgt_np
from mgt_np import (
    COLLAPSES,
    attention_weights,
    head_null_space,
    scaled_dot_product_attention,
    softmax,
)

DEPTH, WIDTH, HEADS, ENTROPY = COLLAPSES


def test_four_collapses_with_four_symmetries():
    for field in ("name", "what", "measure", "symmetry", "source"):
        assert len({getattr(collapse, field) for collapse in COLLAPSES}) == 4
    for collapse in COLLAPSES:
        assert collapse.measure.__name__ in mgt_np.__all__
        assert collapse.sure.startswith("our reading")
        with pytest.raises(dataclasses.FrozenInstanceError):
            collapse.name = ""


def test_measures_of_what_has_collapsed(rng):
    x = rng.standard_normal((1, 16))
    equal_tokens = np.ones((8, 1)) * x
    assert DEPTH.measure(equal_tokens) <= 1e-14
    assert WIDTH.measure(equal_tokens @ equal_tokens.T) == pytest.approx(1.0, rel=1e-14)
    one_key_each = np.eye(8)[rng.integers(0, 8, 8)]
    assert ENTROPY.measure(one_key_each).tolist() == [0.0] * 8
    same_rows = np.concat([rng.standard_normal((4, 16))] * 3)
    assert HEADS.measure(same_rows, n_heads=3).tolist() == [4, 4, 4]


def test_measures_of_what_has_not(rng):
    X = np.eye(8, 16) + 0.1 * rng.standard_normal((8, 16))
    assert DEPTH.measure(X) > 0.5
    assert WIDTH.measure(X @ X.T) > 2.0
    assert np.all(ENTROPY.measure(np.full((3, 8), 1 / 8)) > 2.0)
    assert HEADS.measure(rng.standard_normal((12, 16)), n_heads=3).tolist() == [0, 0, 0]


def test_a_vector_added_to_all_tokens_passes_through_the_weights(rng):
    P, X, b = softmax(rng.standard_normal((5, 5))), rng.standard_normal((5, 4)), rng.normal(size=4)
    np.testing.assert_allclose(P @ (X + b), P @ X + b, atol=1e-14)


def test_the_order_of_keys_does_not_matter(rng):
    q, k, v = rng.standard_normal((3, 6, 4))
    order = rng.permutation(6)
    np.testing.assert_allclose(
        scaled_dot_product_attention(q, k[order], v[order]),
        scaled_dot_product_attention(q, k, v),
        atol=1e-14,
    )


def test_one_layer_of_random_attention_collapses_as_tokens_become_many(rng):
    of_covariance, plain = [], []
    for T in (16, 64, 256):
        q, k = rng.standard_normal((2, T, 64))
        P = attention_weights(q, k)
        of_covariance.append(float(WIDTH.measure(P @ P.T)))
        plain.append(float(WIDTH.measure(P)))
    assert of_covariance == sorted(of_covariance, reverse=True)
    assert of_covariance[-1] < 1.1
    # ‖P‖²_F is the mean square of T weights exp(s)/T, s nearly normal: e, however many tokens.
    assert plain[-1] == pytest.approx(np.e, rel=0.15)


def test_what_w_o_sends_to_zero_can_be_added(rng):
    W_o = np.concat([rng.standard_normal((3, 8))] * 2)
    N = np.reshape(head_null_space(W_o, n_heads=2), (3, 6))
    Z = rng.standard_normal((3, 6))
    np.testing.assert_allclose((Z + 5.0 * N) @ W_o, Z @ W_o, atol=1e-12)


def test_larger_scores_keep_their_order_and_lose_entropy(rng):
    S = rng.standard_normal((5, 7))
    entropies = []
    for c in (0.0, 1.0, 10.0, 1000.0):
        P = softmax(c * S)
        entropies.append(float(np.mean(ENTROPY.measure(P))))
        if c:
            assert np.array_equal(np.argmax(P, axis=-1), np.argmax(S, axis=-1))
    assert entropies[0] == pytest.approx(np.log(7), rel=1e-14)
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[-1] < 0.1
