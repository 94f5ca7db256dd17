"""Take the scale out of an array, so that its squares stay in range."""

from autograd.tracer import getval

from .namespace import array_namespace, library_of


def held(x):
    """Return an array as a constant: no gradient flows through it, ours, JAX's or PyTorch's."""
    x = getval(x)
    library = library_of(x)
    return x if library is None else library.held(x)


def magnitude(x, axis):
    """Return the largest |x| along these axes, which stay; 1 where all are 0. A constant.

    What x is divided by before it is squared: in float32 the squares of 1e20 and 1e-30 are ∞ and 0.
    A function f with f(cx) = c f(x) or f(cx) = f(x) has the same derivatives by way of
    x/`magnitude(x)`, with the magnitude held.
    """
    x = held(x)
    xp = array_namespace(x)
    largest = xp.max(xp.abs(x), axis=axis, keepdims=True)
    return xp.where(largest == 0.0, 1.0, largest)
