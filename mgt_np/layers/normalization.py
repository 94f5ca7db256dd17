"""Layer norm and RMS norm, over the last axis."""

from mgt_np.arrays import operands
from mgt_np.arrays.checks import at_least, same_size
from mgt_np.arrays.initial import constant


def layer_norm(x, gain=None, bias=None, *, eps=1e-5):
    """Centre each token and scale it to unit variance (Ba, Kiros & Hinton, 1607.06450, eq. 4).

        LN(x) = (x − μ)/√(σ² + ε) ⊙ gain + bias,    μ, σ² the mean and biased variance of x

    Shapes: x (..., d), gain (d), bias (d). Without gain and bias the result has mean 0 and, for
    ε = 0, variance 1; a token of equal features becomes 0.
    """
    xp, x, gain, bias = operands(x=x, gain=gain, bias=bias)
    _same_features(x, gain=gain, bias=bias)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)
    y = centred / xp.sqrt(variance + eps)
    if gain is not None:
        y = y * gain
    return y if bias is None else y + bias


def rms_norm(x, gain=None, *, eps=1e-6):
    """Scale each token to unit root mean square (Zhang & Sennrich, 1910.07467, eq. 4).

        RMS(x) = x/√(mean(x²) + ε) ⊙ gain

    Shapes: x (..., d), gain (d). Every token keeps its direction, so that a matrix of tokens keeps
    its rank.
    """
    xp, x, gain = operands(x=x, gain=gain)
    _same_features(x, gain=gain)
    y = x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    return y if gain is None else y * gain


def _same_features(x, **vectors):
    at_least(1, x=x)
    for name, vector in vectors.items():
        if vector is None:
            continue
        if vector.ndim != 1:
            raise ValueError(f"expected {name} to be a vector, got shape {tuple(vector.shape)}")
        same_size("features", **{name: vector.shape[0], "x": x.shape[-1]})


def init_layer_norm(d, *, dtype="float64"):
    """Return gain = 1 and bias = 0 for `layer_norm`, as NumPy arrays."""
    return {"gain": constant(1.0, d, dtype), "bias": constant(0.0, d, dtype)}


def init_rms_norm(d, *, dtype="float64"):
    """Return gain = 1 for `rms_norm`, as a NumPy array."""
    return {"gain": constant(1.0, d, dtype)}
