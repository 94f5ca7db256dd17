"""Rank measures: formulas, ranges, scale, collapsed states, float32, errors."""

import numpy as np
import pytest
from recorded import agree

from mgt_np import effective_rank, participation_ratio, stable_rank
from mgt_np.arrays import array_namespace

MEASURES = {
    "erank": effective_rank,
    "erank squared": lambda X: effective_rank(X, power=2),
    "stable": stable_rank,
    "participation": participation_ratio,
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def numpy_erank(X, power=1):
    """Roy and Vetterli's formula, from the eigenvalues of XᵀX or XXᵀ."""
    small = X @ X.T if X.shape[0] < X.shape[1] else X.T @ X
    p = np.linalg.eigvalsh(small) ** (power / 2)
    p /= np.sum(p)
    return np.exp(-np.sum(p * np.log(p)))


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6)])
def test_formulas(shape, rng):
    X = rng.standard_normal(shape)
    s = np.linalg.svdvals(X)
    assert effective_rank(X) == pytest.approx(numpy_erank(X), rel=1e-10)
    assert effective_rank(X, power=2) == pytest.approx(numpy_erank(X, power=2), rel=1e-10)
    expected = np.linalg.norm(X) ** 2 / np.linalg.norm(X, 2) ** 2
    assert stable_rank(X) == pytest.approx(expected, rel=1e-13)
    expected = np.sum(s**2) ** 2 / np.sum(s**4)
    assert participation_ratio(X) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_centred_and_normalised(shape, rng):
    X = rng.standard_normal(shape) + 3.0
    centred = X - np.mean(X, axis=0)
    s = np.linalg.svdvals(centred)[: min(shape[0] - 1, shape[1])]
    p = s / np.sum(s)
    expected = np.exp(-np.sum(p * np.log(p)))
    assert effective_rank(X, center=True) == pytest.approx(expected, rel=1e-12)
    assert effective_rank(X, center=True, normalize=True) == pytest.approx(expected / 5, rel=1e-12)
    assert effective_rank(X, normalize=True) == pytest.approx(effective_rank(X) / 5, rel=1e-14)


@every_measure
@pytest.mark.parametrize("m", [1, 2, 5])
def test_m_equal_singular_values_give_m(measure, m, rng):
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (7, 5))
    X = 3.0 * U[:, :m] @ V[:, :m].T
    assert measure(X) == pytest.approx(m, rel=1e-12)


@every_measure
def test_ranges(measure, rng):
    for shape in ((5, 8), (8, 5), (1, 4), (4, 1)):
        X = rng.standard_normal((50, *shape)) * 10.0 ** rng.uniform(-3, 0, (50, *shape))
        rank = measure(X)
        assert np.all((rank >= 1.0 - 1e-12) & (rank <= min(shape) + 1e-12))
    low = rng.standard_normal((50, 8, 2)) @ rng.standard_normal((50, 2, 8))
    assert np.all(measure(low) <= 2.0 + 1e-10)


@every_measure
@pytest.mark.parametrize("scale", [1e-150, 1e-3, 7.0, 1e150, -1.0])
def test_scaling_changes_nothing(measure, scale, rng):
    X = rng.standard_normal((5, 8))
    assert measure(scale * X) == pytest.approx(measure(X), rel=1e-12)


@every_measure
def test_a_zero_matrix_has_rank_zero(measure, rng):
    X = np.stack([np.zeros((3, 4)), rng.standard_normal((3, 4))])
    assert measure(X)[0] == 0.0
    assert measure(X)[1] == pytest.approx(measure(X[1]), rel=1e-14)


def test_a_zero_matrix_has_rank_zero_with_every_option():
    for center in (False, True):
        assert effective_rank(np.zeros((3, 4)), center=center, normalize=True) == 0.0
    assert effective_rank(np.ones((1, 4)), center=True) == 0.0


def test_a_collapsed_state_has_plain_rank_near_one_and_the_centred_rank_of_its_noise(rng):
    noise = rng.standard_normal((32, 16))
    X = rng.standard_normal(16) + 1e-6 * noise
    assert effective_rank(X) < 1.001
    assert effective_rank(X, center=True) == pytest.approx(
        effective_rank(noise, center=True), rel=1e-7
    )
    assert effective_rank(X, center=True) > 12.0


def test_the_noise_of_fewer_tokens_than_features_is_exact(rng):
    """Of N centred tokens one singular value is rounding, however small the others are."""
    noise = rng.standard_normal((4, 16))
    noise -= np.mean(noise, axis=0)
    X = 2.0**-30 * np.round(noise * 2.0**20)  # exact sums: centring X leaves nothing to round
    s = np.linalg.svdvals(X)[:3]
    p = s / np.sum(s)
    expected = np.exp(-np.sum(p * np.log(p)))
    assert effective_rank(1.0 + X, center=True) == pytest.approx(expected, rel=1e-9)
    assert effective_rank(X, center=True) == pytest.approx(expected, rel=1e-14)


def float32_erank(X, center):
    """The measure with a float32 decomposition: what it would be without float64."""
    X = X - np.mean(X, axis=0) if center else X
    s = np.linalg.svdvals(X)
    assert s.dtype == np.float32
    p = s / np.sum(s)
    return np.exp(-np.sum(p * np.log(p)))


def test_a_float32_state_is_measured_in_float64(library, rng):
    X = (rng.standard_normal(64) + 1e-7 * rng.standard_normal((64, 64))).astype("float32")
    got = effective_rank(library.asarray(X), center=True)
    exact = effective_rank(X.astype("float64"), center=True)
    assert abs(float(got) - exact) <= np.finfo("float32").eps * exact
    assert abs(float32_erank(X, center=True) - exact) > 0.1 * exact
    assert got.dtype == library.asarray(X).dtype


def test_a_float32_state_keeps_the_digits_of_its_small_singular_values(rng):
    Q, P = (np.linalg.qr(rng.standard_normal((64, 64)))[0] for _ in range(2))
    s = np.concat([[1.0], np.full(63, 2.0**-10)])
    X = ((Q * s) @ P.T).astype("float32")
    for measure in MEASURES.values():
        exact = measure(X.astype("float64"))
        assert measure(X).dtype == np.float32
        assert abs(float(measure(X)) - exact) <= np.finfo("float32").eps * exact


@every_measure
def test_states_that_explode_in_float32(measure, rng):
    X = rng.standard_normal((5, 8)).astype("float32")
    assert measure(np.float32(1e30) * X) == pytest.approx(measure(X), rel=1e-6)


@every_measure
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_rank(measure, value):
    X = np.ones((2, 3, 4))
    X[1, 2, 3] = value
    with pytest.raises(ValueError, match="expected X to be finite, got NaN or infinity"):
        measure(X)


@pytest.mark.parametrize("power", [0, 3, 1.5, "1"])
def test_another_power_is_refused(power):
    with pytest.raises((TypeError, ValueError), match=r"power to be an integer in \[1, 2\], got"):
        effective_rank(np.ones((3, 4)), power=power)


RECORDED = {
    "erank_sigma_uncentered": effective_rank,
    "erank_sigma_centered_GAP2": lambda X: effective_rank(X, center=True),
    "erank_sigma2_uncentered_LDSB": lambda X: effective_rank(X, power=2),
    "stable_rank": stable_rank,
    "participation_ratio_sigma2": participation_ratio,
}


@pytest.mark.parametrize("state", ["random", "near_rank1", "rank_deficient"])
def test_recorded_rankme(state, golden, library):
    """RankMe of stable-pretraining, which adds 1e-5 to every p."""
    f = golden("stable_pretraining_rankme")
    X = library.asarray(f[f"in.{state}"])
    agree(effective_rank(X), f[f"out.{state}.erank_without_epsilon"])
    rank_me = effective_rank(X, eps=float(f["cfg.eps"]))
    agree(rank_me, f[f"out.{state}.rankme"])
    agree(array_namespace(rank_me).log(rank_me), f[f"out.{state}.entropy"])


@pytest.mark.parametrize("state", ["random", "near_rank1", "collapsed"])
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_measures(name, state, golden, library):
    f = golden("rank_measures")
    agree(RECORDED[name](library.asarray(f[f"in.{state}"])), f[f"out.{state}.{name}"])
