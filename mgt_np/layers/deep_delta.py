"""Deep Delta Learning (2601.00417): a residual connection that erases before it writes.

A sub-layer's output names a direction k, a gate says how much of what the state holds along k to
replace, and by what: X' = X + β k (vᵀ − kᵀX). The state of a token is a vector, or a matrix of d_v
value channels that a compressor reads as one vector.
"""

import math
import operator

from mgt_np.arrays import device, operands
from mgt_np.arrays.checks import at_least, one_of, same_size
from mgt_np.arrays.initial import constant, normal

from .delta import delta_update, unit_direction
from .linear import linear

V_FORMS = ("linear", "sigmoid4", "constant")


def delta_gate(context, W_beta, b_beta=None, W_hidden=None, b_hidden=None):
    """Say how much of what a state holds along a direction to replace.

        β = 2σ(c W_β + b_β)                          one layer            (DDL, July 2026)
        β = 2σ(tanh(c W_h + b_h) W_β + b_β)          two, with W_hidden   (v1, A.2)

    Shapes: context (..., d); W_beta (d, 1) or (d_h, 1), b_beta (1), W_hidden (d, d_h),
    b_hidden (d_h), which the paper has and its code has not; result (...) in (0, 2).
    W_β = 0, b_β = 0 give β = 1, the projection.
    """
    xp, *arrays = operands(
        context=context, W_beta=W_beta, b_beta=b_beta, W_hidden=W_hidden, b_hidden=b_hidden
    )
    return xp.squeeze(_gate(xp, *arrays), axis=-1)


def _gate(xp, context, W_beta, b_beta, W_hidden, b_hidden):
    if W_hidden is not None:
        context = xp.tanh(linear(context, W_hidden, b_hidden))
    logits = linear(context, W_beta, b_beta)
    if logits.shape[-1] != 1:
        raise ValueError(f"expected W_beta to have 1 column, got shape {tuple(W_beta.shape)}")
    return _twice_sigmoid(xp, logits)


def _twice_sigmoid(xp, z):
    return 1.0 + xp.tanh(0.5 * z)


def _value(xp, v_input, W_v, b_v, v_form):
    if v_form == "constant":
        return 2.0
    logits = linear(v_input, W_v, b_v)
    return logits if v_form == "linear" else 2.0 * _twice_sigmoid(xp, logits)


def deep_delta_coefficients(
    k,
    W_v,
    W_beta,
    b_v=None,
    b_beta=None,
    W_hidden=None,
    b_hidden=None,
    *,
    context,
    v_input=None,
    v_form="linear",
    eps=1e-5,
    placement="inside",
):
    """Return the unit direction, the gate and the value that make one Deep Delta update.

        k̂ = k/√(‖k‖² + ε²),    β = 2σ(c W_β + b_β),    v = u W_v + b_v

    What each depends on differs among the paper's versions and codes, so all of it is an argument:
    `k` the sub-layer's output (authors' code, "k-map") or that of a map beside it ("v-map");
    `v_input` the u that v reads, the context by default (the paper), the state (the authors' code)
    or the sub-layer's output (v-map); `v_form` "linear" (the paper), "sigmoid4" for 4σ(u W_v + b_v)
    (the code's default) or "constant" for v = 2 (the code's option; W_v is not read); `W_hidden`
    the gate's second layer, as in `delta_gate`; `eps` (1e-5 in the code) and `placement` as in
    `unit_direction` (v1's eq. 2.3 divides by ‖k‖² + ε: that is "inside" with √ε for ε).
    Shapes: k, context, v_input (..., d); W_v (d, d_v), W_beta (d, 1); results k̂ (..., d), β (...),
    v (..., d_v). Raises ValueError where widths disagree or `v_form` is unknown.
    """
    weights = (W_v, W_beta, b_v, b_beta, W_hidden, b_hidden)
    v_input = context if v_input is None else v_input
    xp, _, k, beta, v = _coefficients(
        None, k, *weights, context, v_input, v_form, eps=eps, placement=placement
    )
    if v_form == "constant":
        n = 1 if W_v is None else W_v.shape[-1]
        v = xp.full((*beta.shape[:-1], n), v, dtype=beta.dtype, device=device(beta))
    return k, xp.squeeze(beta, axis=-1), v


def _coefficients(
    state, k, W_v, W_beta, b_v, b_beta, W_hidden, b_hidden, context, v_input, v_form, **how
):
    """The namespace, the state, k̂ (..., d), β (..., 1), and v (..., d_v) or a number."""
    one_of(V_FORMS, v_form=v_form)
    xp, state, k, context, v_input, W_v, W_beta, b_v, b_beta, W_hidden, b_hidden = operands(
        state=state,
        k=k,
        context=context,
        v_input=v_input,
        W_v=W_v,
        W_beta=W_beta,
        b_v=b_v,
        b_beta=b_beta,
        W_hidden=W_hidden,
        b_hidden=b_hidden,
    )
    beta = _gate(xp, context, W_beta, b_beta, W_hidden, b_hidden)
    v = _value(xp, v_input, W_v, b_v, v_form)
    return xp, state, unit_direction(k, **how), beta, v


def deep_delta_residual(
    x,
    k,
    W_v,
    W_beta,
    b_v=None,
    b_beta=None,
    W_hidden=None,
    b_hidden=None,
    *,
    context,
    v_input=None,
    v_form="linear",
    eps=1e-5,
    placement="inside",
    erase=True,
):
    """Replace what the state x holds along a direction by one number.

        x' = x + β (v − k̂ᵀx) k̂                                            (DDL, eq. 3.7)

    with k̂, β and v of `deep_delta_coefficients`, here with d_v = 1. β reads `context`; v reads
    `v_input`, which by default is x itself, as in the authors' code: their paper's v = c W_v is
    `v_input=context`. `erase=False` gives the control that they ask for, which writes only:
    x' = x + β v k̂.
    Shapes: x, k, context, v_input (..., d), W_v and W_beta (d, 1), b_v and b_beta (1); result as x.
    The error along k̂ shrinks: k̂ᵀx' − v = (1 − β‖k̂‖²)(k̂ᵀx − v), so that β = 1 overwrites, to within
    ε²/‖k‖² of it; k = 0 changes nothing. Errors as in `deep_delta_coefficients`.
    """
    weights = (W_v, W_beta, b_v, b_beta, W_hidden, b_hidden)
    v_input = x if v_input is None else v_input
    xp, x, k, beta, v = _coefficients(
        x, k, *weights, context, v_input, v_form, eps=eps, placement=placement
    )
    at_least(1, x=x)
    same_size("features", x=x.shape[-1], k=k.shape[-1])
    if v_form != "constant" and v.shape[-1] != 1:
        raise ValueError(f"expected W_v to have 1 column, got shape {tuple(W_v.shape)}")
    if erase:
        v = v - xp.sum(k * x, axis=-1, keepdims=True)
    return x + beta * v * k


def deep_delta_expanded(
    X,
    k,
    W_v,
    W_beta,
    b_v=None,
    b_beta=None,
    W_hidden=None,
    b_hidden=None,
    *,
    context,
    v_input=None,
    v_form="linear",
    eps=1e-5,
    placement="inside",
    erase=True,
):
    """Replace what a state of several value channels holds along a direction.

        X' = X + β k̂ (vᵀ − k̂ᵀX)                                           (DDL, eq. 2.5)

    with k̂, β and v of `deep_delta_coefficients`; v reads `v_input`, which by default is the context
    (the paper; the authors' code gives it the compressed state instead). `erase=False` writes only:
    X' = X + β k̂ vᵀ.
    Shapes: X (..., d, d_v), k, context, v_input (..., d), W_v (d, d_v), b_v (d_v), W_beta (d, 1),
    b_beta (1); result as X. d_v = 1 is `deep_delta_residual`; k = 0 changes nothing. Errors as in
    `deep_delta_coefficients`.
    """
    weights = (W_v, W_beta, b_v, b_beta, W_hidden, b_hidden)
    v_input = context if v_input is None else v_input
    xp, X, k, beta, v = _coefficients(
        X, k, *weights, context, v_input, v_form, eps=eps, placement=placement
    )
    at_least(2, X=X)
    if v_form == "constant":
        v = xp.full(X.shape[-1:], v, dtype=beta.dtype, device=device(beta))
    if erase:
        return delta_update(X, k, v, xp.squeeze(beta, axis=-1))
    same_size("features", k=k.shape[-1], X=X.shape[-2])
    same_size("values", v=v.shape[-1], X=X.shape[-1])
    return X + xp.expand_dims(beta * k, axis=-1) * xp.expand_dims(v, axis=-2)


def short_convolution(x, kernel):
    """Mix each channel with its own past: a causal convolution over tokens, channel by channel.

        y_t = Σ_s kernel_s ⊙ x_{t−s},    s = 0 … S − 1, nothing before the first token

    Shapes: x (..., N, d) with kernel (d, S), or x (..., N, d, d_v) with kernel (d, d_v, S): the
    tokens' axis is the one before the channels. The last axis of `kernel` runs into the past
    (`torch.nn.Conv1d` stores it the other way round). Axes of one channel in x or kernel broadcast:
    x (..., N, d, 1) with kernel (d, d_v, S) is DDL's expansion by convolution, EC, of embeddings to
    d_v channels. A kernel of ones at s = 0 and zeros elsewhere changes nothing.
    Raises ValueError where channels disagree.
    """
    xp, x, kernel = operands(x=x, kernel=kernel)
    at_least(2, kernel=kernel)
    n = kernel.ndim - 1
    at_least(n + 1, x=x)
    if any(
        a != b and 1 not in (a, b) for a, b in zip(x.shape[-n:], kernel.shape[:-1], strict=True)
    ):
        raise ValueError(
            f"expected x (..., tokens, channels) and kernel (channels, S), "
            f"got {tuple(x.shape)} and {tuple(kernel.shape)}"
        )
    axis = x.ndim - n - 1
    taps = xp.unstack(kernel, axis=-1)
    y = x * taps[0]
    place = xp.reshape(xp.arange(x.shape[axis], device=device(x)), (-1, *(1,) * n))
    for s, tap in enumerate(taps[1:], start=1):
        y = y + xp.where(place >= s, xp.roll(x, s, axis=axis), 0.0) * tap
    return y


def init_short_convolution(rng, channels, size=4, *, start="identity", dtype="float64"):
    """Return a kernel (*channels, size) for `short_convolution`, as a NumPy array.

    `start` is "identity" for 1 at s = 0 and 0 elsewhere, as the paper of July 2026 has it, or
    "uniform" for U(−1/√size, 1/√size), as the authors' code. `channels` is d or a tuple.
    Raises ValueError for another `start`.
    """
    one_of(("identity", "uniform"), start=start)
    shape = (*(channels if isinstance(channels, tuple) else (channels,)), operator.index(size))
    if start == "uniform":
        bound = 1.0 / math.sqrt(size)
        return {"kernel": rng.uniform(-bound, bound, shape).astype(dtype)}
    kernel = constant(0.0, shape, dtype)
    kernel[..., 0] = 1.0
    return {"kernel": kernel}


def compress_channels(X, C):
    """Read a state of several value channels as one vector: DDL's compressor CC.

        x_i = Σ_j C_ij X_ij

    Shapes: X (..., d, d_v), C (d, d_v); result (..., d). C = 1/d_v gives the mean. That is the
    paper's form; the authors' code convolves over the channels before it reads. Raises ValueError
    where sizes disagree.
    """
    xp, X, C = operands(X=X, C=C)
    at_least(2, X=X, C=C)
    same_size("features", X=X.shape[-2], C=C.shape[-2])
    same_size("channels", X=X.shape[-1], C=C.shape[-1])
    return xp.sum(X * C, axis=-1)


def init_compress_channels(d, d_v, *, dtype="float64"):
    """Return C = 1/d_v for `compress_channels`, as a NumPy array (d, d_v)."""
    return {"C": constant(1.0 / d_v, (d, d_v), dtype)}


def compress_tokens(X, kernel, w):
    """Read a state of several value channels as one vector, with its past: DDL's compressor TC.

        x_{t,i} = Σ_j w_j Σ_s kernel_{i,j,s} X_{t−s,i,j}

    Shapes: X (..., N, d, d_v), kernel (d, d_v, S) as in `short_convolution`, w (d_v); result
    (..., N, d). S = 1 is `compress_channels` with C = kernel w. Raises ValueError where channels
    disagree.
    """
    xp, X, kernel, w = operands(X=X, kernel=kernel, w=w)
    at_least(3, X=X)
    same_size("channels", X=X.shape[-1], w=w.shape[-1])
    return xp.sum(short_convolution(X, kernel) * w, axis=-1)


def init_compress_tokens(rng, d, d_v, size=4, *, start="identity", dtype="float64"):
    """Return the kernel of `init_short_convolution` and w = 1/d_v for `compress_tokens`."""
    convolution = init_short_convolution(rng, (d, d_v), size, start=start, dtype=dtype)
    return convolution | {"w": constant(1.0 / d_v, d_v, dtype)}


def init_delta_gate(rng, d, *, beta_init=1.0, hidden=0, scale="lecun", dtype="float64"):
    """Return the parameters of `delta_gate`: weights from N(0, scale²), b_β = logit(β₀/2).

    `beta_init` is β₀, what the gate says where its weights say nothing; 1 in the authors' code. It
    is clamped to [1e-6, 2 − 1e-6] (our bound). `hidden` is the width of the second layer, 0 for
    one layer (the code's default; its two-layer gate has 128). Raises ValueError for a β₀ outside
    [0, 2].
    """
    if not 0.0 <= beta_init <= 2.0:
        raise ValueError(f"expected beta_init in [0, 2], got {beta_init}")
    half = min(max(beta_init / 2.0, 5e-7), 1.0 - 5e-7)
    params = {
        "W_beta": normal(rng, (hidden or d, 1), scale, dtype),
        "b_beta": constant(math.log(half / (1.0 - half)), 1, dtype),
    }
    if hidden:
        params["W_hidden"] = normal(rng, (d, hidden), scale, dtype)
        params["b_hidden"] = constant(0.0, hidden, dtype)
    return params


def init_deep_delta_residual(rng, d, *, beta_init=1.0, hidden=0, scale="lecun", dtype="float64"):
    """Return the parameters of `deep_delta_residual` for states of width d, as NumPy arrays.

    W_v from N(0, scale²) and b_v = 0, the gate's from `init_delta_gate`. The paper's v has no bias.
    LeCun's scale 1/√d is ours: the authors' code has 0.5/√d.
    """
    return init_deep_delta_expanded(
        rng, d, 1, beta_init=beta_init, hidden=hidden, scale=scale, dtype=dtype
    )


def init_deep_delta_expanded(
    rng, d, d_v=4, *, beta_init=1.0, hidden=0, scale="lecun", dtype="float64"
):
    """Return the parameters of `deep_delta_expanded` for d_v value channels, 4 in the paper.

    Drawn as those of `init_deep_delta_residual`.
    """
    return {
        "W_v": normal(rng, (d, d_v), scale, dtype),
        "b_v": constant(0.0, d_v, dtype),
        **init_delta_gate(rng, d, beta_init=beta_init, hidden=hidden, scale=scale, dtype=dtype),
    }
