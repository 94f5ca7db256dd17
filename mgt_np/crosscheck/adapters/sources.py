"""What an adapter is given: a live module or a state_dict, and options; and what it refuses."""

from collections.abc import Mapping

import numpy as np


def is_live(source):
    """Return whether the source is a module that can be called, and not only its weights."""
    return callable(source) and hasattr(source, "state_dict")


def state_of(adapter, source):
    """Return the weights of a module or of a state_dict by their names, as float64 in NumPy."""
    state = source.state_dict() if is_live(source) else source
    if not isinstance(state, Mapping):
        kind = type(state).__name__
        raise ValueError(f"{adapter}: expected a module or a state_dict of arrays, got {kind}")
    return {name: as_float64(adapter, name, x) for name, x in state.items()}


def as_float64(adapter, name, x):
    """Return an array or a tensor of real numbers as a float64 NumPy array."""
    if hasattr(x, "detach"):  # a tensor, maybe of a dtype that NumPy has not
        x = x.detach().cpu()
        x = x.double() if x.is_floating_point() else x
    x = np.asarray(x)
    if x.dtype.kind not in "fiu":
        raise ValueError(f"{adapter}: expected {name} of real numbers, got dtype {x.dtype}")
    return x.astype(np.float64)


def size(adapter, state, name, ndim, axis):
    """Return the length of one axis of an entry, from which the other shapes follow."""
    if name not in state:
        found = ", ".join(state) or "nothing"
        raise ValueError(f"{adapter}: expected an entry {name}, got {found}")
    shape = state[name].shape
    if len(shape) != ndim:
        raise ValueError(f"{adapter}: expected {name} with {ndim} axes, got shape {shape}")
    return shape[axis]


def expect(adapter, state, shapes, optional=()):
    """Refuse a state_dict that has not these entries, or has others, or of other shapes."""
    missing = [name for name in shapes if name not in state and name not in optional]
    unknown = [name for name in state if name not in shapes]
    if missing or unknown:
        got = [f"no {', '.join(missing)}"] if missing else []
        got += [f"{', '.join(unknown)} too"] if unknown else []
        names = ", ".join(shapes)
        raise ValueError(f"{adapter}: expected entries {names}, got {' and '.join(got)}")
    for name, x in state.items():
        if x.shape != tuple(shapes[name]):
            raise ValueError(
                f"{adapter}: expected {name} of shape {tuple(shapes[name])}, got {x.shape}"
            )


def options_of(adapter, defaults, found, given):
    """Return the options of a layer: its library's defaults, what a module says, what is given.

    An option without a default has None there, and must be found or given.
    """
    unknown = [name for name in given if name not in defaults]
    if unknown:
        names = ", ".join(defaults)
        raise ValueError(f"{adapter}: expected options {names}, got {', '.join(unknown)}")
    options = defaults | found | given
    missing = [name for name, value in options.items() if value is None]
    if missing:
        raise ValueError(f"{adapter}: expected {missing[0]}=, got a state_dict without it")
    return options


def refuse_dropout(adapter, module):
    """Refuse a module in train mode that drops something: its output is random."""
    for name, part in module.named_modules():
        rate = part.p if "Dropout" in type(part).__name__ else getattr(part, "dropout", 0.0)
        if part.training and isinstance(rate, float) and rate > 0.0:
            where = f" in {name}" if name else ""
            raise ValueError(
                f"{adapter}: expected a module in evaluation mode, got train mode with dropout "
                f"{rate}{where}: call .eval()"
            )


def allowed(adapter, name, mask):
    """Return PyTorch's mask as ours, True where a query may attend to a key.

    PyTorch's is True where it may not, or has −∞ there and 0 elsewhere, which is added to the
    scores.
    """
    mask = _plain(mask)
    if mask.dtype.kind == "b":
        return ~mask
    if mask.dtype.kind == "f" and np.all((mask == 0.0) | (mask == -np.inf)):
        return mask == 0.0
    got = "other values" if mask.dtype.kind == "f" else f"dtype {mask.dtype}"
    raise ValueError(
        f"{adapter}: expected {name} to be a boolean mask or one of 0 and −∞, got {got}"
    )


def _plain(x):
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.double() if x.is_floating_point() else x
    return np.asarray(x)
