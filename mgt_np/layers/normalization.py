"""Layer norm and RMS norm, over the last axis."""

from mgt_np.arrays import (
    fusable,
    in_blocks,
    mean_of_features,
    operands,
    sum_of_rows,
)
from mgt_np.arrays.checks import at_least, number, same_size
from mgt_np.arrays.initial import constant


@fusable
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
    y = centred / xp.sqrt(variance + number(eps))
    if gain is not None:
        y = y * gain
    return y if bias is None else y + bias


@fusable
def rms_norm(x, gain=None, *, eps=1e-6):
    """Scale each token to unit root mean square (Zhang & Sennrich, 1910.07467, eq. 4).

        RMS(x) = x/√(mean(x²) + ε) ⊙ gain

    Shapes: x (..., d), gain (d). Every token keeps its direction, so that a matrix of tokens keeps
    its rank.
    """
    xp, x, gain = operands(x=x, gain=gain)
    _same_features(x, gain=gain)
    y = x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + number(eps))
    return y if gain is None else y * gain


def _same_features(x, **vectors):
    at_least(1, x=x)
    for name, vector in vectors.items():
        if vector is None:
            continue
        if isinstance(vector, int | float):
            raise TypeError(f"expected {name} to be an array, got {vector!r}")
        if vector.ndim != 1:
            raise ValueError(f"expected {name} to be a vector, got shape {tuple(vector.shape)}")
        same_size("features", **{name: vector.shape[0], "x": x.shape[-1]})


def normalized(xp, x, eps):
    """Return x̂ = (x − μ)/√(σ² + ε) and 1/√(σ² + ε)."""
    centred = x - mean_of_features(xp, x)
    centred -= mean_of_features(xp, centred)  # what the first mean lost by rounding
    scale = mean_of_features(xp, centred * centred)
    scale += eps
    scale **= -0.5
    centred *= scale
    return centred, scale


def normalized_gradient(xp, g, normed, scale):
    """Return (g − mean g − x̂ mean(g ⊙ x̂))/√(σ² + ε), what x̂'s gradient g says of x."""
    along = normed * mean_of_features(xp, g * normed)
    along += mean_of_features(xp, g)
    along = g - along
    along *= scale
    return along


def _layer_norm_forward(xp, x, gain, bias, *, eps):
    if not _fit(x, gain, bias):
        return None

    def of_rows(x):
        normed, scale = normalized(xp, x, eps)
        y = normed if gain is None else normed * gain
        return y if bias is None else y + bias, normed, scale

    y, normed, scale = in_blocks(of_rows, x)
    return y, (normed, scale, gain, bias)


def _layer_norm_backward(xp, g, normed, scale, gain, bias):
    of_gain = []

    def of_rows(g, normed, scale):
        if gain is not None:
            of_gain.append(sum_of_rows(xp, g * normed))
            g = g * gain
        return normalized_gradient(xp, g, normed, scale)

    dx = in_blocks(of_rows, g, normed, scale)
    return (
        dx,
        None if gain is None else sum(of_gain),
        None if bias is None else sum_of_rows(xp, g),
    )


layer_norm.fuse(_layer_norm_forward, _layer_norm_backward)


def _rms_norm_forward(xp, x, gain, *, eps):
    if not _fit(x, gain):
        return None
    scale = mean_of_features(xp, x * x)
    scale += eps
    scale **= -0.5
    normed = x * scale
    return normed if gain is None else normed * gain, (normed, scale, gain)


def _rms_norm_backward(xp, g, normed, scale, gain):
    """dx = (g' − x̂ mean(g' ⊙ x̂))/√(mean(x²) + ε) for g' = g ⊙ gain."""
    along = g if gain is None else g * gain
    dx = normed * mean_of_features(xp, along * normed)
    dx = along - dx
    dx *= scale
    return dx, None if gain is None else sum_of_rows(xp, g * normed)


rms_norm.fuse(_rms_norm_forward, _rms_norm_backward)


def _fit(x, *vectors):
    return x.ndim > 0 and all(v is None or tuple(v.shape) == (x.shape[-1],) for v in vectors)


def init_layer_norm(d, *, dtype="float64"):
    """Return gain = 1 and bias = 0 for `layer_norm`, as NumPy arrays."""
    return {"gain": constant(1.0, d, dtype), "bias": constant(0.0, d, dtype)}


def init_rms_norm(d, *, dtype="float64"):
    """Return gain = 1 for `rms_norm`, as a NumPy array."""
    return {"gain": constant(1.0, d, dtype)}
