"""Elementwise nonlinearities and softmax: their laws, limits, and behaviour far out."""

import math

import numpy as np
import pytest
from recorded import check

from mgt_np import gelu, grad, relu, sigmoid, silu, softmax
from mgt_np.arrays import to_host

FAR = np.array([-1000.0, -745.0, -40.0, -1.0, 0.0, 1.0, 40.0, 710.0, 1000.0])


def each(function, x):
    return np.array([function(float(value)) for value in x.reshape(-1)]).reshape(x.shape)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_its_formula(approximate, rng):
    x = 4.0 * rng.standard_normal((20, 10))

    def formula(x):
        if approximate == "none":
            return 0.5 * x * math.erfc(-x / math.sqrt(2.0))
        return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))

    np.testing.assert_allclose(gelu(x, approximate=approximate), each(formula, x), atol=1e-14)


def test_the_two_gelus_differ_by_less_than_a_thousandth(rng):
    difference = np.abs(gelu(FAR) - gelu(FAR, approximate="tanh"))
    assert 1e-5 < np.max(difference) < 1e-3


def test_silu_and_sigmoid_are_their_formulas(rng):
    x = 8.0 * rng.standard_normal((20, 10))
    np.testing.assert_allclose(
        sigmoid(x), each(lambda x: 1.0 / (1.0 + math.exp(-x)), x), rtol=1e-14
    )
    np.testing.assert_allclose(silu(x), each(lambda x: x / (1.0 + math.exp(-x)), x), rtol=1e-14)


@pytest.mark.parametrize("activation", [relu, silu, gelu, lambda x: gelu(x, approximate="tanh")])
def test_the_odd_part_is_half_the_identity(activation, rng):
    x = np.concat([FAR, 10.0 * rng.standard_normal(100)])
    np.testing.assert_allclose(activation(x) - activation(-x), x, rtol=1e-15, atol=1e-15)


def test_opposite_sigmoids_sum_to_one(rng):
    x = np.concat([FAR, 10.0 * rng.standard_normal(100)])
    np.testing.assert_allclose(sigmoid(x) + sigmoid(-x), 1.0, rtol=1e-15)


def test_sigmoid_keeps_its_digits_far_out():
    assert sigmoid(np.array([1000.0, -1000.0, 0.0, np.inf, -np.inf])).tolist() == [1, 0, 0.5, 1, 0]
    x = np.array([-40.0, -700.0])
    expected = [math.exp(-40.0) / (1.0 + math.exp(-40.0)), math.exp(-700.0)]
    np.testing.assert_allclose(sigmoid(x), expected, rtol=1e-15)


@pytest.mark.parametrize("activation", [sigmoid, relu, silu, gelu], ids=lambda f: f.__name__)
def test_gradients_stay_finite_far_out(activation):
    slopes = grad(lambda x: activation(x).sum())(FAR)
    assert np.all(np.isfinite(slopes))
    np.testing.assert_allclose(slopes[[0, -1]], [0.0, 0.0 if activation is sigmoid else 1.0])


def test_relu_keeps_the_positive_part_and_is_flat_at_zero():
    x = np.array([-2.0, -0.0, 0.0, 3.0])
    assert relu(x).tolist() == [0.0, 0.0, 0.0, 3.0]
    assert grad(lambda x: relu(x).sum())(x).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert np.isnan(relu(np.array([np.nan]))).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_softmax_is_its_formula(axis, rng):
    x = rng.standard_normal((3, 4, 5))
    expected = np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)
    weights = softmax(x, axis=axis)
    np.testing.assert_allclose(weights, expected, rtol=1e-14)
    np.testing.assert_allclose(np.sum(weights, axis=axis), 1.0, rtol=1e-15)


def test_a_constant_added_to_all_scores_changes_nothing(rng):
    x = rng.integers(-8, 8, (10, 6)).astype(float)
    assert np.array_equal(softmax(x + 1e4), softmax(x))
    assert np.array_equal(softmax(x - 1e4), softmax(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_scores_of_ten_thousand(dtype):
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype=dtype)
    weights = softmax(x)
    assert weights.dtype == dtype
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-7)
    assert np.all(np.isfinite(grad(lambda x: softmax(x)[0, 0])(x)))


def test_an_unknown_approximation_is_refused():
    with pytest.raises(ValueError, match="approximate to be one of 'none', 'tanh', got 'tan'; did"):
        gelu(FAR, approximate="tan")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", relu),
        ("gelu_erf", gelu),
        ("gelu_tanh", lambda x: gelu(x, approximate="tanh")),
        ("silu", silu),
        ("sigmoid", sigmoid),
    ],
)
def test_recorded_activations(name, function, golden, library):
    f = golden("torch_activations")
    x, y = f["in.x"], f[f"out.{name}"]
    check(library, function, [x], y, np.ones_like(y), [f[f"gin.{name}"]])
    # In the tail of the second form 1 + tanh cancels, and XLA's tanh rounds otherwise than libm's.
    atol = 1e-15 if (name, library.name) == ("gelu_tanh", "jax") else 1e-300
    np.testing.assert_allclose(to_host(function(library.asarray(x))), y, rtol=1e-8, atol=atol)


def test_recorded_softmax(golden, library):
    f = golden("torch_activations")
    check(library, softmax, [f["in.z"]], f["out.softmax"], f["R"], [f["gin.softmax_z"]])
