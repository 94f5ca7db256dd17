"""Gains of mixing matrices: by hand, of products, and what they say of a signal."""

import numpy as np
import pytest

from mgt_np import amax_gain, amin_gain, composite_mixing, sinkhorn
from mgt_np.arrays import to_host

BY_HAND = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [-1.0, 0.0, 0.5]])


def test_by_hand():
    """Row sums −½, 2, −½; column sums 0, 1, 0: signed sums, then sizes."""
    assert tuple(map(float, amax_gain(BY_HAND))) == (2.0, 1.0)
    assert tuple(map(float, amin_gain(BY_HAND))) == (0.5, 0.0)
    gain = amax_gain(BY_HAND)
    assert (float(gain.forward), float(gain.backward)) == (2.0, 1.0)


def test_the_gain_is_what_equal_streams_become(rng):
    H = rng.standard_normal((5, 4, 4))
    x = rng.standard_normal(6)
    X = np.broadcast_to(x, (4, 6))
    sizes = np.linalg.norm(H @ X, axis=-1) / np.linalg.norm(x)
    np.testing.assert_allclose(amax_gain(H).forward, np.max(sizes, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(amin_gain(H).forward, np.min(sizes, axis=-1), rtol=1e-12)
    sizes = np.linalg.norm(H.mT @ X, axis=-1) / np.linalg.norm(x)
    np.testing.assert_allclose(amax_gain(H).backward, np.max(sizes, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(amin_gain(H).backward, np.min(sizes, axis=-1), rtol=1e-12)


def test_a_transposed_matrix_swaps_the_directions(rng):
    H = rng.standard_normal((2, 3, 4, 4))
    for measure in (amax_gain, amin_gain):
        assert measure(H).forward.shape == (2, 3)
        assert np.array_equal(measure(H).forward, measure(H.mT).backward)


@pytest.mark.parametrize("backward", [False, True])
def test_products_layer_by_layer(backward, rng):
    """mHC, eq. 4."""
    H = rng.standard_normal((6, 2, 3, 3))
    products = composite_mixing(H, backward=backward)
    for i in range(6):
        part = H[i:] if backward else H[: i + 1]
        expected = part[0]
        for layer in part[1:]:
            expected = layer @ expected
        np.testing.assert_allclose(products[i], expected, rtol=1e-12, atol=1e-12)


def test_both_ways_end_in_the_same_product(rng):
    H = rng.standard_normal((6, 3, 3))
    whole = composite_mixing(H)[-1]
    np.testing.assert_allclose(composite_mixing(H, backward=True)[0], whole, rtol=1e-11)
    assert np.array_equal(composite_mixing(H[:1]), H[:1])


def test_doubly_stochastic_matrices_and_their_products_have_gain_one(rng):
    H = sinkhorn(rng.standard_normal((60, 4, 4)), n_iters=500)
    for products in (H, composite_mixing(H), composite_mixing(H, backward=True)):
        for gain in (*amax_gain(products), *amin_gain(products)):
            np.testing.assert_allclose(gain, 1.0, atol=1e-12)


def test_on_every_library(library, rng):
    H = rng.standard_normal((5, 2, 3, 3))
    got = amax_gain(composite_mixing(library.asarray(H)))
    for mine, expected in zip(got, amax_gain(composite_mixing(H)), strict=True):
        np.testing.assert_allclose(to_host(mine), expected, rtol=1e-12)


def test_what_is_no_mixing_matrix_is_refused():
    for shape in ((), (3,), (3, 4), (0, 0)):
        for measure in (amax_gain, amin_gain):
            with pytest.raises(ValueError, match=r"expected H \(\.\.\. n≥1 n\).*, got shape"):
                measure(np.ones(shape))
    for shape in ((3, 3), (0, 3, 3)):
        with pytest.raises(ValueError, match=r"expected H \(L≥1 \.\.\. n≥1 n\).*, got shape"):
            composite_mixing(np.ones(shape))
