"""Deep Delta Learning (2601.00417): a residual connection that erases before it writes.

A sub-layer's output names a direction k, a gate says how much of what the state holds along k to
replace, and by what: X' = X + β k (vᵀ − kᵀX). The state of a token is a vector, or a matrix of d_v
value channels that a compressor reads as one vector. The authors' code is
yifanzhang-pro/deep-delta-learning, 2b55f25. Lesson 05.
"""

import math

from mgt_np.arrays import Choice, array_namespace, device, layer
from mgt_np.arrays.initial import constant, constants, normal, normals
from mgt_np.arrays.options import parse

from .activations import sigmoid
from .delta import delta_update, unit_direction
from .linear import linear

VALUES = {
    "linear": lambda z: z,
    "sigmoid4": lambda z: 4.0 * sigmoid(z),
    "constant": lambda z: 2.0 * array_namespace(z).ones_like(z),
}


def _gate_of_the_context(context, W_beta, W_hidden, b_hidden, **_):
    """W_β meets the hidden layer, which the signature says, or else the context."""
    d, rows = context.shape[-1], W_beta.shape[0]
    if W_hidden is None and b_hidden is not None:
        return "expected W_hidden beside b_hidden, got None"
    if W_hidden is None and rows != d:
        return f"expected W_beta with a row for each of the {d} features of context, got {rows}"
    return None


@layer(requires=_gate_of_the_context, d="features", h="hidden features")
def delta_gate(
    context: "... d",
    W_beta: "h 1",
    b_beta: "1" = None,
    W_hidden: "d h" = None,
    b_hidden: "h" = None,
) -> "...":
    """Return β: how much of the state's component along k̂ is replaced.

        β = 2σ(c W_β + b_β)                          one layer            (DDL, July 2026)
        β = 2σ(tanh(c W_h + b_h) W_β + b_β)          two, with W_hidden   (v1, A.2)

    in (0, 2). The paper has b_h, its code has not. W_β = 0, b_β = 0 give β = 1, the projection.
    """
    xp = array_namespace(context, W_beta, b_beta, W_hidden, b_hidden)
    c = context if W_hidden is None else xp.tanh(linear(context, W_hidden, b_hidden))
    return 2.0 * sigmoid(xp.squeeze(linear(c, W_beta, b_beta), axis=-1))


@layer(requires=_gate_of_the_context, d="features", h="hidden features", d_v="values")
def deep_delta_coefficients(
    k: "... d≥1",
    W_v: "d d_v",
    W_beta: "h 1",
    b_v: "d_v" = None,
    b_beta: "1" = None,
    W_hidden: "d h" = None,
    b_hidden: "h" = None,
    *,
    context: "... d",
    v_input: "... d" = None,
    v_form: Choice(VALUES) = "linear",
    eps: "float ≥ 0" = 1e-5,
    placement: "'inside' | 'outside'" = "inside",
):
    """Return the unit direction, the gate and the value that make one Deep Delta update.

        k̂ = k/√(‖k‖² + ε²),    β = 2σ(c W_β + b_β),    v = u W_v + b_v

    k̂ is (..., d), β (...) and v (..., d_v). What each depends on differs among the paper's versions
    and codes, so all of it is an argument: `k` the sub-layer's output (authors' code, "k-map") or
    that of a map beside it ("v-map"); `context` the c that β reads; `v_input` the u that v reads,
    the context by default (the paper), the state (the authors' code) or the sub-layer's output
    (v-map); `v_form` "linear" (the paper), "sigmoid4" for 4σ(u W_v + b_v) (the code's default) or
    "constant" for v = 2 (the code's option; the values of W_v do not matter); `W_hidden` the gate's
    second layer, as in `delta_gate`; `eps` (1e-5 in the code) and `placement` as in
    `unit_direction` (v1's eq. 2.3 divides by ‖k‖² + ε: that is "inside" with √ε for ε).
    """
    u = context if v_input is None else v_input
    direction = unit_direction(k, eps=eps, placement=placement)
    beta = delta_gate(context, W_beta, b_beta, W_hidden, b_hidden)
    return direction, beta, VALUES[v_form](linear(u, W_v, b_v))


@layer(requires=_gate_of_the_context, d="features", h="hidden features")
def deep_delta_residual(
    x: "... d≥1",
    k: "... d",
    W_v: "d 1",
    W_beta: "h 1",
    b_v: "1" = None,
    b_beta: "1" = None,
    W_hidden: "d h" = None,
    b_hidden: "h" = None,
    *,
    context: "... d",
    v_input: "... d" = None,
    v_form: Choice(VALUES) = "linear",
    eps: "float ≥ 0" = 1e-5,
    placement: "'inside' | 'outside'" = "inside",
    erase: "bool" = True,
) -> "... d":
    """Return the state x with its component along k̂ overwritten by the scalar v.

        x' = x + β (v − k̂ᵀx) k̂                                            (DDL, eq. 3.7)

    with k̂, β and v of `deep_delta_coefficients`, here with d_v = 1. β reads `context`; v reads
    `v_input`, which by default is x itself, as in the authors' code: their paper's v = c W_v is
    `v_input=context`. `erase=False` gives the control that they ask for, which writes only:
    x' = x + β v k̂.
    The error along k̂ shrinks: k̂ᵀx' − v = (1 − β‖k̂‖²)(k̂ᵀx − v), so that β = 1 overwrites, to within
    ε²/‖k‖² of it; k = 0 changes nothing.
    """
    weights = W_v, W_beta, b_v, b_beta, W_hidden, b_hidden
    reads = {"context": context, "v_input": x if v_input is None else v_input, "v_form": v_form}
    k, beta, v = deep_delta_coefficients(k, *weights, **reads, eps=eps, placement=placement)
    xp = array_namespace(x, k, beta, v)
    beta = xp.expand_dims(beta, axis=-1)
    error = xp.subtract(v, xp.sum(k * x, axis=-1, keepdims=True)) if erase else v
    return x + beta * error * k


@layer(requires=_gate_of_the_context, d="features", h="hidden features", d_v="values")
def deep_delta_expanded(
    X: "... d≥1 d_v",
    k: "... d",
    W_v: "d d_v",
    W_beta: "h 1",
    b_v: "d_v" = None,
    b_beta: "1" = None,
    W_hidden: "d h" = None,
    b_hidden: "h" = None,
    *,
    context: "... d",
    v_input: "... d" = None,
    v_form: Choice(VALUES) = "linear",
    eps: "float ≥ 0" = 1e-5,
    placement: "'inside' | 'outside'" = "inside",
    erase: "bool" = True,
) -> "... d d_v":
    """Return a state of several value channels with what it holds along k̂ overwritten by v.

        X' = X + β k̂ (vᵀ − k̂ᵀX)                                           (DDL, eq. 2.5)

    with k̂, β and v of `deep_delta_coefficients`; v reads `v_input`, which by default is the context
    (the paper; the authors' code gives it the compressed state instead). `erase=False` writes only:
    X' = X + β k̂ vᵀ. d_v = 1 is `deep_delta_residual`; k = 0 changes nothing.
    """
    weights = W_v, W_beta, b_v, b_beta, W_hidden, b_hidden
    reads = {"context": context, "v_input": v_input, "v_form": v_form}
    k, beta, v = deep_delta_coefficients(k, *weights, **reads, eps=eps, placement=placement)
    if erase:
        return delta_update(X, k, v, beta)
    return X + delta_update(array_namespace(X).zeros_like(X), k, v, beta)


def _same_channels(x, kernel, **_):
    """Channels of x are those of the kernel, or 1 on either side."""
    n = kernel.ndim - 1
    channels = tuple(x.shape[-n:]), tuple(kernel.shape[:-1])
    if x.ndim <= n or any(a != b and 1 not in (a, b) for a, b in zip(*channels, strict=True)):
        return (
            "expected x (..., tokens, channels) and kernel (channels, S), "
            f"got shapes {tuple(x.shape)} and {tuple(kernel.shape)}"
        )
    return None


@layer(requires=_same_channels, N="tokens", S="taps")
def short_convolution(
    x: "... N #d | ... N #d #d_v", kernel: "#d S≥1 | #d #d_v S≥1"
) -> "... N d | ... N d d_v":
    """Return each channel mixed with its own past: a causal convolution over tokens.

        y_t = Σ_s kernel_s ⊙ x_{t−s},    s = 0 … S − 1, nothing before the first token

    The channels are the axes of `kernel` but the last, which runs into the past (`torch.nn.Conv1d`
    stores it the other way round). An axis of one channel in x or kernel broadcasts: x
    (..., N, d, 1) with kernel (d, d_v, S) is DDL's expansion by convolution, EC, of embeddings to
    d_v channels. A kernel of ones at s = 0 and zeros elsewhere changes nothing.
    """
    xp = array_namespace(x, kernel)
    n = kernel.ndim - 1
    axis = x.ndim - n - 1
    taps = xp.unstack(kernel, axis=-1)
    y = x * taps[0]
    place = xp.reshape(xp.arange(x.shape[axis], device=device(x)), (-1, *(1,) * n))
    for s, tap in enumerate(taps[1:], start=1):
        y = y + xp.where(place >= s, xp.roll(x, s, axis=axis), 0.0) * tap
    return y


def channel_sizes(name, value):
    """Return a size, or a tuple of them, as a tuple: an option's value at the door."""
    sizes = value if isinstance(value, tuple) else (value,)
    return tuple(parse("int ≥ 1")(name, size) for size in sizes)


@layer
def init_short_convolution(
    rng: "generator",
    channels: channel_sizes,
    size: "int ≥ 1" = 4,
    *,
    start: "'identity' | 'normal' | 'uniform'" = "identity",
    dtype: "dtype" = "float64",
):
    """Return a kernel (*channels, size) for `short_convolution`, as a NumPy array.

    `channels` is d, or (d, d_v). `start` is "identity" for 1 at s = 0 and 0 elsewhere (the paper of
    July 2026; EC alone in the authors' code), "normal" for N(0, (0.5/√d)²) (compressors and
    read-out in their code, since the model's initialisation overwrites every weight of two axes or
    more) or "uniform" for U(−1/√size, 1/√size) (what their modules draw before that).
    """
    shape, bound = (*channels, size), 1.0 / math.sqrt(size)
    if start == "normal":
        return {"kernel": normal(rng, shape, 0.5 / math.sqrt(channels[0]), dtype)}
    if start == "uniform":
        return {"kernel": rng.uniform(-bound, bound, shape).astype(dtype)}
    kernel = constant(0.0, shape, dtype)
    kernel[..., 0] = 1.0
    return {"kernel": kernel}


@layer(d="features", d_v="channels")
def compress_channels(X: "... d d_v", C: "d d_v") -> "... d":
    """Return a state of several value channels read as one vector: DDL's compressor CC.

        x_i = Σ_j C_ij X_ij

    That is the paper's form; the authors' code first convolves over the channels
    (`convolve_and_compress_channels`). C = 1/d_v gives the mean.
    """
    return array_namespace(X, C).sum(X * C, axis=-1)


@layer
def init_compress_channels(d: "int ≥ 1", d_v: "int ≥ 1", *, dtype: "dtype" = "float64"):
    """Return C = 1/d_v for `compress_channels`, as a NumPy array (d, d_v).

    To start as the mean is ours. The authors' code starts its form of CC with kernels from
    N(0, (0.5/√d)²) and w = 1/d_v: a small random factor per feature where all channels are equal.
    """
    return {"C": constant(1.0 / d_v, (d, d_v), dtype)}


@layer(d="features", d_v="channels", S="taps")
def convolve_and_compress_channels(X: "... d d_v", kernel: "d S≥1", w: "d_v") -> "... d":
    """Return a state convolved over its value channels, then read as one vector: CC in code.

        x_i = Σ_j w_j Σ_m kernel_im X_{i, j+m−⌊(S−1)/2⌋},    0 outside the channels

    as the authors' code has it, which runs for S = d_v only. It is `compress_channels` with a C of
    rank S at most; S = 1 gives C = kernel wᵀ. The code's start is the kernel of
    `init_short_convolution(rng, d, d_v, start="normal")` and w = 1/d_v.
    """
    xp = array_namespace(X, kernel, w)
    d_v, S = w.shape[0], kernel.shape[1]
    zeros = xp.zeros((S,), dtype=w.dtype, device=device(w))
    padded = xp.concat([zeros[: S // 2], w, zeros[: (S - 1) // 2]])
    shifted = xp.stack([padded[S - 1 - m : S - 1 - m + d_v] for m in range(S)])
    return compress_channels(X, xp.matmul(kernel, shifted))


@layer(d="features", d_v="channels", N="tokens", S="taps")
def compress_tokens(X: "... N d d_v", kernel: "d d_v S≥1", w: "d_v") -> "... N d":
    """Return a state of several value channels, with its past, read as one vector: DDL's TC.

        x_{t,i} = Σ_j w_j Σ_s kernel_{i,j,s} X_{t−s,i,j}

    with the kernel of `short_convolution`. S = 1 is `compress_channels` with C = kernel w.
    """
    return array_namespace(X, kernel, w).sum(short_convolution(X, kernel) * w, axis=-1)


@layer
def init_compress_tokens(
    rng: "generator",
    d: "int ≥ 1",
    d_v: "int ≥ 1",
    size: "int ≥ 1" = 4,
    *,
    start: "'identity' | 'normal' | 'uniform'" = "identity",
    dtype: "dtype" = "float64",
):
    """Return the kernel of `init_short_convolution` and w = 1/d_v for `compress_tokens`.

    To start as the mean, by start="identity", is ours: the authors' code starts from "normal", and
    w = 1/d_v.
    """
    convolution = init_short_convolution(rng, (d, d_v), size, start=start, dtype=dtype)
    return convolution | {"w": constant(1.0 / d_v, d_v, dtype)}


@layer
def init_delta_gate(
    rng: "generator",
    d: "int ≥ 1",
    *,
    beta_init: "float in [0, 2]" = 1.0,
    hidden: "int ≥ 0" = 0,
    scale: "'lecun' | float ≥ 0" = "lecun",
    dtype: "dtype" = "float64",
):
    """Return the parameters of `delta_gate`: weights from N(0, scale²), b_β = logit(β₀/2).

    `beta_init` is β₀, the gate's value where its weights are zero; 1 in the authors' code, which
    clamps β₀/2 to [1e-6, 1 − 1e-6], as is done here. `hidden` is the width of the second layer, 0
    for one layer (the code's default; its two-layer gate has 128).
    """
    half = min(max(beta_init / 2.0, 1e-6), 1.0 - 1e-6)
    params = normals(rng, scale, dtype, W_beta=(hidden or d, 1))
    params |= constants(math.log(half / (1.0 - half)), dtype, b_beta=1)
    if hidden:
        params |= normals(rng, scale, dtype, W_hidden=(d, hidden))
        params |= constants(0.0, dtype, b_hidden=hidden)
    return params


@layer
def init_deep_delta_residual(
    rng: "generator",
    d: "int ≥ 1",
    *,
    beta_init: "float in [0, 2]" = 1.0,
    hidden: "int ≥ 0" = 0,
    scale: "'lecun' | float ≥ 0" = "lecun",
    dtype: "dtype" = "float64",
):
    """Return the parameters of `deep_delta_residual` for states of width d, as NumPy arrays.

    Those of `init_deep_delta_expanded` for d_v = 1.
    """
    options = {"beta_init": beta_init, "hidden": hidden, "scale": scale, "dtype": dtype}
    return init_deep_delta_expanded(rng, d, 1, **options)


@layer
def init_deep_delta_expanded(
    rng: "generator",
    d: "int ≥ 1",
    d_v: "int ≥ 1" = 4,
    *,
    beta_init: "float in [0, 2]" = 1.0,
    hidden: "int ≥ 0" = 0,
    scale: "'lecun' | float ≥ 0" = "lecun",
    dtype: "dtype" = "float64",
):
    """Return the parameters of `deep_delta_expanded` for d_v value channels, 4 in the paper.

    W_v from N(0, scale²) and b_v = 0, the gate's from `init_delta_gate`. LeCun's scale 1/√d is
    ours: the authors' code has 0.5/√d. b_v = 0 is ours too: the paper's v has no bias, the code's
    is drawn from U(−1/√d, 1/√d), the default of `torch.nn.Linear`.
    """
    value = normals(rng, scale, dtype, W_v=(d, d_v)) | constants(0.0, dtype, b_v=d_v)
    gate = init_delta_gate(rng, d, beta_init=beta_init, hidden=hidden, scale=scale, dtype=dtype)
    return value | gate
