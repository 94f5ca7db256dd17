"""The steps of MGT's update: with the contract's choices the layers, with others not."""

import itertools

import numpy as np
import pytest
from parameter_ids import said

from mgt_np.crosscheck.cases import cases_of
from mgt_np.crosscheck.contract import CONTRACT, arguments
from mgt_np.crosscheck.steps import BUGS
from mgt_np.crosscheck.steps.mgt import STEPS

FUNCTIONS = tuple(STEPS)
RNG = np.random.default_rng(1014)


def normal(*shape, scale=1.0):
    return scale * RNG.standard_normal(shape)


def gate(leading, d, scale=1.0):
    made = {"x": normal(*leading, d, scale=scale), "W_gate": normal(d, d)}
    return made | {"gain": 1.5 + 0.5 * normal(d), "bias": normal(d)}


def beta(leading, d, width):
    return {"x": normal(*leading, d), "W_beta": normal(d, width), "b_beta": normal(width)}


def residual(leading, d, width, scale=1.0):
    made = beta(leading, d, width) | gate(leading, d, scale)
    return made | {"v_raw": normal(*leading, d), "alpha": normal(d)}


# What the cases leave out: no gain or bias, a single vector, numbers, β beyond 1, other constants.
MORE = {
    "tangent_gate": [
        (gate((2, 3), 5, 1e-4), {}),
        (gate((2, 3), 5) | {"gain": None, "bias": None}, {}),
        (gate((2, 3), 5) | {"bias": None}, {"eps": 0.2}),
        (gate((), 4), {}),
    ],
    "mgt_beta": [
        (beta((2, 3), 5, 5), {"lam": 1.7, "eps": -0.3}),
        (beta((), 4, 1), {"lam": 1.7, "eps": 0.4}),
    ],
    "geometric_update": [
        ({"x": normal(2, 3, 5), "v": normal(2, 3, 5), "beta": 0.6, "alpha": 1.2}, {}),
        ({"x": normal(4), "v": normal(4), "beta": normal(4), "alpha": normal(4)}, {}),
        ({"x": np.zeros((2, 4)), "v": normal(2, 4), "beta": normal(2, 1), "alpha": 0.4}, {}),
    ],
    "mgt_residual": [
        (residual((2, 3), 5, 5), {"lam": 1.7, "eps": 0.3}),
        (residual((2, 3), 5, 1, 1e-4) | {"bias": None}, {"lam": -1.2, "eps": 0.01}),
        (residual((), 4, 1) | {"gain": None, "bias": None}, {"lam": 0.9, "eps": 0.2}),
    ],
}


def calls(function):
    """Arrays and options of the cases, and of the calls that they leave out."""
    return [(case.arrays, case.options) for case in cases_of(function)] + MORE[function]


def computed(function, choices, arrays, options):
    return np.asarray(STEPS[function].compute(**arrays, **{**options, **choices}))


def apart(a, b):
    """The largest difference, in units of the largest value."""
    return np.max(np.abs(a - b)) / max(np.max(np.abs(a)), np.max(np.abs(b)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_contracts_choices_give_the_layer(function):
    assert cases_of(function)
    for arrays, options in calls(function):
        layer = CONTRACT[function].function(**arguments(CONTRACT[function], arrays, options))
        np.testing.assert_allclose(
            computed(function, {}, arrays, options),
            layer,
            rtol=0.0,
            atol=1e-13 * np.max(np.abs(layer)),
        )


READINGS = [
    pytest.param(function, reading, id=f"{function}-{reading.name}")
    for function in FUNCTIONS
    for reading in STEPS[function].readings
]


@pytest.mark.parametrize(("function", "reading"), READINGS)
def test_a_reading_shows_on_a_case(function, reading):
    choices = {reading.axis: reading.value}
    moved = [
        apart(
            computed(function, choices, case.arrays, case.options),
            computed(function, {}, case.arrays, case.options),
        )
        for case in cases_of(function)
    ]
    assert max(moved) > 1e-9


@pytest.mark.parametrize("function", FUNCTIONS)
def test_readings_differ_from_each_other(function):
    made = {
        reading.name: [
            computed(function, {reading.axis: reading.value}, *call) for call in calls(function)
        ]
        for reading in STEPS[function].readings
    }
    same = {
        pair
        for pair in itertools.combinations(made, 2)
        if max(map(apart, made[pair[0]], made[pair[1]])) < 1e-9
    }
    assert same == set()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_readings_are_described(function):
    steps = STEPS[function]
    names = [reading.name for reading in steps.readings]
    assert len(set(names)) == len(names)
    for reading in (*steps.readings, *steps.fits):
        assert reading.bug in BUGS
        assert reading.says
        assert reading.change
        assert not reading.says.endswith(".")
    assert all("{value}" in fit.says for fit in steps.fits)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_unknown_choice_is_refused(function):
    arrays, options = calls(function)[0]
    prefixes = ("", "gate_", "beta_") if function == "mgt_residual" else ("",)
    for prefix in prefixes:
        with pytest.raises(TypeError, match="no_such_step"):
            computed(function, {f"{prefix}no_such_step": 1}, arrays, options)


def test_the_blocks_readings_are_those_of_its_parts():
    axes = {reading.axis for reading in STEPS["mgt_residual"].readings}
    parts = {"tangent_gate": "gate_", "mgt_beta": "beta_", "geometric_update": ""}
    for part, prefix in parts.items():
        for reading in STEPS[part].readings:
            assert {prefix + reading.axis, reading.axis} & axes, reading.name


class Counted(np.ndarray):
    """An array that survives NumPy's functions, as one with noise does."""


@pytest.mark.parametrize(("function", "reading"), READINGS)
def test_a_subclass_and_the_dtype_of_the_arrays_are_kept(function, reading):
    case = cases_of(function)[0]
    arrays = {name: x.astype(np.float32).view(Counted) for name, x in case.arrays.items()}
    made = STEPS[function].compute(**arrays, **{**case.options, reading.axis: reading.value})
    assert isinstance(made, Counted)
    assert made.dtype == np.float32


# ---- each reading is the formula that it says

A = residual((2, 3), 5, 5)
X, V, W, GAIN, BIAS = (A[name] for name in ("x", "v_raw", "W_gate", "gain", "bias"))
ALPHA, LAM, EPS, TINY = A["alpha"], 1.7, 0.3, 0.05


def sigma(z):
    return 1.0 / (1.0 + np.exp(-z))


def norm(z, eps=TINY, axis=-1, ddof=0):
    return (z - z.mean(axis, keepdims=True)) / np.sqrt(z.var(axis, keepdims=True, ddof=ddof) + eps)


def ln(z, **options):
    return norm(z, **options) * GAIN + BIAS


def rms(z):
    return z / np.sqrt((z * z).mean(-1, keepdims=True) + TINY)


def centred(z):
    return z - z.mean(-1, keepdims=True)


Z = X @ W
SD = Z.std(-1, keepdims=True)

GATES = [
    ({}, lambda: sigma(ln(Z))),
    ({"norm": "none"}, lambda: sigma(Z)),
    ({"norm": "affine"}, lambda: sigma(Z * GAIN + BIAS)),
    ({"norm": "rms"}, lambda: sigma(rms(Z) * GAIN + BIAS)),
    (
        {"norm": "l2"},
        lambda: sigma(Z / np.sqrt((Z * Z).sum(-1, keepdims=True) + TINY) * GAIN + BIAS),
    ),
    ({"norm": "centred"}, lambda: sigma(centred(Z) * GAIN + BIAS)),
    ({"norm_at": "before_map"}, lambda: sigma(ln(X) @ W)),
    ({"norm_at": "both"}, lambda: sigma(ln(ln(X) @ W))),
    ({"norm_at": "before_map_affine_after"}, lambda: sigma((norm(X) @ W) * GAIN + BIAS)),
    ({"norm_at": "after_gate"}, lambda: ln(sigma(Z))),
    ({"variance": "unbiased"}, lambda: sigma(ln(Z, ddof=1))),
    ({"over": "tokens"}, lambda: sigma(ln(Z, axis=-2))),
    ({"over": "all"}, lambda: sigma(ln(Z, axis=(0, 1, 2)))),
    ({"over": "tokens", "variance": "unbiased"}, lambda: sigma(ln(Z, axis=-2, ddof=1))),
    ({"eps_at": "outside"}, lambda: sigma(centred(Z) / (SD + TINY) * GAIN + BIAS)),
    ({"eps_at": "squared"}, lambda: sigma(ln(Z, eps=TINY**2))),
    ({"affine": "none"}, lambda: sigma(norm(Z))),
    ({"affine": "bias_first"}, lambda: sigma((norm(Z) + BIAS) * GAIN)),
    ({"affine": "bias_before_norm"}, lambda: sigma(norm(Z + BIAS) * GAIN)),
    ({"activation": "tanh"}, lambda: np.tanh(ln(Z))),
    ({"activation": "one_plus_tanh"}, lambda: 1 + np.tanh(ln(Z))),
    ({"activation": "sigmoid_2z"}, lambda: (1 + np.tanh(ln(Z))) / 2),
    ({"activation": "complement"}, lambda: 1 - sigma(ln(Z))),
    ({"activation": "hard_sigmoid"}, lambda: np.clip(ln(Z) / 6 + 0.5, 0, 1)),
    ({"activation": "softmax"}, lambda: np.exp(ln(Z)) / np.exp(ln(Z)).sum(-1, keepdims=True)),
    ({"activation": "relu"}, lambda: ln(Z).clip(0)),
    ({"activation": "silu"}, lambda: ln(Z) * sigma(ln(Z))),
    ({"activation": "linear"}, lambda: ln(Z)),
]


@pytest.mark.parametrize(("choices", "expected"), GATES, ids=said)
def test_gates_are_their_formulas(choices, expected):
    made = STEPS["tangent_gate"].compute(X, W, GAIN, BIAS, eps=TINY, **choices)
    np.testing.assert_allclose(made, expected(), rtol=1e-11, atol=1e-13)


def test_a_clamped_variance_is_its_maximum_with_eps():
    variance = Z.var(-1, keepdims=True)
    eps = float(np.median(variance))
    made = STEPS["tangent_gate"].compute(X, W, GAIN, BIAS, eps=eps, eps_at="clamp")
    expected = sigma(centred(Z) / np.sqrt(np.maximum(variance, eps)) * GAIN + BIAS)
    np.testing.assert_allclose(made, expected, rtol=1e-12)
    assert apart(made, sigma(centred(Z) / SD * GAIN + BIAS)) > 1e-3


LOGIT, B = X @ A["W_beta"], A["b_beta"]
T = np.tanh(LOGIT + B)

BETAS = [
    ({}, lambda: LAM * T + EPS),
    ({"lam": 1.0}, lambda: T + EPS),
    ({"eps": 0.0}, lambda: LAM * T),
    ({"activation": "sigmoid"}, lambda: LAM * sigma(LOGIT + B) + EPS),
    ({"activation": "two_sigmoid"}, lambda: LAM * 2 * sigma(LOGIT + B) + EPS),
    ({"activation": "two_sigmoid", "eps": 0.0}, lambda: LAM * 2 * sigma(LOGIT + B)),
    ({"activation": "one_plus_tanh"}, lambda: LAM * (1 + T) + EPS),
    ({"activation": "tanh_half"}, lambda: LAM * (2 * sigma(LOGIT + B) - 1) + EPS),
    ({"activation": "absolute_tanh"}, lambda: LAM * np.abs(T) + EPS),
    ({"activation": "softsign"}, lambda: LAM * (LOGIT + B) / (1 + np.abs(LOGIT + B)) + EPS),
    ({"activation": "clip"}, lambda: LAM * np.clip(LOGIT + B, -1, 1) + EPS),
    ({"activation": "linear"}, lambda: LAM * (LOGIT + B) + EPS),
    ({"lam_at": "inside"}, lambda: np.tanh(LAM * (LOGIT + B)) + EPS),
    ({"lam_at": "map"}, lambda: np.tanh(LAM * LOGIT + B) + EPS),
    ({"offset": "subtracted"}, lambda: LAM * T - EPS),
    ({"offset": "inside"}, lambda: LAM * np.tanh(LOGIT + B + EPS)),
    ({"offset": "scaled"}, lambda: LAM * (T + EPS)),
    ({"bias_at": "outside"}, lambda: LAM * (np.tanh(LOGIT) + B) + EPS),
    ({"input": "normalised"}, lambda: LAM * np.tanh(norm(X, 1e-5) @ A["W_beta"] + B) + EPS),
    ({"width": "token"}, lambda: (LAM * T + EPS).mean(-1, keepdims=True) + 0 * T),
    ({"result": "absolute"}, lambda: np.abs(LAM * T + EPS)),
    ({"result": "positive"}, lambda: (LAM * T + EPS).clip(0)),
    ({"result": "unit"}, lambda: (LAM * T + EPS).clip(0, 1)),
    ({"constants": "swapped"}, lambda: EPS * T + LAM),
]


@pytest.mark.parametrize(("choices", "expected"), BETAS, ids=said)
def test_betas_are_their_formulas(choices, expected):
    options = {"lam": LAM, "eps": EPS} | choices
    made = STEPS["mgt_beta"].compute(X, A["W_beta"], B, **options)
    np.testing.assert_allclose(made, expected(), rtol=1e-11, atol=1e-13)


STEP = normal(2, 3, 5)


def dot(a, b):
    return (a * b).sum(-1, keepdims=True)


def right(v=V, step=STEP):
    return X + step * (v - ALPHA * X)


def along(a, b):
    return b * dot(a, b) / dot(b, b)


def length(a):
    return np.sqrt(dot(a, a))


UPDATES = [
    ({}, right),
    ({"erase": "nothing"}, lambda: X + STEP * V),
    ({"erase": "v"}, lambda: X + STEP * (1 - ALPHA) * V),
    ({"erase": "v_along_x"}, lambda: X + STEP * (V - ALPHA * along(V, X))),
    ({"erase": "x_along_v"}, lambda: X + STEP * (V - ALPHA * along(X, V))),
    ({"erase": "x_across_v"}, lambda: X + STEP * (V - ALPHA * (X - along(X, V)))),
    ({"erase": "unit_x"}, lambda: X + STEP * (V - ALPHA * X / length(X))),
    ({"step_on": "v"}, lambda: X - ALPHA * X + STEP * V),
    ({"step_on": "erase"}, lambda: X - STEP * ALPHA * X + V),
    ({"step": "one_minus"}, lambda: right(step=1 - STEP)),
    ({"step": "squared"}, lambda: right(step=STEP**2)),
    ({"step": "tanh"}, lambda: right(step=np.tanh(STEP))),
    ({"step": "minus"}, lambda: 2 * X - right()),
    ({"step": "absolute"}, lambda: right(step=np.abs(STEP))),
    ({"alpha_on": "both"}, lambda: X + ALPHA * STEP * (V - X)),
    ({"alpha_on": "v"}, lambda: X + STEP * (ALPHA * V - X)),
    ({"sequence": "write_first"}, lambda: (1 - ALPHA * STEP) * (X + STEP * V)),
    ({"residual": "lost"}, lambda: STEP * (V - ALPHA * X)),
    ({"residual": "kept_by_alpha"}, lambda: ALPHA * X + STEP * V),
    ({"output": "unit"}, lambda: right() / length(right())),
    ({"output": "length_of_x"}, lambda: right() / length(right()) * length(X)),
]


@pytest.mark.parametrize(("choices", "expected"), UPDATES, ids=said)
def test_updates_are_their_formulas(choices, expected):
    made = STEPS["geometric_update"].compute(X, V, STEP, ALPHA, **choices)
    np.testing.assert_allclose(made, expected(), rtol=1e-11, atol=1e-13)


G, OWN = sigma(ln(Z, eps=1e-5)), LAM * T + EPS
OTHER = LAM * np.tanh(V @ A["W_beta"] + B) + EPS
TANGENT = V - along(V, X)

BLOCKS = [
    ({}, lambda: right(V * G, OWN)),
    ({"step": "minus"}, lambda: right(V * G, -OWN)),
    ({"gate_reads": "v_raw"}, lambda: right(V * sigma(ln(V @ W, eps=1e-5)), OWN)),
    ({"gate_on": "none"}, lambda: right(V, OWN)),
    ({"gate_on": "update"}, lambda: right(V, OWN * G)),
    ({"gate_on": "v, twice"}, lambda: right(V * G * G, OWN)),
    ({"gate_on": "erase"}, lambda: X + OWN * (V - ALPHA * G * X)),
    ({"tangent": "projection"}, lambda: right(TANGENT, OWN)),
    ({"tangent": "both"}, lambda: right(TANGENT * G, OWN)),
    ({"gate_eps": "beta"}, lambda: right(V * sigma(ln(Z, eps=EPS)), OWN)),
    ({"gate_eps": 0.05}, lambda: right(V * sigma(ln(Z, eps=0.05)), OWN)),
    ({"gate_norm_at": "before_map"}, lambda: right(V * sigma(ln(X, eps=1e-5) @ W), OWN)),
    ({"gate_affine": "none"}, lambda: right(V * sigma(norm(Z, 1e-5)), OWN)),
    ({"gate_activation": "tanh"}, lambda: right(V * np.tanh(ln(Z, eps=1e-5)), OWN)),
    ({"beta_reads": "v_raw"}, lambda: right(V * G, OTHER)),
    (
        {"beta_reads": "gated"},
        lambda: right(V * G, LAM * np.tanh(V * G @ A["W_beta"] + B) + EPS),
    ),
    ({"beta_result": "absolute"}, lambda: right(V * G, np.abs(OWN))),
    ({"lam": 1.0}, lambda: right(V * G, T + EPS)),
    ({"eps": 0.0}, lambda: right(V * G, LAM * T)),
    ({"lam": 1.0, "gate_on": "none"}, lambda: right(V, T + EPS)),
    ({"erase": "v"}, lambda: X + OWN * (1 - ALPHA) * V * G),
    ({"erase": "v_along_x"}, lambda: X + OWN * (V * G - ALPHA * along(V * G, X))),
]


@pytest.mark.parametrize(("choices", "expected"), BLOCKS, ids=said)
def test_blocks_are_their_formulas(choices, expected):
    options = {"lam": LAM, "eps": EPS} | choices
    made = STEPS["mgt_residual"].compute(**A, **options)
    np.testing.assert_allclose(made, expected(), rtol=1e-11, atol=1e-13)
