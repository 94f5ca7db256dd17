"""Add into places of an array: the gradients of `take`, `take_along_axis` and indexing.

Written in the Array API standard, which has no scatter-add: no library's atomics, hence the same
sum in the same order everywhere, on immutable arrays too.
"""

import math

import numpy as np
from array_api_compat import is_writeable_array

from .boxes import device, on_host


def segment_sum(xp, values, places, n):
    """Sum the rows of `values` (m, c) that share a place: result (n, c), row j = Σ_{places_i = j}.

    Rows are sorted by place and summed by doubling within each run of equal places, in ⌈log₂ r⌉
    steps for a longest run of r; the last row of a run then holds its sum.
    """
    m = values.shape[0]
    if m == 0:
        return xp.zeros((n, values.shape[1]), dtype=values.dtype, device=device(values))
    order = xp.argsort(places)
    places = xp.take(places, order, axis=0)
    sums = xp.take(values, order, axis=0)
    step = 1
    while step < m:
        same = xp.expand_dims(places[step:] == places[:-step], axis=1)
        if on_host(values) and not xp.any(same):  # the other steps would add nothing
            break
        sums = xp.concat([sums[:step, :], sums[step:, :] + xp.where(same, sums[:-step, :], 0.0)])
        step *= 2
    wanted = xp.arange(n, dtype=places.dtype, device=device(values))
    last = xp.searchsorted(places, wanted, side="right") - 1
    last = xp.where(last < 0, 0, last)
    found = xp.expand_dims(xp.take(places, last, axis=0) == wanted, axis=1)
    return xp.where(found, xp.take(sums, last, axis=0), 0.0)


def untake(xp, g, indices, n, axis):
    """The gradient of `take(x, indices, axis=axis)`, where x has n entries along `axis`."""
    axis %= g.ndim - indices.ndim + 1  # the axis of x: libraries let indices have many axes
    rest = (*g.shape[:axis], *g.shape[axis + indices.ndim :])
    m = math.prod(indices.shape)
    rows = xp.moveaxis(xp.reshape(g, (*rest[:axis], m, *rest[axis:])), axis, 0)
    indices = xp.reshape(xp.where(indices < 0, indices + n, indices), (m,))
    sums = segment_sum(xp, xp.reshape(rows, (m, math.prod(rest))), indices, n)
    return xp.moveaxis(xp.reshape(sums, (n, *rest)), 0, axis)


def untake_along_axis(xp, g, indices, n, axis):
    """The gradient of `take_along_axis`: one pass over the result for each index along `axis`."""
    g, indices = xp.moveaxis(g, axis, -1), xp.moveaxis(indices, axis, -1)
    indices = xp.where(indices < 0, indices + n, indices)
    places = xp.arange(n, dtype=indices.dtype, device=device(g))
    total = xp.zeros((*g.shape[:-1], n), dtype=g.dtype, device=device(g))
    for i in range(g.shape[-1]):
        total = total + xp.where(indices[..., i : i + 1] == places, g[..., i : i + 1], 0.0)
    return xp.moveaxis(total, -1, axis)


def ungetitem(xp, g, index, shape):
    """The gradient of `x[index]` for x of this shape; indices may repeat."""
    parts = index if isinstance(index, tuple) else (index,)
    if all(type(part) in (int, slice, type(None), type(...)) for part in parts):
        result = xp.zeros(shape, dtype=g.dtype, device=device(g))
        if is_writeable_array(result):
            # The standard promises no new axes on the left of an assignment.
            index = tuple(part for part in parts if part is not None)
            result[index] = xp.reshape(g, result[index].shape)
            return result
    size = math.prod(shape)
    places = xp.reshape(xp.arange(size, device=device(g)), shape)[index]
    m = math.prod(places.shape)
    sums = segment_sum(xp, xp.reshape(g, (m, 1)), xp.reshape(places, (m,)), size)
    return xp.reshape(sums, shape)


def add_to_columns(xp, x, columns, values):
    """Return x (n, c) with `values` (n, 1) added at the place `columns` (n, 1) of each row.

    NumPy's x is written to.
    """
    if type(x) is np.ndarray:
        x[np.arange(x.shape[0]), columns[:, 0]] += values[:, 0]
        return x
    places = xp.arange(x.shape[1], dtype=columns.dtype, device=device(x))
    return x + xp.where(columns == places, values, xp.zeros_like(values))
