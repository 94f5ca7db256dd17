"""Deep Delta Learning: what an update erases and writes, its gate, its compressors."""

import math

import numpy as np
import pytest

from mgt_np import (
    compress_channels,
    compress_tokens,
    convolve_and_compress_channels,
    deep_delta_coefficients,
    deep_delta_expanded,
    deep_delta_residual,
    delta_gate,
    delta_operator,
    delta_product,
    delta_update,
    feed_forward,
    init_compress_channels,
    init_compress_tokens,
    init_deep_delta_expanded,
    init_deep_delta_residual,
    init_delta_gate,
    init_short_convolution,
    short_convolution,
    sigmoid,
    unit_direction,
)

D, D_V = 6, 3
TOKENS = (2, 5)
BETA_1 = {"W_beta": np.zeros((D, 1)), "b_beta": np.zeros(1)}
BETA_0 = {"W_beta": np.zeros((D, 1)), "b_beta": np.full(1, -80.0)}


def normals(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def vectors(rng, n):
    return normals(rng, *[(*TOKENS, D)] * n)


def weights(rng, d_v=1):
    return dict(
        zip(("W_v", "b_v", "W_beta", "b_beta"), normals(rng, (D, d_v), d_v, (D, 1), 1), strict=True)
    )


def written_out(x, k, p, c, u, value=lambda z: z):
    """The update of each token in plain NumPy, one after the other."""
    result = np.empty_like(x)
    for i in np.ndindex(*TOKENS):
        direction = k[i] / math.sqrt(k[i] @ k[i] + 1e-10)
        beta = 2.0 / (1.0 + math.exp(-(c[i] @ p["W_beta"] + p["b_beta"])[0]))
        v = value((u[i] @ p["W_v"] + p["b_v"])[0])
        result[i] = x[i] + beta * (v - direction @ x[i]) * direction
    return result


def test_the_update_token_by_token(rng):
    """DDL, eq. 3.7."""
    (x, k, c, u), p = vectors(rng, 4), weights(rng)
    got = deep_delta_residual(x, k, **p, context=c, v_input=u)
    np.testing.assert_allclose(got, written_out(x, k, p, c, u), atol=1e-13)
    got = deep_delta_residual(x, k, **p, context=c, v_input=u, v_form="sigmoid4")
    expected = written_out(x, k, p, c, u, lambda z: 4.0 / (1.0 + math.exp(-z)))
    np.testing.assert_allclose(got, expected, atol=1e-13)
    got = deep_delta_residual(x, k, **p, context=c, v_form="constant")
    np.testing.assert_allclose(got, written_out(x, k, p, c, u, lambda z: 2.0), atol=1e-13)


def test_v_reads_the_state_unless_told_and_the_context_where_the_state_is_expanded(rng):
    (x, k, c), p = vectors(rng, 3), weights(rng)
    np.testing.assert_allclose(
        deep_delta_residual(x, k, **p, context=c), written_out(x, k, p, c, x), atol=1e-13
    )
    (X,), p = normals(rng, (*TOKENS, D, D_V)), weights(rng, D_V)
    default, explicit = (
        deep_delta_expanded(X, k, **p, context=c, v_input=v_input) for v_input in (None, c)
    )
    assert np.array_equal(default, explicit)


def test_one_value_channel_is_the_vector_form(rng):
    (x, k, c, u), p = vectors(rng, 4), weights(rng)
    for v_form in ("linear", "sigmoid4", "constant"):
        for erase in (True, False):
            options = {"context": c, "v_input": u, "v_form": v_form, "erase": erase}
            vector = deep_delta_residual(x, k, **p, **options)
            matrix = deep_delta_expanded(x[..., None], k, **p, **options)
            np.testing.assert_allclose(matrix[..., 0], vector, atol=1e-14)


def test_the_expanded_update_is_delta_update_of_its_coefficients(rng):
    """DDL, eq. 2.5."""
    (k, c, u), (X,) = vectors(rng, 3), normals(rng, (*TOKENS, D, D_V))
    p = weights(rng, D_V)
    for v_form in ("linear", "sigmoid4", "constant"):
        options = {"context": c, "v_input": u, "v_form": v_form}
        direction, beta, v = deep_delta_coefficients(k, **p, **options)
        assert (direction.shape, beta.shape, v.shape) == (k.shape, TOKENS, (*TOKENS, D_V))
        expected = delta_update(X, direction, v, beta)
        np.testing.assert_allclose(
            deep_delta_expanded(X, k, **p, **options), expected, rtol=0, atol=1e-14
        )
        written = X + beta[..., None, None] * direction[..., :, None] * v[..., None, :]
        only = deep_delta_expanded(X, k, **p, **options, erase=False)
        np.testing.assert_allclose(only, written, atol=1e-14)


def test_beta_1_overwrites_exactly(rng):
    (k, c), (X,) = vectors(rng, 2), normals(rng, (*TOKENS, D, D_V))
    p = weights(rng, D_V) | BETA_1
    direction, beta, v = deep_delta_coefficients(k, **p, context=c, eps=0.0)
    assert np.all(beta == 1.0)
    after = deep_delta_expanded(X, k, **p, context=c, eps=0.0)
    read = np.einsum("...d,...dm->...m", direction, after)
    np.testing.assert_allclose(read, v, atol=1e-14)


@pytest.mark.parametrize("length", [1.0, 1e-4, 1e-5])
def test_the_error_shrinks_by_beta_as_far_as_the_direction_has_length_one(length, rng):
    """e_post = (1 − β‖k̂‖²) e_pre: where ‖k‖ is near ε, an update at β = 1 erases a part only."""
    x, k, c = vectors(rng, 3)
    k = length * unit_direction(k, eps=0.0)
    p = weights(rng)
    direction, beta, v = deep_delta_coefficients(k, **p, context=c, v_input=x)
    size = length**2 / (length**2 + 1e-10)
    np.testing.assert_allclose(np.sum(direction**2, axis=-1), size, rtol=1e-13)
    before = np.sum(direction * x, axis=-1) - v[..., 0]
    after = np.sum(direction * deep_delta_residual(x, k, **p, context=c), axis=-1) - v[..., 0]
    np.testing.assert_allclose(after, (1.0 - beta * size) * before, atol=1e-13)


def test_nothing_changes_at_beta_0_and_along_no_direction(rng):
    (x, k, c), (X,) = vectors(rng, 3), normals(rng, (*TOKENS, D, D_V))
    vector, matrix = weights(rng), weights(rng, D_V)
    for erase in (True, False):
        options = {"context": c, "erase": erase}
        assert np.array_equal(deep_delta_residual(x, k, **vector | BETA_0, **options), x)
        assert np.array_equal(deep_delta_expanded(X, k, **matrix | BETA_0, **options), X)
        assert np.array_equal(deep_delta_residual(x, 0.0 * k, **vector, **options), x)
        assert np.array_equal(deep_delta_expanded(X, 0.0 * k, **matrix, **options), X)


def test_depth_multiplies_delta_operators(rng):
    """Updates with v = 0, one after the other, are `delta_product` applied to the state."""
    n = 7
    k, c = normals(rng, (n, D), (n, D))
    p = weights(rng, D_V) | {"W_v": np.zeros((D, D_V)), "b_v": np.zeros(D_V)}
    X = start = rng.standard_normal((D, D_V))
    for i in range(n):
        X = deep_delta_expanded(X, k[i], **p, context=c[i])
    K, beta, _ = deep_delta_coefficients(k, **p, context=c)
    product = delta_product(K, beta)
    np.testing.assert_allclose(X, product @ start, atol=1e-13)
    size = np.sum(K * K, axis=-1)
    assert np.linalg.det(product) == pytest.approx(np.prod(1.0 - beta * size), rel=1e-11)
    moved = np.linalg.eigvals(delta_operator(K[0], beta[0]))
    assert np.min(np.abs(moved - (1.0 - beta[0] * size[0]))) < 1e-14


def test_the_epsilon_of_the_first_version_is_one_inside(rng):
    """v1, eq. 2.3: A = I − β k kᵀ/(kᵀk + ε)."""
    k, eps, beta = rng.standard_normal(D), 0.3, 1.7
    expected = np.eye(D) - beta * np.outer(k, k) / (k @ k + eps)
    got = delta_operator(unit_direction(k, eps=math.sqrt(eps)), beta)
    np.testing.assert_allclose(got, expected, atol=1e-15)


def test_the_placement_of_epsilon_is_passed_on(rng):
    (x, k, c), p = vectors(rng, 3), weights(rng)
    for placement in ("inside", "outside"):
        options = {"context": c, "eps": 0.5, "placement": placement}
        direction = unit_direction(k, eps=0.5, placement=placement)
        assert np.array_equal(deep_delta_coefficients(k, **p, **options)[0], direction)
        step = deep_delta_residual(x, k, **p, **options) - x
        along = np.sum(step * direction, axis=-1, keepdims=True)
        length = np.sum(direction**2, axis=-1, keepdims=True)
        np.testing.assert_allclose(step, along * direction / length, atol=1e-14)


def test_a_value_map_takes_the_direction_from_beside_the_sublayer(rng):
    """v-map: v reads the sub-layer's output h, k a small network of the state."""
    (x, h), p = vectors(rng, 2), weights(rng)
    k = feed_forward(x, *normals(rng, (D, 2), (2, D)), activation="silu")
    got = deep_delta_residual(x, k, **p, context=x, v_input=h)
    np.testing.assert_allclose(got, written_out(x, k, p, x, h), atol=1e-13)


def test_the_gate_of_one_layer_and_of_two(rng):
    c, W, b, W_h, b_h = normals(rng, (*TOKENS, D), (4, 1), 1, (D, 4), 4)
    beta = delta_gate(c, W, b, W_h, b_h)
    np.testing.assert_allclose(beta, 2.0 * sigmoid(np.tanh(c @ W_h + b_h) @ W + b)[..., 0])
    np.testing.assert_allclose(delta_gate(c, W, b, W_h), delta_gate(c, W, b, W_h, 0.0 * b_h))
    hidden = np.tanh(c @ W_h + b_h)
    np.testing.assert_allclose(delta_gate(hidden, W, b), beta, rtol=1e-15)
    assert np.all((beta > 0.0) & (beta < 2.0))
    assert np.all(delta_gate(c, np.zeros((D, 1)), np.zeros(1)) == 1.0)


@pytest.mark.parametrize("beta_init", [0.02, 0.5, 1.0, 1.5, 1.98])
def test_the_gate_starts_where_it_is_told(beta_init, rng):
    params = init_delta_gate(rng, D, beta_init=beta_init, scale=0.0)
    beta = delta_gate(rng.standard_normal((*TOKENS, D)), **params)
    np.testing.assert_allclose(beta, beta_init, rtol=1e-14)
    p = init_deep_delta_residual(rng, D, beta_init=beta_init, hidden=3)
    c = np.zeros((1, D))
    np.testing.assert_allclose(deep_delta_coefficients(c, **p, context=c)[1], beta_init, rtol=1e-14)


@pytest.mark.parametrize(("beta_init", "clamped"), [(0.0, 2e-6), (2.0, 2.0 - 2e-6)])
def test_the_ends_of_the_gate_are_clamped(beta_init, clamped, rng):
    """As in the authors' code: β₀/2 to [1e-6, 1 − 1e-6]."""
    beta = delta_gate(np.zeros(D), **init_delta_gate(rng, D, beta_init=beta_init))
    assert float(beta) == pytest.approx(clamped, abs=1e-15)


def test_initial_parameters(rng):
    p = init_deep_delta_expanded(rng, 300, 4, hidden=200)
    assert {name: x.shape for name, x in p.items()} == {
        "W_v": (300, 4),
        "b_v": (4,),
        "W_beta": (200, 1),
        "b_beta": (1,),
        "W_hidden": (300, 200),
        "b_hidden": (200,),
    }
    assert np.std(p["W_hidden"]) == pytest.approx(300**-0.5, rel=0.02)
    assert np.std(p["W_v"]) == pytest.approx(300**-0.5, rel=0.1)
    assert np.std(p["W_beta"]) == pytest.approx(200**-0.5, rel=0.2)
    assert not any(np.any(p[name]) for name in ("b_v", "b_beta", "b_hidden"))
    assert init_deep_delta_residual(rng, 5, scale=0.02, dtype="float32")["W_v"].dtype == np.float32


def test_a_short_convolution_sums_over_the_past(rng):
    N, S = 6, 4
    for channels in ((3,), (3, 2)):
        x, kernel = normals(rng, (2, N, *channels), (*channels, S))
        expected = np.zeros_like(x)
        for t in range(N):
            for s in range(min(S, t + 1)):
                expected[:, t] += kernel[..., s] * x[:, t - s]
        np.testing.assert_allclose(short_convolution(x, kernel), expected, atol=1e-14)
        few = short_convolution(x[:, :2], kernel)
        np.testing.assert_allclose(few, expected[:, :2], atol=1e-14)


def test_an_identity_kernel_changes_nothing_and_expands_to_copies(rng):
    x = rng.standard_normal((2, 6, D))
    kernel = init_short_convolution(rng, D)["kernel"]
    assert kernel.shape == (D, 4)
    assert np.array_equal(short_convolution(x, kernel), x)
    expand = init_short_convolution(rng, (D, D_V), 3)["kernel"]
    X = short_convolution(x[..., None], expand)
    assert np.array_equal(X, np.broadcast_to(x[..., None], (*x.shape, D_V)))
    normal = init_short_convolution(rng, (100, 50), 4, start="normal")["kernel"]
    assert np.std(normal) == pytest.approx(0.5 / math.sqrt(100.0), rel=0.05)
    drawn = init_short_convolution(rng, (50, 50), 4, start="uniform")["kernel"]
    assert 0.49 < np.max(np.abs(drawn)) <= 0.5
    assert np.std(drawn) == pytest.approx(0.5 / math.sqrt(3.0), rel=0.05)


def test_the_compressors_start_as_the_mean(rng):
    X = rng.standard_normal((2, 5, D, D_V))
    for compress, params in (
        (compress_channels, init_compress_channels(D, D_V)),
        (compress_tokens, init_compress_tokens(rng, D, D_V)),
    ):
        np.testing.assert_allclose(compress(X, **params), np.mean(X, axis=-1), atol=1e-15)


def test_the_compressors_are_their_formulas(rng):
    X, C, kernel, w = normals(rng, (2, 5, D, D_V), (D, D_V), (D, D_V, 3), D_V)
    expected = np.einsum("...ij,ij->...i", X, C)
    np.testing.assert_allclose(compress_channels(X, C), expected, atol=1e-14)
    expected = np.zeros((2, 5, D))
    for t in range(5):
        for s in range(min(3, t + 1)):
            expected[:, t] += np.einsum("j,ij,bij->bi", w, kernel[..., s], X[:, t - s])
    np.testing.assert_allclose(compress_tokens(X, kernel, w), expected, atol=1e-14)
    one = compress_tokens(X, kernel[..., :1], w)
    np.testing.assert_allclose(one, compress_channels(X, kernel[..., 0] * w), atol=1e-14)


@pytest.mark.parametrize("S", [1, 2, 3, 5])
def test_a_state_is_convolved_over_its_channels_before_it_is_read(S, rng):
    """CC in the authors' code: (S − 1)//2 zeros in front of the channels."""
    X, kernel, w = normals(rng, (2, 5, D, D_V), (D, S), D_V)
    expected = np.zeros((2, 5, D))
    for j in range(D_V):
        for m in range(S):
            channel = j + m - (S - 1) // 2
            if 0 <= channel < D_V:
                expected += w[j] * kernel[:, m] * X[..., channel]
    got = convolve_and_compress_channels(X, kernel, w)
    np.testing.assert_allclose(got, expected, atol=1e-14)


def test_what_does_not_fit_is_named(rng):
    (x, k, c), p, (X,) = vectors(rng, 3), weights(rng), normals(rng, (*TOKENS, D, D_V))
    with pytest.raises(ValueError, match="expected v_form to be one of 'linear', 'sigmoid4'"):
        deep_delta_residual(x, k, **p, context=c, v_form="sigmoid")
    wide = p | {"W_v": np.ones((D, D)), "b_v": np.ones(D)}
    with pytest.raises(ValueError, match=r"expected W_v \(d 1\), got shape \(6, 6\)"):
        deep_delta_residual(x, k, **wide, context=c)
    with pytest.raises(ValueError, match=r"expected W_beta \(h 1\), got shape \(6, 2\)"):
        delta_gate(c, np.ones((D, 2)))
    features = "on axis −1, {} has 5"
    with pytest.raises(ValueError, match="x has 6 features " + features.format("k")):
        deep_delta_residual(x, k[..., :5], **p, context=c)
    with pytest.raises(ValueError, match="x has 6 features " + features.format("context")):
        deep_delta_residual(x, k, **p, context=c[..., :5])
    with pytest.raises(ValueError, match="x has 6 features " + features.format("v_input")):
        deep_delta_residual(x, k, **p, context=c, v_input=c[..., :5])
    for erase in (True, False):
        with pytest.raises(ValueError, match="X has 3 values on axis −1, W_v has 1"):
            deep_delta_expanded(X, k, **p, context=c, erase=erase)
        with pytest.raises(ValueError, match="X has 6 features on axis −2, k has 5"):
            deep_delta_expanded(X, k[..., :5], **p, context=c, erase=erase)
    with pytest.raises(TypeError, match="expected an argument context, got none"):
        deep_delta_residual(x, k, **p)
    with pytest.raises(ValueError, match=r"expected beta_init to be a number in \[0, 2\], got 2.5"):
        init_delta_gate(rng, D, beta_init=2.5)
    with pytest.raises(ValueError, match=r"got shapes \(2, 5, 6\) and \(5, 4\)"):
        short_convolution(x, np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"expected kernel .* got shape \(5, 6, 4\): x has d = 6"):
        short_convolution(x[0], np.ones((5, 6, 4)))
    with pytest.raises(ValueError, match=r"expected kernel \(.*\) with S≥1, got shape \(6, 0\)"):
        short_convolution(x, np.ones((D, 0)))
    with pytest.raises(ValueError, match="expected start to be one of 'identity', 'normal', 'unif"):
        init_short_convolution(rng, D, start="zeros")
    for channels in (0, (D, 0)):
        with pytest.raises(ValueError, match="expected channels to be an integer ≥ 1, got 0"):
            init_short_convolution(rng, channels)
    with pytest.raises(ValueError, match="X has 3 channels on axis −1, C has 2"):
        compress_channels(X, np.ones((D, 2)))
    with pytest.raises(ValueError, match="X has 3 channels on axis −1, w has 2"):
        compress_tokens(X, np.ones((D, D_V, 2)), np.ones(2))


def test_a_gate_that_does_not_fit_its_context_is_named(rng):
    x, k, c = vectors(rng, 3)
    with pytest.raises(
        ValueError, match="delta_gate: expected W_beta with a row for each of the 6"
    ):
        delta_gate(c, np.ones((5, 1)))
    with pytest.raises(ValueError, match="expected W_hidden beside b_hidden, got None"):
        deep_delta_residual(x, k, **weights(rng), b_hidden=np.ones(D), context=c)
    with pytest.raises(ValueError, match="W_beta has 4 hidden features on axis −2, W_hidden has 3"):
        delta_gate(c, np.ones((4, 1)), W_hidden=np.ones((D, 3)))
