"""Adding into places, held to NumPy's `add.at`."""

import array_api_compat.numpy
import numpy as np
import pytest

from mgt_np.arrays import device, to_host
from mgt_np.arrays.namespace import library_of
from mgt_np.arrays.scatter import segment_sum, ungetitem, untake, untake_along_axis


def there(library, *arrays):
    arrays = [library.asarray(x) for x in arrays]
    return library_of(arrays[0]).xp, *arrays


def added_at(shape, index, values):
    result = np.full(shape, 0.0)
    np.add.at(result, index, values)
    return result


def assert_close(got, expected):
    assert tuple(got.shape) == expected.shape
    np.testing.assert_allclose(to_host(got), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("m", "n"), [(0, 3), (1, 1), (1, 4), (7, 3), (64, 1), (100, 250), (257, 5)]
)
def test_segment_sum(library, rng, m, n):
    values, places = rng.standard_normal((m, 2)), rng.integers(0, n, m)
    xp, values_there, places_there = there(library, values, places)
    got = segment_sum(xp, values_there, places_there, n)
    assert device(got) == device(values_there)
    assert_close(got, added_at((n, 2), places, values))


def test_segment_sum_takes_no_negative_index(rng):
    """PyTorch does not count them from the end."""

    class Namespace:
        def __getattr__(self, name):
            return getattr(array_api_compat.numpy, name)

        def take(self, x, indices, *, axis):
            assert np.min(indices, initial=0) >= 0
            return np.take(x, indices, axis=axis)

    values, places = rng.standard_normal((5, 2)), np.array([3, 1, 3, 2, 1])
    got = segment_sum(Namespace(), values, places, 5)
    assert_close(got, added_at((5, 2), places, values))


def test_segment_sum_keeps_infinities_in_their_place(library):
    values = np.array([[np.inf], [1.0], [np.nan], [2.0], [1.0]])
    xp, values, places = there(library, values, np.array([3, 0, 1, 0, 0]))
    got = to_host(segment_sum(xp, values, places, 5))[:, 0]
    np.testing.assert_array_equal(got, [4.0, np.nan, 0.0, np.inf, 0.0])


def test_segment_sum_is_exact_where_addition_is(library, rng):
    values, places = rng.integers(-99, 99, (300, 3)).astype(float), rng.integers(0, 9, 300)
    xp, values_there, places_there = there(library, values, places)
    got = segment_sum(xp, values_there, places_there, 9)
    np.testing.assert_array_equal(to_host(got), added_at((9, 3), places, values))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_untake(library, rng, axis):
    n, indices = 6, rng.integers(-6, 6, 20)
    shape = [2, 3, 4]
    shape[axis] = 20
    g = rng.standard_normal(shape)
    shape[axis] = n
    expected = np.zeros(shape)
    np.add.at(np.moveaxis(expected, axis, 0), indices, np.moveaxis(g, axis, 0))
    xp, g, indices = there(library, g, indices)
    assert_close(untake(xp, g, indices, n, axis), expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_untake_along_axis(library, rng, axis):
    shape, n = [3, 4, 5], 6
    shape[axis] = 9
    g, indices = rng.standard_normal(shape), rng.integers(-n, n, shape)
    places = list(np.indices(shape, sparse=True))
    places[axis] = indices
    shape[axis] = n
    xp, g_there, indices_there = there(library, g, indices)
    got = untake_along_axis(xp, g_there, indices_there, n, axis)
    assert_close(got, added_at(shape, tuple(places), g))


@pytest.mark.parametrize(
    "index",
    [
        (slice(1, None), ...),
        (..., slice(None, None, -2)),
        (None, 1, ..., None),
        (np.array([0, 2, 2, -1, 0]), np.array([1, 1, 1, 0, 1]), np.array([3, 3, 3, -1, 3])),
        (np.arange(24).reshape(3, 2, 4) % 3 == 0,),
    ],
    ids=["slice", "negative step", "new axes", "repeated integers", "mask"],
)
def test_ungetitem(library, rng, index):
    shape = (3, 2, 4)
    g = rng.standard_normal(np.zeros(shape)[index].shape)
    expected = added_at(shape, index, g)
    xp, g = there(library, g)
    index = tuple(library.asarray(part) if isinstance(part, np.ndarray) else part for part in index)
    index = index if len(index) > 1 else index[0]
    assert_close(ungetitem(xp, g, index, shape), expected)


def test_ungetitem_where_arrays_cannot_be_written_to(monkeypatch, rng):
    """As on JAX."""

    def read_only_zeros(shape, *, dtype=None, device=None):
        x = np.zeros(shape, dtype=dtype)
        x.setflags(write=False)
        return x

    monkeypatch.setattr(array_api_compat.numpy, "zeros", read_only_zeros)
    g = rng.standard_normal((2, 4))
    index = (slice(None, None, -2), 1, ...)
    expected = added_at((3, 2, 4), index, g)
    assert_close(ungetitem(array_api_compat.numpy, g, index, (3, 2, 4)), expected)
