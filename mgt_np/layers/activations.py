"""Elementwise nonlinearities, and softmax."""

import math

from mgt_np.arrays import fusable, in_blocks, normal_cdf, normal_cdf_float32, operands
from mgt_np.arrays.checks import one_of


def sigmoid(x):
    """Squash each element into (0, 1).

        σ(x) = 1/(1 + e⁻ˣ) = eˣ/(1 + eˣ)

    Shapes: any. Of the two forms the one whose exponential is at most 1 is computed, so that
    nothing overflows and small values keep all their digits. σ(x) + σ(−x) = 1.
    """
    xp, x = operands(x=x)
    small = xp.exp(xp.where(x < 0.0, x, -x))
    return xp.where(x < 0.0, small, 1.0) / (1.0 + small)


def relu(x):
    """Keep what is positive: max(x, 0). Its slope at 0 is taken as 0.

    Shapes: any. relu(x) − relu(−x) = x.
    """
    xp, x = operands(x=x)
    return xp.where(x <= 0.0, 0.0, x)


@fusable
def silu(x):
    """Weigh each element by its own sigmoid: x σ(x) (Hendrycks & Gimpel, 1606.08415, §4).

    Shapes: any. silu(x) − silu(−x) = x.
    """
    _, x = operands(x=x)
    return x * sigmoid(x)


@fusable
def gelu(x, *, approximate="none"):
    """Weigh each element by the normal distribution function (Hendrycks & Gimpel, 1606.08415).

        gelu(x) = x Φ(x)                                          approximate="none"
                ≈ ½ x (1 + tanh √(2/π) (x + 0.044715 x³))         approximate="tanh"

    Shapes: any. The names of the two are PyTorch's. gelu(x) − gelu(−x) = x.
    Raises ValueError for another `approximate`.
    """
    one_of(("none", "tanh"), approximate=approximate)
    xp, x = operands(x=x)
    if approximate == "none":
        return x * normal_cdf(x)
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + xp.tanh(inner))


ACTIVATIONS = {"gelu": gelu, "relu": relu, "sigmoid": sigmoid, "silu": silu}


def softmax(x, *, axis=-1):
    """Turn scores into positive weights that sum to one along `axis`.

        softmax(x)ᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)

    Shapes: any. Computed from x − max x, which changes nothing and cannot overflow: adding a
    constant to all scores gives the same weights. Of no scores it makes no weights.
    """
    xp, x = operands(x=x)
    if 0 in x.shape:  # which has no maximum
        return xp.exp(x)
    weights = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return weights / xp.sum(weights, axis=axis, keepdims=True)


# ---- fused: gelu and silu are x F(x) for a distribution F, and their slope is F(x) + x F'(x)


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


def _fuse(layer):
    weight, slope = WEIGHTS[layer.__name__]

    def forward(xp, x, *, approximate="none"):
        if approximate != "none":
            return None

        def weighed(x):
            F = weight(xp, x)
            return x * F, F

        y, F = in_blocks(weighed, x)
        return y, (x, F)

    def backward(xp, g, x, F):
        return (in_blocks(lambda g, x, F: g * slope(xp, x, F), g, x, F),)

    layer.fuse(forward, backward)


_fuse(gelu)
_fuse(silu)
