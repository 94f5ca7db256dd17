"""Attention: its formula, masks, causality, heads, and errors."""

import math

import numpy as np
import pytest
from recorded import agree, check

from mgt_np import (
    array_namespace,
    attention_weights,
    grad,
    init_multi_head_attention,
    multi_head_attention,
    scaled_dot_product_attention,
)
from mgt_np.arrays import to_host


def softmax(scores):
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def normals(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def test_weights_are_their_formula(rng):
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
    q, k, v = normals(rng, (2, 3, 5), (2, 4, 5), (2, 4, 6))
    expected = np.einsum("bij,bjd->bid", softmax(q @ np.swapaxes(k, -1, -2) / math.sqrt(5.0)), v)
    np.testing.assert_allclose(scaled_dot_product_attention(q, k, v), expected, atol=1e-14)


def test_equal_keys_give_the_mean_of_the_values(rng):
    q, v = normals(rng, (3, 5), (4, 6))
    got = scaled_dot_product_attention(q, np.ones((4, 5)), v)
    np.testing.assert_allclose(got, np.tile(np.mean(v, axis=0), (3, 1)), atol=1e-15)


def test_leading_axes_broadcast(rng):
    q, k, v = normals(rng, (2, 1, 3, 5), (4, 6, 5), (6, 2))
    got = scaled_dot_product_attention(q, k, v)
    assert got.shape == (2, 4, 3, 2)
    one = scaled_dot_product_attention(q[1, 0], k[2], v)
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


def test_a_mask_for_each_context_of_one_sequence(rng):
    x, contexts, *weights = normals(rng, (3, 8), (2, 5, 8), *[(8, 8)] * 4)
    mask = rng.random((2, 3, 5)) < 0.6
    got = multi_head_attention(x, *weights, n_heads=2, context=contexts, mask=mask)
    for b in range(2):
        one = multi_head_attention(x, *weights, n_heads=2, context=contexts[b], mask=mask[b])
        np.testing.assert_allclose(got[b], one, atol=1e-14)


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


@pytest.mark.parametrize("n_heads", [3, 0, -1, 16, 2.0])
def test_heads_must_divide_the_columns(n_heads):
    x, W = np.ones((3, 8)), np.ones((8, 8))
    with pytest.raises(ValueError, match="expected n_heads to divide the 8 columns of W_q, got"):
        multi_head_attention(x, W, W, W, W, n_heads=n_heads)


def test_wrong_widths_are_named():
    x, W = np.ones((3, 8)), np.ones((8, 8))
    with pytest.raises(ValueError, match=r"x has 8, W_q \(rows\) has 7"):
        multi_head_attention(x, W[:7], W, W, W, n_heads=2)
    with pytest.raises(ValueError, match=r"x has 6, W_k \(rows\) has 8"):
        multi_head_attention(x, W, W, W, W, n_heads=2, context=np.ones((4, 6)))
    with pytest.raises(ValueError, match=r"x has 8, W_o \(rows\) has 6"):
        multi_head_attention(x, W, W, W, W[:6], n_heads=2)
    with pytest.raises(ValueError, match="equally many features, but q has 4, k has 2"):
        multi_head_attention(x, W, W[:, :4], W, W, n_heads=2)
    with pytest.raises(ValueError, match="equally many features, but q has 8, k has 7"):
        attention_weights(x, np.ones((4, 7)))
    with pytest.raises(ValueError, match="equally many keys, but k has 4, v has 5"):
        scaled_dot_product_attention(x, np.ones((4, 8)), np.ones((5, 8)))
    with pytest.raises(ValueError, match=r"q to have at least 2 axes, got shape \(8,\)"):
        attention_weights(x[0], x)
    with pytest.raises(ValueError, match=r"v to have at least 2 axes, got shape \(8,\)"):
        scaled_dot_product_attention(x, x, x[0])


def test_wrong_masks_are_refused():
    q, k = np.ones((3, 8)), np.ones((4, 8))
    with pytest.raises(TypeError, match="expected a boolean mask, True = may attend, got float64"):
        attention_weights(q, k, mask=np.ones((3, 4)))
    with pytest.raises(TypeError, match="expected a boolean mask, True = may attend, got int64"):
        attention_weights(q, k, mask=np.ones((3, 4), dtype=np.int64))
    with pytest.raises(TypeError, match="expected mask to be an array, got list"):
        attention_weights(q, k, mask=[[True] * 4] * 3)
    for shape in ((4, 3), (2, 4), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"expected a mask that broadcasts to \(3, 4\), got"):
            attention_weights(q, k, mask=np.ones(shape, dtype=bool))
    W = np.ones((8, 8))
    with pytest.raises(TypeError, match="expected mask to be an array, got list"):
        multi_head_attention(q, W, W, W, W, n_heads=2, mask=[[True] * 3] * 3)


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
