"""Attention: its formula, masks, causality, heads, and errors."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
from gradcheck import weighted
from recorded import agree, check

from mgt_np import (
    array_namespace,
    attention_weights,
    grad,
    init_multi_head_attention,
    multi_head_attention,
    scaled_dot_product_attention,
)
from mgt_np.arrays import composed, to_host


def softmax(scores):
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def normals(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def test_weights_are_their_formula(rng):
    """Vaswani et al., eq. 1: the weights."""
    q, k = normals(rng, (2, 3, 5), (2, 4, 5))
    scores = np.einsum("bid,bjd->bij", q, k)
    P = attention_weights(q, k)
    np.testing.assert_allclose(P, softmax(scores / math.sqrt(5.0)), rtol=1e-13)
    np.testing.assert_allclose(np.sum(P, axis=-1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(
        attention_weights(q, k, scale=0.3), softmax(0.3 * scores), rtol=1e-13
    )
    np.testing.assert_allclose(attention_weights(q, k, scale=0.0), 0.25, rtol=1e-15)


def test_attention_is_the_weighted_mean_of_the_values(rng):
    """Vaswani et al., eq. 1."""
    q, k, v = normals(rng, (2, 3, 5), (2, 4, 5), (2, 4, 6))
    expected = np.einsum("bij,bjd->bid", softmax(q @ np.swapaxes(k, -1, -2) / math.sqrt(5.0)), v)
    np.testing.assert_allclose(scaled_dot_product_attention(q, k, v), expected, atol=1e-14)


def test_equal_keys_give_the_mean_of_the_values(rng):
    q, v = normals(rng, (3, 5), (4, 6))
    got = scaled_dot_product_attention(q, np.ones((4, 5)), v)
    np.testing.assert_allclose(got, np.tile(np.mean(v, axis=0), (3, 1)), atol=1e-15)


def test_keys_and_values_may_be_shared(rng):
    q, k, v = normals(rng, (2, 4, 3, 5), (4, 6, 5), (6, 2))
    got = scaled_dot_product_attention(q, k, v)
    assert got.shape == (2, 4, 3, 2)
    one = scaled_dot_product_attention(q[1, 2], k[2], v)
    np.testing.assert_allclose(got[1, 2], one, atol=1e-15)


@pytest.mark.parametrize(
    "shape", [(3, 4), (1, 4), (3, 1), (4,), (2, 3, 4), (5, 2, 3, 4), (5, 1, 3, 4)]
)
def test_true_may_attend(shape, rng):
    q, k = normals(rng, (5, 2, 3, 6), (5, 2, 4, 6))
    mask = rng.random(shape) < 0.6
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(6.0)
    weights = np.exp(scores) * mask
    total = np.sum(weights, axis=-1, keepdims=True)
    expected = weights / np.where(total == 0.0, 1.0, total)
    np.testing.assert_allclose(attention_weights(q, k, mask=mask), expected, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_query_without_keys_gets_zeros_and_finite_gradients(dtype, rng):
    q, k, v = (x.astype(dtype) for x in normals(rng, (3, 5), (4, 5), (4, 6)))
    mask = np.ones((3, 4), dtype=bool)
    mask[1] = False
    P = attention_weights(q, k, mask=mask)
    assert not np.any(P[1])
    np.testing.assert_allclose(np.sum(P[[0, 2]], axis=-1), 1.0, rtol=1e-6)

    def loss(arrays, mask=None):
        return (scaled_dot_product_attention(*arrays, mask=mask) ** 2).sum()

    g_q, g_k, g_v = grad(loss)([q, k, v], mask)
    assert not np.any(g_q[1])
    expected = grad(loss)([q[[0, 2]], k, v])
    for got, wanted in zip((g_q[[0, 2]], g_k, g_v), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_causal_is_the_lower_triangular_mask(rng):
    q, k = normals(rng, (2, 5, 6), (2, 5, 6))
    past = np.tril(np.ones((5, 5), dtype=bool))
    assert np.array_equal(attention_weights(q, k, causal=True), attention_weights(q, k, mask=past))
    mask = rng.random((5, 5)) < 0.7
    both = attention_weights(q, k, mask=mask, causal=True)
    assert np.array_equal(both, attention_weights(q, k, mask=mask & past))


def test_causal_queries_and_keys_are_counted_from_the_first(rng):
    q, k = normals(rng, (2, 6), (5, 6))
    assert (attention_weights(q, k, causal=True) > 0.0).tolist() == [
        [True, False, False, False, False],
        [True, True, False, False, False],
    ]


@pytest.mark.parametrize("place", range(5))
def test_the_future_changes_nothing(place, rng):
    x, *weights = normals(rng, (2, 5, 8), *[(8, 8)] * 4)
    changed = x.copy()
    changed[:, place + 1 :] += 1.0
    before, after = (
        multi_head_attention(x, *weights, n_heads=2, causal=True) for x in (x, changed)
    )
    assert np.array_equal(before[:, : place + 1], after[:, : place + 1])
    assert np.all(before[:, place + 1 :] != after[:, place + 1 :])


def explicit_heads(x, c, W_q, W_k, W_v, W_o, b_q, b_k, b_v, b_o, n_heads, mask):
    """One sequence, one head after the other."""
    heads = []
    for h in range(n_heads):
        columns = slice(h * W_q.shape[1] // n_heads, (h + 1) * W_q.shape[1] // n_heads)
        v_columns = slice(h * W_v.shape[1] // n_heads, (h + 1) * W_v.shape[1] // n_heads)
        q = x @ W_q[:, columns] + b_q[columns]
        k = c @ W_k[:, columns] + b_k[columns]
        v = c @ W_v[:, v_columns] + b_v[v_columns]
        scores = np.where(mask[h], q @ k.T / math.sqrt(q.shape[1]), -np.inf)
        heads.append(softmax(scores) @ v)
    return np.concat(heads, axis=1) @ W_o + b_o


@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_several_heads_are_a_loop_over_heads(n_heads, rng):
    """Vaswani et al., §3.2.2."""
    x, c = normals(rng, (2, 3, 8), (2, 5, 6))
    weights = normals(rng, (8, 4), (6, 4), (6, 12), (12, 7))
    biases = normals(rng, 4, 4, 12, 7)
    mask = rng.random((2, n_heads, 3, 5)) < 0.7
    mask[..., 0] = True
    got = multi_head_attention(x, *weights, *biases, n_heads=n_heads, context=c, mask=mask)
    for b in range(2):
        expected = explicit_heads(x[b], c[b], *weights, *biases, n_heads, mask[b])
        np.testing.assert_allclose(got[b], expected, atol=1e-13)


def test_one_head_with_W_o_the_identity_is_scaled_dot_product_attention(rng):
    x, W_q, W_k, W_v = normals(rng, (2, 5, 8), (8, 4), (8, 4), (8, 6))
    got = multi_head_attention(x, W_q, W_k, W_v, np.eye(6), n_heads=1, causal=True)
    expected = scaled_dot_product_attention(x @ W_q, x @ W_k, x @ W_v, causal=True)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)


def test_the_context_of_self_attention_is_x(rng):
    x, *weights = normals(rng, (2, 5, 8), *[(8, 8)] * 4)
    own = multi_head_attention(x, *weights, n_heads=2)
    assert np.array_equal(own, multi_head_attention(x, *weights, n_heads=2, context=x))


def test_a_mask_for_all_heads_and_one_for_each(rng):
    x, *weights = normals(rng, (2, 3, 8), *[(8, 8)] * 4)
    one = rng.random((3, 3)) < 0.6
    for_each_sequence = rng.random((2, 3, 3)) < 0.6

    def attend(mask):
        return multi_head_attention(x, *weights, n_heads=4, mask=mask)

    full = attend(np.broadcast_to(one, (2, 4, 3, 3)))
    assert np.array_equal(attend(one), full)
    assert np.array_equal(attend(one[None]), full)
    full = attend(np.broadcast_to(for_each_sequence[:, None], (2, 4, 3, 3)))
    assert np.array_equal(attend(for_each_sequence), full)
    assert np.array_equal(attend(for_each_sequence[:, None]), full)
    single = [
        multi_head_attention(x[b], *weights, n_heads=4, mask=for_each_sequence[b]) for b in (0, 1)
    ]
    np.testing.assert_allclose(np.stack(single), full, atol=1e-14)


def test_a_mask_of_one_sequence_may_differ_between_heads(rng):
    x, *weights = normals(rng, (3, 8), *[(8, 8)] * 3, (8, 8))
    mask = rng.random((4, 3, 3)) < 0.6
    got = multi_head_attention(x, *weights, n_heads=4, mask=mask)
    batch = multi_head_attention(x[None], *weights, n_heads=4, mask=mask[None])
    np.testing.assert_allclose(got, batch[0], atol=1e-15)


def test_a_context_may_be_shared(rng):
    x, context, *weights = normals(rng, (2, 3, 8), (5, 8), *[(8, 8)] * 4)
    mask = rng.random((2, 3, 5)) < 0.6
    got = multi_head_attention(x, *weights, n_heads=2, context=context, mask=mask)
    for b in range(2):
        one = multi_head_attention(x[b], *weights, n_heads=2, context=context, mask=mask[b])
        np.testing.assert_allclose(got[b], one, atol=1e-14)
    with pytest.raises(
        ValueError, match=r"expected context .* with \.\.\. = \(\) as in x, got shape"
    ):
        multi_head_attention(x[0], *weights, n_heads=2, context=np.stack([context, context]))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_leading_axes_of_x_are_free(lead, rng):
    x, *weights = normals(rng, (*lead, 5, 8), *[(8, 8)] * 4)
    got = multi_head_attention(x, *weights, n_heads=2, causal=True)
    assert got.shape == x.shape
    last = tuple(n - 1 for n in lead)
    one = multi_head_attention(x[last], *weights, n_heads=2, causal=True)
    np.testing.assert_allclose(got[last], one, atol=1e-14)


def test_initial_weights(rng):
    params = init_multi_head_attention(rng, 100, d_context=400)
    shapes = {name: leaf.shape for name, leaf in params.items()}
    assert shapes == {
        "W_q": (100, 100),
        "W_k": (400, 100),
        "W_v": (400, 100),
        "W_o": (100, 100),
        **{f"b_{name}": (100,) for name in "qkvo"},
    }
    stds = [np.std(params[f"W_{name}"]) for name in "qkvo"]
    np.testing.assert_allclose(stds, [0.1, 0.05, 0.05, 0.1], rtol=0.03)
    assert not any(np.any(params[f"b_{name}"]) for name in "qkvo")
    bare = init_multi_head_attention(rng, 8, bias=False, scale=0.02, dtype="float32")
    assert bare.keys() == {"W_q", "W_k", "W_v", "W_o"}
    assert {leaf.dtype for leaf in bare.values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("n_heads", "error", "message"),
    [
        (3, ValueError, r"expected W_q .* with n_heads = 3, got shape \(8, 8\)"),
        (16, ValueError, r"expected W_q .* with n_heads = 16, got shape \(8, 8\)"),
        (0, ValueError, "expected n_heads to be an integer ≥ 1, got 0"),
        (-1, ValueError, "expected n_heads to be an integer ≥ 1, got -1"),
        (2.0, TypeError, r"expected n_heads to be an integer ≥ 1, got 2\.0"),
    ],
)
def test_heads_must_divide_the_columns(n_heads, error, message):
    x, W = np.ones((3, 8)), np.ones((8, 8))
    with pytest.raises(error, match=f"multi_head_attention: {message}"):
        multi_head_attention(x, W, W, W, W, n_heads=n_heads)


def test_wrong_widths_are_named():
    x, W = np.ones((3, 8)), np.ones((8, 8))

    def attend(*weights, **options):
        return multi_head_attention(x, *weights, n_heads=2, **options)

    with pytest.raises(ValueError, match="x has 8 features on axis −1, W_q has 7"):
        attend(W[:7], W, W, W)
    with pytest.raises(ValueError, match="x has 8 features on axis −1, W_k has 7"):
        attend(W, W[:7], W[:7], W)
    with pytest.raises(ValueError, match="W_k has 8 features on axis −2, W_v has 7"):
        attend(W, W, W[:7], W)
    with pytest.raises(ValueError, match="W_k has 8 features on axis −2, context has 6"):
        attend(W, W, W, W, context=np.ones((4, 6)))
    with pytest.raises(ValueError, match=r"expected W_o .* n_heads·d_v = 8, got shape \(6, 8\)"):
        attend(W, W, W, W[:6])
    with pytest.raises(ValueError, match=r"expected W_k .* n_heads·d_k = 8, got shape \(8, 4\)"):
        attend(W, W[:, :4], W, W)
    with pytest.raises(ValueError, match=r"expected b_v .* n_heads·d_v = 8, got shape \(1,\)"):
        attend(W, W, W, W, b_v=np.ones(1))
    with pytest.raises(ValueError, match="q has 8 features on axis −1, k has 7"):
        attention_weights(x, np.ones((4, 7)))
    with pytest.raises(ValueError, match="k has 4 keys on axis −2, v has 5"):
        scaled_dot_product_attention(x, np.ones((4, 8)), np.ones((5, 8)))
    with pytest.raises(ValueError, match=r"expected q \(\.\.\. N d_k≥1\), got shape \(8,\)"):
        attention_weights(x[0], x)
    with pytest.raises(ValueError, match=r"expected v \(#\.\.\. M d_v\), got shape \(8,\)"):
        scaled_dot_product_attention(x, x, x[0])
    with pytest.raises(ValueError, match=r"expected k .* with \.\.\. = \(\) as in q, got shape"):
        attention_weights(x, np.ones((2, 4, 8)))


def test_wrong_masks_are_refused():
    q, k = np.ones((3, 8)), np.ones((4, 8))
    with pytest.raises(TypeError, match="expected mask to be truth values, got float64"):
        attention_weights(q, k, mask=np.ones((3, 4)))
    with pytest.raises(TypeError, match="expected mask to be truth values, got int64"):
        attention_weights(q, k, mask=np.ones((3, 4), dtype=np.int64))
    with pytest.raises(TypeError, match=r"expected mask to be an array \(bool .*\), got list"):
        attention_weights(q, k, mask=[[True] * 4] * 3)
    for shape in ((4, 3), (2, 4), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"attention_weights: expected mask .*, got shape"):
            attention_weights(q, k, mask=np.ones(shape, dtype=bool))
    W, x = np.ones((8, 8)), np.ones((5, 3, 8))
    for shape in ((4, 3), (2, 3, 3), (1, 2, 3, 3), (5, 3, 3, 3)):
        with pytest.raises(ValueError, match=r"multi_head_attention: expected mask .*, got shape"):
            multi_head_attention(x, W, W, W, W, n_heads=2, mask=np.ones(shape, dtype=bool))


def test_the_number_of_heads_may_be_numpys_integer(rng):
    x, W = rng.standard_normal((3, 4)), np.eye(4)
    two, also_two = (multi_head_attention(x, W, W, W, W, n_heads=n) for n in (2, np.int64(2)))
    assert np.array_equal(two, also_two)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4)])
def test_no_tokens_are_no_reason_to_fail(shape, causal, library, rng):
    x, *W = library.asarray([np.zeros(shape), *rng.standard_normal((4, 4, 4))])

    def total(arrays):
        y = multi_head_attention(*arrays, n_heads=2, causal=causal)
        assert tuple(y.shape) == shape
        return array_namespace(y).sum(y)

    assert not any(np.any(to_host(g)) for g in grad(total)([x, *W]))


def test_queries_without_any_key_get_nothing(library, rng):
    q, k, v = library.asarray([rng.standard_normal((3, 4)), np.zeros((0, 4)), np.zeros((0, 2))])
    assert to_host(scaled_dot_product_attention(q, k, v)).tolist() == [[0.0, 0.0]] * 3


BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


@BAD
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_a_mask_hides_is_not_seen(bad, library, rng):
    """Value and gradients are those without the hidden keys; one query may attend to nothing."""
    q, k, v, R = normals(rng, (2, 4, 3), (2, 5, 3), (2, 5, 6), (2, 4, 6))
    mask = rng.random((4, 5)) < 0.7
    mask[:, 0], mask[3], mask[:, 2:4] = True, False, False
    spoilt_k, spoilt_v = k.copy(), v.copy()
    spoilt_k[:, 2], spoilt_v[:, 2:4, 1] = bad, bad
    mask, R = library.asarray((mask, R))

    def gradients(function, *arrays):
        arrays = library.asarray(arrays)
        scalar = weighted(function, R)
        return [function(*arrays), *grad(scalar)(arrays)]

    def attend(q, k, v):
        return scaled_dot_product_attention(q, k, v, mask=mask)

    for got, expected in zip(
        gradients(attend, q, spoilt_k, spoilt_v), gradients(attend, q, k, v), strict=True
    ):
        np.testing.assert_allclose(to_host(got), to_host(expected), atol=1e-14)

    def weights(q, k):
        return attention_weights(q, k, mask=mask)

    R = library.asarray(rng.standard_normal((2, 4, 5)))
    for got, expected in zip(
        gradients(weights, q, spoilt_k), gradients(weights, q, k), strict=True
    ):
        np.testing.assert_allclose(to_host(got), to_host(expected), atol=1e-14)


@BAD
@pytest.mark.parametrize("in_composed_form", [False, True])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_the_future_is_not_seen_where_it_is_not_finite(bad, in_composed_form, library, rng):
    """Nor by the gradients of earlier tokens and of the weights; what sees it is NaN."""
    x, R, *W = normals(rng, (2, 5, 4), (2, 5, 4), *[(4, 4)] * 4)
    spoilt = x.copy()
    spoilt[:, 3, 1] = bad
    R, *arrays = library.asarray((R, x, *W))

    def attend(*arrays):
        return multi_head_attention(*arrays, n_heads=2, causal=True)

    def loss(arrays, n):
        return array_namespace(*arrays).sum(attend(*arrays)[:, :n, :] * R[:, :n, :])

    with composed() if in_composed_form else nullcontext():
        expected = [attend(*arrays)[:, :3, :], *grad(loss)(arrays, 3)]
        arrays[0] = library.asarray([spoilt])[0]
        y = attend(*arrays)
        got = [y[:, :3, :], *grad(loss)(arrays, 5)]  # no gradient passes what is NaN
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(to_host(one), to_host(other), atol=1e-13)
    assert np.all(np.isnan(to_host(y)[:, 3:]))


@BAD
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_padding_of_a_context_is_not_seen_by_the_weights(bad, rng):
    x, context, R, *W = normals(rng, (2, 3, 4), (2, 5, 4), (2, 3, 4), *[(4, 4)] * 4)
    mask = np.ones((2, 1, 5), dtype=bool)
    mask[1, :, 3:] = False
    context[1, 3:] = 0.0
    heads_mask = np.stack([mask, mask], axis=1)

    def loss(W, context, mask):
        y = multi_head_attention(x, *W, n_heads=2, context=context, mask=mask)
        return array_namespace(y).sum(y * R)

    expected = grad(loss)(W, context, mask)
    context[1, 3:, 2] = bad
    for each in (mask, heads_mask):
        for got, wanted in zip(grad(loss)(W, context, each), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-14)


@pytest.mark.parametrize("name", ["torch_mha_full", "torch_mha_causal"])
def test_recorded_multi_head_attention(name, golden, library):
    """PyTorch packs the rows of q, k, v into one matrix, (out, in)."""
    f, causal = golden(name), name.endswith("causal")

    def unpacked(weights):
        W_q, W_k, W_v = (W.T for W in np.split(weights["in_proj_weight"], 3))
        b_q, b_k, b_v = np.split(weights["in_proj_bias"], 3)
        return W_q, W_k, W_v, weights["out_proj.weight"].T, b_q, b_k, b_v, weights["out_proj.bias"]

    weights = unpacked({key[2:]: leaf for key, leaf in f.items() if key.startswith("w.")})
    gradients = unpacked({key[3:]: leaf for key, leaf in f.items() if key.startswith("gw.")})
    n_heads = int(f["cfg.num_heads"])

    def layer(x, *weights, **options):
        return multi_head_attention(x, *weights, n_heads=n_heads, **options)

    arrays, gradients = (f["in.x"], *weights), (f["gin.x"], *gradients)
    check(library, lambda *a: layer(*a, causal=causal), arrays, f["out.y"], f["R"], gradients)
    if causal:
        may_attend = library.asarray(~f["in.attn_mask_true_means_blocked"])
        check(library, lambda *a: layer(*a, mask=may_attend), arrays, f["out.y"], f["R"], gradients)

    W_q, W_k, _, _, b_q, b_k, *_ = weights
    for h in range(n_heads):
        head = slice(h * int(f["cfg.head_dim"]), (h + 1) * int(f["cfg.head_dim"]))
        q, k = (f["in.x"] @ W[:, head] + b[head] for W, b in ((W_q, b_q), (W_k, b_k)))
        weights_of_head = attention_weights(*library.asarray((q, k)), causal=causal)
        agree(weights_of_head, f["out.attn"][:, h])
