"""How much rounding may move a result: our own layers on arrays that round at random.

Every operation on a `Noisy` array adds a random relative error of the unit roundoff of the dtype
in question (Monte Carlo arithmetic), whatever dtype the array has: float64 arrays tell what float32
or bfloat16 would lose. A sum or a matrix product errs in proportion to the sum of the magnitudes
that it adds.
"""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-9}

_ROUNDING = ContextVar("rounding", default=None)  # (the unit roundoff, a generator)

_EXACT = {
    np.negative,
    np.positive,
    np.absolute,
    np.maximum,
    np.minimum,
    np.sign,
    np.copysign,
    np.clip,
    np.isfinite,
    np.isnan,
    np.isinf,
}
_ELEMENTARY = {np.exp, np.expm1, np.log, np.log1p, np.tanh, np.power, np.sin, np.cos}
# What NumPy writes in terms of ufuncs, which then round by themselves.
_BY_UFUNCS = {np.sum, np.mean, np.var, np.std, np.max, np.min, np.any, np.all, np.clip}


@contextmanager
def rounding(dtype, seed):
    """Let `Noisy` arrays round as that dtype does, at random from that seed, in this context."""
    token = _ROUNDING.set((UNIT[dtype], np.random.default_rng(seed)))
    try:
        yield
    finally:
        _ROUNDING.reset(token)


class Noisy(np.ndarray):
    """An array each of whose results is off by as much as rounding may put it off."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [_plain(x) for x in inputs]
        if out is not None:
            options["out"] = tuple(_plain(x) for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        if result is NotImplemented or method == "at":
            return result
        if isinstance(result, tuple):
            return tuple(_noisy(x) for x in result)
        error = _error(ufunc, method, plain, result, options)
        if error is not None:
            if out is not None:
                options["out"][0][...] = result + error
                return out[0]
            result = result + error
        return out[0] if out is not None else _noisy(result)

    def __array_function__(self, function, types, args, options):
        if function in _BY_UFUNCS:
            return super().__array_function__(function, types, args, options)
        if function is np.linalg.svd:
            args = (_moved_as_a_whole(args[0]), *args[1:])
        args, options = _plain_all(args), _plain_all(options)
        result = function(*args, **options)
        if function in (np.linalg.norm, np.linalg.vector_norm, np.einsum, np.cumsum, np.dot):
            result = result + _draw(np.shape(result)) * np.abs(result)
        if isinstance(result, tuple) and hasattr(result, "_fields"):
            return type(result)(*(_noisy(x) for x in result))
        if isinstance(result, tuple | list):
            return type(result)(_noisy(x) for x in result)
        return _noisy(result)


def _plain(x):
    return x.view(np.ndarray) if isinstance(x, Noisy) else x


def _plain_all(tree):
    if isinstance(tree, dict):
        return {name: _plain_all(x) for name, x in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_plain_all(x) for x in tree)
    return _plain(tree)


def _noisy(x):
    """Return floating results as noisy arrays, so that what is computed of them rounds as well."""
    if isinstance(x, np.ndarray | np.floating) and x.dtype.kind == "f":
        return np.asarray(x).view(Noisy)
    return x


def _draw(shape):
    unit, rng = _ROUNDING.get()
    return unit * rng.uniform(-1.0, 1.0, shape)


def _error(ufunc, method, inputs, result, options):
    """The error of one operation; None where it is exact."""
    kind = getattr(np.asarray(result), "dtype", None)
    if _ROUNDING.get() is None or kind is None or kind.kind != "f" or ufunc in _EXACT:
        return None
    with np.errstate(all="ignore"):
        if ufunc is np.matmul:
            size = 0.5 * np.matmul(np.abs(inputs[0]), np.abs(inputs[1]))
        elif method == "reduce":
            options = {name: x for name, x in options.items() if name != "out"}
            size = 0.5 * np.abs(ufunc.reduce(np.abs(inputs[0]), **options))
        else:
            size = (2.0 if ufunc in _ELEMENTARY else 1.0) * np.abs(result)
        error = _draw(np.shape(result)) * size
    return np.where(np.isfinite(error), error, 0.0)


def _moved_as_a_whole(X):
    """A matrix moved in proportion to its norm: what a decomposition does that cannot be seen."""
    X = _plain(X)
    return X + 3.0 * _draw(X.shape) * np.linalg.norm(X, axis=(-2, -1), keepdims=True)


def noisy(tree):
    """Return arrays, in dicts or not, as noisy ones, off by a rounding error already."""
    if isinstance(tree, dict):
        return {name: noisy(x) for name, x in tree.items()}
    if isinstance(tree, np.ndarray) and tree.dtype.kind == "f":
        return (tree + _draw(tree.shape) * np.abs(tree)).view(Noisy)
    return tree


def scale(function, arrays, reference, dtype, *, runs=4, seed=0):
    """Return, for each result of `function(arrays)`, how far rounding in that dtype may move it.

    `reference` has the results without rounding. The scale is the largest deviation of `runs`
    noisy runs, plus the unit roundoff of the largest value.
    """
    scales = {}
    for name, y in reference.items():
        finite = np.abs(y)[np.isfinite(y)]
        scales[name] = UNIT[dtype] * (float(np.max(finite)) if finite.size else 0.0)
    worst = dict.fromkeys(reference, 0.0)
    for run in range(runs):
        with rounding(dtype, (seed, run)), np.errstate(all="ignore"):
            made = function(noisy(arrays))
        for name, y in reference.items():
            with np.errstate(invalid="ignore"):  # ∞ − ∞
                off = np.abs(np.asarray(_plain(made[name]), dtype=float) - y)
            off = off[np.isfinite(off)]
            worst[name] = max(worst[name], float(np.max(off)) if off.size else 0.0)
    return {name: worst[name] + scales[name] for name in reference}
