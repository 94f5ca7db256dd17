"""The affine map, the look-up of token vectors, and initial weights."""

import numpy as np
import pytest

from mgt_np import (
    array_namespace,
    embedding,
    grad,
    init_feed_forward,
    init_linear,
    linear,
)
from mgt_np.arrays import to_host

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def test_linear_maps_every_row(rng):
    x, W, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 5)), rng.standard_normal(5)
    expected = np.einsum("bni,io->bno", x, W)
    np.testing.assert_allclose(linear(x, W), expected, atol=1e-14)
    np.testing.assert_allclose(linear(x, W, b), expected + b, atol=1e-14)
    np.testing.assert_allclose(linear(x[0, 0], W, b), expected[0, 0] + b, atol=1e-14)
    assert np.array_equal(linear(x, np.eye(4)), x)
    for half in (0.5, np.asarray(0.5)):
        np.testing.assert_allclose(linear(x, W, half), expected + 0.5, atol=1e-14)


def test_linear_names_who_has_the_wrong_width():
    x, W = np.ones((3, 8)), np.ones((7, 5))
    with pytest.raises(ValueError, match=r"equally many features, but x has 8, W \(rows\) has 7"):
        linear(x, W)
    with pytest.raises(ValueError, match=r"x has 8, W_gate \(rows\) has 7"):
        linear(x, W, name="W_gate")
    with pytest.raises(ValueError, match="equally many outputs, but W has 5, its bias has 1"):
        linear(np.ones((3, 7)), W, np.ones(1))
    with pytest.raises(ValueError, match=r"expected W to be a matrix, got shape \(7,\)"):
        linear(x, np.ones(7))
    with pytest.raises(ValueError, match=r"x to have at least 1 axes, got shape \(\)"):
        linear(np.ones(()), W)
    with pytest.raises(TypeError, match="expected W to be an array, got list"):
        linear(x, [[1.0]])


@pytest.mark.parametrize("shape", [(), (5,), (2, 5), (0,)])
def test_embedding_is_the_one_hot_encoding_times_the_table(shape, rng):
    tokens, E = rng.integers(0, 7, shape), rng.standard_normal((7, 3))
    assert np.array_equal(embedding(tokens, E), np.eye(7)[tokens] @ E)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_tokens_may_have_any_integer_dtype(dtype, library, rng):
    tokens = library.asarray(np.array([1, 100, 1], dtype=dtype))
    E = library.asarray(rng.standard_normal((256, 3)))
    assert np.array_equal(to_host(embedding(tokens, E)), to_host(E)[[1, 100, 1]])
    counts = to_host(grad(lambda E: array_namespace(E).sum(embedding(tokens, E)))(E))
    assert counts[:, 0].tolist() == [{1: 2, 100: 1}.get(i, 0) for i in range(256)]


def test_embedding_refuses_what_is_no_token():
    E = np.ones((7, 3))
    for token in (7, -1, 300):
        with pytest.raises(ValueError, match=rf"expected tokens in \[0, 7\), got {token}"):
            embedding(np.array([0, token]), E)
    with pytest.raises(TypeError, match="expected tokens to be integers, got float64"):
        embedding(np.ones(2), E)
    with pytest.raises(TypeError, match="expected tokens to be integers, got bool"):
        embedding(np.ones(2, dtype=bool), E)
    with pytest.raises(TypeError, match="expected tokens to be an array, got list"):
        embedding([0, 1], E)
    with pytest.raises(ValueError, match=r"expected E to be a matrix, got shape \(7,\)"):
        embedding(np.array([0]), np.ones(7))


def test_initial_weights_have_the_scale_that_was_asked_for(rng):
    W, b = init_linear(rng, 400, 100).values()
    assert np.array_equal(b, np.zeros(100))
    np.testing.assert_allclose([np.mean(W), np.std(W)], [0.0, 1 / 20], atol=1e-3)
    assert np.std(init_linear(rng, 400, 100, scale=0.02)["W"]) == pytest.approx(0.02, rel=0.02)
    params = init_feed_forward(rng, 100, 400)
    assert np.std(params["W_1"]) == pytest.approx(1 / 10, rel=0.02)
    assert np.std(params["W_2"]) == pytest.approx(1 / 20, rel=0.02)
    assert not np.any(params["b_1"])
    assert not np.any(params["b_2"])


def test_initial_parameters_have_the_dtype_and_the_biases_asked_for(rng):
    assert init_linear(rng, 3, 4, bias=False).keys() == {"W"}
    assert init_feed_forward(rng, 3, 4, bias=False).keys() == {"W_1", "W_2"}
    params = init_linear(rng, 3, 4, dtype="float32") | init_feed_forward(rng, 3, 4, dtype="float32")
    assert {leaf.dtype for leaf in params.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("scale", ["lecum", -1.0, None])
def test_an_unknown_scale_is_refused(scale, rng):
    with pytest.raises(ValueError, match="expected scale to be 'lecun' or a number ≥ 0, got"):
        init_linear(rng, 3, 4, scale=scale)
