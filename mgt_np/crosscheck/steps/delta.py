"""Steps of the Delta Operator: a unit direction, the update along it, Deep Delta Learning."""

import math

import numpy as np

from . import Fit, Reading, Steps


def linear(x, W, b=None):
    """Return x W + b."""
    y = np.matmul(x, W)
    return y if b is None else y + b


def sigmoid(z):
    """Return 1/(1 + e⁻ᶻ)."""
    return 1.0 / (1.0 + np.exp(-z))


def total(terms, axis):
    """Return the sum over `axis`, which is kept."""
    return np.sum(terms, axis=axis, keepdims=True)


def axes_of(x, over):
    """Return the axes that a statistic of x is taken over; a single vector has only one."""
    if over == "all":
        return tuple(range(x.ndim))
    return -2 if over == "tokens" and x.ndim > 1 else -1


# ‖k‖, for the axes that it is taken over.
NORMS = {
    "l2": lambda k, axis: np.sqrt(total(k * k, axis)),
    "l1": lambda k, axis: total(np.abs(k), axis),
    "rms": lambda k, axis: np.sqrt(np.mean(k * k, axis=axis, keepdims=True)),
    "largest": lambda k, axis: np.max(np.abs(k), axis=axis, keepdims=True),
    "squared": lambda k, axis: total(k * k, axis),
}

# What k is divided by, for its norm n, ε, and the number of features d.
DIVISORS = {
    "inside": lambda n, eps, d: np.sqrt(n * n + eps * eps),
    "outside": lambda n, eps, d: n + eps,
    "not_squared": lambda n, eps, d: np.sqrt(n * n + eps),
    "in_mean": lambda n, eps, d: np.sqrt(n * n + d * (eps * eps)),
    "in_mean_not_squared": lambda n, eps, d: np.sqrt(n * n + d * eps),
    "clamp": lambda n, eps, d: np.maximum(n, eps),
    "clamp_square": lambda n, eps, d: np.sqrt(np.maximum(n * n, eps)),
    "torch": lambda n, eps, d: np.maximum(n, 1e-12),
    "zero_below": lambda n, eps, d: np.where(n > eps, n, np.inf),
    "given_below": lambda n, eps, d: np.where(n > eps, n, 1.0),
}


def unit_direction(
    k,
    *,
    eps=1e-5,
    placement="inside",
    norm="l2",
    over="features",
    centred=False,
    outside_eps=None,
    clamp_eps=None,
):
    """Return k/√(‖k‖² + ε²).

    `outside_eps` and `clamp_eps` are an ε with its placement, so that a fit can find them.
    """
    if centred:
        k = k - np.mean(k, axis=-1, keepdims=True)
    if norm == "none":
        return k
    for name, value in (("outside", outside_eps), ("clamp", clamp_eps)):
        if value is not None:
            placement, eps = name, value
    if norm == "squared" and placement == "inside":
        placement = "outside"  # k/(‖k‖² + ε), which is v1's divisor of k kᵀ
    n = NORMS[norm](k, axes_of(k, over))
    with np.errstate(divide="ignore", invalid="ignore"):  # a zero k with ε = 0
        return k / DIVISORS[placement](n, eps, k.shape[-1])


STEP_SIZES = {
    "beta": lambda beta: beta,
    "one_minus": lambda beta: 1.0 - beta,
    "squared": lambda beta: beta * beta,
    "sigmoid": sigmoid,
    "two_sigmoid": lambda beta: 2.0 * sigmoid(beta),
}

# What is taken for kᵀX, here R, for a column k that it is read along.
ERASED = {
    True: lambda k, X: total(k * X, -2),
    False: lambda k, X: 0.0,
    "added": lambda k, X: -total(k * X, -2),
    "mean": lambda k, X: np.mean(k * X, axis=-2, keepdims=True),
    "unsummed": lambda k, X: k * X,
}


def update(
    X,
    reads,
    writes,
    v,
    beta,
    *,
    erase=True,
    write=True,
    step="beta",
    step_on="both",
    sequence="together",
    outer="k_v",
    projected="left",
    residual="X",
    sign=1,
    source=None,
):
    """Return X + β k (vᵀ − kᵀX), with a k that is read along and one that is written along.

    kᵀ meets `source`, which by default is X.
    Where the shapes forbid a transposed reading, X not being square, the contract's step is taken:
    an implementation with that mistake cannot give a result there.
    """
    beta = STEP_SIZES[step](np.expand_dims(beta, (-2, -1)))
    reads, writes = np.expand_dims(reads, -1), np.expand_dims(writes, -1)
    v = np.expand_dims(v, -2)
    square = X.shape[-2] == X.shape[-1]
    on_write = 1.0 if step_on == "erase" else beta
    on_erase = 1.0 if step_on == "write" else beta
    state = X if source is None else source
    state = state + on_write * writes * v if sequence == "write_first" else state
    if projected == "right" and square:
        state = np.swapaxes(state, -1, -2)
    if erase == "all":
        erased = state
    elif erase == "product":
        erased = 0.0
        v = v * total(reads * state, -2)
    else:
        erased = writes * ERASED[erase](reads, state)
    written = writes * v if write else 0.0 * writes * v
    if outer != "k_v" and square:
        written = np.swapaxes(written, -1, -2)
        erased = np.swapaxes(erased, -1, -2) if outer == "error_k" and np.ndim(erased) else erased
    change = sign * (on_write * written - on_erase * erased)
    if residual == "multiplied":
        return X * change
    return change if residual == "lost" else X + change


def delta_update(X, k, v, beta, *, normalised=False, **choices):
    """Return X + β k (vᵀ − kᵀX)."""
    if normalised:
        k = k / NORMS["l2"](k, -1)
    return update(X, k, k, v, beta, **choices)


GATES = {
    "two_sigmoid": lambda z: 2.0 * sigmoid(z),
    "sigmoid": sigmoid,
    "one_plus_tanh": lambda z: 1.0 + np.tanh(z),
    "complement": lambda z: 2.0 * sigmoid(-z),
    "tanh": np.tanh,
    "linear": lambda z: z,
    "none": lambda z: 0.0 * z + 1.0,
}

VALUES = {
    "linear": lambda z: z,
    "sigmoid4": lambda z: 4.0 * sigmoid(z),
    "constant": lambda z: 0.0 * z + 2.0,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "silu": lambda z: z * sigmoid(z),
}


def deep_delta_residual(
    x,
    k,
    W_v,
    W_beta,
    b_v=None,
    b_beta=None,
    context=None,
    v_input=None,
    *,
    v_form="linear",
    v_reads="v_input",
    gate="two_sigmoid",
    gate_reads="context",
    reads_along="unit",
    writes_along="unit",
    erases_from="x",
    plain_residual=False,
    eps=1e-5,
    placement="inside",
    norm="l2",
    over="features",
    centred=False,
    outside_eps=None,
    clamp_eps=None,
    **choices,
):
    """Return x + β (v − k̂ᵀx) k̂, with k̂ = k/√(‖k‖² + ε²), β = 2σ(c W_β + b_β), v = u W_v + b_v."""
    direction = {"norm": norm, "over": over, "centred": centred}
    direction |= {"outside_eps": outside_eps, "clamp_eps": clamp_eps}
    unit = unit_direction(k, eps=eps, placement=placement, **direction)
    along = {"unit": unit, "raw": k, "rms": unit * math.sqrt(k.shape[-1])}
    read = {"x": x, "context": context, "k": k, "unit": unit}
    read["v_input"] = x if v_input is None else v_input
    read["context by default"] = context if v_input is None else v_input
    source = read[erases_from][..., None]
    beta = GATES[gate](linear(read[gate_reads], W_beta, b_beta))[..., 0]
    v = VALUES[v_form](linear(read[v_reads], W_v, b_v))
    k_reads, k_writes = along[reads_along], along[writes_along]
    y = update(x[..., None], k_reads, k_writes, v, beta, source=source, **choices)[..., 0]
    return y + k if plain_residual else y


def at(axis, *rows):
    """Return the readings of one axis, from rows of value, bug, says and change."""
    return tuple(Reading(axis, *row) for row in rows)


DIRECTION = (
    *at(
        "eps",
        (1e-3, "EPSILON", "ε is 1e-3", "use ε = 1e-5"),
        (1e-4, "EPSILON", "ε is 1e-4", "use ε = 1e-5"),
        (1e-6, "EPSILON", "ε is 1e-6", "use ε = 1e-5"),
        (1e-8, "EPSILON", "ε is 1e-8", "use ε = 1e-5"),
        (1e-12, "EPSILON", "ε is 1e-12", "use ε = 1e-5"),
        (0.0, "EPSILON", "there is no ε", "add ε² = 1e-10 under the root"),
    ),
    *at(
        "placement",
        (
            "outside",
            "EPSILON",
            "ε is added to the norm, outside the root: k/(‖k‖ + ε)",
            "add ε² to ‖k‖² under the root",
        ),
        (
            "not_squared",
            "EPSILON",
            "ε is added to ‖k‖² without being squared",
            "add ε² under the root, not ε",
        ),
        (
            "in_mean",
            "EPSILON",
            "ε² is added to the mean of k², as in an RMS norm, so that it counts d times",
            "add ε² to the sum of squares, or ε²/d to their mean",
        ),
        (
            "in_mean_not_squared",
            "EPSILON",
            "ε is added to the mean of k², as in an RMS norm, and not squared",
            "add ε² to the sum of squares, or ε²/d to their mean",
        ),
        (
            "clamp",
            "EPSILON",
            "the norm is clamped at ε: k/max(‖k‖, ε)",
            "add ε² to ‖k‖² under the root instead of taking the maximum",
        ),
        (
            "clamp_square",
            "EPSILON",
            "‖k‖² is clamped at ε under the root",
            "add ε² to ‖k‖² instead of taking the maximum",
        ),
        (
            "torch",
            "EPSILON",
            "the norm is clamped at 1e-12, as by torch.nn.functional.normalize",
            "divide by √(‖k‖² + ε²)",
        ),
        (
            "zero_below",
            "EPSILON",
            "a k shorter than ε becomes 0, any other is divided by its norm",
            "divide every k by √(‖k‖² + ε²)",
        ),
        (
            "given_below",
            "EPSILON",
            "a k shorter than ε stays as it is, any other is divided by its norm",
            "divide every k by √(‖k‖² + ε²)",
        ),
    ),
    *at(
        "norm",
        ("none", "MISSING_STEP", "k is not normalised", "divide k by √(‖k‖² + ε²)"),
        ("l1", "SCALE", "k is divided by the sum of |k|", "divide by the Euclidean norm"),
        (
            "rms",
            "SCALE",
            "k is divided by its root mean square, so that its length is √d",
            "divide by the root of the sum of squares, not of their mean",
        ),
        ("largest", "SCALE", "k is divided by its largest |k|", "divide by the Euclidean norm"),
        (
            "squared",
            "SCALE",
            "k is divided by ‖k‖² + ε, which in DDL v1 is the divisor of k kᵀ: the root is missing",
            "divide by √(‖k‖² + ε²)",
        ),
    ),
    *at(
        "over",
        (
            "tokens",
            "ORIENTATION",
            "the norm is taken over the tokens, not over the features",
            "sum the squares over the last axis",
        ),
        ("all", "SHARED", "one norm is taken over all of k", "take a norm for each token"),
    ),
    Reading(
        "centred", True, "EXTRA_STEP", "the mean of k is subtracted first", "leave k uncentred"
    ),
)
DIRECTION_FITS = (
    Fit("eps", 1e-12, 1e-1, "EPSILON", "ε is {value}", "use ε = 1e-5"),
    Fit(
        "outside_eps",
        1e-12,
        1e-1,
        "EPSILON",
        "{value} is added to the norm, outside the root",
        "add ε² = 1e-10 to ‖k‖² under the root",
    ),
    Fit(
        "clamp_eps",
        1e-12,
        1e-1,
        "EPSILON",
        "the norm is clamped at {value}",
        "add ε² = 1e-10 to ‖k‖² under the root instead of taking the maximum",
    ),
)

UPDATE = (
    *at(
        "erase",
        (False, "MISSING_STEP", "nothing is erased, v is only added", "subtract kᵀX from vᵀ"),
        ("added", "SIGN", "kᵀX is added to v instead of subtracted", "write v − kᵀX"),
        (
            "all",
            "EXTRA_STEP",
            "all of X is erased, not only what it holds along k",
            "erase k (kᵀX) instead of X",
        ),
        (
            "unsummed",
            "MISSING_STEP",
            "k times X is taken feature by feature and not summed to kᵀX",
            "sum k ⊙ X over the features",
        ),
        (
            "mean",
            "SCALE",
            "the mean of k ⊙ X over the features is taken for kᵀX",
            "sum over the features instead",
        ),
        (
            "product",
            "SIGN",
            "v is multiplied by kᵀX instead of kᵀX being subtracted from it",
            "write v − kᵀX",
        ),
    ),
    *at(
        "step_on",
        (
            "erase",
            "MISSING_STEP",
            "β scales what is erased only: v is written in full",
            "multiply the whole of k (vᵀ − kᵀX) by β",
        ),
        (
            "write",
            "MISSING_STEP",
            "β scales what is written only: kᵀX is erased in full",
            "multiply the whole of k (vᵀ − kᵀX) by β",
        ),
    ),
    *at(
        "step",
        ("one_minus", "SIGN", "1 − β is used in place of β", "multiply the update by β"),
        ("squared", "FACTOR", "β is applied twice", "multiply the update by β once"),
    ),
    Reading(
        "sequence",
        "write_first",
        "ORDER",
        "v is written first, and then erased in part with the rest",
        "take kᵀX from the state before v is written",
    ),
    *at(
        "residual",
        ("lost", "MISSING_STEP", "the state is not added to its update", "add X to the update"),
        (
            "multiplied",
            "EXTRA_STEP",
            "the state is multiplied by its update instead of added to it",
            "add the update to X",
        ),
    ),
)

STEPS = {
    "unit_direction": Steps(
        compute=unit_direction,
        readings=DIRECTION,
        fits=DIRECTION_FITS,
        centres={
            # v1's equation 2.3 divides k kᵀ by ‖k‖² + ε, its appendix A.1 k by ‖k‖ + ε.
            "DDL v1, eq. 2.3": {"placement": "not_squared"},
            "DDL v1, A.1": {"placement": "outside"},
            "DDL's first code": {"placement": "clamp", "eps": 1e-6},
        },
    ),
    "delta_update": Steps(
        compute=delta_update,
        readings=(
            Reading(
                "normalised",
                True,
                "EXTRA_STEP",
                "k is normalised inside",
                "use k as it is given: the caller normalises it",
            ),
            *UPDATE,
            *at(
                "step",
                ("sigmoid", "EXTRA_STEP", "σ(β) is used in place of β", "use β as it is given"),
                ("two_sigmoid", "EXTRA_STEP", "2σ(β) is used for β", "use β as it is given"),
            ),
            *at(
                "outer",
                (
                    "v_k",
                    "ORIENTATION",
                    "the outer product of the write is v kᵀ",
                    "write k vᵀ: a row of X is a feature of k",
                ),
                (
                    "error_k",
                    "ORIENTATION",
                    "the update is transposed: (v − Xᵀk) kᵀ",
                    "write k (vᵀ − kᵀX): a row of X is a feature of k",
                ),
            ),
            Reading(
                "projected",
                "right",
                "ORIENTATION",
                "X k is taken for kᵀX",
                "sum over the rows of X, which are the features of k",
            ),
        ),
        # Linear attention's delta rule has the state transposed: S + β (v − S k) kᵀ.
        centres={"DeltaNet": {"outer": "error_k", "projected": "right"}},
    ),
    "deep_delta_residual": Steps(
        compute=deep_delta_residual,
        readings=(
            *DIRECTION,
            *UPDATE,
            Reading("write", False, "MISSING_STEP", "v is not written", "add β v k̂"),
            Reading(
                "sign",
                -1,
                "SIGN",
                "the update is subtracted from x",
                "add β (v − k̂ᵀx) k̂ to x",
            ),
            *at(
                "v_form",
                ("sigmoid4", "EXTRA_STEP", "v is 4σ(u W_v + b_v)", "use v = u W_v + b_v"),
                ("constant", "MISSING_STEP", "v is 2 whatever it reads", "use v = u W_v + b_v"),
                ("sigmoid", "EXTRA_STEP", "v is σ(u W_v + b_v)", "use v = u W_v + b_v"),
                ("tanh", "EXTRA_STEP", "v is tanh(u W_v + b_v)", "use v = u W_v + b_v"),
                ("silu", "EXTRA_STEP", "v goes through SiLU", "use v = u W_v + b_v"),
            ),
            *at(
                "v_reads",
                (
                    "context",
                    "INPUT",
                    "v reads the context, as in the paper",
                    "compute v from v_input, which by default is x",
                ),
                (
                    "context by default",
                    "INPUT",
                    "v reads the context where v_input is not given",
                    "compute v from v_input, which by default is x",
                ),
                (
                    "k",
                    "INPUT",
                    "v reads the sub-layer's output k",
                    "compute v from v_input, which by default is x",
                ),
                (
                    "unit",
                    "INPUT",
                    "v reads the normalised direction k̂",
                    "compute v from v_input, which by default is x",
                ),
            ),
            *at(
                "gate",
                ("sigmoid", "FACTOR", "β is σ(z) without the factor 2", "use β = 2σ(z)"),
                (
                    "one_plus_tanh",
                    "FACTOR",
                    "β is 1 + tanh(z), which is 2σ(2z)",
                    "use β = 2σ(z), or 1 + tanh(z/2)",
                ),
                ("complement", "SIGN", "β is 2σ(−z), which is 2 − β", "use β = 2σ(z)"),
                ("tanh", "EXTRA_STEP", "β is tanh(z)", "use β = 2σ(z)"),
                ("linear", "MISSING_STEP", "β is z, without the sigmoid", "use β = 2σ(z)"),
                ("none", "MISSING_STEP", "there is no gate: β is 1", "multiply by β = 2σ(z)"),
            ),
            *at(
                "gate_reads",
                ("x", "INPUT", "the gate reads x", "compute β from the context"),
                ("k", "INPUT", "the gate reads k", "compute β from the context"),
                (
                    "unit",
                    "INPUT",
                    "the gate reads the normalised direction k̂",
                    "compute β from the context",
                ),
            ),
            *at(
                "reads_along",
                (
                    "raw",
                    "MISSING_STEP",
                    "what is erased is read along k, which is not normalised",
                    "take k̂ᵀx with the unit direction",
                ),
                (
                    "rms",
                    "SCALE",
                    "what is erased is read along √d k̂: the factor 1/√d is missing there",
                    "take k̂ᵀx with the unit direction",
                ),
            ),
            *at(
                "writes_along",
                (
                    "raw",
                    "MISSING_STEP",
                    "the update is written along k, which is not normalised",
                    "write along the unit direction k̂",
                ),
                (
                    "rms",
                    "SCALE",
                    "the update is written along √d k̂: the factor 1/√d is missing there",
                    "write along the unit direction k̂",
                ),
            ),
            Reading(
                "erases_from",
                "context",
                "INPUT",
                "what is erased is read from the context: v − k̂ᵀc",
                "take k̂ᵀx of the state",
            ),
            Reading(
                "plain_residual",
                True,
                "EXTRA_STEP",
                "k is added too, as by an ordinary residual connection",
                "return x + β (v − k̂ᵀx) k̂ alone",
            ),
        ),
        fits=DIRECTION_FITS,
        centres={
            "DDL's paper": {"v_reads": "context"},
            "DDL's paper, v_input apart": {"v_reads": "context by default"},
            "DDL's paper v1, eq. 2.3": {"placement": "not_squared", "v_reads": "context"},
            "DDL's paper v1, A.1": {"placement": "outside", "v_reads": "context"},
            "DDL's code": {"v_form": "sigmoid4"},
            "DDL's code, constant v": {"v_form": "constant"},
            "DDL's first code": {"placement": "clamp", "eps": 1e-6, "v_form": "sigmoid"},
        },
        accepted=(
            "DDL's paper",
            "DDL's paper, v_input apart",
            "DDL's code",
            "DDL's code, constant v",
        ),
    ),
}
