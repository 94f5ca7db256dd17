"""What a choice does to a case: choices of the composed equation, and generic ones of any function.

A set of choices is a tuple of `Reading`s, at most one for an axis. A generic reading changes an
argument before the call, or the result after it, and needs no code of the function's own.
"""

import functools
import importlib
import inspect

import numpy as np

from .contract import CONTRACT, arguments, results
from .steps import Reading, Steps

FAMILIES = ("basic", "attention", "delta", "mgt", "streams", "hyper_connections")


@functools.cache
def steps_of(function):
    """Return the `Steps` of a function; the layer itself, without choices, if it has none."""
    for family in FAMILIES:
        module = importlib.import_module(f".steps.{family}", __package__)
        if function in module.STEPS:
            return module.STEPS[function]
    return Steps(functools.partial(_layer, CONTRACT[function]), ())


def _layer(checked, **given):
    arrays = {name: given.pop(name, None) for name in checked.arrays}
    return checked.function(**arguments(checked, arrays, given))


def predict(case, arrays, readings=(), fitted=None):
    """Return the outputs of a case by these readings; `fitted` has the values of fitted axes."""
    checked = CONTRACT[case.function]
    arrays, options, choices, after = dict(arrays), dict(case.options), dict(fitted or {}), []
    for reading in readings:
        place, _, what = reading.axis.partition(" ")
        if place == "argument" and what:
            _change_argument(arrays, options, what, reading.value)
        elif place == "output" and what:
            after.append((what, reading.value))
        else:
            choices[reading.axis] = reading.value
    made = steps_of(case.function).compute(**arrays, **{**options, **choices})
    outputs = results(checked, made)
    for name, value in after:
        outputs[name] = _OUTPUTS[value](outputs[name], arrays[checked.arrays[0]])
    return outputs


_CHANGES = {
    "ignored": lambda x: None,
    "zero": np.zeros_like,
    "one": np.ones_like,
    "negated": lambda x: -x,
    "halved": lambda x: 0.5 * x,
    "doubled": lambda x: 2.0 * x,
    "plus one": lambda x: x + 1.0,
    "transposed": lambda x: np.swapaxes(x, -1, -2),
    "reversed": lambda x: x[..., ::-1],
    "inverted": np.logical_not,
    "first of the batch": lambda x: np.broadcast_to(x[:1], x.shape),
    "first token": lambda x: np.broadcast_to(x[:, :1], x.shape),
}
_OUTPUTS = {
    "doubled": lambda y, x: 2.0 * y,
    "halved": lambda y, x: 0.5 * y,
    "negated": lambda y, x: -y,
    "transposed": lambda y, x: np.swapaxes(y, -1, -2),
    "x added": lambda y, x: y + x,
    "x left out": lambda y, x: y - x,
    "first of the batch": lambda y, x: np.broadcast_to(y[:1], y.shape),
    "first token": lambda y, x: np.broadcast_to(y[:, :1], y.shape),
}


def _change_argument(arrays, options, name, value):
    where = arrays if name in arrays else options
    if value.startswith("swapped with "):
        other = value.removeprefix("swapped with ")
        arrays[name], arrays[other] = arrays[other], arrays[name]
    elif where.get(name) is not None:
        where[name] = _CHANGES[value](where[name])


@functools.cache
def generic(function):
    """Return the generic readings that a function's arguments and results allow in its cases."""
    from .cases import cases_of

    cases = cases_of(function)
    found = []
    for name in (*CONTRACT[function].arrays, "mask"):
        shapes = [
            np.shape(x)
            for case in cases
            if (x := case.arrays.get(name, case.options.get(name))) is not None
        ]
        if shapes:
            found += _of_argument(function, name, shapes)
    found += _swaps(cases, CONTRACT[function].arrays)
    for name in CONTRACT[function].outputs:
        found += _of_output(function, name, cases)
    return tuple(found)


def _of_argument(function, name, shapes):
    parameters = inspect.signature(CONTRACT[function].function).parameters
    optional = name in parameters and parameters[name].default is None
    optional = optional or (name in CONTRACT[function].params and name in ("gain", "bias"))
    if name == "mask":
        changes = [("ignored", "MASK"), ("inverted", "MASK")]
    else:
        changes = [("ignored" if optional else "zero", "MISSING_STEP")]
        changes += [] if name == "gain" else [("one", "MISSING_STEP")]
        changes += [("negated", "SIGN"), ("halved", "FACTOR"), ("doubled", "FACTOR")]
        changes += [("plus one", "FACTOR")]
        if any(s and s[-1] > 1 for s in shapes):
            changes += [("reversed", "ORIENTATION")]
        if all(len(s) >= 2 and s[-1] == s[-2] for s in shapes):
            changes.append(("transposed", "ORIENTATION"))
    if all(len(s) >= 3 and s[0] > 1 for s in shapes):
        changes.append(("first of the batch", "SHARED"))
        changes.append(("first token", "SHARED"))
    return [_reading(f"argument {name}", value, bug, name) for value, bug in changes]


_SAID = {
    "ignored": ("{} is not used", "use {}"),
    "zero": ("{} is not used, or taken as 0", "use {}"),
    "one": ("{} is not used, or taken as 1", "use {}"),
    "negated": ("the sign of {} is turned", "take {} as it is"),
    "halved": ("{} is halved", "leave out the factor ½"),
    "doubled": ("{} is doubled", "leave out the factor 2"),
    "plus one": ("1 is added to {}", "take {} as it is, or store it less 1"),
    "transposed": ("{} is transposed", "transpose {} back"),
    "reversed": ("the features of {} are in reverse order", "take {} in its own order"),
    "inverted": ("the truth values of {} are taken the other way round", "True means may attend"),
    "first of the batch": ("the first element of the batch gives {} for all", "index the batch"),
    "first token": ("the first token gives {} for all", "index the tokens"),
    "x added": ("the input is added to {}", "leave the input out"),
    "x left out": ("the input is missing in {}", "add the input"),
}


def _reading(axis, value, bug, name):
    says, change = _SAID[value]
    return Reading(axis, value, bug, says.format(name), change.format(name))


def _swaps(cases, names):
    found = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            shapes = [(np.shape(c.arrays.get(a)), np.shape(c.arrays.get(b))) for c in cases]
            given = [c.arrays.get(a) is not None and c.arrays.get(b) is not None for c in cases]
            if all(given) and all(s == t and s != () for s, t in shapes):
                says, change = f"{a} and {b} are swapped", f"exchange {a} and {b}"
                found.append(Reading(f"argument {a}", f"swapped with {b}", "INPUT", says, change))
    return found


def _of_output(function, name, cases):
    first = CONTRACT[function].arrays[0]
    changes = [("doubled", "FACTOR"), ("halved", "FACTOR"), ("negated", "SIGN")]
    shapes = []
    for case in cases:
        y = predict(case, case.arrays)[name]
        shapes.append((np.shape(y), np.shape(case.arrays[first])))
    if all(y == x for y, x in shapes):
        changes += [("x added", "EXTRA_STEP"), ("x left out", "MISSING_STEP")]
    if all(len(y) >= 2 and y[-1] == y[-2] for y, _ in shapes):
        changes.append(("transposed", "ORIENTATION"))
    if all(len(y) >= 3 and y[0] > 1 for y, _ in shapes):
        changes += [("first of the batch", "SHARED"), ("first token", "SHARED")]
    return [_reading(f"output {name}", value, bug, name) for value, bug in changes]
