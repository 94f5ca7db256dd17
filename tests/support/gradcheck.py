"""Is this gradient right? Central differences, second derivatives, and the Taylor remainder."""

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


def relative(error, scale):
    return abs(error) / max(abs(scale), 1e-3)


def check_gradient(function, *arrays, rng, order=2, tolerance=1e-7, symmetric=False, step=1e-5):
    """Hold the gradient of `function(*arrays)`, NumPy float64, to central differences.

    In random directions, first and (for `order=2`) second order, relative error ≤ `tolerance`.
    `symmetric` moves matrices within the symmetric ones.
    """
    arrays = [np.asarray(x, dtype=np.float64) for x in arrays]
    R = rng.standard_normal(np.shape(function(*arrays)))
    scalar = weighted(function, R)
    v, u = _directions(arrays, rng, symmetric), _directions(arrays, rng, symmetric)

    slope = float(_dot(grad(scalar)(arrays), v))
    plus, minus = (float(scalar(_move(arrays, v, h))) for h in (step, -step))
    error = relative(slope - (plus - minus) / (2 * step), slope)
    assert error <= tolerance, f"first order: relative error {error:.1e}"

    if order < 2:
        return
    along_v = lambda arrays: _dot(grad(scalar)(arrays), v)  # noqa: E731
    curvature = float(_dot(grad(along_v)(arrays), u))
    plus, minus = (float(along_v(_move(arrays, u, h))) for h in (step, -step))
    error = relative(curvature - (plus - minus) / (2 * step), curvature)
    assert error <= tolerance, f"second order: relative error {error:.1e}"


def taylor_slope(function, *arrays, rng, steps=None, symmetric=False):
    """The slope of log |f(x + hv) − f(x) − h⟨∇f, v⟩| over log h: 2 where ∇f is right."""
    arrays = [np.asarray(x, dtype=np.float64) for x in arrays]
    R = rng.standard_normal(np.shape(function(*arrays)))
    scalar = weighted(function, R)
    v = _directions(arrays, rng, symmetric)
    value, gradient = value_and_grad(scalar)(arrays)
    slope = _dot(gradient, v)
    steps = np.logspace(-3, -5, 9) if steps is None else steps
    remainders = [abs(scalar(_move(arrays, v, h)) - value - h * slope) for h in steps]
    return np.polyfit(np.log(steps), np.log(remainders), 1)[0]


def gradients_on(library, function, arrays, R):
    """Value and gradients of `weighted` with everything on that library's device."""
    scalar = weighted(function, library.asarray(R))
    return value_and_grad(scalar)([library.asarray(x) for x in arrays])
