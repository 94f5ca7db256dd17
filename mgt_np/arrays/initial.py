"""Initial parameters: NumPy arrays from a NumPy generator, so that every library starts alike."""

import math

import numpy as np


def normal(rng, shape, scale="lecun", dtype="float64"):
    """Draw a weight matrix (..., d_in, d_out) from N(0, σ²).

    `scale` is σ itself, or "lecun" for σ = 1/√d_in (LeCun et al., Efficient BackProp, 1998), which
    keeps the variance of what passes through. Drawn in float64, then rounded to `dtype`.
    """
    if scale == "lecun":
        std = 1.0 / math.sqrt(shape[-2])
    elif isinstance(scale, int | float) and scale >= 0:
        std = scale
    else:
        raise ValueError(f"expected scale to be 'lecun' or a number ≥ 0, got {scale!r}")
    return (std * rng.standard_normal(shape)).astype(dtype)


def constant(value, shape=(), dtype="float64"):
    """Return a NumPy array filled with `value`."""
    return np.full(shape, value, dtype=dtype)


def normals(rng, scale, dtype, **shapes):
    """Draw a weight matrix for each name and shape, one after the other."""
    return {name: normal(rng, shape, scale, dtype) for name, shape in shapes.items()}


def constants(value, dtype, **shapes):
    """Return an array filled with `value` for each name and shape."""
    return {name: constant(value, shape, dtype) for name, shape in shapes.items()}


class ZeroGenerator(np.random.Generator):
    """A generator that draws nothing: every number is 0, and its children are itself.

    What is drawn with it has the shapes of parameters, at the price of zeros.
    """

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def spawn(self, n_children):
        return [self] * n_children

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return np.zeros(size, dtype)

    def uniform(self, low=0.0, high=1.0, size=None):
        return np.zeros(size)
