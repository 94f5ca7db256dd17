"""What holds for every layer: gradients, array libraries, dtypes, and errors of mixed arrays."""

import inspect
from contextlib import nullcontext

import numpy as np
import pytest
from array_libraries import LIBRARIES, host, on_numpy_and_strict
from cases import (
    check_integers_are_refused,
    check_mixed_devices,
    check_mixed_libraries,
    check_on,
    check_slopes,
)
from layer_cases import CASES, FAMILIES

import mgt_np
from mgt_np import grad, layers
from mgt_np.arrays import array_namespace, composed

MIXABLE = [case for case in CASES if len(case.arrays) + len(case.constants) > 1]

NOT_DIFFERENTIATED = {
    "delta_regime": "gives words",
    **{name: "gives parameters" for name in layers.__all__ if name.startswith("init_")},
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_slopes(case, rng):
    check_slopes(case, rng)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_library_agrees_with_numpy(case, library, rng):
    check_on(library, case, rng)


@on_numpy_and_strict
@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_stays_float32(case, library, rng):
    check_on(library, case, rng, dtype=np.float32, tolerance=2e-5)


HAVE_BFLOAT16 = [library for library in LIBRARIES if hasattr(library.xp, "bfloat16")]
FIRST = {case.name.split()[0]: case for case in reversed(CASES)}


@pytest.mark.parametrize("library", HAVE_BFLOAT16, ids=str, indirect=True)
@pytest.mark.parametrize("name", FIRST)
def test_bfloat16_is_computed_in_float32_and_cast_back(name, library, rng):
    """To the last digit. Gradients, of Σ R y, on one library: on JAX each operation is compiled."""
    xp = library.xp
    function, arrays = FIRST[name].on(library)
    narrow = [xp.astype(x, xp.bfloat16) for x in arrays]
    wide = [xp.astype(x, xp.float32) for x in narrow]
    R = library.asarray(rng.standard_normal(tuple(function(*wide).shape)))
    R = xp.astype(R, xp.bfloat16)

    def scalar(arrays):
        y = function(*arrays)
        return array_namespace(y).sum(y * xp.astype(R, y.dtype))

    got, expected = [function(*narrow)], [function(*wide)]
    if library is HAVE_BFLOAT16[0]:
        got += grad(scalar)(narrow)
        expected += grad(scalar)(wide)
    assert [x.dtype for x in got] == [xp.bfloat16] * len(got)
    for x, x_wide in zip(got, expected, strict=True):
        rounded = xp.astype(xp.astype(x_wide, xp.bfloat16), xp.float32)
        np.testing.assert_array_equal(*host([xp.astype(x, xp.float32), rounded]))


@on_numpy_and_strict
@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_refused(case, library):
    check_integers_are_refused(case, library)


@pytest.mark.parametrize("case", MIXABLE, ids=str)
def test_arrays_of_two_libraries_are_refused(case):
    check_mixed_libraries(case)


@pytest.mark.parametrize("case", MIXABLE, ids=str)
def test_arrays_on_two_devices_are_refused(case):
    check_mixed_devices(case)


FUNCTIONS = {name for name in layers.__all__ if inspect.isfunction(getattr(layers, name))}


def test_the_table_is_complete():
    assert {case.name.split()[0] for case in CASES} | NOT_DIFFERENTIATED.keys() == FUNCTIONS
    assert FUNCTIONS.issubset(mgt_np.__all__)


def test_parameters_are_named_like_arguments(rng):
    """`layer(x, **init_layer(...))`: what the keys leave out stands first."""
    params = {
        "linear": (layers.init_linear(rng, 3, 4), ["x"]),
        "layer_norm": (layers.init_layer_norm(4), ["x"]),
        "rms_norm": (layers.init_rms_norm(4), ["x"]),
        "feed_forward": (layers.init_feed_forward(rng, 4, 6), ["x"]),
        "multi_head_attention": (layers.init_multi_head_attention(rng, 4), ["x"]),
        "mgt_residual": (layers.init_mgt_residual(rng, 4), ["x", "v_raw"]),
    }
    for family in FAMILIES:
        params |= getattr(family, "parameters", lambda rng: {})(rng)
    assert {f"init_{name}" for name in params} == {n for n in FUNCTIONS if n.startswith("init_")}
    for name, (keys, inputs) in params.items():
        arguments = inspect.signature(getattr(layers, name)).parameters.values()
        arrays = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        assert arrays[: len(inputs)] == inputs
        assert set(arrays[len(inputs) :]) == keys.keys()


NUMPY_S_NUMBERS = {
    "attention_weights": lambda x, n: layers.attention_weights(x, x, scale=n),
    "cross_entropy": lambda x, n: layers.cross_entropy(x, np.asarray([0, 1]), label_smoothing=n),
    "layer_norm": lambda x, n: layers.layer_norm(x, eps=n),
    "mgt_beta": lambda x, n: layers.mgt_beta(x, x, x[0, :], lam=n, eps=n),
    "mgt_residual": lambda x, n: layers.mgt_residual(x, x, x, x, x[0, :], x[0, :], lam=n, eps=n),
    "rms_norm": lambda x, n: layers.rms_norm(x, eps=n),
    "sinkhorn": lambda x, n: layers.sinkhorn(x, temperature=n, eps=n),
    "unit_direction": lambda x, n: layers.unit_direction(x, eps=n),
}


@pytest.mark.parametrize("in_composed_form", [False, True])
@pytest.mark.parametrize("name", NUMPY_S_NUMBERS)
def test_numpy_s_numbers_leave_float32_alone(name, in_composed_form):
    """As in scale=1/np.sqrt(d), which NumPy counts as an array of float64."""
    x = np.asarray([[1.0, 2.0], [3.0, 5.0]], dtype="float32")
    with composed() if in_composed_form else nullcontext():
        y = NUMPY_S_NUMBERS[name](x, np.float64(0.5))
        expected = NUMPY_S_NUMBERS[name](x, 0.5)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)
