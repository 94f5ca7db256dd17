"""Work through large arrays in pieces that stay in the processor's cache."""

import math

import numpy as np

BLOCK_BYTES = 2**18  # of one array: a handful of them fit a second-level cache


def in_blocks(function, *arrays, n_axes=None, widest=1):
    """Return `function(*arrays)`, where row i of every result depends on row i of `arrays` alone.

    Rows are the entries along the first `n_axes` axes, which all arrays and results have in common;
    by default all axes of the first array but its last. NumPy's arrays are given to `function` some
    rows at a time, those axes made one, so that what it makes on the way stays in the cache and in
    memory that is already there: for large arrays this halves the time. Small arrays, and those of
    other libraries, are given to it whole. It returns an array or a tuple of them. `widest` is how
    many times as wide as the first array the widest intermediate is.
    """
    first = arrays[0]
    if type(first) is not np.ndarray or first.nbytes * widest <= 2 * BLOCK_BYTES:
        return function(*arrays)
    n_axes = first.ndim - 1 if n_axes is None else n_axes
    leading = first.shape[:n_axes]
    n = math.prod(leading)
    arrays = [x.reshape(n, *x.shape[n_axes:]) for x in arrays]
    step = max(1, int(BLOCK_BYTES * n / (first.nbytes * widest)))
    results = None
    for start in range(0, n, step):
        rows = slice(start, start + step)
        found = function(*(x[rows] for x in arrays))
        parts = found if isinstance(found, tuple) else (found,)
        if results is None:
            results = [np.empty((n, *part.shape[1:]), part.dtype) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[rows] = part
    results = [result.reshape(*leading, *result.shape[1:]) for result in results]
    return tuple(results) if isinstance(found, tuple) else results[0]
