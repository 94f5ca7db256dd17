"""Bounds of collapse: formulas written again, where they are of use, and that none is broken."""

import math

import numpy as np
import pytest

from mgt_np import (
    attention_entropy,
    attention_entropy_bound,
    attention_weights,
    collapse_beta,
    composite_norm,
    log_collapse_bound,
    softmax,
    spectral_gap,
    token_residual,
)


def test_beta_is_its_formula(rng):
    W_qk, W_v = rng.standard_normal((2, 5, 5))
    norms = [np.linalg.norm(W_v, order) for order in (1, np.inf)]
    expected = np.linalg.norm(W_qk, 1) * math.sqrt(norms[0] * norms[1])
    assert collapse_beta(W_qk, W_v) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
@pytest.mark.parametrize("gamma", [1.0, 2.5])
def test_the_log_of_the_bound_is_the_bounds_logarithm(n_layers, gamma):
    residual, beta, d_qk, n_heads = 0.2, 1.7, 16, 3
    c = 4 * gamma * beta * n_heads / math.sqrt(d_qk)
    expected = c ** ((3**n_layers - 1) / 2) * residual ** (3**n_layers)
    options = {"n_layers": n_layers, "d_qk": d_qk, "n_heads": n_heads, "gamma": gamma}
    for b in (beta, np.asarray(beta)):
        log_bound = log_collapse_bound(np.asarray(residual), b, **options)
        assert log_bound == pytest.approx(math.log(expected), rel=1e-12)


def test_the_bound_of_many_layers_is_that_of_one_layer_many_times():
    log_residual = math.log(0.3)
    for _ in range(6):
        log_residual = log_collapse_bound(np.exp(log_residual), 0.8, n_layers=1, d_qk=4)
    at_once = log_collapse_bound(np.asarray(0.3), 0.8, n_layers=6, d_qk=4)
    assert at_once == pytest.approx(log_residual, rel=1e-12)


@pytest.mark.parametrize("n_layers", [1, 3, 30, 1000])
def test_the_bound_is_of_use_below_one_residual_at_any_depth(n_layers):
    threshold = 1 / math.sqrt(4 * 0.8 * 2 / math.sqrt(9))
    residual = threshold * np.array([0.99, 1.01])
    options = {"n_layers": n_layers, "n_heads": 2, "d_qk": 9}
    below, above = log_collapse_bound(residual, 0.8, **options) - np.log(residual)
    assert below < 0.0 < above
    assert np.isfinite(above)
    single = log_collapse_bound(residual.astype("float32"), 0.8, **options)
    assert single.dtype == "float32"
    assert np.all(np.isfinite(single))


def perturbation(R, W_qk, p):
    """The logits of the residual, how far each row spreads, and γ by our derivation."""
    E = R @ W_qk @ R.T / math.sqrt(R.shape[1])
    spread = np.max(E, axis=1) - np.min(E, axis=1)
    return spread, math.sqrt(np.max(p) * np.sum(spread) / np.max(spread))


def test_one_layer_keeps_to_the_cubic_bound(rng):
    """With our γ it is a theorem for logits that spread by up to 1.256; γ = 1 is not broken either.

    The mean token is at most a factor of two worse than the best common token.
    """
    closest = 0.0
    for _ in range(200):
        n, d = (int(i) for i in rng.integers([2, 1], 9))
        common, R = rng.standard_normal(d), token_residual(rng.standard_normal((n, d)))
        W_qk, W_v = rng.standard_normal((2, d, d))
        R = R * rng.uniform(0.01, 1.0)
        spread, _ = perturbation(R, W_qk, np.ones(n))
        R = R * min(1.0, math.sqrt(1.256 / np.max(spread)))
        X = common + R
        p = softmax(common @ W_qk @ R.T / math.sqrt(d))
        _, gamma = perturbation(R, W_qk, p)
        P = attention_weights(X @ W_qk, X)
        best = composite_norm((P - p) @ R @ W_v)
        from_mean = composite_norm(token_residual(P @ X @ W_v))
        beta = collapse_beta(W_qk, W_v)
        for g in (gamma, 1.0):
            bound = np.exp(log_collapse_bound(composite_norm(R), beta, n_layers=1, d_qk=d, gamma=g))
            assert best <= bound
            assert from_mean <= 2.0 * bound
            closest = max(closest, best / bound)
    assert closest > 0.05


def test_the_gap_of_uniform_and_of_private_attention(rng):
    assert spectral_gap(np.full((6, 6), 1 / 6)) == pytest.approx(1.0, rel=1e-14)
    assert spectral_gap(np.eye(4)) == pytest.approx(0.0, abs=1e-15)
    P = rng.dirichlet(np.ones(5), (3, 4))
    sigma = np.linalg.svd(P, compute_uv=False)
    np.testing.assert_allclose(spectral_gap(P), sigma[:, 0] - sigma[:, 1], rtol=1e-13)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 2.0, 9.0, 700.0])
def test_no_attention_has_less_entropy_than_the_bound_and_one_attains_it(rng, sigma):
    T = 6
    bound = attention_entropy_bound(np.asarray(sigma), T)
    leader = np.full(T, -sigma / math.sqrt(T * (T - 1)))
    leader[2] = sigma * math.sqrt((T - 1) / T)
    assert np.linalg.norm(leader) == pytest.approx(sigma, rel=1e-14)
    assert attention_entropy(softmax(leader)) == pytest.approx(float(bound), rel=1e-11)
    logits = rng.standard_normal((2000, T)) + leader
    logits *= sigma / np.linalg.norm(logits, axis=-1, keepdims=True)
    assert np.all(attention_entropy(softmax(logits)) >= bound - 1e-13)


def test_the_entropy_bound_from_all_keys_to_one():
    bound = attention_entropy_bound(np.array([0.0, 50.0, 1e6]), 8)
    assert bound[0] == pytest.approx(math.log(8), rel=1e-15)
    lead = 50.0 * math.sqrt(8 / 7)
    assert bound[1] == pytest.approx(7 * (1 + lead) * math.exp(-lead), rel=1e-12)
    assert bound[2] == 0.0


def test_errors_say_what_was_expected():
    one = np.ones(())
    for n in (-1, 1.5):
        with pytest.raises((TypeError, ValueError), match="n_layers to be an integer ≥ 0, got"):
            log_collapse_bound(one, 1.0, n_layers=n, d_qk=4)
    with pytest.raises(TypeError, match=r"expected n_heads to be an integer ≥ 1, got 0\.5"):
        log_collapse_bound(one, 1.0, n_layers=1, n_heads=0.5, d_qk=4)
    for n in (1, 2.5):
        with pytest.raises((TypeError, ValueError), match="n_keys to be an integer ≥ 2, got"):
            attention_entropy_bound(one, n)
    with pytest.raises(ValueError, match=r"expected P \(.*\) with m≥2, got shape \(1, 4\)"):
        spectral_gap(np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"expected W_qk \(\.\.\. d≥1 d\), got shape"):
        collapse_beta(np.ones(3), np.ones((3, 3)))
