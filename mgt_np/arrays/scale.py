"""Take the scale out of an array, so that its squares stay in range."""

import math

import numpy as np
from autograd.tracer import getval, isbox

from .boxes import on_host
from .namespace import array_namespace, concrete, library_of


def held(x):
    """Return an array as a constant: no gradient flows through it, ours, JAX's or PyTorch's."""
    x = getval(x)
    library = library_of(x)
    return x if library is None else library.held(x)


def largest(xp, x, axis):
    """Return max x along an axis, which stays: what is subtracted before exponentials are taken.

    The result does not depend on it, so that JAX and PyTorch take no gradient of it: JAX's is 0/0
    where a compiler computes x twice and differently. Ours stays. It cancels what rounding leaves
    of the sum of a softmax's gradient, which is zero.
    """
    found = xp.max(x, axis=axis, keepdims=True)
    return found if isbox(found) else held(found)


def log_sum_exp(xp, x, axis):
    """Return log Σ exp x along an axis, which stays."""
    shift = largest(xp, x, axis)
    return shift + xp.log(xp.sum(xp.exp(x - shift), axis=axis, keepdims=True))


def squares_are_finite(x):
    """Say whether the host knows that Σ x² is finite: then nothing in x is NaN or infinite."""
    if type(x) is np.ndarray:
        return math.isfinite(np.vdot(x, x))
    if not on_host(x):
        return False
    x = concrete(x)
    xp = array_namespace(x)
    try:
        return bool(xp.all(xp.abs(x) < 1e15))
    except RuntimeError:  # torch.func.vmap, under which there are no values to look at
        return False


def magnitude(x, axis):
    """Return the largest |x| along these axes, which stay; 1 where all are 0. A constant.

    What x is divided by before it is squared: in float32 the squares of 1e20 and 1e-30 are ∞ and 0.
    A function f with f(cx) = c f(x) or f(cx) = f(x) has the same derivatives by way of
    x/`magnitude(x)`, with the magnitude held.
    """
    x = held(x)
    xp = array_namespace(x)
    found = xp.max(xp.abs(x), axis=axis, keepdims=True)
    return xp.where(found == 0.0, 1.0, found)
