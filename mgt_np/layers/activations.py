"""Elementwise nonlinearities, and softmax."""

import math

from mgt_np.arrays import array_namespace, largest, layer, normal_cdf


@layer
def sigmoid(x: "...") -> "...":
    """Return the logistic function of each element, in (0, 1).

        σ(x) = 1/(1 + e⁻ˣ) = eˣ/(1 + eˣ)

    Of the two forms the one whose exponential is at most 1 is computed, so that nothing overflows
    and small values keep all their digits. σ(x) + σ(−x) = 1.
    """
    xp = array_namespace(x)
    small = xp.exp(xp.where(x < 0.0, x, -x))
    return xp.where(x < 0.0, small, 1.0) / (1.0 + small)


@layer
def relu(x: "...") -> "...":
    """Return max(x, 0) of each element. Its slope at 0 is taken as 0.

    relu(x) − relu(−x) = x.
    """
    return array_namespace(x).where(x <= 0.0, 0.0, x)


@layer
def silu(x: "...") -> "...":
    """Return each element times its own sigmoid: x σ(x) (Hendrycks & Gimpel, 1606.08415, §4).

    silu(x) − silu(−x) = x; 0 at −∞.
    """
    return _relu_far_out(x, lambda x: x * sigmoid(x))


@layer
def gelu(x: "...", *, approximate: "'none' | 'tanh'" = "none") -> "...":
    """Return each element times its normal distribution function (Hendrycks & Gimpel, 1606.08415).

        gelu(x) = x Φ(x)                                          approximate="none"
                ≈ ½ x (1 + tanh √(2/π) (x + 0.044715 x³))         approximate="tanh"

    The names of the two are PyTorch's. gelu(x) − gelu(−x) = x; 0 at −∞.
    """
    return _relu_far_out(x, _tanh_gelu if approximate == "tanh" else lambda x: x * normal_cdf(x))


def _tanh_gelu(x):
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + array_namespace(x).tanh(inner))


def _relu_far_out(x, function):
    """`function` of x, which beyond |x| = 10⁴ is max(x, 0) to the last digit: no ∞ · 0, no ∞³."""
    xp = array_namespace(x)
    far = xp.abs(x) > 1e4
    return xp.where(far, relu(x), function(xp.where(far, 0.0, x)))


ACTIVATIONS = {"gelu": gelu, "relu": relu, "sigmoid": sigmoid, "silu": silu}


def _axis_of_x(x, axis):
    had = -x.ndim <= axis < x.ndim
    return None if had else f"expected axis to be one of the {x.ndim} axes of x, got {axis}"


@layer(requires=_axis_of_x)
def softmax(x: "...", *, axis: "int" = -1) -> "...":
    """Return positive weights that sum to one along `axis`.

        softmax(x)ᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)

    Computed from x − max x, which cannot overflow: adding a constant to all scores changes nothing.
    No scores have no weights; where all are −∞ each weight is NaN.
    Raises ValueError for an axis that x does not have.
    """
    xp = array_namespace(x)
    if 0 in x.shape:  # which has no maximum
        return xp.exp(x)
    weights = xp.exp(x - largest(xp, x, axis))
    return weights / xp.sum(weights, axis=axis, keepdims=True)
