"""The sum over paths is the network: with and without skips, biases, causal masks."""

import numpy as np
import pytest

from mgt_np import (
    attention_weights,
    grad,
    head_maps,
    multi_head_attention,
    path_bias,
    path_count,
    path_length_terms,
    path_terms,
    relative_residual,
)

N, D, H = 5, 6, 3


def network(rng, n_layers, *, skips, causal=False):
    """The tokens, the output of `n_layers` layers, and each layer's P, W and b."""
    x = X = rng.standard_normal((2, N, D))
    P, W, b = [], [], []
    for _ in range(n_layers):
        weights = [rng.standard_normal(shape) / 2 for shape in [(D, D)] * 4 + [(D,)] * 4]
        W_q, W_k, W_v, W_o, b_q, b_k, b_v, b_o = weights
        q, k = (
            (x @ M + bias).reshape(2, N, H, D // H).swapaxes(1, 2)
            for M, bias in ((W_q, b_q), (W_k, b_k))
        )
        P.append(attention_weights(q, k, causal=causal))
        W.append(head_maps(W_v, W_o, n_heads=H))
        b.append(b_v @ W_o + b_o)
        y = multi_head_attention(x, *weights, n_heads=H, causal=causal)
        x = x + y if skips else y
    return X, x, np.stack(P), np.stack(W), np.stack(b)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_the_sum_over_paths_is_the_network(rng, n_layers, skips, causal):
    X, output, P, W, b = network(rng, n_layers, skips=skips, causal=causal)
    bias = path_bias(W, b, skips=skips)
    each, by_length = (
        np.sum(terms(X, P, W, skips=skips), axis=0) + bias
        for terms in (path_terms, path_length_terms)
    )
    size = np.max(np.abs(output))
    np.testing.assert_allclose(each, output, rtol=0.0, atol=1e-12 * size)
    np.testing.assert_allclose(by_length, output, rtol=0.0, atol=1e-12 * size)


def test_paths_stand_in_lexical_order_and_are_counted_by_length(rng):
    X, _, P, W, _ = network(rng, 2, skips=True)
    terms = path_terms(X, P, W, skips=True)
    assert terms.shape == (16, 2, N, D)
    np.testing.assert_array_equal(terms[0], X)
    second_head_then_first = P[1, :, 0] @ (P[0, :, 1] @ X @ W[0, 1]) @ W[1, 0]
    np.testing.assert_allclose(terms[2 * 4 + 1], second_head_then_first, rtol=1e-11, atol=1e-13)
    without = path_terms(X, P, W)
    assert without.shape == (9, 2, N, D)
    np.testing.assert_allclose(without[1 * 3 + 0], second_head_then_first, rtol=1e-11, atol=1e-13)

    lengths = np.array([(i > 0) + (j > 0) for i in range(4) for j in range(4)])
    assert [path_count(2, H, l) for l in range(3)] == [sum(lengths == l) for l in range(3)]
    by_length = path_length_terms(X, P, W)
    for l in range(3):
        expected = np.sum(terms[lengths == l], axis=0)
        np.testing.assert_allclose(by_length[l], expected, rtol=1e-12, atol=1e-13)


def test_without_skips_only_the_longest_paths_are_there(rng):
    X, _, P, W, _ = network(rng, 3, skips=False)
    by_length = path_length_terms(X, P, W, skips=False)
    assert not np.any(by_length[:3])
    assert np.any(by_length[3])


def test_all_lengths_together_are_every_choice_of_head_or_skip():
    assert sum(path_count(12, 8, l) for l in range(13)) == 9**12
    assert path_count(200, 12, 200) == 12**200
    assert path_count(3, 2, 4) == 0


def test_uniform_attention_leaves_rank_to_the_skip_alone(rng):
    X, W = rng.standard_normal((N, D)), rng.standard_normal((4, H, D, D))
    P = np.full((4, H, N, N), 1 / N)
    residual = relative_residual(path_length_terms(X, P, W))
    assert residual[0] > 0.5
    np.testing.assert_allclose(residual[1:], 0.0, atol=1e-14)


def test_the_maps_of_all_heads_together_are_one_product(rng):
    W_v, W_o = rng.standard_normal((D, 4)), rng.standard_normal((4, 7))
    maps = head_maps(W_v, W_o, n_heads=2)
    np.testing.assert_allclose(maps[1], W_v[:, 2:] @ W_o[2:], rtol=1e-13)
    np.testing.assert_allclose(np.sum(maps, axis=0), W_v @ W_o, rtol=1e-12)


def test_the_gradient_of_the_sum_is_the_networks(rng):
    X, _, P, W, _ = network(rng, 3, skips=True)
    R = rng.standard_normal(X.shape)

    def layer_by_layer(X):
        for l in range(3):
            X = X + sum(P[l, :, h] @ (X @ W[l, h]) for h in range(H))
        return (R * X).sum()

    expected = grad(layer_by_layer)(X)
    got = grad(lambda X: (R * path_length_terms(X, P, W)).sum())(X)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


def test_errors_name_the_shapes():
    X, P, W = np.ones((5, 6)), np.ones((2, 3, 5, 5)), np.ones((2, 3, 6, 6))
    with pytest.raises(ValueError, match=r"expected P \(L \.\.\. H N N\).*, got shape \(2,"):
        path_terms(X, P[..., :4], W)
    with pytest.raises(ValueError, match=r"expected W \(L≥1 H≥1 d d\), got shape \(3, 6, 6"):
        path_length_terms(X, P, W[0])
    with pytest.raises(ValueError, match="X has d = 4 on axis −1, W has 6"):
        path_terms(X[:, :4], P, W)
    with pytest.raises(ValueError, match=r"expected X \(.*\), got shape \(6,\)"):
        path_terms(X[0], P, W)
    with pytest.raises(ValueError, match=r"expected b \(L d\), got shape \(6,\)"):
        path_bias(W, np.ones(6))
    with pytest.raises(ValueError, match="W has L = 2 on axis −4, b has 3"):
        path_bias(W, np.ones((3, 6)))
    for n_heads in (0, 3, 1.5):
        with pytest.raises((TypeError, ValueError), match=r"expected (n_heads|W_v .* n_heads)"):
            head_maps(np.ones((6, 4)), np.ones((4, 6)), n_heads=n_heads)
    with pytest.raises(ValueError, match=r"expected W_o .* with n_heads·d_v = 4, got"):
        head_maps(np.ones((6, 4)), np.ones((5, 6)), n_heads=2)
    with pytest.raises(ValueError, match=r"expected W_[vo] \(.*\), got shape"):
        head_maps(np.ones(4), np.ones((4, 6)), n_heads=2)
