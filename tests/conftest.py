"""What all tests share: array libraries, seeded generators, other people's recorded outputs."""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from support_table import SupportTable

from mgt_np.arrays import to_host, tree_map
from mgt_np.arrays.libraries import place

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
        options = {"copy": True} if self.device is None else {"copy": True, "device": self.device}
        return tree_map(lambda leaf: self.xp.asarray(leaf, **options), value)


# What a library cannot do, though the standard asks for it: (library, test, why).
LIMITS = (
    ("torch", r"negative[- ]step", "PyTorch has no negative steps"),
    ("torch", r"std-fractional-correction", "PyTorch's std takes whole corrections"),
    ("cupy", r"repeat-(flat-)?unevenly", "CuPy before 14.1 repeats evenly"),
    (
        "cupy",
        r"linalg.solve-\((3,-3\)-\(2|2,-3,-3\)-\(3|3,-3,-3\)-\(3)",
        "CuPy's solve broadcasts no leading axes",
    ),
    ("jax", r"test_dtypes_of_traced_arrays", "JAX's can_cast takes dtypes alone"),
)


def pytest_addoption(parser):
    parser.addoption(
        "--support-table", metavar="FILE", help="write what runs on which array library into FILE"
    )


def pytest_configure(config):
    path = config.getoption("--support-table")
    if path is not None:
        config.pluginmanager.register(SupportTable(path))


def pytest_collection_modifyitems(items):
    for item in items:
        library = str(getattr(getattr(item, "callspec", None), "params", {}).get("library"))
        for name, test, why in LIMITS:
            if library == name and re.search(test, item.name):
                # Not strict for CuPy: which of its versions is here, nobody knows.
                item.add_marker(pytest.mark.xfail(reason=why, strict=name != "cupy"))


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
CUPY = _installed("cupy")


@pytest.fixture(params=[*LIBRARIES, pytest.param("cupy", marks=pytest.mark.gpu)], ids=str)
def library(request):
    request.node.user_properties.append(("library", str(request.param)))
    if request.param == "cupy":
        return CUPY or pytest.skip("no CuPy device answers")
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
