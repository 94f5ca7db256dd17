"""A stand-in for CuPy on machines without a GPU: NumPy inside, CuPy's refusals outside. Tests only.

What CuPy does differently from NumPy, where it is written, and how it is met here:

- "Differences between CuPy and NumPy" (CuPy's user guide, `difference.rst`): reductions give 0-d
  arrays, never NumPy scalars, since a scalar would mean waiting for the device; ufuncs take CuPy
  arrays and scalars alone ("Unsupported type"); an integer array that points outside wraps around
  instead of raising; assignment through an integer array with duplicates leaves any one of the
  values. So: every result is an array here, indices wrap, such assignment is refused altogether.
- cupy/cupy issue 9065, pull request 734: `__array__` raises TypeError ("Implicit conversion to a
  NumPy array is not allowed"); `get()`, `float`, `int` and `bool` are explicit, and wait. Counted
  here by `synchronisations()`, with boolean masks and `nonzero`, whose shapes wait for the device
  (`_routines_indexing.pyx` says "synchronize!").
- cupy/cupy issues 1658, 7561, pull request 7077: `cupy.add.at` came with CuPy 12; before it
  `cupyx.scatter_add`; `np.add.at` never takes CuPy arrays; both add by atomics, in any order. No
  scatter-add here: the package adds by sorting (`mgt_np.arrays.scatter`).
- array-api-compat issue 312, cupy/cupy pull request 9828: before CuPy 14.1 `repeat` refuses an
  array of repeats with ValueError. So it does here.
- cupy/cupy issue 8173: `linalg.solve` wants equal leading axes, and broadcasts none. So here.
- `cupy/linalg/__init__.py`, `array_api_compat/cupy/linalg.py`: which functions `linalg` has. CuPy
  13 has no `eig` and `eigvals`; nor has this.
- array-api-compat's `cupy-xfails.txt`: arrays have no `__index__` and no `mT`. Nor have these.
- `array_api_compat/cupy/_aliases.py`: `searchsorted` takes arrays and Python numbers alone.
- cupy/cupy pull request 3488, issue 4847: batches of `eigh` go through a Jacobi solver, which has
  given wrong results on some versions. NOT met here: `benchmarks/gpu.py` has the tests run there.

It is stricter than CuPy in some places, never laxer that we know of: NumPy scalars are refused in
operators, host arrays as indices, NumPy's own functions on its arrays, and all names outside the
Array API standard. Other devices than 0 and DLPack are left out.

What it does NOT prove: that CuPy's kernels are right, or as exact as NumPy's; anything about
memory, streams, speed, or several devices; dtype promotion, where CuPy 13 follows NumPy 1
(value-based casting of 0-d arrays and scalars); `min` and `max` with infinities (cupy/cupy issue
7424); in-place operators, which make new arrays here; that a matrix which CuPy's solvers reject or
spoil is noticed; that the names listed below exist in your version; and that CuPy's own functions
never wait inside. Only a GPU does: `benchmarks/gpu.py`.
"""

import math
import operator
from contextlib import contextmanager
from types import ModuleType

import array_api_compat.numpy
import numpy as np

_CONSTANTS = "e inf nan newaxis pi"
_DTYPES = (
    "bool complex64 complex128 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
)
_CREATION = "arange empty empty_like eye full full_like linspace ones ones_like zeros zeros_like"
_FUNCTIONS = """
abs acos acosh add all any argmax argmin argsort asin asinh atan atan2 atanh bitwise_and
bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays
broadcast_to can_cast ceil clip concat conj copysign cos cosh count_nonzero cumulative_prod
cumulative_sum diff divide equal exp expand_dims expm1 finfo flip floor floor_divide greater
greater_equal hypot iinfo imag isdtype isfinite isin isinf isnan less less_equal log log10 log1p
log2 logaddexp logical_and logical_not logical_or logical_xor matmul matrix_transpose max maximum
mean meshgrid min minimum moveaxis multiply negative nextafter nonzero not_equal permute_dims
positive pow prod real reciprocal remainder repeat reshape result_type roll round searchsorted sign
signbit sin sinh sort sqrt square squeeze stack std subtract sum take take_along_axis tan tanh
tensordot tile tril triu trunc unique_all unique_counts unique_inverse unique_values unstack var
vecdot where
"""
_LINALG = """
cholesky cross det diagonal eigh eigvalsh inv matmul matrix_norm matrix_power matrix_rank
matrix_transpose outer pinv qr slogdet solve svd svdvals tensordot trace vecdot vector_norm
"""
_SHAPE_IS_ON_THE_DEVICE = {
    "nonzero",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
}
_OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
_COMPARISONS = "eq ne lt le gt ge"

_counters = []


@contextmanager
def synchronisations():
    """Collect the names of what waits for the device while this context is open, in a list."""
    names = []
    _counters.append(names)
    try:
        yield names
    finally:
        _counters.pop()


def _wait(name):
    for names in _counters:
        names.append(name)


class Device:
    """The one device there is; it prints as CuPy's do."""

    id = 0

    def __repr__(self):
        return "<CUDA Device 0>"


DEVICE = Device()


def _unwrap(value):
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"Unsupported type {type(value)}")
    if type(value) in (tuple, list):
        return type(value)(map(_unwrap, value))
    return value


def _wrap(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))
    if isinstance(value, tuple):
        wrapped = map(_wrap, value)
        return type(value)(*wrapped) if hasattr(value, "_fields") else tuple(wrapped)
    return value


class ndarray:
    """An array "on the device": `_host` holds what a GPU would."""

    __slots__ = ("_host",)
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host):
        self._host = host

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    dtype = property(lambda self: self._host.dtype)
    T = property(lambda self: _wrap(self._host.T))
    device = property(lambda self: DEVICE)

    def __array_namespace__(self, *, api_version=None):
        return xp

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        foreign = next((x for x in inputs if type(x) is not ndarray), np.ufunc)
        raise TypeError(f"Unsupported type {type(foreign)}")

    def get(self):
        _wait("get")
        return self._host.copy()

    def to_device(self, device, /, *, stream=None):
        if device == "cpu":  # array_api_compat does so with CuPy's arrays
            return self.get()
        _known(device)
        return self

    def item(self):
        _wait("item")
        return self._host.item()

    def __bool__(self):
        _wait("bool")
        return bool(self._host)

    def __int__(self):
        _wait("int")
        return int(self._host)

    def __float__(self):
        _wait("float")
        return float(self._host)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        parts = index if type(index) is tuple else (index,)
        if any(isinstance(part, ndarray) and part.dtype.kind == "b" for part in parts):
            _wait("mask")
        return _wrap(self._host[tuple(_wrapped_around(parts, self.shape))])

    def __setitem__(self, index, value):
        parts = index if type(index) is tuple else (index,)
        for part in parts:
            if not (part is None or part is ... or isinstance(part, (int, slice))):
                raise TypeError("this stand-in assigns through integers and slices alone")
        self._host[parts] = _unwrap(value)

    def __neg__(self):
        return _wrap(-self._host)

    def __pos__(self):
        return _wrap(+self._host)

    def __abs__(self):
        return _wrap(abs(self._host))

    def __invert__(self):
        return _wrap(~self._host)

    def __repr__(self):
        return f"cupy_stand_in.{self._host!r}"


def _wrapped_around(parts, shape):
    """The parts of an index, unwrapped; integer arrays that point outside come in again."""
    n_axes = sum(_n_axes(part) for part in parts)
    axis = 0
    for part in parts:
        if part is ...:
            axis += len(shape) - n_axes
        if isinstance(part, ndarray) and part.dtype.kind in "iu":
            yield part._host % max(shape[axis], 1)
        else:
            yield _unwrap(part)
        axis += _n_axes(part)


def _n_axes(part):
    if part is None or part is ...:
        return 0
    if isinstance(part, ndarray) and part.dtype.kind == "b":
        return part.ndim
    return 1


def _operator(name):
    function = getattr(operator, f"__{name}__")

    def method(self, other):
        if getattr(other, "__array_ufunc__", self) is None:  # its own method answers
            return NotImplemented
        return _wrap(function(self._host, _operand(other)))

    def reflected(self, other):
        return _wrap(function(_operand(other), self._host))

    return method, reflected


def _operand(other):
    if not isinstance(other, (ndarray, bool, int, float, complex)):
        raise TypeError(f"Unsupported type {type(other)}")
    return _unwrap(other)


for _name in (*_OPERATORS.split(), *_COMPARISONS.split()):
    _method, _reflected = _operator(_name)
    setattr(ndarray, f"__{_name}__", _method)
    if _name in _OPERATORS.split():
        setattr(ndarray, f"__r{_name}__", _reflected)


def _known(device):
    if device is not None and device is not DEVICE:
        raise ValueError(f"expected device {DEVICE}, got {device!r}")


def _function(of, name):
    function = getattr(of, name)

    def call(*args, **kwargs):
        if name in _SHAPE_IS_ON_THE_DEVICE:
            _wait(name)
        named = {key: _unwrap(value) for key, value in kwargs.items()}
        return _wrap(function(*map(_unwrap, args), **named))

    call.__name__ = name
    return call


def _creation(name):
    function = _function(array_api_compat.numpy, name)

    def create(*args, device=None, **kwargs):
        _known(device)
        return function(*args, **kwargs)

    create.__name__ = name
    return create


def asarray(obj, /, *, dtype=None, device=None, copy=None):
    """Put a host array or Python numbers on the device: CuPy's explicit way in."""
    _known(device)
    host = obj._host if isinstance(obj, ndarray) else obj
    return ndarray(np.array(host, dtype=dtype, copy=True if copy is None else copy))


def astype(x, dtype, /, *, copy=True, device=None):
    _known(device)
    return ndarray(x._host.astype(dtype, copy=copy))


def repeat(x, repeats, /, *, axis=None):
    if isinstance(repeats, ndarray):
        raise ValueError("cupy.ndarray cannot be specified as `repeats` argument.")
    return _wrap(np.repeat(_unwrap(x), _unwrap(repeats), axis=axis))


def take(x, indices, /, *, axis=None):
    n = x.size if axis is None else x.shape[axis]
    return _wrap(np.take(_unwrap(x), _unwrap(indices) % max(n, 1), axis=axis))


def take_along_axis(x, indices, /, *, axis=-1):
    places = _unwrap(indices) % max(x.shape[axis], 1)
    return _wrap(np.take_along_axis(_unwrap(x), places, axis=axis))


def searchsorted(x1, x2, /, *, side="left", sorter=None):
    if not isinstance(x2, (ndarray, int, float)) or isinstance(x2, np.generic):
        raise TypeError("Only python scalars or ndarrays are supported for x2")
    return _wrap(np.searchsorted(_unwrap(x1), _unwrap(x2), side=side, sorter=_unwrap(sorter)))


def solve(a, b, /):
    vectors = b.ndim == a.ndim - 1
    if b.ndim not in (a.ndim, a.ndim - 1) or a.shape[:-1] != b.shape[: a.ndim - 1]:
        raise ValueError("a must have (..., M, M) shape and b must have (..., M) or (..., M, K)")
    x = np.linalg.solve(_unwrap(a), _unwrap(b)[..., None] if vectors else _unwrap(b))
    return _wrap(x[..., 0] if vectors else x)


class _Info:
    def __init__(self):
        self._numpy = array_api_compat.numpy.__array_namespace_info__()

    def capabilities(self):
        return self._numpy.capabilities()

    def default_device(self):
        return DEVICE

    def devices(self):
        return [DEVICE]

    def default_dtypes(self, *, device=None):
        _known(device)
        return self._numpy.default_dtypes()

    def dtypes(self, *, device=None, kind=None):
        _known(device)
        return self._numpy.dtypes(kind=kind)


def _namespace():
    xp = ModuleType("cupy_stand_in")
    for name in _DTYPES.split():
        setattr(xp, name, getattr(array_api_compat.numpy, name))
    for name in _CONSTANTS.split():
        setattr(xp, name, None if name == "newaxis" else getattr(math, name))
    for name in _FUNCTIONS.split():
        setattr(xp, name, _function(array_api_compat.numpy, name))
    for name in _CREATION.split():
        setattr(xp, name, _creation(name))
    for function in (asarray, astype, repeat, take, take_along_axis, searchsorted):
        setattr(xp, function.__name__, function)
    xp.linalg = ModuleType("cupy_stand_in.linalg")
    for name in _LINALG.split():
        setattr(xp.linalg, name, _function(array_api_compat.numpy.linalg, name))
    xp.linalg.solve = solve
    xp.__array_namespace_info__ = _Info
    xp.__array_api_version__ = array_api_compat.numpy.__array_api_version__
    return xp


xp = _namespace()
