"""Turn many small matrices inside out: what is done to each of them is then done to long rows."""

import math

import numpy as np


def matrices_inside_out(xp, x):
    """Return x (..., n, m) as (n, m, T): entry by entry, each a row of the T matrices' values.

    A sum over n or m then adds whole rows, in NumPy ten times as fast as sums of four numbers.
    """
    n, m = x.shape[-2:]
    rows = xp.reshape(x, (math.prod(x.shape[:-2]), n * m))
    return xp.reshape(_transposed(xp, rows), (n, m, rows.shape[0]))


def matrices_outside_in(xp, x, leading):
    """Undo `matrices_inside_out` for matrices with these leading axes."""
    n, m, T = x.shape
    return xp.reshape(_transposed(xp, xp.reshape(x, (n * m, T))), (*leading, n, m))


def _transposed(xp, x):
    return np.ascontiguousarray(x.T) if type(x) is np.ndarray else xp.matrix_transpose(x)
