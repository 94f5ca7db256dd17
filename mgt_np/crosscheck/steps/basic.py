"""Softmax, layer norm, the feed-forward sub-layer and the effective rank, step by step.

A choice that does not fit the shapes of a case raises ValueError, as the layer that makes it would.
"""

import math

import numpy as np

from . import Fit, Reading, Steps


def softmax(
    x,
    *,
    axis=-1,
    temperature=1.0,
    base="e",
    shift="maximum",
    below="sum",
    sum_eps=0.0,
    result="weights",
    times=1,
    scaled="no",
):
    """Return exp(xᵢ)/Σⱼ exp(xⱼ) along `axis`; axis=None takes all elements together."""
    if scaled == "by 1/√n":
        x = x / math.sqrt(x.shape[axis] if axis is not None else x.size)
    if temperature != 1.0:
        x = x / temperature
    if base != "e":
        x = x * math.log(base)
    largest = np.max(x, axis=axis, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if shift == "maximum":
            shifted, taken = x - largest, largest
        elif shift == "maximum of all":
            taken = np.max(x)
            shifted = x - taken
        elif shift == "clipped to 50":
            shifted, taken = np.minimum(np.maximum(x, -50.0), 50.0), 0.0
        else:
            shifted, taken = x, 0.0
        weights = np.exp(shifted)
        if below == "largest":
            total = np.max(weights, axis=axis, keepdims=True)
        elif below == "norm":
            total = np.sqrt(np.sum(weights * weights, axis=axis, keepdims=True))
        else:
            total = np.sum(weights, axis=axis, keepdims=True)
        if below == "1 + sum":
            total = np.exp(-taken) + total
        elif below == "1 + shifted sum":
            total = 1.0 + total
        if sum_eps != 0.0:
            total = total + sum_eps
        if result == "log":
            y = shifted - np.log(total)
        elif result == "one-hot":
            y = np.where(x == largest, 1.0, 0.0)
        else:
            y = weights / total
    return y if times == 1 else softmax(y, axis=axis)


def layer_norm(
    x,
    gain=None,
    bias=None,
    *,
    eps=1e-5,
    centre="both",
    over="features",
    variance="biased",
    passes=2,
    eps_place="inside the root",
    spread="root",
    bias_place="after gain",
    affine_axis="features",
    times=1,
    statistics="its own",
):
    """Return (x − μ)/√(σ² + ε) ⊙ gain + bias."""
    y = x
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(times):
            y = _normalised(
                y,
                eps,
                centre,
                over,
                variance,
                passes,
                eps_place,
                spread,
                bias,
                bias_place,
                statistics,
            )
            y = _affine(y, gain, bias, bias_place, affine_axis)
    return y


def _normalised(
    x, eps, centre, over, variance, passes, eps_place, spread, bias, bias_place, statistics
):
    axes = _axes(x, over)
    of = x[:1] if statistics == "the first's of the batch" and x.ndim > 1 else x
    mean = _mean(of, axes)
    above = x if centre in ("neither", "variance") else x - mean
    x, centred = of, of - mean
    measured = x if centre in ("neither", "numerator") else centred
    if bias is not None and bias_place == "before the division":
        above = above + bias
    if spread == "absolute":
        scale = _mean(np.abs(measured), axes) + eps
    else:
        if passes == 1 and measured is centred:
            moment = _mean(x * x, axes) - mean * mean
        else:
            moment = _mean(measured * measured, axes)
        count = math.prod(x.shape[axis] for axis in axes)
        # One feature has no unbiased variance: 0 · ∞ is the NaN that others get too.
        if variance == "unbiased":
            moment = moment * (count / (count - 1) if count > 1 else math.inf)
        elif variance == "sum":
            moment = moment * count
        scale = _with_eps(moment, eps, eps_place, spread)
    return above / scale


def _with_eps(moment, eps, eps_place, spread):
    root = np.sqrt if spread == "root" else lambda x: x
    if eps_place == "outside the root":
        return root(moment) + eps
    if eps_place == "not at all":
        return root(moment)
    if eps_place == "least variance":
        return root(np.maximum(moment, eps))
    if eps_place == "least deviation":
        return np.maximum(root(moment), eps)
    return root(moment + eps)


def _affine(y, gain, bias, bias_place, affine_axis):
    if affine_axis == "tokens":
        gain, bias = (_along_tokens(y, vector) for vector in (gain, bias))
    if bias is not None and bias_place == "before gain":
        y = y + bias
    if gain is not None:
        y = y * gain
    return y if bias is None or bias_place != "after gain" else y + bias


def _along_tokens(y, vector):
    if vector is None:
        return None
    if y.ndim < 2 or y.shape[-2] != vector.shape[0]:
        raise ValueError(f"expected {vector.shape[0]} tokens, got shape {y.shape}")
    return np.reshape(vector, (-1, 1))


def _axes(x, over):
    """The axes that the statistics are taken over, from the end."""
    axes = {
        "features": (-1,),
        "tokens": (-2,),
        "batch": (-x.ndim,),
        "all but features": tuple(range(-x.ndim, -1)),
        "all but batch": tuple(range(1 - x.ndim, 0)),
        "all": tuple(range(-x.ndim, 0)),
    }[over]
    if not axes or min(axes) < -x.ndim:
        raise ValueError(f"no axes to take statistics over: {over} of shape {x.shape}")
    return axes


def _mean(x, axes):
    return np.sum(x, axis=axes, keepdims=True) / math.prod(x.shape[axis] for axis in axes)


def sigmoid(x):
    """Return 1/(1 + e⁻ˣ) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0.0, small, 1.0) / (1.0 + small)


def normal_cdf(x):
    """Return Φ(x) of each element, by the erfc of the C library."""
    scaled = x * -math.sqrt(0.5)
    values = [math.erfc(value) for value in np.asarray(scaled).ravel().tolist()]
    return 0.5 * np.reshape(np.array(values), x.shape).view(type(x))


def _gelu_tanh(x):
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + np.tanh(inner))


def _positive(x):
    return np.where(x > 0.0, x, 0.0)


def _softplus(x):
    return _positive(x) + np.log(1.0 + np.exp(-np.abs(x)))


ACTIVATIONS = {
    "gelu": lambda x: x * normal_cdf(x),
    "relu": _positive,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "gelu_tanh": _gelu_tanh,
    "gelu_quick": lambda x: x * sigmoid(1.702 * x),
    "gelu_erf_of_x": lambda x: x * normal_cdf(math.sqrt(2.0) * x),
    "normal_cdf": normal_cdf,
    "tanh": np.tanh,
    "leaky_relu": lambda x: np.where(x > 0.0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0.0, x, np.exp(np.where(x > 0.0, 0.0, x)) - 1.0),
    "squared_relu": lambda x: _positive(x) * _positive(x),
    "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "identity": lambda x: x,
}


def feed_forward(
    x,
    W_1,
    W_2,
    b_1=None,
    b_2=None,
    *,
    activation="gelu",
    inner=None,
    activation_place="between",
    layout="as given",
    biases="both",
    b_1_place="before the activation",
    norm="none",
):
    """Return φ(x W_1 + b_1) W_2 + b_2."""
    phi = ACTIVATIONS[activation]
    if layout == "both transposed":
        W_1, W_2 = W_1.T, W_2.T
    elif layout in ("W_1ᵀ", "W_2ᵀ") and W_1.shape == W_1.T.shape:
        # Where a matrix is not square the shapes forbid it: a result can only be the contract's.
        W_1, W_2 = (W_1.T, W_2) if layout == "W_1ᵀ" else (W_1, W_2.T)
    elif layout == "W_2ᵀ first":
        W_1, W_2 = W_2.T, W_1.T
    if biases == "none":
        b_1 = b_2 = None
    if activation_place in ("before", "before and between"):
        x = phi(x)
    if norm == "of x":
        x = layer_norm(x)
    hidden = np.matmul(x, W_1)
    if b_1 is not None and b_1_place == "before the activation":
        hidden = hidden + b_1
    if activation_place not in ("before", "after"):
        hidden = phi(hidden)
    if b_1 is not None and b_1_place == "after the activation":
        hidden = hidden + b_1
    if norm == "of the hidden features":
        hidden = layer_norm(hidden)
    if inner is not None:
        hidden = inner(hidden)
    y = np.matmul(hidden, W_2)
    if b_2 is not None:
        y = y + b_2
    return phi(y) if activation_place in ("after", "between and after") else y


def effective_rank(
    X,
    *,
    center=False,
    normalize=False,
    power=1,
    eps=0.0,
    tokens="as given",
    keep="all",
    divide_by="sum",
    sum_eps=0.0,
    log_eps=0.0,
    measure="exp of entropy",
    over="nothing",
):
    """Return exp(−Σ p log p), p = σ^power/Σ σ^power + ε, of the singular values σ of X."""
    N, d = X.shape[-2:]
    most = min(N, d)
    if tokens == "unit":
        norm = np.sqrt(np.sum(X * X, axis=-1, keepdims=True))
        X = X / np.where(norm == 0.0, 1.0, norm)
    elif tokens == "standardised features":
        X = layer_norm(X, over="tokens", eps_place="not at all")
    if center == "each token":
        X = X - _mean(X, (-1,))
    elif center:
        X = X - _mean(X, (-2,))
        most = max(min(N - 1, d), 1)  # centred tokens sum to zero: one value is mere rounding
    sigma = np.linalg.svd(X, compute_uv=False)[..., :most]
    if keep == "all but the first":
        sigma = sigma[..., 1:]
    largest = np.max(sigma, axis=-1, keepdims=True)
    weight = sigma if power == 1 else sigma * sigma
    if divide_by == "largest":
        total = np.max(weight, axis=-1, keepdims=True)
    elif divide_by == "norm":
        total = np.sqrt(np.sum(weight * weight, axis=-1, keepdims=True))
    else:
        total = np.sum(weight, axis=-1, keepdims=True)
    if sum_eps != 0.0:
        total = total + sum_eps
    p = weight / np.where(total == 0.0, 1.0, total) + eps
    rank = _measured(p, sigma, log_eps, measure)
    rank = np.where(largest[..., 0] == 0.0, 0.0, rank)
    if over in ("N", "d"):
        return rank / {"N": N, "d": d}[over]
    return rank / min(N, d) if normalize else rank


def _measured(p, sigma, log_eps, measure):
    largest = np.max(sigma, axis=-1)
    largest = np.where(largest == 0.0, 1.0, largest)
    ratio = sigma / np.reshape(largest, (*largest.shape, 1))
    squares = ratio * ratio
    if measure == "participation ratio":
        fourth = np.sum(squares * squares, axis=-1)
        return np.sum(squares, axis=-1) ** 2 / np.where(fourth == 0.0, 1.0, fourth)
    if measure == "stable rank":
        return np.sum(squares, axis=-1)
    if measure == "sum over largest":
        return np.sum(ratio, axis=-1)
    if measure == "count above 1 %":
        return np.sum(np.where(ratio > 0.01, 1.0, 0.0), axis=-1)
    if measure == "1/Σp²":
        simpson = np.sum(p * p, axis=-1)
        return 1.0 / np.where(simpson == 0.0, 1.0, simpson)
    logarithm = np.log(np.where(p == 0.0, 1.0, p) + log_eps)
    if measure in ("log₂, then exp", "entropy in bits"):
        logarithm = logarithm / math.log(2.0)
    entropy = -np.sum(p * logarithm, axis=-1)
    if measure in ("entropy", "entropy in bits"):
        return entropy
    if measure == "entropy over its largest":
        return entropy / math.log(p.shape[-1])
    return np.exp(entropy)


_EPS_CHANGE = "set eps to 1e-5, inside the root"

STEPS = {
    "softmax": Steps(
        softmax,
        readings=(
            Reading("axis", -2, "ORIENTATION", "rows are summed over", "sum along the last axis"),
            Reading(
                "axis",
                0,
                "ORIENTATION",
                "the first axis is summed over",
                "sum along the last axis",
            ),
            Reading(
                "axis",
                None,
                "ORIENTATION",
                "all elements together sum to one",
                "sum along the last axis alone, and keep that axis",
            ),
            Reading(
                "base",
                2.0,
                "SCALE",
                "2 is raised to the scores, in place of e",
                "use exp, or multiply the scores by log₂ e",
            ),
            Reading("base", 10.0, "SCALE", "10 is raised to the scores", "use exp"),
            Reading(
                "shift",
                "nothing",
                "OVERFLOW",
                "no maximum is subtracted, so that exp overflows",
                "subtract the largest score before exp",
            ),
            Reading(
                "shift",
                "maximum of all",
                "OVERFLOW",
                "the largest of all scores is subtracted, so that whole rows become 0/0",
                "subtract the largest score of each row",
            ),
            Reading(
                "shift",
                "clipped to 50",
                "EXTRA_STEP",
                "scores are clipped to [−50, 50]",
                "subtract the largest score in place of clipping",
            ),
            Reading(
                "below",
                "1 + sum",
                "EXTRA_STEP",
                "1 is added to the sum of the exponentials",
                "divide by the sum alone",
            ),
            Reading(
                "below",
                "1 + shifted sum",
                "EXTRA_STEP",
                "1 is added to the sum after the maximum was subtracted",
                "divide by the sum alone",
            ),
            Reading(
                "below",
                "largest",
                "SCALE",
                "the exponentials are divided by their largest",
                "divide by their sum",
            ),
            Reading(
                "below",
                "norm",
                "SCALE",
                "the exponentials are divided by their Euclidean norm",
                "divide by their sum",
            ),
            *(
                Reading(
                    "sum_eps",
                    eps,
                    "EPSILON",
                    f"{eps:g} is added to the sum",
                    "divide by the sum alone: it is at least 1",
                )
                for eps in (1e-5, 1e-6, 1e-8, 1e-9, 1e-12)
            ),
            Reading(
                "result",
                "log",
                "EXTRA_STEP",
                "the logarithm of the weights is returned",
                "return the weights: softmax, not log-softmax",
            ),
            Reading(
                "result",
                "one-hot",
                "INPUT",
                "the largest score gets all the weight",
                "return exp(x) over its sum",
            ),
            Reading("times", 2, "EXTRA_STEP", "softmax is applied twice", "apply it once"),
            Reading(
                "scaled",
                "by 1/√n",
                "SCALE",
                "the n scores are divided by √n first",
                "leave the scores as they are",
            ),
        ),
        fits=(
            Fit(
                "temperature",
                1e-2,
                1e2,
                "SCALE",
                "scores are divided by {value}",
                "leave the scores as they are",
            ),
            Fit(
                "sum_eps",
                1e-12,
                1e-2,
                "EPSILON",
                "{value} is added to the sum",
                "divide by the sum alone",
            ),
        ),
    ),
    "layer_norm": Steps(
        layer_norm,
        readings=(
            *(
                Reading("eps", eps, "EPSILON", f"eps is {eps:g}", _EPS_CHANGE)
                for eps in (1e-3, 1e-6, 1e-8, 1e-12)
            ),
            Reading(
                "eps_place",
                "outside the root",
                "EPSILON",
                "eps is added to the standard deviation",
                "add eps to the variance, inside the root",
            ),
            Reading(
                "eps_place", "not at all", "EPSILON", "no eps is added", "add eps to the variance"
            ),
            Reading(
                "eps_place",
                "least variance",
                "EPSILON",
                "eps is the least variance, as by a clamp",
                "add eps to the variance",
            ),
            Reading(
                "eps_place",
                "least deviation",
                "EPSILON",
                "eps is the least standard deviation, as by a clamp",
                "add eps to the variance",
            ),
            Reading(
                "variance",
                "unbiased",
                "COUNT",
                "the variance is divided by d − 1",
                "divide by d: correction 0, unbiased=False",
            ),
            Reading(
                "variance",
                "sum",
                "COUNT",
                "the sum of squares is not divided by d",
                "take the mean of the squares",
            ),
            Reading(
                "passes",
                1,
                "PRECISION",
                "the variance is E[x²] − E[x]², whose digits cancel far from 0",
                "subtract the mean first, then average the squares",
            ),
            Reading(
                "spread",
                "square",
                "MISSING_STEP",
                "tokens are divided by the variance",
                "divide by its root",
            ),
            Reading(
                "spread",
                "absolute",
                "SCALE",
                "tokens are divided by the mean absolute deviation",
                "divide by the root of the mean square",
            ),
            Reading(
                "centre",
                "neither",
                "MISSING_STEP",
                "the mean is not subtracted: this is RMS norm",
                "subtract the mean of the features",
            ),
            Reading(
                "centre",
                "numerator",
                "MISSING_STEP",
                "tokens are centred, but scaled by the mean square of what is not",
                "take the mean square of the centred features",
            ),
            Reading(
                "centre",
                "variance",
                "MISSING_STEP",
                "the mean is left in the numerator",
                "subtract the mean before the division too",
            ),
            Reading(
                "over",
                "tokens",
                "ORIENTATION",
                "mean and variance are taken over the tokens",
                "take them over the features, axis −1",
            ),
            Reading(
                "over",
                "batch",
                "ORIENTATION",
                "mean and variance are taken over the first axis",
                "take them over the features, axis −1",
            ),
            Reading(
                "over",
                "all but features",
                "ORIENTATION",
                "each feature is normalised over batch and tokens: this is batch norm",
                "take mean and variance over the features of each token",
            ),
            Reading(
                "over",
                "all but batch",
                "ORIENTATION",
                "mean and variance are taken over tokens and features together",
                "take them for each token",
            ),
            Reading(
                "over",
                "all",
                "SHARED",
                "one mean and variance are taken of all elements",
                "take them for each token",
            ),
            Reading(
                "bias_place",
                "before gain",
                "ORDER",
                "bias is added before the gain multiplies",
                "multiply by gain, then add bias",
            ),
            Reading(
                "bias_place",
                "before the division",
                "ORDER",
                "bias is added before the division by the deviation",
                "add bias last",
            ),
            Reading(
                "affine_axis",
                "tokens",
                "ORIENTATION",
                "gain and bias go along the tokens",
                "broadcast them along the features, axis −1",
            ),
            Reading("times", 2, "EXTRA_STEP", "the norm is applied twice", "apply it once"),
            Reading(
                "statistics",
                "the first's of the batch",
                "SHARED",
                "mean and variance of the first batch element serve all",
                "take them of each token",
            ),
        ),
        fits=(Fit("eps", 1e-12, 1e-2, "EPSILON", "eps is {value}", _EPS_CHANGE),),
        centres={
            "RMS norm": {"centre": "neither", "eps": 1e-6},
            "The Annotated Transformer": {
                "variance": "unbiased",
                "eps_place": "outside the root",
                "eps": 1e-6,
            },
        },
    ),
    "feed_forward": Steps(
        feed_forward,
        readings=(
            *(
                Reading("activation", name, bug, says, "apply x Φ(x), with erf")
                for name, bug, says in (
                    ("gelu_tanh", "PRECISION", "GELU is approximated by tanh"),
                    ("gelu_quick", "PRECISION", "GELU is approximated by x σ(1.702 x)"),
                    ("gelu_erf_of_x", "SCALE", "GELU takes erf(x) for erf(x/√2)"),
                    ("normal_cdf", "MISSING_STEP", "Φ(x) is not multiplied by x"),
                    ("relu", "INPUT", "the activation is ReLU"),
                    ("silu", "INPUT", "the activation is SiLU, x σ(x)"),
                    ("sigmoid", "INPUT", "the activation is the logistic function"),
                    ("tanh", "INPUT", "the activation is tanh"),
                    ("leaky_relu", "INPUT", "the activation is leaky ReLU of slope 0.01"),
                    ("elu", "INPUT", "the activation is ELU"),
                    ("squared_relu", "INPUT", "the activation is the square of ReLU"),
                    ("softplus", "INPUT", "the activation is softplus"),
                    ("mish", "INPUT", "the activation is Mish"),
                    ("identity", "MISSING_STEP", "there is no activation"),
                )
            ),
            Reading(
                "activation_place",
                "between and after",
                "EXTRA_STEP",
                "the activation is applied to the output again",
                "apply it to the hidden features alone",
            ),
            Reading(
                "activation_place",
                "before and between",
                "EXTRA_STEP",
                "the activation is applied to x as well",
                "apply it to the hidden features alone",
            ),
            Reading(
                "activation_place",
                "after",
                "ORDER",
                "the activation is applied after W_2",
                "apply it between W_1 and W_2",
            ),
            Reading(
                "activation_place",
                "before",
                "ORDER",
                "the activation is applied before W_1",
                "apply it between W_1 and W_2",
            ),
            Reading(
                "layout",
                "both transposed",
                "ORIENTATION",
                "both matrices are transposed",
                "compute x W_1 and then h W_2",
            ),
            Reading(
                "layout",
                "W_2ᵀ first",
                "ORDER",
                "x is mapped by W_2ᵀ, then by W_1ᵀ",
                "compute x W_1 and then h W_2",
            ),
            *(
                Reading("layout", f"{W}ᵀ", "ORIENTATION", f"{W} is transposed", "transpose it back")
                for W in ("W_1", "W_2")
            ),
            Reading("biases", "none", "MISSING_STEP", "no bias is added", "add b_1 and b_2"),
            Reading(
                "b_1_place",
                "after the activation",
                "ORDER",
                "b_1 is added after the activation",
                "add it before",
            ),
            Reading(
                "norm",
                "of x",
                "EXTRA_STEP",
                "x is layer-normalised first",
                "leave the norm to the block",
            ),
            Reading(
                "norm",
                "of the hidden features",
                "EXTRA_STEP",
                "the hidden features are layer-normalised before W_2",
                "leave the norm out, or give it as `inner`",
            ),
        ),
    ),
    "effective_rank": Steps(
        effective_rank,
        readings=(
            Reading(
                "center",
                True,
                "EXTRA_STEP",
                "the mean token is subtracted first",
                "take the singular values of X itself",
            ),
            Reading(
                "center",
                "each token",
                "EXTRA_STEP",
                "each token's mean over its features is subtracted",
                "take the singular values of X itself",
            ),
            Reading(
                "tokens",
                "unit",
                "EXTRA_STEP",
                "tokens are scaled to unit norm first",
                "take the singular values of X itself",
            ),
            Reading(
                "tokens",
                "standardised features",
                "EXTRA_STEP",
                "features are standardised over the tokens first",
                "take the singular values of X itself",
            ),
            Reading(
                "power",
                2,
                "EXTRA_STEP",
                "squares of the singular values, eigenvalues of XᵀX, are weighed",
                "weigh the singular values",
            ),
            Reading(
                "divide_by",
                "largest",
                "SCALE",
                "singular values are divided by the largest",
                "divide them by their sum",
            ),
            Reading(
                "divide_by",
                "norm",
                "SCALE",
                "singular values are divided by their Euclidean norm",
                "divide them by their sum",
            ),
            *(
                Reading(
                    "eps",
                    eps,
                    "EPSILON",
                    f"{eps:g} is added to each p, as in RankMe",
                    "add nothing: eps is 0",
                )
                for eps in (1e-5, 1e-7)
            ),
            *(
                Reading(
                    "sum_eps",
                    eps,
                    "EPSILON",
                    f"{eps:g} is added to the sum of the singular values",
                    "divide by the sum alone",
                )
                for eps in (1e-6, 1e-8, 1e-12)
            ),
            *(
                Reading(
                    "log_eps",
                    eps,
                    "EPSILON",
                    f"{eps:g} is added inside the logarithm",
                    "take log p, and 0 where p is 0",
                )
                for eps in (1e-6, 1e-8, 1e-10, 1e-12)
            ),
            *(
                Reading("measure", name, bug, says, "return exp(−Σ p log p)")
                for name, bug, says in (
                    ("entropy", "MISSING_STEP", "the entropy is returned without its exponential"),
                    ("entropy in bits", "MISSING_STEP", "the entropy is returned, in bits"),
                    ("log₂, then exp", "SCALE", "the entropy is in bits, but exp is taken of it"),
                    (
                        "entropy over its largest",
                        "SCALE",
                        "the entropy over the logarithm of the number of values is returned",
                    ),
                    ("1/Σp²", "INPUT", "1/Σp² is returned"),
                    (
                        "participation ratio",
                        "INPUT",
                        "the participation ratio (Σσ²)²/Σσ⁴ is returned",
                    ),
                    ("stable rank", "INPUT", "the stable rank Σσ²/max σ² is returned"),
                    ("sum over largest", "INPUT", "Σσ/max σ is returned"),
                    (
                        "count above 1 %",
                        "INPUT",
                        "singular values above 1 % of the largest are counted",
                    ),
                )
            ),
            Reading(
                "normalize",
                True,
                "EXTRA_STEP",
                "the rank is divided by min(N, d)",
                "leave it in [1, min(N, d)]",
            ),
            Reading(
                "over", "d", "EXTRA_STEP", "the rank is divided by d", "leave it in [1, min(N, d)]"
            ),
            Reading(
                "over", "N", "EXTRA_STEP", "the rank is divided by N", "leave it in [1, min(N, d)]"
            ),
            Reading(
                "keep",
                "all but the first",
                "MISSING_STEP",
                "the largest singular value is left out",
                "weigh all singular values",
            ),
        ),
        fits=(
            Fit("eps", 1e-12, 1e-1, "EPSILON", "{value} is added to each p", "add nothing"),
            Fit(
                "sum_eps",
                1e-12,
                1e-1,
                "EPSILON",
                "{value} is added to the sum of the singular values",
                "divide by the sum alone",
            ),
            Fit(
                "log_eps",
                1e-12,
                1e-1,
                "EPSILON",
                "{value} is added inside the logarithm",
                "take log p, and 0 where p is 0",
            ),
        ),
        centres={
            "of the covariance": {"center": True, "power": 2},
            "RankMe": {"eps": 1e-7},
        },
    ),
}
