"""Errors at the public boundary: what was expected, and what came."""

import difflib


def same_size(what, **sizes):
    """Raise ValueError unless all sizes are equal: `k has 7 features, X has 8`."""
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"expected equally many {what}, but {got}")


def at_least(ndim, **arrays):
    """Raise ValueError unless each array has that many axes, TypeError for what is no array."""
    for name, x in arrays.items():
        if x is None or isinstance(x, int | float):
            raise TypeError(f"expected {name} to be an array, got {x!r}")
        if x.ndim < ndim:
            raise ValueError(
                f"expected {name} to have at least {ndim} axes, got shape {tuple(x.shape)}"
            )


def one_of(options, **choices):
    """Return the value of `options` that was chosen by name, or raise ValueError."""
    for name, choice in choices.items():
        if choice not in options:
            near = difflib.get_close_matches(str(choice), [str(option) for option in options], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            listed = ", ".join(repr(option) for option in options)
            raise ValueError(f"expected {name} to be one of {listed}, got {choice!r}{hint}")


def entries(params, *names):
    """Return those entries of a dict of parameters, or raise ValueError naming what is missing."""
    missing = [name for name in names if name not in params]
    if missing:
        raise ValueError(
            f"expected parameters {', '.join(names)}, got {', '.join(params) or 'none'}: "
            f"{', '.join(missing)} missing"
        )
    return {name: params[name] for name in names}


def shaped(x, *shapes, name):
    """Raise ValueError unless an array has one of these shapes; a Python number has ()."""
    shape = () if isinstance(x, int | float) else tuple(x.shape)
    if shape not in shapes:
        raise ValueError(f"expected {name} of shape {' or '.join(map(str, shapes))}, got {shape}")


def number(x):
    """Return a Python number for one of NumPy's, by which float32 arrays would become float64."""
    return float(x) if isinstance(x, float) else x
