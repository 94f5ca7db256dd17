"""Settings from the command line: presets, changed by name."""

import dataclasses
import math
import typing

from mgt_np.arrays.checks import one_of

FIXED = {"fixed": True}  # metadata of a field that an experiment depends on: no option changes it


def plans(chosen, *, full=False, given=None, changes=()):
    """Pairs of each experiment and its settings: quick or full, with some of them changed.

    `given` has values by the settings' names, None where nothing is asked for; `changes` are texts
    NAME=VALUE, tuples as A,B,C. An experiment without a setting of the name is left as it is, and
    so is a setting whose field has the metadata FIXED.
    Raises ValueError where no chosen experiment has one, and for a value of another kind.
    """
    wanted = {name: value for name, value in (given or {}).items() if value is not None}
    texts = texts_of(changes)
    for name in texts.keys() & {"array_library", "device", "dtype", *wanted}:
        option = name.replace("_", "-")
        raise ValueError(f"--set {name}: expected --{option} instead, got {texts[name]!r}")
    presets = [experiment.full if full else experiment.quick for experiment in chosen]
    known = {name for preset in presets for name in _kinds(preset)}
    for name in (*wanted, *texts):
        one_of(sorted(known), **{"the name of a setting": name})
    return [
        (experiment, changed(preset, wanted, texts))
        for experiment, preset in zip(chosen, presets, strict=True)
    ]


def check_whole_numbers(settings, *from_zero):
    """Raise ValueError for a whole number below 1, or below 0 among the names `from_zero`."""
    for each in dataclasses.fields(settings):
        value, least = getattr(settings, each.name), 0 if each.name in from_zero else 1
        if type(value) is int and each.type is not float and value < least:
            raise ValueError(f"expected {each.name} of at least {least}, got {value}")


def texts_of(changes):
    """The texts NAME=VALUE as {name: value}; raises ValueError where one is no such text."""
    found = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"--set: expected NAME=VALUE, got {change!r}")
        found[name.strip().replace("-", "_")] = text
    return found


def changed(preset, wanted, texts):
    """A preset with values by their names, and with values written as texts.

    Names that it does not have, or has fixed, are left out. Raises ValueError for a text that is
    not of the kind that the setting's annotation asks for.
    """
    kinds = _kinds(preset)
    parsed = {
        name: _parsed(name, text, kinds[name]) for name, text in texts.items() if name in kinds
    }
    given = {name: value for name, value in wanted.items() if name in kinds}
    return dataclasses.replace(preset, **given, **parsed)


def _kinds(preset):
    """The annotations of the settings that may be changed, by their names."""
    return {each.name: each.type for each in dataclasses.fields(preset) if each.metadata != FIXED}


def _parsed(name, text, kind):
    """A text as a value of an annotation's kind: int, str | float, tuple[int, ...]."""
    if typing.get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        length = len(typing.get_args(kind))
        if ... not in typing.get_args(kind) and len(parts) != length:
            raise ValueError(f"--set {name}: expected {length} values, got {text!r}")
        return tuple(_parsed(name, part, typing.get_args(kind)[0]) for part in parts)
    kinds = typing.get_args(kind) or (kind,)
    for each, read in _READERS.items():
        if each in kinds:
            try:
                value = read(text.strip())
            except (ValueError, KeyError):
                continue
            if not isinstance(value, float) or math.isfinite(value):
                return value
    expected = " or ".join(_WORDS[each] for each in _WORDS if each in kinds)
    raise ValueError(f"--set {name}: expected {expected}, got {text!r}")


_READERS = {
    bool: {"true": True, "false": False, "True": True, "False": False}.__getitem__,
    type(None): {"none": None, "None": None}.__getitem__,
    int: int,
    float: float,
    str: str,
}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
