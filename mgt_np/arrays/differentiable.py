"""A namespace of the Array API whose functions autograd can differentiate, of any library."""

from collections import namedtuple
from itertools import accumulate
from types import ModuleType

import numpy as np
from autograd.extend import Box, defvjp_argnums
from autograd.tracer import getval, isbox

from . import scatter
from .boxes import box
from .linalg_rules import LINALG_RULES
from .rules import READS_NO_ARGUMENT, READS_NO_RESULT, RULES, Outline, like
from .trees import leaves_with_paths

# Their results are integers, truth values, or do not depend on the values of their arguments.
UNTRACED = frozenset(
    [
        "all",
        "any",
        "argmax",
        "argmin",
        "argsort",
        "can_cast",
        "count_nonzero",
        "empty_like",
        "equal",
        "greater",
        "greater_equal",
        "isfinite",
        "isinf",
        "isnan",
        "less",
        "less_equal",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "nonzero",
        "not_equal",
        "ones_like",
        "result_type",
        "searchsorted",
        "signbit",
        "zeros_like",
    ]
)
_SEVERAL_RESULTS = {
    "unstack": lambda *results: results,
    "eigh": namedtuple("EighResult", "eigenvalues eigenvectors"),
    "svd": namedtuple("SVDResult", "U S Vh"),
}


class DifferentiableNamespace:
    """The functions of `xp`, each with its rule of differentiation, made when first asked for.

    A function without a rule works on untraced arrays, and raises an error that names it when an
    argument is traced: never a silent zero.
    """

    def __init__(self, xp, rules=RULES, main=None):
        self._xp, self._rules, self._main = xp, rules, main or self
        self.__name__ = f"differentiable {xp.__name__}"

    def __getattr__(self, name):
        if name.startswith("__") and not name.startswith("__array_"):
            raise AttributeError(name)
        made = self._make(name)
        setattr(self, name, made)
        return made

    def _make(self, name):
        xp = self._xp
        if name == "getitem":
            return self._primitive(name, lambda x, index: x[index])
        if name in self._rules and hasattr(scatter, name):
            function = getattr(scatter, name)
            return self._primitive(name, lambda *args: function(xp, *args))
        function = getattr(xp, name)
        if isinstance(function, ModuleType):
            rules = LINALG_RULES if name == "linalg" else {}
            return DifferentiableNamespace(function, rules, main=self)
        if self._main is not self and name in RULES:  # linalg.matmul is matmul
            return getattr(self._main, name)
        if not callable(function) or isinstance(function, type):
            return function
        if name in UNTRACED:
            return _untraced(function)
        own = getattr(type(self), f"_make_{name}", None)
        if own is not None:
            return own(self, function)
        if name not in self._rules:
            return _refusing(function, name)
        if name in _SEVERAL_RESULTS:
            return self._make_several(name, function)
        return self._primitive(name, function)

    def _primitive(self, name, function):
        """`function` as an autograd primitive whose gradients are the rules of that name."""
        partials, xp = self._rules[name], self._main
        traceable = primitive(function, name)
        needs_argument, needs_result = name not in READS_NO_ARGUMENT, name not in READS_NO_RESULT

        def pullback(argnums, ans, args, kwargs):
            if not needs_argument:
                for i in argnums:
                    args[i] = Outline(args[i])
            if not needs_result:
                ans = None
            return lambda g: [partials[i](xp, g, ans, *args, **kwargs) for i in argnums]

        defvjp_argnums(traceable, pullback)
        return traceable

    def _make_several(self, name, function):
        traceable = self._primitive(name, lambda x, **kwargs: tuple(function(x, **kwargs)))

        def several(x, **kwargs):
            if not isbox(x):
                return function(x, **kwargs)
            results = traceable(x, **kwargs)
            return _SEVERAL_RESULTS[name](*(results[i] for i in range(len(results))))

        return several

    def _make_astype(self, function):
        traceable, refusing = self._primitive("astype", function), _refusing(function, "astype")

        def astype(x, dtype, **kwargs):
            if self._xp.isdtype(dtype, "real floating"):
                return traceable(x, dtype, **kwargs)
            if self._xp.isdtype(dtype, ("bool", "integral")):
                return function(getval(x), dtype, **kwargs)
            return refusing(x, dtype, **kwargs)

        return astype

    def _make_clip(self, function):
        traceable = self._primitive("clip", function)
        return lambda x, min=None, max=None: traceable(x, min, max)

    def _make_full_like(self, function):
        refusing = _refusing(function, "full_like")
        return lambda x, fill_value, **kwargs: refusing(getval(x), fill_value, **kwargs)

    def _make_concat(self, function):
        traceable = primitive(lambda axis, *arrays: function(arrays, axis=axis), "concat")

        def pullback(argnums, ans, args, kwargs):
            axis, pieces = args[0], [Outline(array) for array in args[1:]]
            ends = [0, *accumulate(piece.shape[axis] for piece in pieces)]

            def part(g, argnum):
                place = slice(ends[argnum - 1], ends[argnum])
                part = self.getitem(g, (*(slice(None),) * axis, place, ...))
                return like(self, part, pieces[argnum - 1])

            return lambda g: [part(g, argnum) for argnum in argnums]

        defvjp_argnums(traceable, pullback)

        def concat(arrays, axis=0):
            if axis is None:
                arrays, axis = [self.reshape(array, (-1,)) for array in arrays], 0
            return traceable(axis % arrays[0].ndim, *arrays)

        return concat

    def _make_stack(self, function):
        def stack(arrays, axis=0):
            axis = axis % (arrays[0].ndim + 1)
            return self.concat([self.expand_dims(a, axis=axis) for a in arrays], axis=axis)

        return stack


def primitive(function, name=None):
    """`function` as an autograd primitive: recorded on the tape while an argument is traced.

    As `autograd.extend.primitive`, without its dispatch of NumPy's ufuncs, which costs more than
    NumPy does on a small array.
    """
    boxes, name = Box.types, name or function.__name__

    def traceable(*args, **kwargs):
        for keyword in kwargs:
            if type(kwargs[keyword]) in boxes:
                raise TypeError(f"{name} has no rule of differentiation in {keyword}")
        for arg in args:
            if type(arg) in boxes:
                return record(args, kwargs)
        return function(*args, **kwargs)

    def record(args, kwargs):
        top, argnums = -1, []
        for i, arg in enumerate(args):
            if type(arg) in boxes and arg._trace >= top:
                if arg._trace > top:
                    top, argnums = arg._trace, []
                argnums.append(i)
        values, parents = list(args), [args[i]._node for i in argnums]
        for i in argnums:
            value = args[i]._value
            # autograd traces Python floats too; the rules want shapes and dtypes.
            values[i] = np.asarray(value) if type(value) is float else value
        ans = traceable(*values, **kwargs)
        node = type(parents[0])(ans, traceable, values, kwargs, argnums, parents)
        return box(ans, top, node)

    traceable.__name__, traceable.__doc__ = name, function.__doc__
    return traceable


def _untraced(function):
    return lambda *args, **kwargs: function(*map(getval, args), **kwargs)


def _refusing(function, name):
    def refuse(*args, **kwargs):
        if any(isbox(leaf) for _, leaf in leaves_with_paths((args, kwargs))):
            raise TypeError(f"{name} has no rule of differentiation: expected untraced arrays")
        return function(*args, **kwargs)

    return refuse
