"""The steps of the Delta Operator: with the contract's choices the layers, with others not."""

import itertools

import numpy as np
import pytest
from parameter_ids import said

from mgt_np.crosscheck.cases import cases_of
from mgt_np.crosscheck.contract import CONTRACT, arguments
from mgt_np.crosscheck.steps import BUGS
from mgt_np.crosscheck.steps.delta import STEPS

FUNCTIONS = tuple(STEPS)
RNG = np.random.default_rng(2601)
SIZES = (1.0, 1e-3, 2e-5, 1e-7, 1e-9, 1e-12, 3e-13)


def normal(*shape, scale=1.0):
    return scale * RNG.standard_normal(shape)


def unit(*shape):
    k = normal(*shape)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


def residual(leading, d, size=1.0):
    made = {name: normal(*leading, d) for name in ("x", "k", "context")}
    made |= {"W_v": normal(d, 1), "W_beta": normal(d, 1)}
    made |= {"b_v": normal(1), "b_beta": normal(1) + 0.5}
    return made | {"k": size * made["k"]}


# What the cases leave out: options, missing arrays, a single vector, a number for β, a short k.
MORE = {
    "unit_direction": [
        *(({"k": normal(2, 3, 5, scale=size)}, {}) for size in SIZES),
        ({"k": normal(4)}, {}),
        ({"k": normal(2, 3, 5)}, {"eps": 0.3}),
        ({"k": normal(2, 3, 5)}, {"eps": 0.3, "placement": "outside"}),
    ],
    "delta_update": [
        ({"X": normal(4, 3), "k": unit(4), "v": normal(3), "beta": np.asarray(0.7)}, {}),
        ({"X": normal(2, 4, 4), "k": unit(4), "v": normal(2, 4), "beta": 1.6}, {}),
        ({"X": normal(2, 3, 4), "k": normal(2, 3), "v": normal(2, 4), "beta": normal(2)}, {}),
    ],
    "deep_delta_residual": [
        *((residual((2, 3), 5, size), {}) for size in SIZES),
        (residual((), 4), {}),
        (residual((2, 3), 5) | {"b_v": None, "b_beta": None}, {}),
        (residual((2, 3), 5) | {"v_input": normal(2, 3, 5)}, {}),
        (residual((2, 3), 5), {"v_form": "sigmoid4", "erase": False}),
        (residual((2, 3), 5), {"v_form": "constant", "eps": 0.2, "placement": "outside"}),
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
def test_centres_are_choices_that_exist(function):
    for choices in STEPS[function].centres.values():
        moved = [
            apart(computed(function, choices, *call), computed(function, {}, *call))
            for call in calls(function)
        ]
        assert max(moved) > 1e-9


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_unknown_choice_is_refused(function):
    arrays, options = calls(function)[0]
    with pytest.raises(TypeError, match="no_such_step"):
        computed(function, {"no_such_step": 1}, arrays, options)


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

K = normal(2, 4, 5, scale=0.02)
EPS = 0.03
N = np.sqrt((K * K).sum(-1, keepdims=True))

DIRECTIONS = {
    "outside": K / (N + EPS),
    "not_squared": K / np.sqrt(N**2 + EPS),
    "in_mean": K / np.sqrt(5) / np.sqrt((K * K).mean(-1, keepdims=True) + EPS**2),
    "in_mean_not_squared": K / np.sqrt(5) / np.sqrt((K * K).mean(-1, keepdims=True) + EPS),
    "clamp": K / np.where(N > EPS, N, EPS),
    "clamp_square": K / np.sqrt(np.where(N**2 > EPS, N**2, EPS)),
    "torch": K / N,
    "zero_below": np.where(N > EPS, K / N, 0.0),
    "given_below": np.where(N > EPS, K / N, K),
}


@pytest.mark.parametrize("placement", DIRECTIONS)
def test_placements_are_their_formulas(placement):
    assert N.min() < EPS < N.max()
    made = STEPS["unit_direction"].compute(K, eps=EPS, placement=placement)
    np.testing.assert_allclose(made, DIRECTIONS[placement], rtol=1e-13)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"norm": "none"}, K),
        ({"norm": "l1"}, K / np.abs(K).sum(-1, keepdims=True)),
        ({"norm": "rms"}, K / N * np.sqrt(5)),
        ({"norm": "largest"}, K / np.abs(K).max(-1, keepdims=True)),
        ({"norm": "squared"}, K / N**2),
        ({"over": "tokens"}, K / np.sqrt((K * K).sum(-2, keepdims=True))),
        ({"over": "all"}, K / np.sqrt((K * K).sum())),
    ],
    ids=said,
)
def test_norms_are_their_formulas(choices, expected):
    made = STEPS["unit_direction"].compute(K, eps=0.0, **choices)
    np.testing.assert_allclose(made, expected, rtol=1e-13)


def test_dividing_by_the_square_adds_eps_to_it():
    made = STEPS["unit_direction"].compute(K, eps=EPS, norm="squared")
    np.testing.assert_allclose(made, K / (N**2 + EPS), rtol=1e-13)


def test_a_fitted_eps_is_one_with_its_placement():
    compute = STEPS["unit_direction"].compute
    for placement in ("outside", "clamp"):
        np.testing.assert_array_equal(
            compute(K, **{f"{placement}_eps": EPS}), compute(K, eps=EPS, placement=placement)
        )
    assert {fit.axis for fit in STEPS["unit_direction"].fits} == {"eps", "outside_eps", "clamp_eps"}


def test_torchs_normalize_is_the_reading_of_its_name():
    torch = pytest.importorskip("torch")
    for size in SIZES:
        k = normal(2, 3, 5, scale=size)
        theirs = torch.nn.functional.normalize(torch.tensor(k), dim=-1).numpy()
        made = STEPS["unit_direction"].compute(k, placement="torch")
        np.testing.assert_allclose(made, theirs, rtol=1e-13)


S, KS, V, B = normal(4, 4), normal(4), normal(4), 0.7
KX = KS @ S

UPDATES = [
    ({"normalised": True}, lambda: by_hand(KS / np.linalg.norm(KS))),
    ({"erase": False}, lambda: S + B * np.outer(KS, V)),
    ({"erase": "added"}, lambda: S + B * np.outer(KS, V + KX)),
    ({"erase": "all"}, lambda: (1 - B) * S + B * np.outer(KS, V)),
    ({"erase": "unsummed"}, lambda: S + B * KS[:, None] * (V - KS[:, None] * S)),
    ({"erase": "mean"}, lambda: S + B * np.outer(KS, V - KX / 4)),
    ({"erase": "product"}, lambda: S + B * np.outer(KS, V * KX)),
    ({"write": False}, lambda: S - B * np.outer(KS, KX)),
    ({"step_on": "erase"}, lambda: S + np.outer(KS, V - B * KX)),
    ({"step_on": "write"}, lambda: S + np.outer(KS, B * V - KX)),
    ({"step": "one_minus"}, lambda: S + (1 - B) * np.outer(KS, V - KX)),
    ({"step": "squared"}, lambda: S + B**2 * np.outer(KS, V - KX)),
    ({"step": "two_sigmoid"}, lambda: S + 2 / (1 + np.exp(-B)) * np.outer(KS, V - KX)),
    ({"sequence": "write_first"}, lambda: written_first()),
    ({"outer": "v_k"}, lambda: S + B * (np.outer(V, KS) - np.outer(KS, KX))),
    ({"outer": "error_k"}, lambda: S + B * np.outer(V - KX, KS)),
    ({"projected": "right"}, lambda: S + B * np.outer(KS, V - S @ KS)),
    ({"outer": "error_k", "projected": "right"}, lambda: S + B * np.outer(V - S @ KS, KS)),
    ({"residual": "lost"}, lambda: B * np.outer(KS, V - KX)),
    ({"residual": "multiplied"}, lambda: S * B * np.outer(KS, V - KX)),
    ({"sign": -1}, lambda: S - B * np.outer(KS, V - KX)),
]


def by_hand(k):
    return S + B * np.outer(k, V - k @ S)


def written_first():
    written = S + B * np.outer(KS, V)
    return written - B * np.outer(KS, KS @ written)


@pytest.mark.parametrize(("choices", "expected"), UPDATES, ids=said)
def test_updates_are_their_formulas(choices, expected):
    made = STEPS["delta_update"].compute(S, KS, V, B, **choices)
    np.testing.assert_allclose(made, expected(), atol=1e-13)


def test_a_transposed_step_is_left_where_the_state_is_not_square():
    arrays = {"X": normal(2, 4, 3), "k": normal(2, 4), "v": normal(2, 3), "beta": normal(2)}
    for choices in ({"outer": "v_k"}, {"outer": "error_k"}, {"projected": "right"}):
        np.testing.assert_array_equal(
            computed("delta_update", choices, arrays, {}), computed("delta_update", {}, arrays, {})
        )


D = residual((2, 3), 5)
X, C, UNIT = D["x"], D["context"], D["k"] / np.linalg.norm(D["k"], axis=-1, keepdims=True)


def sigma(z):
    return 1.0 / (1.0 + np.exp(-z))


def logit(c=C):
    return c @ D["W_beta"] + D["b_beta"]


def value(u=X):
    return u @ D["W_v"] + D["b_v"]


def dot(a, b):
    return (a * b).sum(-1, keepdims=True)


def moved(k=UNIT, beta=None, v=None, w=None):
    beta = 2 * sigma(logit()) if beta is None else beta
    return X + beta * ((value() if v is None else v) - dot(k, X)) * (k if w is None else w)


RESIDUALS = [
    ({"norm": "none"}, lambda: moved(D["k"])),
    ({"norm": "rms"}, lambda: moved(UNIT * np.sqrt(5))),
    ({"gate": "sigmoid"}, lambda: moved(beta=sigma(logit()))),
    ({"gate": "one_plus_tanh"}, lambda: moved(beta=1 + np.tanh(logit()))),
    ({"gate": "complement"}, lambda: moved(beta=2 - 2 * sigma(logit()))),
    ({"gate": "tanh"}, lambda: moved(beta=np.tanh(logit()))),
    ({"gate": "linear"}, lambda: moved(beta=logit())),
    ({"gate": "none"}, lambda: moved(beta=1.0)),
    ({"gate_reads": "x"}, lambda: moved(beta=2 * sigma(logit(X)))),
    ({"gate_reads": "k"}, lambda: moved(beta=2 * sigma(logit(D["k"])))),
    ({"gate_reads": "unit"}, lambda: moved(beta=2 * sigma(logit(UNIT)))),
    ({"v_reads": "context"}, lambda: moved(v=value(C))),
    ({"v_reads": "k"}, lambda: moved(v=value(D["k"]))),
    ({"v_reads": "unit"}, lambda: moved(v=value(UNIT))),
    ({"v_form": "sigmoid4"}, lambda: moved(v=4 * sigma(value()))),
    ({"v_form": "sigmoid"}, lambda: moved(v=sigma(value()))),
    ({"v_form": "tanh"}, lambda: moved(v=np.tanh(value()))),
    ({"v_form": "silu"}, lambda: moved(v=value() * sigma(value()))),
    ({"v_form": "constant"}, lambda: moved(v=2.0)),
    ({"writes_along": "raw"}, lambda: moved(w=D["k"])),
    ({"writes_along": "rms"}, lambda: moved(w=np.sqrt(5) * UNIT)),
    ({"reads_along": "raw"}, lambda: moved(D["k"], w=UNIT)),
    ({"reads_along": "rms"}, lambda: moved(np.sqrt(5) * UNIT, w=UNIT)),
    ({"erases_from": "context"}, lambda: moved(v=value() - dot(UNIT, C) + dot(UNIT, X))),
    ({"plain_residual": True}, lambda: moved() + D["k"]),
    ({"sign": -1}, lambda: 2 * X - moved()),
    ({"erase": False}, lambda: X + 2 * sigma(logit()) * value() * UNIT),
    ({"write": False}, lambda: moved(v=0.0)),
    ({"step_on": "erase"}, lambda: moved(v=value() / (2 * sigma(logit())))),
    ({"v_form": "sigmoid4", "v_reads": "context"}, lambda: moved(v=4 * sigma(value(C)))),
]


@pytest.mark.parametrize(("choices", "expected"), RESIDUALS, ids=said)
def test_residuals_are_their_formulas(choices, expected):
    made = STEPS["deep_delta_residual"].compute(**D, eps=0.0, **choices)
    np.testing.assert_allclose(made, expected(), atol=1e-12)


def test_the_centres_are_the_conventions_of_the_layers_options():
    options = {
        "DDL's paper": {"v_input": C},
        "DDL's paper, v_input apart": {"v_input": C},
        "DDL's code": {"v_form": "sigmoid4"},
        "DDL's code, constant v": {"v_form": "constant"},
        "DDL's paper v1, A.1": {"v_input": C, "placement": "outside"},
        "DDL's paper v1, eq. 2.3": {"v_input": C, "eps": np.sqrt(1e-5)},
    }
    steps = STEPS["deep_delta_residual"]
    assert set(options) == set(steps.centres) - {"DDL's first code"}
    for name, given in options.items():
        layer = CONTRACT["deep_delta_residual"].function(**D, **given)
        np.testing.assert_allclose(steps.compute(**D, **steps.centres[name]), layer, rtol=1e-12)


def test_the_context_by_default_is_not_read_where_v_has_an_input_of_its_own():
    compute, u = STEPS["deep_delta_residual"].compute, normal(*X.shape)
    made = compute(**D, v_input=u, v_reads="context by default")
    np.testing.assert_array_equal(made, compute(**D, v_input=u))


def test_the_first_codes_centre_is_torchs_normalize_and_a_sigmoid():
    torch = pytest.importorskip("torch")
    steps = STEPS["deep_delta_residual"]
    for size in (1.0, 1e-5, 1e-6, 1e-8):
        arrays = D | {"k": size * D["k"]}
        k = torch.nn.functional.normalize(torch.tensor(arrays["k"]), dim=-1, eps=1e-6).numpy()
        made = steps.compute(**arrays, **steps.centres["DDL's first code"])
        np.testing.assert_allclose(made, moved(k, v=sigma(value())), rtol=1e-12)


def test_torchs_rms_norm_with_the_codes_eps_is_the_contract():
    torch = pytest.importorskip("torch")
    compute = STEPS["unit_direction"].compute
    for size in SIZES:
        k = normal(2, 3, 5, scale=size)
        rms = torch.nn.functional.rms_norm
        scaled = [rms(torch.tensor(k), [5], eps=e).numpy() for e in (1e-10 / 5, 1e-10, 1e-5)]
        right, in_mean, not_squared = (y / np.sqrt(5) for y in scaled)
        np.testing.assert_allclose(compute(k), right, rtol=1e-12)
        np.testing.assert_allclose(compute(k, placement="in_mean"), in_mean, rtol=1e-12)
        made = compute(k, placement="in_mean_not_squared")
        np.testing.assert_allclose(made, not_squared, rtol=1e-12)
