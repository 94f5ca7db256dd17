"""Each fused layer equals its composed form: value and gradient, whole and in blocks."""

from importlib import import_module

import numpy as np
import pytest
from array_libraries import NUMPY
from gradcheck import weighted
from layer_cases import CASES, FAMILIES

from mgt_np import array_namespace, value_and_grad
from mgt_np.arrays import blocks, composed, to_host

activations, attention, feed_forward, linear, loss, mgt, normalization = (
    import_module(f"mgt_np.layers.{name}")
    for name in (
        "activations",
        "attention",
        "feed_forward",
        "linear",
        "loss",
        "mgt",
        "normalization",
    )
)
FUSED = (
    activations.gelu,
    activations.silu,
    attention.multi_head_attention,
    feed_forward.feed_forward,
    linear.linear,
    loss.negative_log_likelihood,
    mgt.mgt_beta,
    mgt.mgt_residual,
    mgt.tangent_gate,
    normalization.layer_norm,
    normalization.rms_norm,
)
NAMES = {layer.__name__ for layer in FUSED} - {"negative_log_likelihood"} | {"cross_entropy"}
NAMES |= {name for family in FAMILIES for name in getattr(family, "FUSED", ())}
OF_FUSED = [case for case in CASES if case.name.split()[0] in NAMES]


def agree(got, expected, tolerance=1e-12):
    got, expected = to_host(got), to_host(expected)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    size = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=tolerance * size)


def check(function, arrays, R, tolerance=1e-12):
    scalar = weighted(function, R)
    value, gradients = value_and_grad(scalar)(arrays)
    with composed():
        expected, expected_gradients = value_and_grad(scalar)(arrays)
        y = function(*arrays)
    agree(function(*arrays), y, tolerance)
    agree(value, expected, tolerance)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        agree(got, wanted, tolerance)


@pytest.mark.parametrize("case", OF_FUSED, ids=str)
@pytest.mark.parametrize("in_rows", [False, True], ids=["whole", "in blocks"])
def test_both_forms_agree(case, in_rows, library, rng, monkeypatch):
    if in_rows:
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    function, arrays = case.on(library)
    R = library.asarray(rng.standard_normal(tuple(function(*arrays).shape)))
    check(function, arrays, R)


@pytest.mark.parametrize("case", OF_FUSED, ids=str)
def test_the_inputs_are_left_as_they_were(case, rng):
    function, arrays = case.on(NUMPY)
    arrays = [np.array(x) for x in arrays]
    before = [x.copy() for x in arrays]
    for x in arrays:
        x.flags.writeable = False  # an attempt to write raises
    value_and_grad(weighted(function, rng.standard_normal(function(*arrays).shape)))(arrays)
    assert all(np.array_equal(x, y) for x, y in zip(arrays, before, strict=True))


def test_every_fused_form_is_reached():
    """The cases above would pass as well if every fused form declined."""
    ran = set()
    for case in OF_FUSED:
        function, arrays = case.on(NUMPY)
        with composed():
            n_composed = _n_nodes(function, arrays)
        if _n_nodes(function, arrays) < n_composed:
            ran.add(case.name.split()[0])
    assert ran == NAMES


def _n_nodes(function, arrays):
    found = []

    def count(arrays):
        y = function(*arrays)
        todo, seen = [y._node], set()
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo.extend(node.parents)
        found.append(len(seen))
        return array_namespace(y).sum(y)

    value_and_grad(count)(arrays)
    return found[0]


@pytest.mark.parametrize("shape", [(8, 128, 128), (1, 1024, 32), (2, 3, 40, 64)])
def test_large_arrays_go_in_blocks_of_their_own(shape, rng):
    d = shape[-1]
    x, R = rng.standard_normal((2, *shape))
    normal = lambda *s: rng.standard_normal(s) / s[0] ** 0.5  # noqa: E731
    gate = [normal(d, d), normal(d, 1), normal(1), np.asarray(0.3), normal(d), normal(d)]
    weights = [normal(d, d) for _ in range(4)]
    hidden = [normal(d, 4 * d), normal(4 * d, d), normal(4 * d), normal(d)]
    attend = lambda *a: attention.multi_head_attention(*a, n_heads=4, causal=True)  # noqa: E731
    residual = lambda *a: mgt.mgt_residual(*a, lam=0.8, eps=0.1)  # noqa: E731
    check(normalization.layer_norm, [x, normal(d), normal(d)], R)
    check(feed_forward.feed_forward, [x, *hidden], R)
    check(residual, [x, x[::-1], *gate], R)
    if shape[1] < 1024:
        check(attend, [x, *weights], R)


def test_float32_gelu_is_right_to_float32():
    x = np.linspace(-12.0, 12.0, 4001)
    of_sum = value_and_grad(lambda x: array_namespace(x).sum(activations.gelu(x)))
    _, slope = of_sum(x)
    _, got = of_sum(x.astype("float32"))
    error = np.abs(activations.gelu(x.astype("float32")) - activations.gelu(x))
    assert np.max(error / np.maximum(np.abs(x), 1.0)) <= 3e-7
    assert np.max(np.abs(got - slope)) <= 1e-6
    large = np.asarray([-1e18, -1e4, 1e4, 1e18, np.inf], dtype="float32")
    assert activations.gelu(large).tolist() == [0.0, 0.0, *large[2:].tolist()]


@pytest.mark.parametrize("width", [1, 5])
def test_one_token_without_leading_axes(width, rng):
    normal = rng.standard_normal
    arrays = [normal(5), normal(5), normal((5, 5)), normal((5, width)), normal(width), normal(5)]
    check(lambda *a: mgt.mgt_residual(*a, lam=0.7, eps=0.1), arrays, normal(5))


def test_a_number_is_a_bias_as_well(rng):
    d = 4
    x, *W = (rng.standard_normal((3, d)), *rng.standard_normal((4, d, d)))
    hidden = lambda x, W_1, W_2: feed_forward.feed_forward(x, W_1, W_2, None, 2.0)  # noqa: E731
    biases = dict.fromkeys(("b_q", "b_k", "b_v", "b_o"), 2.0)
    attend = lambda *a: attention.multi_head_attention(*a, n_heads=2, **biases)  # noqa: E731
    R = rng.standard_normal((3, d))
    check(hidden, [x, *W[:2]], R)
    check(attend, [x, *W], R)
    np.testing.assert_allclose(hidden(x, *W[:2]), 2.0 + feed_forward.feed_forward(x, *W[:2]))


def test_an_array_without_axes_is_a_bias_as_well(rng):
    d = 4
    x, *W = (rng.standard_normal((3, d)), *rng.standard_normal((4, d, d)))
    b, R = np.asarray(0.3), rng.standard_normal((3, d))
    check(linear.linear, [x, W[0], b], R)
    check(feed_forward.feed_forward, [x, *W[:2], b, b], R)
    attend = lambda *a: attention.multi_head_attention(*a, n_heads=2)  # noqa: E731
    check(attend, [x, *W, b, b, b, b], R)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_attention_keeps_the_digits_of_a_small_gradient(scale, causal, rng):
    """Where softmax is saturated, dS is the small difference of large numbers, or none."""
    x, W_q, W_k, W_v = rng.standard_normal((4, 5, 5))
    W = [scale * W_q[:, :2], W_k[:, :2], W_v, rng.standard_normal((5, 1))]
    attend = lambda *W: attention.multi_head_attention(x, *W, n_heads=1, causal=causal)  # noqa: E731
    _, gradients = value_and_grad(lambda W: array_namespace(*W).sum(attend(*W)))(W)
    P = attention.attention_weights(x @ W[0], x @ W[1], causal=causal)
    G = np.ones((5, 1)) @ W[3].T @ (x @ W[2]).T
    apart = G[:, :, None] - G[:, None, :]  # no cancelling: Σ_m P_m (G_j − G_m)
    dS = P * np.sum(P[:, None, :] * apart, axis=-1) / 2**0.5
    for got, expected in (
        (gradients[0], x.T @ dS @ (x @ W[1])),
        (gradients[1], x.T @ dS.T @ (x @ W[0])),
    ):
        assert np.max(np.abs(got - expected)) <= 1e-10 * np.max(np.abs(expected))


MATRICES = {"W_gate": np.eye(3), "W_beta": np.eye(3), "b_beta": None, "alpha": 1.0}
NO_VECTORS = {
    "layer_norm": lambda x: normalization.layer_norm(x, 2.0),
    "rms_norm": lambda x: normalization.rms_norm(x, 2.0),
    "tangent_gate": lambda x: mgt.tangent_gate(x, np.eye(3), None, 2.0),
    "mgt_residual": lambda x: mgt.mgt_residual(x, 1.0, **MATRICES, lam=1.0, eps=0.0),
    "mgt_residual without v": lambda x: mgt.mgt_residual(x, None, **MATRICES, lam=1.0, eps=0.0),
}


@pytest.mark.parametrize("name", NO_VECTORS)
def test_what_is_no_array_is_refused_by_name(name):
    with pytest.raises(TypeError, match=r"expected (gain|bias|v_raw) to be an array \(.+\), got"):
        NO_VECTORS[name](np.ones((2, 3)))


@pytest.mark.parametrize("causal", [False, True])
def test_a_query_that_sees_one_key_alone_tells_nothing_of_its_scores(causal, rng):
    """Softmax is flat there: what rounding leaves would be multiplied by large k and x."""
    x = 1e4 * rng.standard_normal((2, 70, 6))
    W = [*0.3 * rng.standard_normal((2, 6, 6)), *rng.standard_normal((2, 6, 6))]
    P = attention.attention_weights(x @ W[0], x @ W[1], causal=causal)
    assert set(np.unique(P)) == {0.0, 1.0}
    y = lambda W: attention.multi_head_attention(x, *W, n_heads=1, causal=causal)  # noqa: E731
    R = rng.standard_normal((2, 70, 6))
    _, (of_q, of_k, of_v, _) = value_and_grad(lambda W: array_namespace(*W).sum(y(W) * R))(W)
    assert not np.any(of_q)
    assert not np.any(of_k)
    assert np.all(of_v)


def test_no_features_are_no_reason_to_fail():
    x, W_1, W_2 = np.ones((3, 0)), np.ones((0, 4)), np.ones((4, 2))
    assert np.all(feed_forward.feed_forward(x, W_1, W_2, np.zeros(4), np.ones(2)) == 1.0)
