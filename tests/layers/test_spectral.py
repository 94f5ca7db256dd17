"""Spectral norms, σReparam, attention without its outlier: laws, limits, errors."""

import numpy as np
import pytest
from recorded import agree, check

from mgt_np import (
    array_namespace,
    attention_weights,
    gap_free_attention,
    gap_free_attention_weights,
    grad,
    linear,
    power_iteration,
    scaled_dot_product_attention,
    sigma_reparam,
    spectral_norm,
)


def test_the_spectral_norm_is_numpys(rng):
    for shape in ((4, 4), (7, 3), (3, 7), (1, 5)):
        W = rng.standard_normal(shape)
        assert spectral_norm(W) == pytest.approx(np.linalg.norm(W, 2), rel=1e-14)


def test_power_iteration_converges_from_below_at_the_ratio_of_singular_values(rng):
    U, V = (np.linalg.qr(rng.standard_normal((n, 3)))[0] for n in (6, 4))
    W = U * [2.0, 1.0, 0.5] @ V.T
    start = V @ [0.3, 1.0, 1.0]
    before = 0.0
    for n in range(5):
        part = np.array([0.3, 1.0, 1.0]) * np.array([2.0, 1.0, 0.5]) ** (2 * n)
        v = power_iteration(W, start, n_iters=n)
        np.testing.assert_allclose(v, V @ part / np.linalg.norm(part), rtol=1e-12, atol=1e-14)
        sigma = spectral_norm(W, start, n_iters=n)
        expected = np.linalg.norm([2.0, 1.0, 0.5] * part) / np.linalg.norm(part)
        if n > 0:  # uᵀW v = ‖Wᵀu‖, with u = W v/‖W v‖ of the v before
            expected = np.linalg.norm(part) / np.linalg.norm(part / [2.0, 1.0, 0.5])
        assert sigma == pytest.approx(expected, rel=1e-13)
        assert before < sigma < 2.0
        before = sigma
    assert spectral_norm(W, start, n_iters=40) == pytest.approx(2.0, rel=1e-14)


def test_the_gradient_of_the_spectral_norm_is_u_vT(rng):
    W = rng.standard_normal((5, 4))
    U, _, Vt = np.linalg.svd(W)
    expected = np.outer(U[:, 0], Vt[0])
    np.testing.assert_allclose(grad(spectral_norm)(W), expected, atol=1e-13)
    by_iteration = grad(lambda W: spectral_norm(W, Vt[0], n_iters=2))(W)
    np.testing.assert_allclose(by_iteration, expected, atol=1e-13)


def test_equal_singular_values_have_a_norm_and_by_iteration_a_gradient():
    assert spectral_norm(np.eye(3)) == 1.0
    np.testing.assert_allclose(grad(spectral_norm)(np.eye(3)), np.eye(3) / 3.0, atol=1e-15)
    v = np.array([1.0, 0.0, 0.0])
    gradient = grad(lambda W: spectral_norm(W, v))(np.eye(3))
    np.testing.assert_allclose(gradient, np.outer(v, v), atol=1e-15)


def test_power_iteration_of_nothing_is_nothing():
    assert power_iteration(np.zeros((3, 2)), np.ones(2)).tolist() == [0.0, 0.0]
    assert spectral_norm(np.zeros((3, 2)), np.ones(2)) == 0.0


@pytest.mark.parametrize("scale", [1e20, 1e-30])
def test_squares_stay_in_range(scale, rng):
    W, v = rng.standard_normal((4, 3)), rng.standard_normal(3)
    small, start = (scale * W).astype("float32"), (scale * v).astype("float32")
    np.testing.assert_allclose(power_iteration(small, start), power_iteration(W, v), rtol=1e-5)
    got = spectral_norm(small, start, n_iters=2)
    assert got / np.float32(scale) == pytest.approx(spectral_norm(W, v, n_iters=2), rel=1e-5)
    slope = grad(lambda W: spectral_norm(W, start))(small)
    np.testing.assert_allclose(slope, grad(lambda W: spectral_norm(W, v))(W), atol=1e-5)


@pytest.mark.parametrize("name", ["linear_start", "linear_three_forwards"])
def test_recorded_sigma_reparam(name, golden, library):
    """σReparam (2303.06296): three training forwards, the vector carried on and held.

    Their weights are (out, in), their u is our v.
    """
    f = golden(f"apple_sigma_reparam_{name}")
    options = {"n_iters": 1, "gradient": "fixed vectors"}
    v = library.asarray(f["in.u_0"])
    arrays = f["in.x"], f["w.weight"], f["w.bias"], f["w.sigma"]
    W, gamma = (library.asarray(f[f"w.{key}"]) for key in ("weight", "sigma"))
    for k in range(3):

        def layer(x, W, b, gamma, v=v):
            W_hat = sigma_reparam(W, gamma[0], v, **options)
            return linear(x, array_namespace(W_hat).matrix_transpose(W_hat), b)

        gradients = [f[f"gin_step{k + 1}.x"]]
        gradients += [f[f"gw_step{k + 1}.{key}"] for key in ("weight", "bias", "sigma")]
        check(library, layer, arrays, f["out.y"][k], f["R"][k], gradients)
        agree(spectral_norm(W, v, **options), f["out.sigma"][k])
        agree(sigma_reparam(W, gamma[0], v, **options), f["out.effective_weight"][k])
        v = power_iteration(W, v)
        agree(v, f["out.u"][k])
    agree(spectral_norm(W), f["out.sigma_exact"])
    if "out.gamma_start" in f:
        agree(spectral_norm(W), f["out.gamma_start"][0])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_sigma_reparam_fixes_the_norm_and_forgets_the_scale(rng, scale):
    W, gamma = rng.standard_normal((2, 5, 4)), np.array([0.7, 3.0])
    reparam = sigma_reparam(scale * W, gamma)
    np.testing.assert_allclose(spectral_norm(reparam), gamma, rtol=1e-14)
    np.testing.assert_allclose(reparam, sigma_reparam(W, gamma), rtol=1e-13)
    np.testing.assert_allclose(reparam / reparam[:, :1, :1], W / W[:, :1, :1], rtol=1e-13)
    _, _, Vt = np.linalg.svd(W)
    np.testing.assert_allclose(sigma_reparam(W, gamma, Vt[:, 0]), reparam, rtol=1e-12)


@pytest.mark.parametrize("way", ["iterations", "fixed vectors"])
@pytest.mark.parametrize("start", [None, np.array([1.0, -2.0, 0.5, 0.0])])
def test_gradients_through_sigma_reparam_are_orthogonal_to_the_weights(rng, start, way):
    W, R = rng.standard_normal((2, 5, 4))
    gradient = grad(lambda W: (R * sigma_reparam(W, 1.0, start, gradient=way)).sum())(W)
    assert np.linalg.norm(gradient) > 0.1
    assert np.sum(gradient * W) == pytest.approx(0.0, abs=1e-13)


def test_the_gap_is_removed_and_every_other_eigenvalue_stays(rng):
    P = rng.dirichlet(np.ones(6), 6)
    without = gap_free_attention_weights(P)
    np.testing.assert_allclose(without, P - np.ones((6, 6)) / 6, atol=1e-16)
    np.testing.assert_allclose(without @ np.ones(6), 0.0, atol=1e-15)
    one, *others = sorted(np.linalg.eigvals(P), key=abs, reverse=True)
    assert one == pytest.approx(1.0, rel=1e-13)
    *left, zero = sorted(np.linalg.eigvals(without), key=abs, reverse=True)
    assert abs(zero) <= 1e-15
    np.testing.assert_allclose(np.abs(left), np.abs(others), rtol=1e-11)


def test_gap_free_attention_is_attention_less_the_mean_value(rng):
    q, k, v = (rng.standard_normal((2, n, d)) for n, d in ((3, 5), (4, 5), (4, 6)))
    expected = scaled_dot_product_attention(q, k, v, scale=0.7) - np.mean(v, 1, keepdims=True)
    np.testing.assert_allclose(gap_free_attention(q, k, v, scale=0.7), expected, atol=1e-15)
    np.testing.assert_allclose(
        gap_free_attention(q, k, v), gap_free_attention_weights(attention_weights(q, k)) @ v
    )


def test_equal_keys_and_equal_values_leave_nothing(rng):
    q, k, v = rng.standard_normal((3, 4, 5))
    np.testing.assert_allclose(gap_free_attention(q, np.ones((4, 5)), v), 0.0, atol=1e-15)
    np.testing.assert_allclose(gap_free_attention(q, k, np.ones((4, 5))), 0.0, atol=1e-15)


def test_errors_name_what_disagrees():
    with pytest.raises(
        ValueError, match=r"power_iteration: .* W has 3 columns on axis −1, v has 2"
    ):
        power_iteration(np.ones((4, 3)), np.ones(2))
    with pytest.raises(ValueError, match="expected n_iters to be an integer ≥ 0, got -1"):
        spectral_norm(np.ones((4, 3)), np.ones(3), n_iters=-1)
    with pytest.raises(TypeError, match=r"expected n_iters to be an integer ≥ 0, got 1\.5"):
        spectral_norm(np.ones((4, 3)), np.ones(3), n_iters=1.5)
    with pytest.raises(ValueError, match="expected gradient to be one of 'iterations', 'fixed vec"):
        sigma_reparam(np.ones((4, 3)), 1.0, np.ones(3), gradient="fixed")
    for function in (spectral_norm, gap_free_attention_weights):
        for shape in ((3,), (3, 0)):
            with pytest.raises(ValueError, match=f"{function.__name__}: expected [WP] .*got shape"):
                function(np.ones(shape))
    with pytest.raises(ValueError, match=r"expected W .* with m≥1, got shape"):
        spectral_norm(np.ones((0, 3)))
    with pytest.raises(ValueError, match="k has 4 keys on axis −2, v has 3"):
        gap_free_attention(np.ones((2, 5)), np.ones((4, 5)), np.ones((3, 5)))
