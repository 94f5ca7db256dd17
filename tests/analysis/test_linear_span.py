"""Ranks, spans and heads: closed forms, what layer norm keeps, what attention can reach."""

import itertools

import numpy as np
import pytest
from array_libraries import host
from cases import NUMPY, STRICT, STRICT_DEVICE1, check_integers_are_refused
from cases_span import Case

from mgt_np import (
    attention_weights,
    distance_from_span,
    feed_forward,
    head_ambiguity,
    head_null_space,
    layer_norm,
    matrix_rank,
    multi_head_attention,
    path_tokens,
    position_gated_projection,
    relu,
    rms_norm,
    sigmoid,
)
from mgt_np.arrays import device


def low_rank(rng, N, d, r):
    return rng.standard_normal((N, r)) @ rng.standard_normal((r, d))


def affine_rank(X):
    """The affine rank a second time: dimensions of the differences to the first token."""
    return np.linalg.matrix_rank(X[1:] - X[0])


@pytest.mark.parametrize(("N", "d"), [(12, 6), (6, 12), (5, 5), (1, 4), (4, 1)])
def test_ranks_of_random_tokens_are_what_was_put_in(N, d, rng):
    for r in range(min(N, d) + 1):
        X = low_rank(rng, N, d, r)
        assert matrix_rank(X) == r
        assert matrix_rank(X, center="features") == min(r, d - 1)
        assert matrix_rank(X, center="tokens") == min(r, N - 1)
        shifted = X + 3.0 * rng.standard_normal(d)
        assert matrix_rank(shifted, center="tokens") == min(r, N - 1)
        assert matrix_rank(shifted) == min(r + 1, N, d)


def test_affine_rank_is_that_of_the_differences(rng):
    for r in (0, 1, 3, 5):
        X = low_rank(rng, 9, 6, r) + rng.standard_normal(6)
        assert matrix_rank(X, center="tokens") == affine_rank(X) == r


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e150])
def test_scale_changes_no_rank(scale, rng):
    X = low_rank(rng, 9, 6, 3)
    for center in (None, "tokens", "features"):
        assert matrix_rank(scale * X, center=center) == matrix_rank(X, center=center)


def test_centring_equal_tokens_leaves_rounding_that_counts_for_nothing(rng):
    for N, d in itertools.product((1, 2, 3, 7, 100), (2, 3, 50)):
        X = np.tile(rng.standard_normal(d), (N, 1))
        assert matrix_rank(X, center="tokens") == 0
        assert matrix_rank(X.T, center="features") == 0
    assert np.any(X - np.mean(X, axis=0))


def test_the_tolerance_is_relative_to_the_largest_singular_value():
    X = 1e5 * np.diag([1.0, 1e-3, 1e-9, 0.0])
    assert matrix_rank(X) == 3
    assert matrix_rank(X, rtol=1e-6) == 2
    assert matrix_rank(X, rtol=1e-3) == 1
    assert matrix_rank(np.diag([1.0, 1e-12]), rtol=0.0) == 2
    assert matrix_rank(np.diag([1.0, 1e-7]).astype("float32")) == 1
    assert matrix_rank(np.diag([1.0, 1e-7])) == 2


def test_float32_rounding_of_a_low_rank_matrix_counts_for_nothing(rng):
    X = low_rank(rng, 40, 30, 4).astype("float32")
    assert matrix_rank(X) == 4
    assert matrix_rank(X.astype("float64")) == 30


def test_every_sequence_is_counted_by_itself(rng):
    X = np.stack([[low_rank(rng, 5, 4, r) for r in (0, 1, 2)] for _ in range(2)])
    for center in (None, "tokens", "features"):
        assert np.array_equal(matrix_rank(X, center=center), [[0, 1, 2]] * 2)
    assert np.size(matrix_rank(np.ones((2, 0, 3, 4)))) == 0


def test_counts_on_every_library(library, rng):
    X = np.stack([low_rank(rng, 5, 6, r) for r in (0, 2, 5)])
    X = library.asarray(X)
    for center, expected in ((None, [0, 2, 5]), ("tokens", [0, 2, 4]), ("features", [0, 2, 5])):
        count = matrix_rank(X, center=center)
        assert library.xp.isdtype(count.dtype, "integral")
        assert device(count) == device(X)
        assert host(count).tolist() == expected


def test_integers_are_refused(library):
    ones = (np.ones((4, 3)),)
    for measure in (
        matrix_rank,
        lambda W: head_ambiguity(W, n_heads=2),
        lambda W: head_null_space(W, n_heads=2),
    ):
        check_integers_are_refused(Case("counts", measure, ones), library)


# What layer norm keeps


def test_layer_norm_takes_collinear_tokens_from_affine_rank_1_to_2(rng):
    X = rng.standard_normal(6) + np.linspace(-1.0, 1.0, 12)[:, None] * rng.standard_normal(6)
    assert matrix_rank(X, center="tokens") == affine_rank(X) == 1
    Y = layer_norm(X)
    assert matrix_rank(Y, center="tokens") == affine_rank(Y) == 2
    assert matrix_rank(X, center="features") == matrix_rank(Y) == 2
    through_origin = np.linspace(0.5, 1.0, 12)[:, None] * X[0]
    assert matrix_rank(layer_norm(through_origin, eps=0.0), center="tokens") == 0
    assert matrix_rank(layer_norm(through_origin, eps=0.1), center="tokens") == 1


def test_layer_norm_takes_a_dimension_from_generic_tokens(rng):
    X = rng.standard_normal((12, 6))
    Y = layer_norm(X)
    assert [matrix_rank(X, center=c) for c in (None, "tokens")] == [6, 6]
    assert [matrix_rank(Y, center=c) for c in (None, "tokens")] == [5, 5]
    few = rng.standard_normal((4, 6))
    assert matrix_rank(layer_norm(few)) == matrix_rank(few) == 4
    few = np.concat([few[:3], np.ones((1, 6))])
    assert matrix_rank(layer_norm(few)) == matrix_rank(few) - 1 == 3


@pytest.mark.parametrize("r", [0, 1, 2, 5, 6])
def test_layer_norm_has_the_rank_of_the_centred_features(r, rng):
    X = low_rank(rng, 12, 6, r) + (rng.standard_normal(6) if r < 6 else 0.0)
    gain, bias = rng.standard_normal((2, 6))
    rank = matrix_rank(X, center="features")
    assert matrix_rank(layer_norm(X)) == rank
    assert matrix_rank(layer_norm(X, gain)) == rank
    Y = layer_norm(X, gain, bias)
    assert matrix_rank(Y - bias) == rank
    assert matrix_rank(Y, center="tokens") == matrix_rank(layer_norm(X, gain), center="tokens")
    assert rank - 1 <= matrix_rank(Y, center="tokens") <= rank


def test_a_gain_of_zero_or_a_bias_changes_the_rank_after_layer_norm(rng):
    X = rng.standard_normal((12, 6))
    gain = np.asarray([1.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert matrix_rank(layer_norm(X, gain)) == 4
    assert matrix_rank(layer_norm(X, np.ones(6), np.ones(6))) == 6


@pytest.mark.parametrize("r", range(7))
def test_rms_norm_keeps_the_rank(r, rng):
    X = low_rank(rng, 12, 6, r)
    gain = rng.standard_normal(6)
    assert matrix_rank(rms_norm(X)) == matrix_rank(rms_norm(X, gain)) == matrix_rank(X) == r
    gain[:4] = 0.0
    assert matrix_rank(rms_norm(X, gain)) == min(r, 2)


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
def test_what_is_fully_collapsed_stays_so(norm, rng):
    X = np.tile(rng.standard_normal(6), (12, 1))
    gain = rng.standard_normal(6)
    assert matrix_rank(norm(X, gain), center="tokens") == 0
    assert matrix_rank(norm(X, gain)) == 1


# What attention spans


def projector_distance(Y, X):
    """The same distance by least squares."""
    rest = Y - (np.linalg.lstsq(X.T, Y.T, rcond=1e-12)[0].T @ X)
    return np.linalg.norm(rest) / np.linalg.norm(Y)


def test_distances_are_those_of_least_squares(rng):
    for M, N, d in ((5, 3, 8), (1, 7, 8), (5, 1, 2)):
        Y, X = rng.standard_normal((M, d)), rng.standard_normal((N, d))
        assert distance_from_span(Y, X) == pytest.approx(projector_distance(Y, X), rel=1e-12)
    X = low_rank(rng, 6, 8, 2)
    assert distance_from_span(Y[:, :1] * np.ones(8), X) == pytest.approx(
        projector_distance(np.ones((1, 8)), X), rel=1e-12
    )


def test_distances_of_known_angles(rng):
    e = np.eye(4)
    assert distance_from_span(e[:1], e[1:]) == 1.0
    assert distance_from_span(np.cos(0.3) * e[:1] + np.sin(0.3) * e[3:], e[:2]) == pytest.approx(
        np.sin(0.3), rel=1e-14
    )
    assert distance_from_span(np.zeros((2, 4)), e[:1]) == 0.0
    assert distance_from_span(e[:1], np.zeros((2, 4))) == 1.0
    assert distance_from_span(rng.standard_normal((3, 4)), rng.standard_normal((4, 4))) <= 1e-14


def test_distances_of_several_sequences_and_float32(rng):
    Y, X = rng.standard_normal((2, 3, 5, 8)), rng.standard_normal((3, 2, 8))
    distance = distance_from_span(Y, X)
    assert distance.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert distance[i, j] == pytest.approx(distance_from_span(Y[i, j], X[j]), rel=1e-13)
    # Rows that float32 cannot tell apart span one direction.
    x = rng.standard_normal(8)
    near = np.stack([x, x + 1e-8 * X[0, 0]])
    assert distance_from_span(X[0, :1], near) < 0.999 * distance_from_span(X[0, :1], near[:1])
    near = near.astype("float32")
    alone = distance_from_span(X[0, :1].astype("float32"), near[:1])
    assert distance_from_span(X[0, :1].astype("float32"), near) == pytest.approx(alone, rel=1e-5)


def test_path_tokens_are_products_of_maps(rng):
    """Dong et al., §2."""
    X, W = rng.standard_normal((3, 4)), rng.standard_normal((2, 2, 4, 4))
    with_skip = [[np.eye(4), *layer] for layer in W]
    for layers, skip in ((W, False), (with_skip, True)):
        expected = [X @ A @ B for A, B in itertools.product(*layers)]
        got = np.reshape(path_tokens(X, W, skips=skip), (-1, 3, 4))
        key = lambda part: part[0, 0]  # noqa: E731
        np.testing.assert_allclose(sorted(got, key=key), sorted(expected, key=key), atol=1e-12)
    np.testing.assert_array_equal(path_tokens(X, W[:0]), X)


def attention_stack(X, rng, *, n_layers, n_heads, skip, hidden=False):
    """An attention-only stack through `multi_head_attention`, and W_V W_O of each head."""
    d = X.shape[-1]
    maps = []
    for _ in range(n_layers):
        W_q, W_k, W_v, W_o = rng.standard_normal((4, d, d)) / np.sqrt(d)
        blocks = zip(np.split(W_v, n_heads, axis=1), np.split(W_o, n_heads), strict=True)
        maps.append([V @ O for V, O in blocks])
        Y = multi_head_attention(X, W_q, W_k, W_v, W_o, n_heads=n_heads)
        X = X + Y if skip else Y
        if hidden:
            W_1, W_2 = rng.standard_normal((2, d, d)) / np.sqrt(d)
            X = X + feed_forward(X, W_1, W_2)
    return X, np.asarray(maps)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("n_layers", "n_heads"), [(1, 1), (1, 4), (3, 1), (2, 2)])
def test_attention_stays_in_the_span_of_its_paths_and_an_mlp_does_not(n_layers, n_heads, skip, rng):
    X = rng.standard_normal((3, 40))
    Y, W = attention_stack(X, rng, n_layers=n_layers, n_heads=n_heads, skip=skip)
    reached = path_tokens(X, W, skips=skip)
    assert matrix_rank(reached) < 40
    assert distance_from_span(Y, reached) <= 1e-12
    assert distance_from_span(Y, X) > 0.1
    Y, W = attention_stack(X, rng, n_layers=n_layers, n_heads=n_heads, skip=skip, hidden=True)
    assert distance_from_span(Y, path_tokens(X, W, skips=skip)) > 0.01


def test_value_maps_that_are_multiples_of_the_identity_keep_the_span_of_the_embeddings(rng):
    X = rng.standard_normal((3, 40))
    Y = X
    for _ in range(5):
        W_q, W_k = rng.standard_normal((2, 40, 40)) / np.sqrt(40)
        Y = Y + multi_head_attention(Y, W_q, W_k, 0.7 * np.eye(40), np.eye(40), n_heads=1)
    assert distance_from_span(Y, X) <= 1e-12
    assert distance_from_span(relu(Y), X) > 0.1


def test_a_rectifier_turns_a_token_by_45_degrees():
    X = np.asarray([[1.0, -1.0, 0.0]])
    assert distance_from_span(relu(X), X) == pytest.approx(np.sqrt(0.5), rel=1e-14)


def test_many_tokens_span_everything_so_that_nothing_leaves(rng):
    X = rng.standard_normal((8, 8))
    W_1, W_2 = rng.standard_normal((8, 32)), rng.standard_normal((32, 8))
    assert distance_from_span(feed_forward(X, W_1, W_2), X) <= 1e-12


def test_a_skip_connection_keeps_rank_generically_but_not_always(rng):
    X = rng.standard_normal((6, 8))
    ranks = set()
    for _ in range(20):
        W_q, W_k, W = rng.standard_normal((3, 8, 8))
        ranks.add(int(matrix_rank(X + attention_weights(X @ W_q, X @ W_k) @ X @ W)))
    assert ranks == {6}
    uniform = attention_weights(0.0 * X, X)
    assert matrix_rank(X - uniform @ X) == 5


# What the sum of the heads tells


def shared(rng, n_heads, d_k, d):
    """Blocks W_O^h that differ and have one row space of d_k dimensions."""
    rows = rng.standard_normal((d_k, d))
    return np.concat([rng.standard_normal((d_k, d_k)) @ rows for _ in range(n_heads)])


@pytest.mark.parametrize(("n_heads", "d_k", "d"), [(4, 2, 8), (3, 2, 10), (2, 3, 6), (1, 4, 4)])
def test_random_heads_are_exactly_recoverable(n_heads, d_k, d, rng):
    Z, W_o = rng.standard_normal((5, n_heads * d_k)), rng.standard_normal((n_heads * d_k, d))
    assert head_null_space(W_o, n_heads=n_heads).shape == (0, n_heads, d_k)
    assert head_ambiguity(W_o, n_heads=n_heads).tolist() == [0] * n_heads
    np.testing.assert_allclose(Z @ W_o @ np.linalg.pinv(W_o), Z, atol=1e-11)


@pytest.mark.parametrize(("n_heads", "d_k", "d"), [(4, 2, 8), (3, 2, 10), (2, 3, 6), (1, 4, 4)])
def test_heads_that_share_a_row_space_lose_all_but_one_head_s_worth(n_heads, d_k, d, rng):
    W_o = shared(rng, n_heads, d_k, d)
    basis = head_null_space(W_o, n_heads=n_heads)
    assert basis.shape == ((n_heads - 1) * d_k, n_heads, d_k)
    flat = np.reshape(basis, (len(basis), n_heads * d_k))
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(basis)), atol=1e-13)
    np.testing.assert_allclose(flat @ W_o, 0.0, atol=1e-12)
    assert head_ambiguity(W_o, n_heads=n_heads).tolist() == [d_k if n_heads > 1 else 0] * n_heads


def test_the_null_space_of_n_tokens_has_n_times_as_many_dimensions(rng):
    """The linear map Z → Z W_o on all n H d_k numbers at once, as one matrix."""
    n, n_heads, d_k, d = 3, 4, 2, 8
    for W_o in (rng.standard_normal((8, d)), shared(rng, n_heads, d_k, d), low_rank(rng, 8, d, 5)):
        of_all = np.kron(np.eye(n), W_o.T)
        ambiguous = n * n_heads * d_k - np.linalg.matrix_rank(of_all)
        assert n * len(head_null_space(W_o, n_heads=n_heads)) == ambiguous


def test_ambiguity_of_each_head_is_its_part_of_the_null_space(rng):
    n_heads, d = 4, 12
    mixed = rng.standard_normal((12, d))
    mixed[3:6, :] = rng.standard_normal((3, 3)) @ mixed[:3, :]  # heads 0 and 1 share, 2 and 3 not
    mixed[9:11, :] = mixed[6:8, :]  # heads 2 and 3 share two of three rows
    assert head_ambiguity(mixed, n_heads=n_heads).tolist() == [3, 3, 2, 2]
    wide = rng.standard_normal((12, 10))  # 12 channels into 10: every head loses min(d_k, 2)
    assert head_ambiguity(wide, n_heads=n_heads).tolist() == [2] * 4
    for W_o in (mixed, wide, low_rank(rng, 12, d, 7)):
        basis = head_null_space(W_o, n_heads=n_heads)
        parts = [np.linalg.matrix_rank(basis[:, h, :], tol=1e-9) for h in range(n_heads)]
        assert head_ambiguity(W_o, n_heads=n_heads).tolist() == parts
    together = head_ambiguity(np.stack([mixed, low_rank(rng, 12, d, 3)]), n_heads=n_heads)
    assert together.tolist() == [[3, 3, 2, 2], [3, 3, 3, 3]]


def test_unknown_contributions_lose_more(rng):
    """If anything may be in a head's (n, d) share of the sum: n(H−1)d, and W_o tells nothing."""
    n, n_heads, d = 2, 3, 4
    sum_of_heads = np.kron(np.ones((1, n_heads)), np.eye(n * d))
    assert sum_of_heads.shape[1] - np.linalg.matrix_rank(sum_of_heads) == n * (n_heads - 1) * d


def test_the_count_at_the_size_of_bert_base(rng):
    W_o = shared(rng, 12, 64, 768)
    assert 512 * len(head_null_space(W_o, n_heads=12)) == 512 * 11 * 64 == 360_448


def test_an_mlp_cannot_tell_what_the_sum_does_not(rng):
    W_o, residual = shared(rng, 4, 2, 8), rng.standard_normal((5, 8))
    W_1, W_2 = rng.standard_normal((8, 32)), rng.standard_normal((32, 8))
    Z = rng.standard_normal((5, 8))
    basis = np.reshape(head_null_space(W_o, n_heads=4), (6, 8))
    moved = Z + rng.standard_normal((5, 6)) @ basis
    assert np.linalg.norm(moved - Z) > 1.0

    def through(Z):
        return feed_forward(layer_norm(residual + Z @ W_o), W_1, W_2)

    np.testing.assert_allclose(through(moved), through(Z), atol=1e-11)


def test_gates_by_position_tell_heads_only_where_heads_are_tied_over_positions(rng):
    n, n_heads, d_k, d = 6, 4, 2, 8
    positions, W_g = rng.standard_normal((n, 5)), rng.standard_normal((5, n_heads))
    W_o = shared(rng, n_heads, d_k, d)
    gates = np.repeat(sigmoid(positions @ W_g), d_k, axis=1)
    of_each = gates[:, :, None] * W_o
    # Each token has unknowns of its own: as many are lost as without gates.
    assert np.array_equal(matrix_rank(of_each), [d_k] * n)
    assert np.array_equal(head_ambiguity(of_each, n_heads=n_heads), np.full((n, n_heads), d_k))
    # Were heads alike at all positions, n ≥ H different gates would tell them.
    tied = np.concat(list(of_each), axis=1)
    assert matrix_rank(tied) == n_heads * d_k
    assert matrix_rank(np.concat(list(of_each[: n_heads - 1]), axis=1)) == (n_heads - 1) * d_k
    z = rng.standard_normal(n_heads * d_k)
    seen = np.ravel(position_gated_projection(np.tile(z, (n, 1)), positions, W_o, W_g))
    np.testing.assert_allclose(seen @ np.linalg.pinv(tied), z, atol=1e-9)


def test_null_spaces_on_every_library(library, rng):
    W_o = shared(rng, 3, 2, 7)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        there = library.asarray(W_o.astype(dtype))
        basis = head_null_space(there, n_heads=3)
        assert (basis.dtype, device(basis)) == (there.dtype, device(there))
        np.testing.assert_allclose(host(basis).reshape(4, 6) @ W_o, 0.0, atol=tolerance)
        count = head_ambiguity(there, n_heads=3)
        assert library.xp.isdtype(count.dtype, "integral")
        assert device(count) == device(there)
        assert host(count).tolist() == [2, 2, 2]


# Errors


@pytest.mark.parametrize("center", [True, False, "token", 1])
def test_another_centre_is_refused(center):
    with pytest.raises((TypeError, ValueError), match="expected center to be one of 'tokens'"):
        matrix_rank(np.ones((3, 4)), center=center)


@pytest.mark.parametrize("rtol", [-1e-9, 1.0, np.nan, "small"])
def test_an_rtol_out_of_range_is_refused(rtol):
    X = np.ones((4, 4))
    for measure in (
        lambda: matrix_rank(X, rtol=rtol),
        lambda: distance_from_span(X, X, rtol=rtol),
        lambda: head_null_space(X, n_heads=2, rtol=rtol),
        lambda: head_ambiguity(X, n_heads=2, rtol=rtol),
    ):
        with pytest.raises((TypeError, ValueError), match=r"rtol to be a number in \[0, 1\), got"):
            measure()


def test_what_does_not_fit_is_refused():
    X, W_o = np.ones((3, 4)), np.ones((6, 4))
    for shape in ((), (4,), (0, 4), (3, 0)):
        with pytest.raises(ValueError, match=r"expected X \(\.\.\. N≥1 d≥1, finite\)"):
            matrix_rank(np.ones(shape))
    with pytest.raises(ValueError, match="expected X to be finite, got NaN or infinity"):
        matrix_rank(np.inf * X)
    with pytest.raises(ValueError, match="Y has d = 5 on axis −1, X has 4"):
        distance_from_span(np.ones((3, 5)), X)
    for Y, name in ((np.ones(4), "Y"), (np.ones((0, 4)), "Y")):
        with pytest.raises(ValueError, match=rf"expected {name} \(\.\.\. "):
            distance_from_span(Y, X)
    with pytest.raises(ValueError, match="expected Y to be finite, got NaN or infinity"):
        distance_from_span(np.nan * X, X)
    with pytest.raises(ValueError, match=r"expected W \(L H d d\), got shape \(4, 4\)"):
        path_tokens(X, np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"expected W \(L H d d\).*, got shape \(1, 1, 4, 5\)"):
        path_tokens(X, np.ones((1, 1, 4, 5)))
    with pytest.raises(ValueError, match="X has d = 4 on axis −1, W has 5"):
        path_tokens(X, np.ones((1, 1, 5, 5)))
    with pytest.raises(ValueError, match=r"expected X \(\.\.\. N d\), got shape"):
        path_tokens(np.ones(4), np.ones((1, 1, 4, 4)))
    with pytest.raises(ValueError, match=r"expected W_o \(.*\), got shape \(2, 6, 4\)"):
        head_null_space(np.ones((2, 6, 4)), n_heads=2)
    for n_heads in (0, 4, -2, 2.0):
        for measure in (head_null_space, head_ambiguity):
            with pytest.raises((TypeError, ValueError), match=r"expected (n_heads|W_o .* n_heads)"):
                measure(W_o, n_heads=n_heads)


def test_arrays_of_two_libraries_or_devices_are_refused():
    X, W = np.ones((3, 4)), np.ones((1, 1, 4, 4))
    for measure, arrays in ((distance_from_span, (X, X)), (path_tokens, (X, W))):
        first, second = arrays
        with pytest.raises(TypeError, match="expected arrays of one library, got"):
            measure(NUMPY.asarray(first), STRICT.asarray(second))
        with pytest.raises(ValueError, match="expected arrays on one device, got"):
            measure(STRICT.asarray(first), STRICT_DEVICE1.asarray(second))
