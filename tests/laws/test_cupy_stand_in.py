"""The package on arrays that refuse what CuPy's do; the stand-in says what that does not prove."""

import numpy as np
import pytest
from array_libraries import ArrayLibrary, host
from cases import check_on
from cupy_stand_in import DEVICE, ndarray, synchronisations, xp
from gradcheck import weighted
from layer_cases import CASES as LAYER_CASES
from measure_cases import CASES as MEASURE_CASES
from rule_cases import CASES as RULE_CASES
from rule_cases import check_rule_on

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    cross_entropy,
    embedding,
    init_transformer,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, on_host
from mgt_np.arrays.libraries import Place, move, place

STAND_IN = ArrayLibrary("cupy-stand-in", xp, DEVICE)

# What CuPy itself refuses, whoever asks: arrays of repeats before 14.1, broadcasting in `solve`.
REFUSED = {
    "repeat-unevenly",
    "repeat-flat-unevenly",
    "linalg.solve-(3,-3)-(2,-3,-1)",
    "linalg.solve-(2,-3,-3)-(3,)",
    "linalg.solve-(3,-3,-3)-(3,)",
}
STANDARD = [case for case in RULE_CASES if case.standard]


@pytest.fixture
def x():
    return xp.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize("other", [np.ones(3), np.ones(()), np.float64(2.0), [1.0, 2.0, 3.0]])
def test_host_values_are_refused_in_operators_and_functions(x, other):
    for refused in (
        lambda: x + other,
        lambda: other * x,
        lambda: x < other,
        lambda: x @ other,
        lambda: xp.add(x, xp.asarray(1.0)) - other,
    ):
        with pytest.raises(TypeError, match="Unsupported type"):
            refused()
    if not isinstance(other, list):
        for function in (lambda: xp.multiply(x, other), lambda: xp.where(x > 2.0, x, other)):
            with pytest.raises(TypeError, match="Unsupported type"):
                function()


def test_nothing_becomes_a_numpy_array_unasked(x):
    for convert in (np.asarray, np.sum, lambda x: np.ones((2, 3)) + x, np.exp):
        with pytest.raises(TypeError, match=r"Implicit conversion|Unsupported type"):
            convert(x)
    np.testing.assert_array_equal(x.get(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_reductions_and_elements_are_arrays_without_axes(x):
    for result in (xp.sum(x), xp.max(x), xp.any(x > 0.0), x[0, 0], xp.argmax(x), xp.mean(x)):
        assert type(result) is ndarray
        assert result.shape == ()


def test_what_waits_for_the_device_is_counted(x):
    with synchronisations() as outer:
        with synchronisations() as names:
            float(x[0, 0])
            int(xp.argmax(x))
            bool(xp.all(x > 0.0))
            x.get()
            x[x > 2.0]
            xp.nonzero(x)
        xp.sum(xp.matmul(x, x.T) + x[:, :2])
    assert names == outer == ["float", "int", "bool", "get", "mask", "nonzero"]


def test_integer_arrays_wrap_around_and_are_not_assigned_through(x):
    outside = xp.asarray([4, -1])
    for taken in (xp.take(x, outside, axis=1), x[:, outside], x[..., outside]):
        np.testing.assert_array_equal(host(taken), [[2.0, 3.0], [5.0, 6.0]])
    with pytest.raises(TypeError, match="integers and slices"):
        x[outside, 0] = 1.0


@pytest.mark.parametrize(
    "refused",
    [
        lambda x: xp.repeat(x, xp.asarray([1, 2]), axis=0),
        lambda x: xp.linalg.solve(xp.eye(3), xp.ones((2, 3, 1))),
        lambda x: xp.zeros(3, device="cpu"),
    ],
    ids=["repeat", "solve", "device"],
)
def test_what_cupy_cannot_do_is_a_value_error(x, refused):
    with pytest.raises(ValueError, match=r"repeats|shape|device"):
        refused(x)


def test_names_that_cupy_lacks_are_not_there(x):
    missing = [(xp, "add_at"), (xp, "trapezoid"), (xp.linalg, "eig"), (x, "mT"), (x, "__index__")]
    for where, name in [*missing, (xp.add, "at")]:
        assert not hasattr(where, name)


def test_its_device_is_not_the_host(x):
    assert not on_host(x)
    assert str(x.device) == "<CUDA Device 0>"


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_layers_agree_with_numpy(case, rng):
    check_on(STAND_IN, case, rng)


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_layers_never_wait_for_the_device(case):
    function, arrays = case.on(STAND_IN)
    R = xp.ones(function(*arrays).shape)
    with synchronisations() as names:
        value_and_grad(weighted(function, R))(arrays)
    assert names == []


@pytest.mark.parametrize("case", MEASURE_CASES, ids=str)
def test_measures_agree_with_numpy(case, rng):
    check_on(STAND_IN, case, rng)


def test_arrays_move_there_and_back(rng):
    tree = {"x": rng.standard_normal((2, 3)), "tokens": [np.arange(3)]}
    there = move(tree, Place("cupy", xp, DEVICE), dtype="float32")
    assert (type(there["x"]), there["x"].dtype) == (ndarray, np.float32)
    back = move(there, place("numpy"), dtype="float64")
    np.testing.assert_array_equal(back["x"], tree["x"].astype(np.float32))
    np.testing.assert_array_equal(back["tokens"][0], tree["tokens"][0])
    there["x"][0, :] = 0.0
    assert np.all(back["x"] != 0.0)


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_layers_keep_float32(case, rng):
    check_on(STAND_IN, case, rng, dtype=np.float32, tolerance=2e-5)


@pytest.mark.parametrize("case", [c for c in STANDARD if str(c) not in REFUSED], ids=str)
def test_rules_agree_with_numpy(case, rng):
    check_rule_on(STAND_IN, case, rng)


@pytest.mark.parametrize("case", [c for c in STANDARD if str(c) in REFUSED], ids=str)
def test_rules_of_what_cupy_refuses_fail_loudly(case):
    with pytest.raises(ValueError, match=r"repeats|shape"):
        case(*STAND_IN.asarray(case.arrays()))


def test_refused_cases_are_in_the_table():
    assert REFUSED.issubset(map(str, STANDARD))


@pytest.fixture(params=RESIDUAL_RULES)
def model(request, rng):
    """Parameters, tokens and loss of a small model under every residual rule."""
    config = TransformerConfig(
        vocab_size=11,
        d_model=8,
        n_heads=2,
        n_layers=2,
        d_ff=12,
        max_tokens=6,
        residual=request.param,
    )

    def loss(params, tokens):
        return cross_entropy(transformer(params, tokens[:, :-1], config), tokens[:, 1:])

    return init_transformer(rng, config), rng.integers(0, 11, (2, 6)), loss


def test_models_agree_with_numpy(model):
    params, tokens, loss = model
    expected, expected_gradients = value_and_grad(loss)(params, tokens)
    value, gradients = value_and_grad(loss)(*STAND_IN.asarray((params, tokens)))
    np.testing.assert_allclose(host(value), expected, rtol=1e-13)
    pairs = zip(leaves_with_paths(gradients), leaves_with_paths(expected_gradients), strict=True)
    for (path, g), (expected_path, expected_g) in pairs:
        assert path == expected_path
        assert type(g) is ndarray
        np.testing.assert_allclose(host(g), expected_g, rtol=0.0, atol=1e-13)


def test_a_step_of_a_model_never_waits_for_the_device(model):
    params, tokens, loss = model
    there = STAND_IN.asarray((params, tokens))
    with synchronisations() as names:
        value_and_grad(loss)(*there)
    assert names == []


def test_a_token_out_of_range_is_nan_not_an_error_nor_a_wrapped_index(rng):
    E, tokens = STAND_IN.asarray((rng.standard_normal((4, 2)), np.array([1, 4, -1])))
    found = np.isnan(host(embedding(tokens, E)))
    np.testing.assert_array_equal(found, [[False] * 2, [True] * 2, [True] * 2])
