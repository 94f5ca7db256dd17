"""Settings from the command line: presets, changed by name."""

import dataclasses
import math

from mgt_np.arrays.checks import one_of


def plans(chosen, *, full=False, given=None, changes=()):
    """Pairs of each experiment and its settings: quick or full, with some of them changed.

    `given` has values by the settings' names, None where nothing is asked for; `changes` are texts
    NAME=VALUE, tuples as A,B,C. An experiment without a setting of the name is left as it is.
    Raises ValueError where no chosen experiment has one, and for a value of another kind.
    """
    wanted = {name: value for name, value in (given or {}).items() if value is not None}
    texts = dict(_split(change) for change in changes)
    presets = [experiment.full if full else experiment.quick for experiment in chosen]
    known = {each.name for preset in presets for each in dataclasses.fields(preset)}
    for name in (*wanted, *texts):
        one_of(sorted(known), **{"the name of a setting": name})
    return [
        (experiment, _changed(preset, wanted, texts))
        for experiment, preset in zip(chosen, presets, strict=True)
    ]


def _split(change):
    name, equals, text = change.partition("=")
    if not equals:
        raise ValueError(f"--set: expected NAME=VALUE, got {change!r}")
    return name.strip().replace("-", "_"), text


def _changed(preset, wanted, texts):
    mine = {each.name for each in dataclasses.fields(preset)}
    parsed = {
        name: _parsed(name, text, getattr(preset, name))
        for name, text in texts.items()
        if name in mine
    }
    given = {name: value for name, value in wanted.items() if name in mine}
    return dataclasses.replace(preset, **given, **parsed)


def _parsed(name, text, like):
    """A text as a value of the kind that the preset has."""
    if isinstance(like, tuple):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return tuple(_parsed_part(name, part, like) for part in parts)
    return _parsed_part(name, text.strip(), (like,))


def _parsed_part(name, text, likes):
    kinds = {type(like) for like in likes}
    words = {int: "a whole number", float: "a number", str: "a text"}
    for kind in (int, float, str, type(None)):
        if kind in kinds:
            try:
                value = text if kind is type(None) else kind(text)
            except ValueError:
                continue
            if not isinstance(value, float) or math.isfinite(value):
                return value
    expected = " or ".join(words[kind] for kind in words if kind in kinds)
    raise ValueError(f"--set {name}: expected {expected}, got {text!r}")
