"""Which array library do these arrays belong to?"""

import operator
from importlib import import_module
from types import SimpleNamespace

import array_api_compat
import array_api_compat.numpy
import numpy as np
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import getval, isbox

from . import boxes
from .differentiable import DifferentiableNamespace

# NumPy as the standard has it, without the wrappers in Python: on a small array they take longer
# than NumPy itself.
_LEAN_NUMPY = SimpleNamespace(
    **vars(np)
    | {
        "max": lambda x, axis=None, keepdims=False: np.maximum.reduce(x, axis, keepdims=keepdims),
        "matrix_transpose": operator.attrgetter("mT"),
        "permute_dims": np.ndarray.transpose,
        "reshape": np.ndarray.reshape,
        "sum": lambda x, axis=None, keepdims=False: np.add.reduce(x, axis, keepdims=keepdims),
    }
)


def _stop_gradient_of_jax(x):
    return import_module("jax").lax.stop_gradient(x)


# How a library with derivatives of its own is told to take none.
_HOLD = {"jax": _stop_gradient_of_jax, "torch": operator.methodcaller("detach")}


class Library:
    """An array library as seen by its arrays: its namespace, plain and differentiable."""

    def __init__(self, xp):
        self.xp, self.traced_xp = xp, DifferentiableNamespace(xp)
        self.lean_xp = _LEAN_NUMPY if xp is array_api_compat.numpy else xp
        self.name = xp.__name__.removeprefix("array_api_compat.").partition(".")[0]
        self.held = _HOLD.get(self.name, lambda x: x)
        self.yields_to_boxes = True
        self._is_floating = {}

    def is_half(self, dtype):
        """Say whether a dtype has fewer digits than float32."""
        return self.is_floating(dtype) and self.xp.finfo(dtype).bits < 32

    def is_floating(self, dtype):
        """Say whether arrays of that dtype hold real floating numbers."""
        try:
            return self._is_floating[dtype]
        except KeyError:
            known = self._is_floating[dtype] = self.xp.isdtype(dtype, "real floating")
            return known


class _Foreign:
    """Stands to the right of an array in `array + _Foreign()`, to see who answers."""

    __array_priority__ = 100.0
    __array_ufunc__ = None

    def __radd__(self, other):
        return self


_NUMPY = Library(array_api_compat.numpy)
_LIBRARIES = {_NUMPY.xp: _NUMPY}
_LIBRARY_OF_TYPE = {ArrayBox: _NUMPY, boxes.TracedNumPyArray: _NUMPY}
boxes.TracedNumPyArray.xp = _NUMPY.traced_xp


def library_of(x):
    """The `Library` of an array, traced or not; None for anything that is not an array."""
    try:
        return _LIBRARY_OF_TYPE[type(x)]
    except KeyError:
        return _first_sight(x)


def _first_sight(x):
    if isbox(x) or isinstance(x, type) or not array_api_compat.is_array_api_obj(x):
        return None
    if isinstance(x, np.ma.MaskedArray):  # its functions are not those of the standard
        return None
    xp = array_api_compat.array_namespace(x)
    library = _LIBRARIES.get(xp)
    if library is None:
        library = _LIBRARIES[xp] = Library(xp)
        try:
            library.yields_to_boxes = isinstance(xp.zeros(()) + _Foreign(), _Foreign)
        except TypeError:
            library.yields_to_boxes = False
    # What the library's functions return may be of another type than x (torch.nn.Parameter).
    for array_type in {type(x), type(xp.zeros(()))} - _LIBRARY_OF_TYPE.keys():
        _LIBRARY_OF_TYPE[array_type] = library
        if library is _NUMPY:
            boxes.register_numpy(array_type)
        else:
            box = boxes.register(array_type, xp, library.traced_xp)
            _LIBRARY_OF_TYPE[box] = library
    return library


# NumPy's scalars are known from the start: a box made before would be autograd's own, whose rules
# round otherwise than ours, and the first gradient of a process would differ in its last digit.
for _kind in (np.float16, np.float32, np.float64, np.longdouble):
    _first_sight(_kind(0.0))


def array_namespace(*xs):
    """Return the Array API namespace of these arrays, differentiable while any of them is traced.

    Python scalars and None are passed over. The plain namespace is that of `array_api_compat`; the
    differentiable one has the same functions, as autograd primitives.

    Raises TypeError if there is no array among `xs`, or arrays of more than one library.
    """
    library, traced = None, False
    for x in xs:
        if x is None or (isinstance(x, (int, float)) and not isinstance(x, np.generic)):
            continue
        found = library_of(x)
        if found is None:
            raise TypeError(f"expected arrays, got {type(x).__name__}")
        if library is not None and found is not library:
            raise TypeError(f"expected arrays of one library, got {library.name} and {found.name}")
        library, traced = found, traced or isbox(x)
    if library is None:
        raise TypeError("expected at least one array, got none")
    return library.traced_xp if traced else library.xp


def as_float_array(x):
    """Return a Python number as a 0-d NumPy array of float64, and anything else as it is."""
    return np.asarray(float(x)) if isinstance(x, int | float) else x


def concrete(x):
    """Return an array that has values as one whose operations have values too.

    JAX traces all operations of what it compiles, also those on arrays that it knows: its own
    become NumPy's.
    """
    return np.asarray(getval(x)) if library_of(x).name == "jax" else x


def to_host(x):
    """Return `x` as a NumPy array, traced or not, from any library and device."""
    x = getval(x)
    library = library_of(x)
    if library in (None, _NUMPY):
        return np.asarray(x)
    if getattr(x, "requires_grad", False):  # PyTorch's own tape ends here
        x = x.detach()
    try:
        return np.asarray(array_api_compat.to_device(x, "cpu"))
    except ValueError:  # a library whose host has another name
        host = library.xp.__array_namespace_info__().default_device()
        return np.asarray(array_api_compat.to_device(x, host))
