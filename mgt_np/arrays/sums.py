"""Sums as products with ones: in NumPy a matrix product adds up five times as fast as `sum`."""

import functools
import math

import numpy as np

from .boxes import device


def mean_of_features(xp, x):
    """Return the mean over the last axis, which stays: (..., d) → (..., 1)."""
    d = x.shape[-1]
    return xp.matmul(x, _ones(xp, (d, 1), x)) / d


def sum_of_features(xp, x):
    """Return the sum over the last axis, which stays: (..., d) → (..., 1)."""
    return xp.matmul(x, _ones(xp, (x.shape[-1], 1), x))


def sum_of_rows(xp, x):
    """Return the sum over all axes but the last: (..., d) → (d)."""
    rows = as_rows(xp, x)
    return xp.matmul(_ones(xp, (rows.shape[0],), x), rows)


def as_rows(xp, x):
    """Return x (..., d) as a matrix (rows, d)."""
    return x if x.ndim == 2 else xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def sum_of_columns(xp, x):
    """Return the sum over the axis before the last, which stays: (..., n, d) → (..., 1, d)."""
    return xp.matmul(_ones(xp, (1, x.shape[-2]), x), x)


def minus_infinity_below(xp, n, m, like):
    """Return an (n, m) matrix, −∞ below the diagonal that ends in its last entry, 0 elsewhere."""
    if type(like) is np.ndarray:
        return _numpy_minus_infinity_below(n, m, like.dtype)
    full = xp.full((n, m), -math.inf, dtype=like.dtype, device=device(like))
    return xp.tril(full, k=m - n - 1)


def _ones(xp, shape, like):
    if type(like) is np.ndarray:
        return _numpy_ones(shape, like.dtype)
    return xp.ones(shape, dtype=like.dtype, device=device(like))


@functools.lru_cache(maxsize=64)
def _numpy_ones(shape, dtype):
    ones = np.ones(shape, dtype)
    ones.flags.writeable = False
    return ones


@functools.lru_cache(maxsize=64)
def _numpy_minus_infinity_below(n, m, dtype):
    matrix = np.tril(np.full((n, m), -math.inf, dtype), k=m - n - 1)
    matrix.flags.writeable = False
    return matrix
