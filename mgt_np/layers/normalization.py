"""Layer norm and RMS norm, over the last axis. Lesson 02."""

from mgt_np.arrays import array_namespace, layer
from mgt_np.arrays.initial import constants


@layer(d="features")
def layer_norm(
    x: "... d≥1", gain: "d" = None, bias: "d" = None, *, eps: "float ≥ 0" = 1e-5
) -> "... d":
    """Return each token centred and scaled to unit variance.

        LN(x) = (x − μ)/√(σ² + ε) ⊙ gain + bias       (Ba, Kiros & Hinton, 1607.06450, eq. 4)

    with μ and σ² the mean and the biased variance of the features of x. Without gain and bias the
    result has mean 0 and, for ε = 0, variance 1; a token of equal features becomes 0. σ² leaves the
    range of float32 for features beyond 1e19, that of float64 beyond 1e154.
    """
    xp = array_namespace(x, gain, bias)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)
    y = centred / xp.sqrt(variance + eps)
    if gain is not None:
        y = y * gain
    return y if bias is None else y + bias


@layer(d="features")
def rms_norm(x: "... d≥1", gain: "d" = None, *, eps: "float ≥ 0" = 1e-6) -> "... d":
    """Return each token scaled to unit root mean square.

        RMS(x) = x/√(mean(x²) + ε) ⊙ gain             (Zhang & Sennrich, 1910.07467, eq. 4)

    Every token keeps its direction, so that a matrix of tokens keeps its rank. mean(x²) leaves the
    range of float32 for features beyond 1e19, that of float64 beyond 1e154.
    """
    xp = array_namespace(x, gain)
    y = x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    return y if gain is None else y * gain


@layer
def init_layer_norm(d: "int ≥ 1", *, dtype: "dtype" = "float64"):
    """Return gain = 1 and bias = 0 for `layer_norm`, as NumPy arrays."""
    return constants(1.0, dtype, gain=d) | constants(0.0, dtype, bias=d)


@layer
def init_rms_norm(d: "int ≥ 1", *, dtype: "dtype" = "float64"):
    """Return gain = 1 for `rms_norm`, as a NumPy array."""
    return constants(1.0, dtype, gain=d)
