"""GELU and SiLU as one node each: x F(x) for a distribution function F, with slope F + x F'."""

import math

from mgt_np.arrays import in_blocks, normal_cdf, normal_cdf_float32, squares_are_finite
from mgt_np.layers.activations import gelu, sigmoid, silu

FAR = 1e4  # beyond, F is 0 or 1 to the last digit: x F for this x instead of −∞ · 0


def normal_weight(xp, x):
    """Φ, in float32 to an absolute error of 2e-7."""
    return normal_cdf_float32(xp, x) if x.dtype == xp.float32 else normal_cdf(x)


def normal_slope(xp, x, F):
    """Φ + x φ."""
    slope = x * x
    slope *= -0.5
    slope = xp.exp(slope)
    slope *= x
    slope *= 1.0 / math.sqrt(2.0 * math.pi)
    slope += F
    return slope


def logistic_slope(xp, x, F):
    """σ + x σ(1 − σ)."""
    slope = 1.0 - F
    slope *= x
    slope += 1.0
    slope *= F
    return slope


WEIGHTS = {
    "gelu": (normal_weight, normal_slope),
    "silu": (lambda xp, x: sigmoid(x), logistic_slope),
}


def above(xp, x, finite):
    """Return x, held to −FAR where not all of it is finite: what F is multiplied by."""
    return x if finite else xp.clip(x, -FAR, None)


def within(xp, x, finite):
    """Return x, held to ±FAR where not all of it is finite: what the slope is taken of."""
    return x if finite else xp.clip(x, -FAR, FAR)


def _fuse(layer):
    weight, slope = WEIGHTS[layer.__name__]

    def forward(xp, x, *, approximate="none"):
        if approximate != "none":
            return None

        finite = []

        def with_weight(x):
            F = weight(xp, x)
            finite.append(squares_are_finite(x))
            return above(xp, x, finite[-1]) * F, F

        y, F = in_blocks(with_weight, x)
        return y, (x, F, all(finite))

    def backward(xp, g, x, F, finite):
        pull = lambda g, x, F: g * slope(xp, within(xp, x, finite), F)  # noqa: E731
        return (in_blocks(pull, g, x, F),)

    layer.fuse(forward, backward)


_fuse(gelu)
_fuse(silu)
