"""Rotary positions: planes turned by angles, distances alone in the inner products."""

import re

import numpy as np
import pytest

from mgt_np import rotary_embedding


def test_each_pair_is_turned_by_its_angle(rng):
    """Su et al., eq. 34."""
    N, d, base = 7, 6, 100.0
    x = rng.standard_normal((2, N, d))
    for layout in ("half", "interleaved"):
        got = rotary_embedding(x, base=base, layout=layout)
        for t in range(N):
            for i in range(d // 2):
                a, b = (i, i + d // 2) if layout == "half" else (2 * i, 2 * i + 1)
                turn = np.exp(1j * t * base ** (-2 * i / d))
                expected = (x[:, t, a] + 1j * x[:, t, b]) * turn
                np.testing.assert_allclose(got[:, t, a] + 1j * got[:, t, b], expected, atol=1e-13)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_inner_products_know_the_distance_alone(layout, rng):
    q, k = rng.standard_normal((2, 1, 8))
    q, k = (rotary_embedding(np.tile(x, (9, 1)), layout=layout) for x in (q, k))
    scores = q @ k.T
    for distance in range(-8, 9):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), np.linalg.norm(q[0]), rtol=1e-14)


def test_a_later_start_is_the_end_of_a_longer_sequence(rng):
    x = rng.standard_normal((6, 4))
    np.testing.assert_allclose(
        rotary_embedding(x[2:], start=2), rotary_embedding(x)[2:], atol=1e-15
    )
    assert np.array_equal(rotary_embedding(x)[0], x[0])


def test_what_cannot_be_paired_is_refused():
    for shape in ((3, 5), (3, 0), (4,)):
        message = (
            rf"rotary_embedding: expected x \(\.\.\. N 2·h≥2\).*, got shape {re.escape(str(shape))}"
        )
        with pytest.raises(ValueError, match=message):
            rotary_embedding(np.ones(shape))
    with pytest.raises(ValueError, match="expected layout to be one of 'half', 'interleaved'"):
        rotary_embedding(np.ones((3, 4)), layout="halves")
