"""The array libraries that are here, each on one of its devices."""

from dataclasses import dataclass

import array_api_compat.numpy
import array_api_strict
import pytest

from mgt_np.arrays import to_host, tree_map
from mgt_np.arrays.libraries import place


@dataclass(frozen=True)
class ArrayLibrary:
    """An array library on one of its devices."""

    name: str
    xp: object
    device: object = None

    def __str__(self):
        return self.name

    def asarray(self, value):
        """Put a NumPy array, or a tree of them, on this library's device."""
        options = {"copy": True} if self.device is None else {"copy": True, "device": self.device}
        return tree_map(lambda leaf: self.xp.asarray(leaf, **options), value)


def _installed(name):
    """The library of that name where it is installed and a device of it answers, else None."""
    try:
        there = place(name)
    except ValueError:
        return None
    return ArrayLibrary(name, there.xp, there.device)


LIBRARIES = (
    ArrayLibrary("numpy", array_api_compat.numpy),
    ArrayLibrary("strict", array_api_strict),
    ArrayLibrary("strict-device1", array_api_strict, array_api_strict.Device("device1")),
    *filter(None, map(_installed, ("torch", "jax"))),
)
NUMPY, STRICT, STRICT_DEVICE1, *_ = LIBRARIES
CUPY = _installed("cupy")

# For what our own code decides, whatever the library: one that is lax, and one that is strict.
on_numpy_and_strict = pytest.mark.parametrize("library", [NUMPY, STRICT], ids=str, indirect=True)


def host(tree):
    return tree_map(to_host, tree)
