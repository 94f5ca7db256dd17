"""Layer norm and RMS norm as one node each."""

from mgt_np.arrays import in_blocks, mean_of_features, sum_of_rows
from mgt_np.layers.normalization import layer_norm, rms_norm


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
    """Return (g − mean g − x̂ mean(g ⊙ x̂))/√(σ² + ε), the gradient of x given that of x̂."""
    along = normed * mean_of_features(xp, g * normed)
    along += mean_of_features(xp, g)
    along = g - along
    along *= scale
    return along


def layer_norm_forward(xp, x, gain, bias, *, eps):
    """Return LN(x), and x̂ and 1/√(σ² + ε) for its gradient."""

    def norm_rows(x):
        normed, scale = normalized(xp, x, eps)
        y = normed if gain is None else normed * gain
        return y if bias is None else y + bias, normed, scale

    y, normed, scale = in_blocks(norm_rows, x)
    return y, (normed, scale, gain, bias)


def layer_norm_backward(xp, g, normed, scale, gain, bias):
    """dgain = Σ g ⊙ x̂, dbias = Σ g; dx is `normalized_gradient` of g ⊙ gain."""
    gain_sums = []

    def pull_rows(g, normed, scale):
        if gain is not None:
            gain_sums.append(sum_of_rows(xp, g * normed))
            g = g * gain
        return normalized_gradient(xp, g, normed, scale)

    dx = in_blocks(pull_rows, g, normed, scale)
    return (
        dx,
        None if gain is None else sum(gain_sums),
        None if bias is None else sum_of_rows(xp, g),
    )


layer_norm.fuse(layer_norm_forward, layer_norm_backward)


def rms_norm_forward(xp, x, gain, *, eps):
    """Return RMS(x), and x̂ and 1/√(mean x² + ε) for its gradient."""
    scale = mean_of_features(xp, x * x)
    scale += eps
    scale **= -0.5
    normed = x * scale
    return normed if gain is None else normed * gain, (normed, scale, gain)


def rms_norm_backward(xp, g, normed, scale, gain):
    """dx = (g' − x̂ mean(g' ⊙ x̂))/√(mean(x²) + ε) for g' = g ⊙ gain; dgain = Σ g ⊙ x̂."""
    along = g if gain is None else g * gain
    dx = normed * mean_of_features(xp, along * normed)
    dx = along - dx
    dx *= scale
    return dx, None if gain is None else sum_of_rows(xp, g * normed)


rms_norm.fuse(rms_norm_forward, rms_norm_backward)
