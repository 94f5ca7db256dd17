"""Steps of the Manifold-Geometric Transformer's update: gate, β, geometric update."""

import dataclasses

import numpy as np

from . import Fit, Reading, Steps
from .delta import at, axes_of, linear, sigmoid, total

# √(σ² + ε), for the variance σ².
DEVIATIONS = {
    "inside": lambda variance, eps: np.sqrt(variance + eps),
    "outside": lambda variance, eps: np.sqrt(variance) + eps,
    "squared": lambda variance, eps: np.sqrt(variance + eps * eps),
    "clamp": lambda variance, eps: np.sqrt(np.maximum(variance, eps)),
}


AFFINE = {
    "gain_bias": lambda z, gain, bias: z * gain + bias,
    "none": lambda z, gain, bias: z,
    "bias_first": lambda z, gain, bias: (z + bias) * gain,
    "bias_before_norm": lambda z, gain, bias: z * gain,
}


def normalise(z, gain, bias, *, eps, norm, variance, over, eps_at, affine):
    """Return LN(z) = (z − μ)/√(σ² + ε) ⊙ gain + bias."""
    if norm == "none":
        return z  # gain and bias are the norm's, and go with it
    gain, bias = _numbers(gain, bias)
    z = z + bias if affine == "bias_before_norm" else z
    axis = axes_of(z, over)
    if norm in ("layer", "centred"):
        z = z - np.mean(z, axis=axis, keepdims=True)
    if norm in ("layer", "rms", "l2"):
        count = np.size(z) // np.size(np.sum(z, axis=axis))
        count = {"biased": count, "unbiased": count - 1.0}[variance] if norm != "l2" else 1.0
        with np.errstate(divide="ignore", invalid="ignore"):  # one feature has no unbiased variance
            z = z / DEVIATIONS[eps_at](total(z * z, axis) / count, eps)
    return AFFINE[affine](z, gain, bias)


def _numbers(gain, bias):
    return 1.0 if gain is None else gain, 0.0 if bias is None else bias


def softmax(z):
    """Return the softmax over the features."""
    weights = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return weights / total(weights, -1)


GATES = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "one_plus_tanh": lambda z: 1.0 + np.tanh(z),
    "sigmoid_2z": lambda z: sigmoid(2.0 * z),
    "complement": lambda z: sigmoid(-z),
    "hard_sigmoid": lambda z: np.minimum(np.maximum(z / 6.0 + 0.5, 0.0), 1.0),
    "softmax": softmax,
    "relu": lambda z: np.maximum(z, 0.0),
    "silu": lambda z: z * sigmoid(z),
    "linear": lambda z: z,
}


def tangent_gate(
    x,
    W_gate,
    gain=None,
    bias=None,
    *,
    eps=1e-5,
    activation="sigmoid",
    norm="layer",
    norm_at="after_map",
    variance="biased",
    over="features",
    eps_at="inside",
    affine="gain_bias",
):
    """Return σ(LN(x W_gate))."""
    choices = {"norm": norm, "variance": variance, "over": over, "eps_at": eps_at}

    def normalised(z, place):
        if place not in {"both": ("before_map", "after_map")}.get(norm_at, (norm_at,)):
            return z
        return normalise(z, gain, bias, eps=eps, affine=affine, **choices)

    if norm_at == "before_map_affine_after":
        z = normalise(x, None, None, eps=eps, affine="none", **choices)
        z = AFFINE[affine](linear(z, W_gate), *_numbers(gain, bias))
        return GATES[activation](z)
    z = normalised(linear(normalised(x, "before_map"), W_gate), "after_map")
    return normalised(GATES[activation](z), "after_gate")


BETAS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "two_sigmoid": lambda z: 2.0 * sigmoid(z),
    "one_plus_tanh": lambda z: 1.0 + np.tanh(z),
    "tanh_half": lambda z: np.tanh(z / 2.0),
    "absolute_tanh": lambda z: np.abs(np.tanh(z)),
    "softsign": lambda z: z / (1.0 + np.abs(z)),
    "clip": lambda z: np.minimum(np.maximum(z, -1.0), 1.0),
    "linear": lambda z: z,
}

RESULTS = {
    "signed": lambda beta: beta,
    "absolute": np.abs,
    "positive": lambda beta: np.maximum(beta, 0.0),
    "unit": lambda beta: np.minimum(np.maximum(beta, 0.0), 1.0),
}


def mgt_beta(
    x,
    W_beta,
    b_beta,
    *,
    lam,
    eps,
    activation="tanh",
    lam_at="outside",
    offset="added",
    bias_at="inside",
    input="given",
    width="own",
    result="signed",
    constants="own",
):
    """Return λ tanh(x W_β + b_β) + ε."""
    lam, eps = (eps, lam) if constants == "swapped" else (lam, eps)
    if input == "normalised":
        plain = {"norm": "layer", "variance": "biased", "over": "features"}
        x = normalise(x, None, None, eps=1e-5, eps_at="inside", affine="none", **plain)
    z = linear(x, W_beta)
    z = lam * z if lam_at == "map" else z
    z = z + b_beta if bias_at == "inside" else z
    z = lam * z if lam_at == "inside" else z
    z = z + eps if offset == "inside" else z
    outside = lam if lam_at == "outside" else 1.0
    y = BETAS[activation](z)
    y = y + b_beta if bias_at == "outside" else y
    if offset == "scaled":
        beta = outside * (y + eps)
    else:
        beta = outside * y + {"added": eps, "subtracted": -eps, "inside": 0.0}[offset]
    if width == "token":
        beta = np.mean(beta, axis=-1, keepdims=True) + 0.0 * beta  # of the same shape
    return RESULTS[result](beta)


def squared_length(x):
    """Return ‖x‖², or 1 for a zero x, which can then be divided by it."""
    square = total(x * x, -1)
    return np.where(square == 0.0, 1.0, square)


def project(v, x):
    """Return the part of v along x: x ⟨x, v⟩/‖x‖²."""
    return x * (total(x * v, -1) / squared_length(x))


STEP_SIZES = {
    "beta": lambda beta: beta,
    "minus": lambda beta: -beta,
    "one_minus": lambda beta: 1.0 - beta,
    "squared": lambda beta: beta * beta,
    "absolute": np.abs,
    "tanh": np.tanh,
}

# What α scales and the update erases.
ERASED = {
    "x": lambda x, v: x,
    "nothing": lambda x, v: 0.0 * x,
    "v": lambda x, v: v,
    "v_along_x": lambda x, v: project(v, x),
    "x_along_v": lambda x, v: project(x, v),
    "x_across_v": lambda x, v: x - project(x, v),
    "unit_x": lambda x, v: x / np.sqrt(squared_length(x)),
}


def geometric_update(
    x,
    v,
    beta,
    alpha,
    *,
    erase="x",
    erase_scale=1.0,
    step="beta",
    step_on="both",
    alpha_on="erase",
    sequence="together",
    residual="x",
    output="given",
):
    """Return x + β ⊙ (v − α x).

    `erase_scale` is what `mgt_residual` multiplies the erased part by, where the gate is taken to
    act on that.
    """
    beta = STEP_SIZES[step](beta)
    erased = erase_scale * ERASED[erase](x, v)
    on_write = 1.0 if step_on == "erase" else beta
    on_erase = 1.0 if step_on == "v" else beta
    on_write = on_write if alpha_on == "erase" else alpha * on_write
    on_erase = on_erase if alpha_on == "v" else alpha * on_erase
    if residual == "kept_by_alpha":
        y = alpha * x + on_write * v
    elif sequence == "write_first":
        y = x + on_write * v
        y = y - on_erase * erase_scale * ERASED[erase](y, v)
    else:
        y = x + (on_write * v - on_erase * erased)
    if residual == "lost":
        y = y - x
    if output == "unit":
        return y / np.sqrt(squared_length(y))
    if output == "length_of_x":
        return y * np.sqrt(total(x * x, -1) / squared_length(y))
    return y


ON = ("v", "update", "erase")  # what the gate multiplies, in the order of use below


def mgt_residual(
    x,
    v_raw,
    W_gate,
    W_beta,
    b_beta,
    alpha,
    gain=None,
    bias=None,
    *,
    lam,
    eps,
    gate_eps=1e-5,
    gate_reads="x",
    gate_on="v",
    tangent="gate",
    beta_reads="x",
    **choices,
):
    """Return x + β ⊙ (v_raw ⊙ σ(LN(x W_gate)) − α x), β = λ tanh(x W_β + b_β) + ε.

    Further choices are those of `tangent_gate` after "gate_", of `mgt_beta` after "beta_", and of
    `geometric_update`. gate_eps="beta" takes the ε of β.
    """
    of_gate, of_beta = (
        {name[5:]: value for name, value in choices.items() if name.startswith(prefix)}
        for prefix in ("gate_", "beta_")
    )
    choices = {name: choices[name] for name in choices if name[:5] not in ("gate_", "beta_")}
    of_gate["eps"] = eps if gate_eps == "beta" else gate_eps
    gate = tangent_gate({"x": x, "v_raw": v_raw}[gate_reads], W_gate, gain, bias, **of_gate)
    v = v_raw if tangent == "gate" else v_raw - project(v_raw, x)
    gate = 1.0 if tangent == "projection" else gate
    read = {"x": x, "v_raw": v_raw, "gated": v * gate}
    beta = mgt_beta(read[beta_reads], W_beta, b_beta, lam=lam, eps=eps, **of_beta)
    v = v * gate if gate_on == "v, twice" else v
    on_v, on_update, on_erase = (gate if gate_on.partition(",")[0] == part else 1.0 for part in ON)
    return geometric_update(x, v * on_v, beta * on_update, alpha, erase_scale=on_erase, **choices)


NORM = (
    *at(
        "norm",
        (
            "none",
            "MISSING_STEP",
            "the gate has no layer norm",
            "take σ of LN(x W_gate), not of x W_gate",
        ),
        (
            "affine",
            "MISSING_STEP",
            "gain and bias are applied, but nothing is centred or scaled",
            "subtract the mean and divide by √(σ² + ε) first",
        ),
        ("rms", "MISSING_STEP", "an RMS norm stands for the layer norm", "subtract the mean too"),
        (
            "l2",
            "SCALE",
            "the features are scaled to unit length, neither centred nor to unit variance",
            "use a layer norm",
        ),
        (
            "centred",
            "MISSING_STEP",
            "the mean is subtracted, but nothing is scaled",
            "divide by √(σ² + ε)",
        ),
    ),
    *at(
        "norm_at",
        (
            "before_map",
            "ORDER",
            "the layer norm comes before the map: σ(LN(x) W_gate)",
            "normalise x W_gate, not x",
        ),
        (
            "before_map_affine_after",
            "ORDER",
            "x is normalised before the map, and gain and bias come after it",
            "normalise x W_gate, not x",
        ),
        (
            "both",
            "EXTRA_STEP",
            "x is normalised before the map too",
            "normalise x W_gate alone",
        ),
        (
            "after_gate",
            "ORDER",
            "the layer norm comes after the sigmoid",
            "normalise x W_gate, then take σ",
        ),
    ),
    Reading(
        "variance",
        "unbiased",
        "FACTOR",
        "the variance is divided by d − 1",
        "divide by the number of features d",
    ),
    *at(
        "over",
        (
            "tokens",
            "ORIENTATION",
            "mean and variance are taken over the tokens",
            "take them over the features, the last axis",
        ),
        (
            "all",
            "SHARED",
            "one mean and one variance are taken over all tokens",
            "take them for each token",
        ),
    ),
    *at(
        "eps_at",
        (
            "outside",
            "EPSILON",
            "ε is added to the standard deviation, outside the root",
            "divide by √(σ² + ε)",
        ),
        ("squared", "EPSILON", "ε is squared under the root", "divide by √(σ² + ε)"),
        ("clamp", "EPSILON", "the variance is clamped at ε", "add ε to the variance"),
    ),
    *at(
        "affine",
        ("none", "MISSING_STEP", "gain and bias are not applied", "apply the norm's gain and bias"),
        (
            "bias_first",
            "ORDER",
            "the bias is added before the gain is applied",
            "multiply by the gain, then add the bias",
        ),
        (
            "bias_before_norm",
            "ORDER",
            "the bias is added to x W_gate, before the norm",
            "add the bias after the norm",
        ),
    ),
    *at(
        "activation",
        ("tanh", "EXTRA_STEP", "the gate is a tanh", "use the sigmoid"),
        ("one_plus_tanh", "FACTOR", "the gate is 1 + tanh(z), in (0, 2)", "use σ(z)"),
        ("sigmoid_2z", "FACTOR", "the gate is σ(2z), or (1 + tanh z)/2", "use σ(z)"),
        ("complement", "SIGN", "the gate is 1 − σ(z)", "use σ(z)"),
        ("hard_sigmoid", "EXTRA_STEP", "the gate is a hard sigmoid", "use 1/(1 + e⁻ᶻ)"),
        ("softmax", "EXTRA_STEP", "the gate is a softmax over the features", "use the sigmoid"),
        ("relu", "EXTRA_STEP", "the gate is a ReLU", "use the sigmoid"),
        ("silu", "EXTRA_STEP", "the gate is z σ(z)", "use σ(z)"),
        ("linear", "MISSING_STEP", "the gate has no sigmoid", "take σ of the layer norm"),
    ),
)
NORM_EPS = tuple(
    (value, "EPSILON", f"ε of the gate's layer norm is {value:g}", "use ε = 1e-5")
    for value in (1e-3, 1e-6, 1e-8, 1e-12, 0.0)
)

BETA_FITS = (
    Fit("lam", 1e-3, 1e3, "FACTOR", "λ is {value} whatever is given", "use the λ that is given"),
    Fit("eps", 1e-6, 1e1, "EPSILON", "ε of β is {value} whatever is given", "use the given ε"),
)
CONSTANTS = (
    Reading("lam", 1.0, "MISSING_STEP", "λ is left out of β", "multiply tanh by λ"),
    Reading("eps", 0.0, "MISSING_STEP", "ε is left out of β", "add ε to λ tanh(…)"),
)
BETA = (
    *at(
        "activation",
        ("sigmoid", "EXTRA_STEP", "β is made with a sigmoid", "use tanh"),
        ("two_sigmoid", "EXTRA_STEP", "β is made with 2σ(z), as DDL's gate", "use tanh"),
        ("one_plus_tanh", "EXTRA_STEP", "β is made with 1 + tanh(z)", "use tanh(z)"),
        ("tanh_half", "FACTOR", "β is made with tanh(z/2), which is 2σ(z) − 1", "use tanh(z)"),
        ("absolute_tanh", "SIGN", "β is made with |tanh|", "keep the sign of tanh"),
        ("softsign", "EXTRA_STEP", "β is made with z/(1 + |z|)", "use tanh"),
        ("clip", "EXTRA_STEP", "β is made with z clipped to [−1, 1]", "use tanh"),
        ("linear", "MISSING_STEP", "β is made without tanh", "take tanh of x W_β + b_β"),
    ),
    *at(
        "lam_at",
        ("inside", "ORDER", "λ is inside tanh", "multiply tanh by λ"),
        ("map", "ORDER", "λ scales x W_β only, inside tanh", "multiply tanh by λ"),
    ),
    *at(
        "offset",
        ("subtracted", "SIGN", "ε is subtracted", "add ε"),
        ("inside", "ORDER", "ε is added inside tanh", "add ε to λ tanh(…)"),
        ("scaled", "ORDER", "λ scales ε too: λ (tanh + ε)", "add ε after multiplying by λ"),
    ),
    Reading("bias_at", "outside", "ORDER", "b_β is added after tanh", "add b_β to x W_β"),
    Reading("input", "normalised", "EXTRA_STEP", "x is normalised first", "use x as it is"),
    Reading(
        "width",
        "token",
        "SHARED",
        "one β a token, the mean over the channels, stands for one a channel",
        "keep the β of each channel",
    ),
    *at(
        "result",
        ("absolute", "SIGN", "β is the absolute value", "let β be negative"),
        ("positive", "SIGN", "β is cut off below 0", "let β be negative"),
        ("unit", "EXTRA_STEP", "β is clipped to [0, 1]", "let β take any value in ε ± λ"),
    ),
    Reading("constants", "swapped", "INPUT", "λ and ε are swapped", "use β = λ tanh(…) + ε"),
)

UPDATE = (
    *at(
        "erase",
        ("nothing", "MISSING_STEP", "nothing is erased: β v is added", "subtract α x from v"),
        ("v", "INPUT", "α v is erased instead of α x", "subtract α x from v"),
        (
            "v_along_x",
            "INPUT",
            "what is erased is the part of v along x, Proj_x(v)",
            "project x, not v: Proj_x(x) is x",
        ),
        (
            "x_along_v",
            "INPUT",
            "what is erased is the part of x along v",
            "erase α x itself",
        ),
        (
            "x_across_v",
            "INPUT",
            "what is erased is the part of x across v",
            "erase α x itself",
        ),
        ("unit_x", "EXTRA_STEP", "x/‖x‖ is erased instead of x", "erase α x itself"),
    ),
    *at(
        "step_on",
        (
            "v",
            "MISSING_STEP",
            "β scales v only: α x is erased in full",
            "multiply the whole of v − α x by β",
        ),
        (
            "erase",
            "MISSING_STEP",
            "β scales what is erased only: v is written in full",
            "multiply the whole of v − α x by β",
        ),
    ),
    *at(
        "step",
        ("one_minus", "SIGN", "1 − β is used in place of β", "multiply the update by β"),
        ("squared", "FACTOR", "β is applied twice", "multiply the update by β once"),
    ),
    *at(
        "alpha_on",
        ("both", "EXTRA_STEP", "α scales the whole of v − x", "let α scale x only"),
        ("v", "INPUT", "α scales v, not what is erased", "let α scale x, not v"),
    ),
    Reading(
        "sequence",
        "write_first",
        "ORDER",
        "v is written first, and then erased in part with the rest",
        "take α x of the state before v is written",
    ),
    *at(
        "residual",
        ("lost", "MISSING_STEP", "x is not added to its update", "add x to β ⊙ (v − α x)"),
        (
            "kept_by_alpha",
            "SIGN",
            "α is the part that is kept: α x + β v",
            "let α be the part that β erases: (1 − αβ) x + β v",
        ),
    ),
    *at(
        "output",
        ("unit", "EXTRA_STEP", "the result is scaled to unit length", "return it as it is"),
        (
            "length_of_x",
            "EXTRA_STEP",
            "the result is scaled back to the length of x",
            "return it as it is",
        ),
    ),
)

BLOCK = (
    Reading("step", "minus", "SIGN", "the update is subtracted from x", "add β ⊙ (v − α x)"),
    *at(
        "gate_reads",
        ("v_raw", "INPUT", "the gate reads the sub-layer's output", "compute the gate from x"),
    ),
    *at(
        "gate_on",
        ("none", "MISSING_STEP", "the gate is not applied", "multiply v_raw by the gate"),
        ("v, twice", "EXTRA_STEP", "the gate is applied twice", "multiply v_raw by the gate once"),
        (
            "update",
            "ORDER",
            "the gate multiplies the whole update",
            "multiply v_raw alone by the gate",
        ),
        (
            "erase",
            "INPUT",
            "the gate multiplies what is erased, not v_raw",
            "multiply v_raw by the gate",
        ),
    ),
    *at(
        "tangent",
        (
            "projection",
            "EXTRA_STEP",
            "v_raw is projected on the tangent space at x instead of gated",
            "multiply v_raw by σ(LN(x W_gate))",
        ),
        (
            "both",
            "EXTRA_STEP",
            "v_raw is projected on the tangent space at x, and then gated",
            "gate v_raw without projecting it",
        ),
    ),
    Reading(
        "gate_eps",
        "beta",
        "EPSILON",
        "the gate's layer norm takes the ε of β for its own",
        "use 1e-5 in the layer norm",
    ),
    *at(
        "beta_reads",
        ("v_raw", "INPUT", "β reads the sub-layer's output", "compute β from x"),
        ("gated", "INPUT", "β reads the gated output of the sub-layer", "compute β from x"),
    ),
)


def prefixed(prefix, readings):
    """Return readings of a part as readings of the block, whose axes have the part's prefix."""
    return tuple(dataclasses.replace(reading, axis=prefix + reading.axis) for reading in readings)


def gate_fit(axis):
    """Return the fit of the ε of the gate's layer norm."""
    return Fit(axis, 1e-12, 1e-1, "EPSILON", "ε of the gate's layer norm is {value}", "use 1e-5")


STEPS = {
    "tangent_gate": Steps(
        compute=tangent_gate, readings=(*NORM, *at("eps", *NORM_EPS)), fits=(gate_fit("eps"),)
    ),
    "mgt_beta": Steps(compute=mgt_beta, readings=(*CONSTANTS, *BETA), fits=BETA_FITS),
    "geometric_update": Steps(
        compute=geometric_update,
        readings=(
            *UPDATE,
            Reading("step", "tanh", "EXTRA_STEP", "tanh(β) is used for β", "use the given β"),
            Reading("step", "absolute", "SIGN", "|β| is used for β", "let β be negative"),
        ),
    ),
    "mgt_residual": Steps(
        compute=mgt_residual,
        readings=(
            *BLOCK,
            *prefixed("gate_", (*NORM, *at("eps", *NORM_EPS))),
            *CONSTANTS,
            *prefixed("beta_", BETA),
            *UPDATE,
        ),
        fits=(gate_fit("gate_eps"), *BETA_FITS),
    ),
}
