"""Residual streams: how they are made, read, mixed and written to, stream by stream."""

import numpy as np
import pytest

from mgt_np import expand_streams, mhc_read, mhc_update, reduce_streams

N, D = 3, 8


def test_streams_are_copies_and_come_together_again(rng):
    x = rng.standard_normal((2, 5, D))
    X = expand_streams(x, n=4)
    assert X.shape == (2, 5, 4, D)
    for i in range(4):
        assert np.array_equal(X[..., i, :], x)
    assert np.array_equal(reduce_streams(X, reduction="mean"), x)
    assert np.array_equal(reduce_streams(X), 4.0 * x)


def test_reading_and_writing_stream_by_stream(rng):
    """mHC, eq. 3."""
    X, y = rng.standard_normal((2, 5, N, D)), rng.standard_normal((2, 5, D))
    H_pre, H_post = rng.standard_normal((2, 2, 5, N))
    H_res = rng.standard_normal((2, 5, N, N))
    for t in np.ndindex(2, 5):
        u = sum(H_pre[t][j] * X[t][j] for j in range(N))
        np.testing.assert_allclose(mhc_read(X, H_pre)[t], u, rtol=1e-13, atol=1e-14)
        for i in range(N):
            expected = sum(H_res[t][i, j] * X[t][j] for j in range(N)) + H_post[t][i] * y[t]
            got = mhc_update(X, y, H_post, H_res)[t][i]
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(mhc_read(X, np.eye(N)[1]), X[..., 1, :], rtol=1e-15)
    plain = mhc_update(X, y, np.ones(N), np.eye(N))
    np.testing.assert_allclose(plain, X + y[..., None, :], rtol=1e-15)


def test_one_matrix_for_all_tokens_is_the_same_for_each(rng):
    X, y = rng.standard_normal((2, 5, N, D)), rng.standard_normal((2, 5, D))
    H_post, H_res = rng.standard_normal(N), rng.standard_normal((N, N))
    everywhere = np.tile(H_post, (2, 5, 1)), np.tile(H_res, (2, 5, 1, 1))
    np.testing.assert_allclose(
        mhc_update(X, y, H_post, H_res), mhc_update(X, y, *everywhere), rtol=1e-13
    )
    np.testing.assert_allclose(mhc_read(X, H_post), mhc_read(X, everywhere[0]), rtol=1e-13)


def test_wrong_streams_are_named():
    X = np.ones((2, N, D))
    for call, message in (
        (lambda: expand_streams(X, n=0), "expected n to be an integer ≥ 1, got 0"),
        (lambda: reduce_streams(X, reduction="max"), "expected reduction to be one of 'sum'"),
        (lambda: reduce_streams(np.ones(3)), r"X \(\.\.\. n d\), got shape \(3,\)"),
        (lambda: mhc_read(X, np.ones(2)), "X has 3 streams on axis −2, H_pre has 2"),
        (
            lambda: mhc_update(X, np.ones((2, 7)), np.ones(N), np.eye(N)),
            "X has 8 features on axis −1, y has 7",
        ),
        (
            lambda: mhc_update(X, np.ones((2, D)), np.ones(N), np.ones((N, 2))),
            "X has 3 streams on axis −2, H_res has 2",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
