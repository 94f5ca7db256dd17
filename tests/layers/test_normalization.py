"""Layer norm and RMS norm: their formulas and invariants."""

import numpy as np
import pytest
from recorded import check

from mgt_np import init_layer_norm, init_rms_norm, layer_norm, rms_norm


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm_is_its_formula(eps, rng):
    """Ba, Kiros & Hinton, eq. 4."""
    x, gain, bias = 3.0 * rng.standard_normal((2, 5, 8)) + 1.0, *rng.standard_normal((2, 8))
    mean, variance = np.mean(x, axis=-1, keepdims=True), np.var(x, axis=-1, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + eps)
    np.testing.assert_allclose(layer_norm(x, eps=eps), expected, atol=1e-14)
    np.testing.assert_allclose(layer_norm(x, gain, eps=eps), expected * gain, atol=1e-14)
    np.testing.assert_allclose(layer_norm(x, bias=bias, eps=eps), expected + bias, atol=1e-14)
    np.testing.assert_allclose(
        layer_norm(x, gain, bias, eps=eps), expected * gain + bias, atol=1e-14
    )


def test_layer_norm_without_eps_has_mean_zero_and_variance_one(rng):
    y = layer_norm(1e-3 * rng.standard_normal((7, 16)) + 5.0, eps=0.0)
    np.testing.assert_allclose(np.mean(y, axis=-1), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.var(y, axis=-1), 1.0, rtol=1e-12)


def test_eps_is_1e_5_in_layer_norm_and_1e_6_in_rms_norm_unless_given(rng):
    x = 1e-3 * rng.standard_normal((4, 8))
    assert np.array_equal(layer_norm(x), layer_norm(x, eps=1e-5))
    assert np.array_equal(rms_norm(x), rms_norm(x, eps=1e-6))


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
def test_a_token_of_equal_features_becomes_zero(value):
    np.testing.assert_allclose(layer_norm(np.full((2, 7), value)), 0.0, atol=1e-12)


def test_layer_norm_forgets_shift_and_scale(rng):
    x = rng.standard_normal((4, 8))
    np.testing.assert_allclose(
        layer_norm(3.0 * x + 2.0, eps=0.0), layer_norm(x, eps=0.0), atol=1e-14
    )


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_rms_norm_is_its_formula(eps, rng):
    """Zhang & Sennrich, eq. 4."""
    x, gain = 3.0 * rng.standard_normal((2, 5, 8)), rng.standard_normal(8)
    expected = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)
    np.testing.assert_allclose(rms_norm(x, eps=eps), expected, rtol=1e-14)
    np.testing.assert_allclose(rms_norm(x, gain, eps=eps), expected * gain, rtol=1e-14)


def test_rms_norm_keeps_direction_and_rank(rng):
    x = rng.standard_normal((9, 3)) @ rng.standard_normal((3, 8))
    y = rms_norm(x, eps=0.0)
    np.testing.assert_allclose(np.mean(y**2, axis=-1), 1.0, rtol=1e-14)
    cosine = np.sum(x * y, axis=-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    np.testing.assert_allclose(cosine, 1.0, rtol=1e-14)
    assert np.linalg.matrix_rank(y) == np.linalg.matrix_rank(x) == 3


def test_the_initial_norm_is_the_bare_one(rng):
    x = rng.standard_normal((4, 8)).astype("float32")
    params = init_layer_norm(8, dtype="float32"), init_rms_norm(8, dtype="float32")
    assert all(leaf.dtype == np.float32 for tree in params for leaf in tree.values())
    assert np.array_equal(layer_norm(x, **params[0]), layer_norm(x))
    assert np.array_equal(rms_norm(x, **params[1]), rms_norm(x))


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
def test_wrong_shapes_are_refused(norm, rng):
    with pytest.raises(ValueError, match=r"expected gain \(d\) with d = 8, got shape \(7,\)"):
        norm(np.ones((3, 8)), np.ones(7))
    with pytest.raises(ValueError, match=r"expected gain \(d\), got shape \(1, 8\)"):
        norm(np.ones((3, 8)), np.ones((1, 8)))
    with pytest.raises(ValueError, match=r"expected x \(\.\.\. d≥1\), got shape \(\)"):
        norm(np.ones(()))


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
def test_half_precision_is_squared_in_float32(norm):
    x = np.array([[1.0, 2.0, 3.0, 4.0]]) * 300.0
    got = norm(x.astype(np.float16))
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, norm(x), atol=1e-3)


def test_recorded_layer_norm(golden, library):
    f = golden("torch_layernorm")
    arrays = f["in.x"], f["w.weight"], f["w.bias"]
    gradients = f["gin.x"], f["gw.weight"], f["gw.bias"]
    eps = float(f["cfg.eps"])
    check(library, lambda *a: layer_norm(*a, eps=eps), arrays, f["out.y"], f["R"], gradients)
    check(library, layer_norm, arrays, f["out.y"], f["R"], gradients)


def test_recorded_rms_norm(golden, library):
    f = golden("torch_rmsnorm")
    arrays, gradients = (f["in.x"], f["w.weight"]), (f["gin.x"], f["gw.weight"])
    check(library, rms_norm, arrays, f["out.y"], f["R"], gradients)
