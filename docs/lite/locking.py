"""The lock that Pyodide reads: for each package its file, its digest, what it imports and needs."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

from . import wheels
from .runtime import KERNEL, LIBRARIES, LOCK, OTHERS, canonical, needed, official, sha256

# With these, `import mgt_np` brings all that a lesson uses: no notebook installs anything.
OURS = ("autograd", "array-api-compat", "ipywidgets", "mgt-np-rows")


def write_lock(files, out, *, cdn=None):
    """Write the lock and the wheels it names into a folder.

    With `cdn`, an address, Pyodide's own packages are named there, with the same digests; without
    it they are copied from the gathered `files`.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = copy.deepcopy(official(files))
    packages = lock["packages"]
    if cdn is None:
        lock["packages"] = self_hosted(files, out, packages)
    else:
        for entry in packages.values():
            entry["file_name"] = cdn + entry["file_name"]
    for name, (imports, depends) in OTHERS.items():
        add(lock["packages"], copied(pure_wheel(files, name), out), name, imports, depends)
    add_our_own(lock["packages"], out)
    (out / LOCK).write_text(json.dumps(lock, indent=1, sort_keys=True), encoding="utf-8")


def self_hosted(files, out, packages):
    """The entries that lessons need, with their files beside the lock."""
    kept = {}
    for name in needed(packages, KERNEL + LIBRARIES):
        entry = packages[name]
        verified = files / "official" / entry["file_name"]
        if verified.exists():
            if sha256(verified) != entry["sha256"]:
                raise ValueError(f"{verified.name} is not the file of Pyodide's lock")
            copied(verified, out)
            kept[name] = entry
        elif name == "pydoc-data":
            add(kept, wheels.topics(out), name, ["pydoc_data"], [])
        else:
            wheel = copied(pure_wheel(files, name), out)
            add(kept, wheel, name, entry["imports"], entry["depends"])
    return kept


def add_our_own(packages, out):
    """Add the wheels that are made of this tree."""
    add(packages, wheels.rows(out), "mgt-np-rows", [], [])
    with tempfile.TemporaryDirectory() as folder:
        wheel = copied(wheels.package(Path(folder)), out)
    add(packages, wheel, "mgt-np", ["mgt_np"], [*LIBRARIES, *OURS])


def add(packages, wheel, name, imports, depends):
    """Add an entry for a wheel beside the lock."""
    packages[name] = {
        "name": name,
        "version": wheel.name.split("-")[1],
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": sha256(wheel),
        "package_type": "package",
        "imports": imports,
        "depends": [canonical(each) for each in depends],
        "unvendored_tests": False,
    }


def pure_wheel(files, name):
    """The gathered wheel of a package, as PyPI has it."""
    for wheel in sorted((files / "pure").glob("*.whl")):
        if canonical(wheel.name.split("-")[0]) == canonical(name):
            return wheel
    raise ValueError(f"no wheel of {name} was gathered: make lite-files")


def copied(path, folder):
    """Copy a file into a folder, and return its path there."""
    return Path(shutil.copy(path, folder))
