"""Fixtures of all tests: array libraries, seeded generators, other people's recorded outputs."""

import gc
import re
import zlib

import numpy as np
import pytest
from array_libraries import CUPY, LIBRARIES
from support_table import SupportTable

# Helpers that assert: pytest shows what they compared, as in a test.
pytest.register_assert_rewrite("cases", "gradcheck", "recorded", "rule_cases")

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


def pytest_report_header():
    return f"array libraries: {', '.join(map(str, LIBRARIES))}, {CUPY or 'no CuPy device answers'}"


def pytest_collection_finish():
    gc.freeze()  # thousands of tests, kept to the end: no collection need go through them


def pytest_collection_modifyitems(items):
    for item in items:
        library = str(getattr(getattr(item, "callspec", None), "params", {}).get("library"))
        for name, test, why in LIMITS:
            if library == name and re.search(test, item.name):
                # Not strict for CuPy: which of its versions is here, nobody knows.
                item.add_marker(pytest.mark.xfail(reason=why, strict=name != "cupy"))


# CuPy's tests are marked; without a device there are none.
ON_GPU = [pytest.param(CUPY, marks=pytest.mark.gpu)] if CUPY else []


@pytest.fixture(params=[*LIBRARIES, *ON_GPU], ids=str)
def library(request):
    request.node.user_properties.append(("library", str(request.param)))
    return request.param


@pytest.fixture
def rng(request):
    """A generator of its own for each test, the same in every run, order and folder."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def jax():
    """JAX, computing in 64 bits."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    with jax.enable_x64(True):
        yield jax


@pytest.fixture(scope="session")
def golden():
    """Load a file of other implementations' recorded outputs by its name."""
    from recorded import load

    return load
