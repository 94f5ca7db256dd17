"""Is this gradient right? Central differences, of first and second derivatives."""

import numpy as np

from mgt_np import grad, value_and_grad
from mgt_np.arrays import array_namespace


def weighted(function, R):
    """`Σ (R + y/2) y` with y = function(*arrays): one number, as a function of the list of arrays.

    Through the square the incoming gradient, R + y, depends on the arrays too, so that second
    derivatives say something where the function is linear.
    """

    def scalar(arrays):
        y = function(*arrays)
        xp = array_namespace(y)
        return xp.sum(xp.multiply(y, xp.add(R, xp.multiply(y, 0.5))))

    return scalar


def _dot(gradients, directions):
    """`Σ ⟨gradient, direction⟩`, traced or not."""
    xp = array_namespace(*gradients)
    return sum(xp.sum(xp.multiply(g, v)) for g, v in zip(gradients, directions, strict=True))


def _move(arrays, directions, h):
    return [x + h * v for x, v in zip(arrays, directions, strict=True)]


def _directions(arrays, rng, symmetric):
    directions = [rng.standard_normal(np.shape(x)) for x in arrays]
    return [v + np.swapaxes(v, -1, -2) for v in directions] if symmetric else directions


def _slope(function, arrays, directions, h):
    """The derivative of a scalar function along the directions; it errs by h⁴ (five points)."""
    near, far = (
        float(function(_move(arrays, directions, s)))
        - float(function(_move(arrays, directions, -s)))
        for s in (h, 2.0 * h)
    )
    return (8.0 * near - far) / (12.0 * h)


def _size(arrays):
    """The length of all arrays as one vector: a random direction's slope is about that of ∇f."""
    return max(float(np.sqrt(sum(np.sum(np.square(x)) for x in arrays))), 1e-3)


def check_gradient(function, *arrays, rng, order=2, tolerance=1e-8, symmetric=False, step=1e-4):
    """Hold the gradient of `function(*arrays)`, NumPy float64, to central differences.

    In random directions, first and (for `order=2`) second order; the error is at most `tolerance`
    times the length of the gradient. `symmetric` moves matrices within the symmetric ones.
    """
    arrays = [np.asarray(x, dtype=np.float64) for x in arrays]
    R = rng.standard_normal(np.shape(function(*arrays)))
    scalar = weighted(function, R)
    v, u = _directions(arrays, rng, symmetric), _directions(arrays, rng, symmetric)

    gradient = grad(scalar)(arrays)
    error = abs(float(_dot(gradient, v)) - _slope(scalar, arrays, v, step)) / _size(gradient)
    assert error <= tolerance, f"first order: relative error {error:.1e}"

    if order < 2:
        return
    along_v = lambda arrays: _dot(grad(scalar)(arrays), v)  # noqa: E731
    gradient = grad(along_v)(arrays)
    error = abs(float(_dot(gradient, u)) - _slope(along_v, arrays, u, step)) / _size(gradient)
    assert error <= tolerance, f"second order: relative error {error:.1e}"


def gradients_on(library, function, arrays, R):
    """Value and gradients of `weighted` with everything on that library's device."""
    scalar = weighted(function, library.asarray(R))
    return value_and_grad(scalar)([library.asarray(x) for x in arrays])
