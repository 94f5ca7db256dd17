"""Make the site of gathered files, without network."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .contents import write_contents
from .locking import write_lock
from .runtime import RUNTIME, VERSION

KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"
LOCK_FOLDER = "pyodide-lock"


def build(files, out, *, cdn=None):
    """Build JupyterLite's site into the folder `out`.

    Without `cdn` Pyodide stands in the site itself. With it, an address such as `CDN`, the site
    holds only what is not there, and a reader's browser takes Pyodide from that address.
    """
    files, out = Path(files).resolve(), Path(out).resolve()
    cdn = cdn.format(version=VERSION) if cdn else None
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_contents(folder / "contents")
        settings = json.dumps(site_settings(cdn), indent=2)
        (folder / "jupyter-lite.json").write_text(settings, encoding="utf-8")
        if cdn is None:
            place_runtime(files, folder / "static" / "pyodide")
        jupyter_lite(folder, out)
    if cdn is not None:
        write_lock(files, out / LOCK_FOLDER, cdn=cdn)


def place_runtime(files, place):
    """Put Pyodide where JupyterLite looks for one of the site's own."""
    place.mkdir(parents=True)
    for name in RUNTIME:
        shutil.copy(files / "pyodide" / name, place)
    write_lock(files, place)


def site_settings(cdn):
    """What `jupyter-lite.json` says."""
    kernel = {"disablePyPIFallback": True}  # nothing is fetched that the lock does not name
    if cdn is not None:
        kernel["pyodideUrl"] = f"{cdn}pyodide.mjs"
        kernel["loadPyodideOptions"] = {"lockFileURL": f"./{LOCK_FOLDER}/pyodide-lock.json"}
    return {
        "jupyter-lite-schema-version": 0,
        "jupyter-config-data": {
            "appName": "mgt-np: the lessons",
            "exposeAppInBrowser": True,  # tests run a notebook's cells by it
            "litePluginSettings": {KERNEL: kernel},
        },
    }


def jupyter_lite(folder, out):
    """Let JupyterLite build its site; raise RuntimeError with what it says where it fails."""
    command = [sys.executable, "-m", "jupyterlite_core.app", "build", "--no-sourcemaps"]
    command += ["--contents", "contents", "--lite-dir", ".", "--output-dir", str(out)]
    # Of this Python's own extensions, not of the user's.
    environment = os.environ | {"JUPYTER_NO_CONFIG": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"jupyter lite build: {done.stdout[-2000:]}{done.stderr[-2000:]}")
