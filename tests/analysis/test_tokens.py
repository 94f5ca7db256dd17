"""How alike the tokens are: formulas, limits, errors."""

import math

import numpy as np
import pytest
from recorded import agree

from mgt_np import (
    composite_norm,
    mean_cosine_similarity,
    relative_residual,
    state_norm,
    token_residual,
)


def numpy_composite(X):
    return math.sqrt(np.linalg.norm(X, 1) * np.linalg.norm(X, np.inf))


def test_formulas(rng):
    """That of the composite norm is of Dong et al., §2."""
    X = rng.standard_normal((5, 8)) + 0.5
    residual = X - np.ones((5, 1)) @ np.mean(X, axis=0, keepdims=True)
    np.testing.assert_allclose(token_residual(X), residual, atol=1e-15)
    assert composite_norm(X) == pytest.approx(numpy_composite(X), rel=1e-14)
    expected = numpy_composite(residual) / numpy_composite(X)
    assert relative_residual(X) == pytest.approx(expected, rel=1e-13)
    assert state_norm(X) == pytest.approx(np.linalg.norm(X) / math.sqrt(5), rel=1e-14)
    cosines = [
        X[i] @ X[j] / np.linalg.norm(X[i]) / np.linalg.norm(X[j])
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    assert mean_cosine_similarity(X) == pytest.approx(np.mean(cosines), abs=1e-15)


def test_equal_tokens_leave_nothing(rng):
    X = np.tile(rng.integers(-8, 8, 6).astype(float), (4, 1))
    assert not np.any(token_residual(X))
    assert relative_residual(X) == 0.0
    assert mean_cosine_similarity(X) == pytest.approx(1.0, rel=1e-15)


def test_the_residual_has_mean_zero_and_is_its_own_residual(rng):
    residual = token_residual(rng.standard_normal((2, 5, 8)) + 3.0)
    np.testing.assert_allclose(np.mean(residual, axis=-2), 0.0, atol=1e-15)
    np.testing.assert_allclose(token_residual(residual), residual, atol=1e-15)


def test_zero_states():
    zero = np.zeros((3, 4))
    measures = composite_norm, relative_residual, mean_cosine_similarity, state_norm
    assert [float(measure(zero)) for measure in measures] == [0.0, 0.0, 0.0, 0.0]


def test_the_composite_norm_scales_and_breaks_the_triangle_inequality(rng):
    X = rng.standard_normal((3, 5))
    assert composite_norm(-3.0 * X) == pytest.approx(3.0 * composite_norm(X), rel=1e-14)
    row, column = np.zeros((4, 4)), np.zeros((4, 4))
    row[0], column[:, 0] = 1.0, 1.0
    assert composite_norm(row) == composite_norm(column) == 2.0
    assert composite_norm(row + column) > composite_norm(row) + composite_norm(column)


def test_cosines_of_orthogonal_and_opposed_tokens(rng):
    assert mean_cosine_similarity(7.0 * np.eye(5)) == pytest.approx(0.0, abs=1e-15)
    simplex = np.eye(5) - 0.2
    assert mean_cosine_similarity(simplex) == pytest.approx(-1 / 4, rel=1e-14)
    assert mean_cosine_similarity(np.array([[1.0, 0.0], [-3.0, 0.0]])) == -1.0
    X = rng.standard_normal((100, 5, 8))
    assert np.all(np.abs(mean_cosine_similarity(X) - 0.375) <= 0.625 + 1e-15)


def test_a_zero_token_counts_as_orthogonal():
    X = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert mean_cosine_similarity(X) == pytest.approx(1 / 3, rel=1e-15)


def test_one_token_has_nothing_to_be_compared_with():
    with pytest.raises(ValueError, match=r"expected X \(.*\) with N≥2, got shape"):
        mean_cosine_similarity(np.ones((1, 4)))


def test_the_norm_of_states_of_unit_features_and_of_exploding_ones(rng):
    assert state_norm(np.ones((3, 16))) == 4.0
    X = rng.standard_normal((3, 16))
    for scale in (1e-300, 1e300):
        assert state_norm(scale * X) == pytest.approx(scale * state_norm(X), rel=1e-14)
    assert state_norm(np.full((3, 4), -1e308) / 4) == pytest.approx(5e307, rel=1e-15)
    assert state_norm((1e30 * X).astype("float32")) == pytest.approx(1e30 * state_norm(X), rel=1e-6)


RECORDED = {
    "norm_composite": composite_norm,
    "residual_ratio_composite": relative_residual,
    "norm_l2": lambda X: state_norm(X) * math.sqrt(X.shape[-2]),
}


@pytest.mark.parametrize("state", ["random", "near_rank1", "collapsed"])
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_measures(name, state, golden, library):
    f = golden("rank_measures")
    agree(RECORDED[name](library.asarray(f[f"in.{state}"])), f[f"out.{state}.{name}"])
