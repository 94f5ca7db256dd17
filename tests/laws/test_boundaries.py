"""What every public function answers to arguments that its signature does not admit."""

import functools
import inspect
import re

import array_api_strict
import numpy as np
import pytest
from signatures import (
    FUNCTIONS,
    annotations,
    default,
    is_shape,
    right_call,
    wrong_lengths,
    wrong_options,
    wrong_ranks,
)

from mgt_np.arrays import Parameters

DEVICE1 = array_api_strict.Device("device1")
PICKS = (0, 1, 2)  # which alternative of a shape

each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


@functools.cache
def calls(function):
    """Right calls of a function, one for each alternative in its shapes, and arguments left out."""
    rng = np.random.default_rng(0)
    made = [right_call(function, rng, pick=pick) for pick in PICKS]
    optional = [p.name for p in inspect.signature(function).parameters.values() if is_none(p)]
    return [*made, right_call(function, rng, pick=1, left_out=optional)]


def is_none(parameter):
    return parameter.default is None


def refused(call, *names):
    """The message of the error that a call raises, held to what each must say."""
    with np.errstate(all="ignore"), pytest.raises((TypeError, ValueError)) as caught:
        call.run()
    message = str(caught.value)
    assert type(caught.value) in (TypeError, ValueError), message
    assert message.startswith(f"{call.function.__name__}: expected "), message
    assert re.search(r"\bgot\b", message), message
    for name in names:
        assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message), message
    return message


def places(call, arrays_only=True):
    return [p for p in call.places() if not arrays_only or isinstance(call.value(p), np.ndarray)]


@each_function
def test_right_calls_are_right(function):
    for call in calls(function):
        with np.errstate(all="ignore"):
            call.run()
            call.mapped(array_api_strict.asarray).run()


@each_function
def test_arrays_of_wrong_rank_are_refused(function):
    for call in calls(function):
        for place in places(call):
            for wrong in wrong_ranks(place, call.value(place)):
                refused(call.but(place, wrong), place.name, f"got shape {wrong.shape}")


@each_function
def test_arrays_of_wrong_lengths_are_refused(function):
    for call in calls(function):
        for place in places(call):
            for wrong in wrong_lengths(call, place):
                refused(call.but(place, wrong), place.name)


@each_function
def test_arrays_of_wrong_dtypes_are_refused(function):
    for call in calls(function):
        for place in places(call):
            x, kind = call.value(place), place.spec.kind
            dtypes = {"float": float, "int": int, "bool": bool}
            for name in dtypes.keys() - {kind}:
                refused(call.but(place, x.astype(dtypes[name])), place.name)
            refused(call.but(place, x.astype(complex)), place.name, "complex128")
            refused(call.but(place, x.astype(object)), place.name)


@each_function
def test_arrays_of_another_library_or_device_are_refused(function):
    for call in calls(function):
        if len(places(call)) < 2:
            continue
        strict = call.mapped(array_api_strict.asarray)
        for place in places(call):
            x = call.value(place)
            other = array_api_strict.asarray(x)
            refused(call.but(place, other), place.name, "numpy", "array_api_strict")
            there = array_api_strict.asarray(x, device=DEVICE1)
            refused(strict.but(place, there), place.name, "device1")


@each_function
def test_what_is_no_array_is_refused(function):
    for call in calls(function):
        for place in places(call, arrays_only=False):
            x = call.value(place)
            wrong = [[1.0], "nonsense", True, 1j, object(), {}, np.ma.masked_array(x)]
            may_be_none = place.spec.none or default(function, place.argument) is None
            for each in [*wrong, *([] if may_be_none else [None])]:
                refused(call.but(place, each), place.name)


@each_function
def test_options_out_of_range_or_of_another_type_are_refused(function):
    call = calls(function)[1]
    for name, annotation in annotations(function).items():
        if is_shape(annotation) or isinstance(annotation, Parameters):
            continue
        for wrong in wrong_options(annotation, default(function, name) is None):
            changed = type(call)(function, call.arguments | {name: wrong})
            refused(changed, name)


@each_function
def test_missing_and_unknown_arguments_are_refused(function):
    call = calls(function)[0]
    for name in call.arguments:
        if default(function, name) is inspect.Parameter.empty:
            given = {key: x for key, x in call.arguments.items() if key != name}
            refused(type(call)(function, given), name)
    refused(type(call)(function, call.arguments | {"colour": 1}), "colour")
    too_many = functools.partial(function, *range(len(annotations(function)) + 1))
    with pytest.raises(TypeError, match=f"{function.__name__}: expected at most .* got"):
        too_many()


@each_function
def test_missing_and_unknown_entries_of_dicts_are_refused(function):
    call = calls(function)[0]
    for name, annotation in annotations(function).items():
        if not isinstance(annotation, Parameters):
            continue
        given = call.arguments[name]
        unknown = call.arguments | {name: given | {"colour": np.ones(2)}}
        refused(type(call)(function, unknown), name, "colour")
        for place in call.places():
            if place.argument == name and not place.spec.none:
                rest = {key: x for key, x in given.items() if key != place.key}
                refused(type(call)(function, call.arguments | {name: rest}), name, place.key)
        for wrong in (None, [1.0], np.ones(2), 3):
            refused(type(call)(function, call.arguments | {name: wrong}), name)
