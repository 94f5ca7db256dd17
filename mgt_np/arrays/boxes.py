"""Boxes and vector spaces that let HIPS autograd trace arrays of any Array API library.

NumPy arrays get a box that is autograd's own `ArrayBox` too, so code written with `autograd.numpy`
composes with this package. Every other array type gets one `Box` and one `VSpace` class, made on
first sight.
"""

import math

import array_api_compat
import numpy as np
from autograd.extend import Box, VSpace
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import getval, new_box

_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "pow",
    "matmul": "matmul",
}
_UNARY = {"neg": "negative", "abs": "abs"}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def device(x):
    """Return the device of an array, traced or not; None where JAX has chosen none yet."""
    return array_api_compat.device(getval(x))


def has_values(x):
    """Say whether `x` holds numbers: what `jax.jit` and `jax.vmap` trace does not yet."""
    return device(x) is not None


def on_host(x):
    """Say whether the processor can read `x` where it is, without waiting for a device."""
    return type(x) is np.ndarray or "cpu" in str(device(x)).lower()


class TracedArray(Box):
    """A traced array whose operators are the differentiable functions of its library, `xp`."""

    __slots__ = []
    __array_priority__ = 100.0
    __array_ufunc__ = None  # a NumPy operand on the left hands over to the methods below
    xp = None

    shape = property(lambda self: self._value.shape)
    ndim = property(lambda self: self._value.ndim)
    size = property(lambda self: math.prod(self._value.shape))
    dtype = property(lambda self: self._value.dtype)
    device = property(device)
    mT = property(lambda self: self.xp.matrix_transpose(self))
    T = property(lambda self: self.xp.permute_dims(self, (1, 0)))

    def __array_namespace__(self, *, api_version=None):
        return self.xp

    def __getitem__(self, index):
        return self.xp.getitem(self, index)

    def __len__(self):
        if not self.ndim:
            raise TypeError("expected an array with axes, got a 0-d array: it has no length")
        return self.shape[0]

    def __iter__(self):  # Python's own would wait for an IndexError, which JAX does not raise
        return (self[i, ...] for i in range(len(self)))

    def __hash__(self):
        return id(self)


def _unary(function):
    return lambda self: getattr(self.xp, function)(self)


def _binary(function):
    def method(self, other):
        return getattr(self.xp, function)(self, other)

    def reflected(self, other):
        return getattr(self.xp, function)(other, self)

    return method, reflected


for name, function in _OPERATORS.items():
    method, reflected = _binary(function)
    setattr(TracedArray, f"__{name}__", method)
    setattr(TracedArray, f"__r{name}__", reflected)
for name, function in _COMPARISONS.items():
    setattr(TracedArray, f"__{name}__", _binary(function)[0])
for name, function in _UNARY.items():
    setattr(TracedArray, f"__{name}__", _unary(function))


_UFUNCS = {getattr(np, "power" if name == "pow" else name): name for name in _OPERATORS.values()}


class TracedNumPyArray(TracedArray, ArrayBox):
    """autograd's box of NumPy arrays, with our operators: they take half the time."""

    __slots__ = []
    T = ArrayBox.T

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if ufunc in _UFUNCS and method == "__call__" and not kwargs:
            return getattr(self.xp, _UFUNCS[ufunc])(*inputs)
        return ArrayBox.__array_ufunc__(self, ufunc, method, *inputs, **kwargs)


class ArraySpace(VSpace):
    """The vector space of arrays of one shape, dtype and device."""

    xp = None

    def __init__(self, value):
        self.shape, self.dtype, self.device = value.shape, value.dtype, device(value)

    @property
    def size(self):
        return math.prod(self.shape)

    def zeros(self):
        return self.xp.zeros(self.shape, dtype=self.dtype, device=self.device)

    def ones(self):
        return self.xp.ones(self.shape, dtype=self.dtype, device=self.device)

    def _inner_prod(self, x, y):
        return self.xp.sum(x * y)


_BOX_OF_TYPE = {}


def box(value, trace, node):
    """Return `value` in a box on that trace."""
    try:
        return _BOX_OF_TYPE[type(value)](value, trace, node)
    except KeyError:  # several arrays
        return new_box(value, trace, node)


def register(array_type, xp, traced_xp):
    """Let autograd trace `array_type`, an array type of the library whose namespace is `xp`."""
    made = type(f"Traced{array_type.__name__}", (TracedArray,), {"__slots__": [], "xp": traced_xp})
    made.register(array_type)
    space = type(f"{array_type.__name__}Space", (ArraySpace,), {"xp": xp})
    space.register(array_type)
    _BOX_OF_TYPE[array_type] = _BOX_OF_TYPE[made] = made
    return made


def register_numpy(array_type):
    """Let autograd trace `array_type`: NumPy's array, a subclass of it, or a scalar.

    autograd knows the first, and refuses whole numbers.
    """
    if issubclass(array_type, np.ndarray) and array_type not in Box.type_mappings:
        ArrayBox.register(array_type)
        VSpace.register(array_type, VSpace.mappings[np.ndarray])
    _BOX_OF_TYPE[array_type] = TracedNumPyArray


Box.types.add(TracedNumPyArray)
Box.type_mappings[TracedNumPyArray] = _BOX_OF_TYPE[TracedNumPyArray] = TracedNumPyArray
