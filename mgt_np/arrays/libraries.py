"""Choose an array library and a device by name, and move parameters there."""

import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import array_api_compat

from .boxes import device
from .checks import one_of
from .namespace import library_of, to_host
from .trees import tree_map

INSTALL = {
    "cupy": "pip install 'mgt-np[gpu]' for CUDA 12, 'mgt-np[gpu-cuda13]' for CUDA 13",
    "torch": "pip install torch",
    "jax": "pip install jax",
}
_MODULES = {"jax": "jax.numpy"}  # where a library's functions are, if not at its top


@dataclass(frozen=True)
class Place:
    """An array library and one of its devices: where arrays are kept and computed with."""

    name: str
    xp: Any
    device: Any

    def __str__(self):
        return f"{self.name} on {self.device}"


@dataclass(frozen=True)
class There:
    """Where something is computed: a `Place`, and the precision of its floating arrays."""

    place: Place
    dtype: str

    @property
    def xp(self):
        """The library's namespace."""
        return self.place.xp

    def move(self, tree):
        """A copy there of an array or a tree of them; floating arrays get the precision."""
        return move(tree, self.place, dtype=self.dtype)


def place(name="numpy", device_name=None, *, dtype="float64"):
    """Return the `Place` of that name: "numpy", "cupy", "torch", "jax", or "auto".

    "auto" is CuPy if a device of it answers, else NumPy. `device_name` is the name of one of the
    library's devices, as the library prints it; without it its default. JAX is told to compute in
    64 bits if `dtype` is "float64".
    Raises ValueError for a library that is unknown or not installed (saying what to install), and
    for a device that is not there.
    """
    one_of(("numpy", *INSTALL, "auto"), **{"the array library": name})
    if name == "auto":
        return _auto(device_name)
    if find_spec(name) is None:
        raise ValueError(f"{name} is not installed: {INSTALL[name]}")
    if name == "jax" and dtype == "float64":
        import_module("jax").config.update("jax_enable_x64", True)
    try:
        xp, default = namespace_named(name)
        chosen = default if device_name is None else _find(xp, device_name)
        xp.zeros(1, device=chosen)
    except ValueError:
        raise
    except Exception as error:  # a GPU library without a GPU raises errors of its own
        raise ValueError(f"no device of {name} answers: {error}") from error
    return Place(name, xp, chosen)


def _auto(device_name):
    try:
        return place("cupy", device_name)
    except ValueError:
        return place("numpy", device_name)


def namespace_named(name):
    """Return the namespace of an installed library, and the device that it takes by default."""
    array = import_module(_MODULES.get(name, name)).zeros(1)
    return array_api_compat.array_namespace(array), device(array)


def devices_of(xp):
    """Return the devices that a library finds, in its own objects."""
    with warnings.catch_warnings():  # PyTorch lists devices that it deprecates
        warnings.simplefilter("ignore")
        return [d for d in xp.__array_namespace_info__().devices() if d is not None]


def _find(xp, device_name):
    devices = devices_of(xp)
    for each in devices:
        if device_name in (str(each), str(getattr(each, "id", each))):
            return each
    listed = ", ".join(map(str, devices))
    raise ValueError(f"expected a device of {xp.__name__}, one of {listed}, got {device_name!r}")


def move(tree, to, *, dtype=None):
    """Return a copy of an array, or of a tree of them, at the `Place` `to`.

    By DLPack where the two libraries share a device, through the host where they do not; within one
    library as it moves arrays itself. Nothing shares memory with the original. `dtype` is a name,
    given to floating arrays; integers keep theirs.
    """

    def moved(x):
        y = _at(x, to)
        if dtype is not None and to.xp.isdtype(y.dtype, "real floating"):
            y = to.xp.astype(y, getattr(to.xp, dtype))
        return y

    return tree_map(moved, tree)


def _at(x, to):
    library = library_of(x)
    if library is not None and library.xp is to.xp:
        return to.xp.asarray(array_api_compat.to_device(x, to.device), copy=True)
    if library is not None and str(device(x)) == str(to.device):
        try:
            return to.xp.asarray(to.xp.from_dlpack(x), copy=True)
        except (BufferError, RuntimeError, TypeError):  # read-only, or no DLPack for this dtype
            pass
    return to.xp.asarray(to_host(x), device=to.device, copy=True)
