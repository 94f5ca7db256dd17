"""Take out the scale of an array, so that squares stay in range: constants of a calculation."""

from autograd.tracer import getval

from mgt_np.arrays import array_namespace


def held(x):
    """Return the values of an array, through which no gradient flows."""
    return getval(x)


def magnitude(x, axis):
    """Return the largest |x| along these axes, which stay; 1 where all are 0. A constant.

    What x is divided by before it is squared: in float32 the squares of 1e20 and 1e-30 are ∞ and 0.
    A function that does not change with the scale of x has the same gradient by way of
    x/`magnitude(x)`, with the magnitude held.
    """
    x = held(x)
    xp = array_namespace(x)
    largest = xp.max(xp.abs(x), axis=axis, keepdims=True)
    return xp.where(largest == 0.0, 1.0, largest)
