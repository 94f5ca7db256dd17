"""The Delta Operator against linear algebra: eigenvalues of matrices, products of many factors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgt_np import (
    delta_eigenvalues,
    delta_operator,
    delta_product,
    delta_singular_values,
)

EXAMPLES, BATCH = 200, 50


def units(rng, *shape):
    k = rng.standard_normal(shape)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


def random_directions(rng, d, sparse):
    """Unit vectors, some of them with most entries zero."""
    k = rng.standard_normal((BATCH, d))
    if sparse:
        k[rng.random((BATCH, d)) < 0.8] = 0.0
        k[:, rng.integers(d)] += 1.0
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


def test_eigenvalues_of_ten_thousand_matrices():
    """For any k of unit length, β in [−2, 4] and d ≤ 256."""
    widths = []

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
    @given(st.floats(0.0, 8.0), st.integers(0, 2**32 - 1), st.floats(-2.0, 4.0), st.booleans())
    def check(log_d, seed, beta, sparse):
        rng, d = np.random.default_rng(seed), int(2.0**log_d)
        k = random_directions(rng, d, sparse)
        betas = np.where(rng.random(BATCH) < 0.5, beta, rng.uniform(-2.0, 4.0, BATCH))
        expected = np.linalg.eigvalsh(delta_operator(k, betas))
        got = np.sort(delta_eigenvalues(betas, d), axis=-1)
        assert got.shape == (BATCH, d)
        assert np.max(np.abs(got - expected)) <= 1e-12
        widths.append(d)

    check()
    assert len(widths) * BATCH >= 10_000
    assert max(widths) > 200


@pytest.mark.parametrize("d", [1, 2, 64])
def test_singular_values_are_those_of_the_matrix(d, rng):
    betas = rng.uniform(-2.0, 4.0, 100)
    expected = np.linalg.svdvals(delta_operator(units(rng, 100, d), betas))
    got = -np.sort(-delta_singular_values(betas, d), axis=-1)
    assert np.max(np.abs(got - expected)) <= 1e-12


def one_after_the_other(K, beta):
    """A_L ⋯ A_1 as L products of matrices."""
    d = K.shape[-1]
    product = np.eye(d)
    for k, b in zip(K, np.broadcast_to(beta, len(K)), strict=True):
        product = (np.eye(d) - b * np.outer(k, k)) @ product
    return product


@pytest.mark.parametrize("d", [1, 2, 16, 64, 220])
@pytest.mark.parametrize("low_high", [(0.0, 2.0), (0.0, 0.1), (1.0, 1.0), (2.0, 2.0), (1.5, 2.0)])
def test_the_product_of_200_factors(low_high, d, rng):
    K, beta = units(rng, 200, d), rng.uniform(*low_high, 200)
    error = delta_product(K, beta) - one_after_the_other(K, beta)
    assert np.max(np.abs(error)) <= 1e-12


@pytest.mark.parametrize("d", [2, 16])
@pytest.mark.parametrize("low_high", [(-1.0, 0.0), (2.0, 3.0), (-1.0, 4.0), (3.0, 3.0)])
def test_a_product_that_grows_is_right_relative_to_its_size(low_high, d, rng):
    K, beta = units(rng, 200, d), rng.uniform(*low_high, 200)
    expected = one_after_the_other(K, beta)
    size = np.max(np.abs(expected))
    assert size > 10.0
    assert np.max(np.abs(delta_product(K, beta) - expected)) <= 1e-12 * size


def test_nearly_parallel_factors(rng):
    K = units(rng, 16) + 1e-6 * rng.standard_normal((200, 16))
    K /= np.linalg.norm(K, axis=-1, keepdims=True)
    beta = rng.uniform(0.0, 2.0, 200)
    assert np.max(np.abs(delta_product(K, beta) - one_after_the_other(K, beta))) <= 1e-12
    assert np.max(np.abs(delta_product(K, 2.0) - one_after_the_other(K, 2.0))) <= 1e-12


def test_nearly_parallel_factors_that_grow_lose_digits(rng):
    """The limit that `delta_product` names; how many are lost depends on the draw."""
    errors = []
    for _ in range(20):
        K = units(rng, 64) + 0.01 * rng.standard_normal((60, 64))
        K /= np.linalg.norm(K, axis=-1, keepdims=True)
        expected = one_after_the_other(K, 3.0)
        error = np.max(np.abs(delta_product(K, 3.0) - expected))
        errors.append(error / np.max(np.abs(expected)))
    assert np.median(errors) > 1e-10


def test_the_last_factor_stands_on_the_left():
    K = np.array([[1.0, 0.0], [0.6, 0.8]])
    first, second = (np.eye(2) - np.outer(k, k) for k in K)
    product = delta_product(K, 1.0)
    np.testing.assert_allclose(product, second @ first, atol=1e-15)
    assert np.max(np.abs(product - first @ second)) > 0.4


def test_one_factor_is_the_operator_and_none_the_identity(rng):
    k, beta = units(rng, 3, 5), rng.uniform(0.0, 2.0, 3)
    np.testing.assert_allclose(
        delta_product(k[:, None, :], beta[:, None]), delta_operator(k, beta), atol=1e-15
    )
    assert np.array_equal(delta_product(np.empty((2, 0, 4)), 1.0), np.tile(np.eye(4), (2, 1, 1)))


def test_orthonormal_directions_with_beta_1_project_on_their_complement(rng):
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0][:4]
    P = delta_product(Q, 1.0)
    np.testing.assert_allclose(P, np.eye(6) - Q.T @ Q, atol=1e-15)
    np.testing.assert_allclose(P @ P, P, atol=1e-15)


def test_leading_axes_and_a_number_for_beta(rng):
    K, beta = units(rng, 2, 3, 7, 5), rng.uniform(0.0, 2.0, (2, 3, 7))
    got, number = delta_product(K, beta), delta_product(K, 1.5)
    shared = delta_product(K, beta[0, 0])
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(got[i], one_after_the_other(K[i], beta[i]), atol=1e-14)
        np.testing.assert_allclose(number[i], one_after_the_other(K[i], 1.5), atol=1e-14)
        np.testing.assert_allclose(shared[i], one_after_the_other(K[i], beta[0, 0]), atol=1e-14)


def test_wrong_widths_are_named():
    with pytest.raises(ValueError, match="K has 3 factors on axis −2, beta has 4"):
        delta_product(np.ones((3, 5)), np.ones(4))
    with pytest.raises(ValueError, match=r"expected K \(\.\.\. L d≥1\), got shape \(5,\)"):
        delta_product(np.ones(5), 1.0)


def test_an_array_without_axes_is_one_beta_for_all(rng):
    K = units(rng, 7, 5)
    np.testing.assert_array_equal(delta_product(K, np.asarray(1.5)), delta_product(K, 1.5))
