"""Random calls of every public function: a result as documented, or an error that says why."""

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signatures import FUNCTIONS, right_call

from mgt_np.arrays import tree_map

SCALES = (0.0, 1e-30, 1.0, 1e20, np.inf, np.nan)
LAYERS = {name: f for name, f in FUNCTIONS.items() if not name.startswith("init_")}


@st.composite
def random_calls(draw):
    """A call with arrays of one floating dtype and one scale, most of them of fitting shapes."""
    name = draw(st.sampled_from(sorted(LAYERS)))
    function, rng = LAYERS[name], np.random.default_rng(draw(st.integers(0, 2**32)))
    leading = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    call = right_call(function, rng, leading=leading, pick=draw(st.integers(0, 3)))
    dtype, scale = draw(st.sampled_from(["f2", "f4", "f8"])), draw(st.sampled_from(SCALES))
    with np.errstate(all="ignore"):
        call = call.mapped(
            lambda x: np.asarray(scale * x, dtype=dtype) if x.dtype.kind == "f" else x
        )
    places = list(call.places())
    for place in draw(st.lists(st.sampled_from(places), max_size=2)) if places else ():
        n, axis = draw(st.integers(0, 5)), draw(st.integers(0, 3))
        x = call.value(place)
        if not isinstance(x, np.ndarray):
            call = call.but(place, draw(st.sampled_from([np.float64(0.5), 1, np.nan, -1e20])))
        elif axis < x.ndim:
            call = call.but(place, np.resize(x, (*x.shape[:axis], n, *x.shape[axis + 1 :])))
    return call, np.dtype(dtype)


def answer(call):
    """What a call returns, or the TypeError or ValueError that it raises."""
    with np.errstate(all="ignore"):
        try:
            return call.run()
        except (TypeError, ValueError) as error:
            return error


def check(call, dtype):
    before = copy.deepcopy({place: call.value(place) for place in call.places()})
    result = answer(call)
    if isinstance(result, Exception):
        assert type(result) in (TypeError, ValueError), result
        assert str(result).startswith(f"{call.function.__name__}: expected "), result
        assert "got" in str(result), result
        return
    for place, value in before.items():
        np.testing.assert_array_equal(call.value(place), value)
    if any(getattr(x, "dtype", None) == dtype for x in before.values()):  # not numbers alone
        tree_map(lambda y: check_dtype(y, dtype), result)


def check_dtype(y, dtype):
    """No result has a floating dtype other than that of the arrays."""
    if getattr(y, "dtype", np.dtype(int)).kind == "f":
        assert y.dtype == dtype


quiet = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


@settings(quiet, max_examples=300, derandomize=True)
@given(random_calls())
def test_a_call_is_answered_or_refused(drawn):
    check(*drawn)


@pytest.mark.fuzz
@settings(quiet, max_examples=20_000)
@given(random_calls())
def test_very_many_calls_are_answered_or_refused(drawn):
    check(*drawn)
