"""What all tests share: array libraries, seeded generators, other people's recorded outputs."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest

from mgt_np.arrays import to_host, tree_map

SHARED = Path(__file__).parents[2] / "shared"


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
        if self.device is None:
            return tree_map(self.xp.asarray, value)
        return tree_map(lambda leaf: self.xp.asarray(leaf, device=self.device), value)


LIBRARIES = (
    ArrayLibrary("numpy", array_api_compat.numpy),
    ArrayLibrary("strict", array_api_strict),
    ArrayLibrary("strict-device1", array_api_strict, array_api_strict.Device("device1")),
)


@pytest.fixture(params=LIBRARIES, ids=str)
def library(request):
    return request.param


@pytest.fixture
def rng(request):
    """A generator of its own for each test, the same in every run and order."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def golden():
    """Load a file of other implementations' recorded outputs by its name."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("the recorded outputs of other implementations (../shared/golden) are not here")

    def load(name):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    return load


def host(tree):
    return tree_map(to_host, tree)
