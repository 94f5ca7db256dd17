"""Elementwise nonlinearities, and softmax."""

import math

from mgt_np.arrays import normal_cdf, operands
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


def silu(x):
    """Weigh each element by its own sigmoid: x σ(x) (Hendrycks & Gimpel, 1606.08415, §4).

    Shapes: any. silu(x) − silu(−x) = x.
    """
    _, x = operands(x=x)
    return x * sigmoid(x)


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
    constant to all scores gives the same weights.
    """
    xp, x = operands(x=x)
    weights = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return weights / xp.sum(weights, axis=axis, keepdims=True)
