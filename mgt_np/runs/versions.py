"""The versions that a measurement depends on."""

import functools
import hashlib
import platform
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def versions(array_library="numpy"):
    """The versions that a measurement depends on, this package's own code among them."""
    return dict(_versions(array_library))


@functools.cache  # a cell takes milliseconds, and so do these
def _versions(array_library):
    packages = ("mgt-np", "numpy", "autograd", "array-api-compat")
    found = {"python": platform.python_version()} | {name: version(name) for name in packages}
    return found | {array_library: import_module(array_library).__version__, "code": _code()}


@functools.cache
def _code(package=PACKAGE):
    """A digest of this package's source: a cell says which code computed it."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]
