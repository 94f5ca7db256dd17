"""Which Pyodide the lessons run on, which packages they need, and where those come from."""

import hashlib
import json
import re

VERSION = "314.0.3"  # of Pyodide
PYTHON = "3.14"  # its Python
CDN = "https://cdn.jsdelivr.net/pyodide/v{version}/full/"
# Pyodide's own wheels stand on its CDN alone. This package on PyPI carries copies of them, which
# serve the tests; each is taken only if it has the digest that Pyodide's lock gives it.
CARRIER = "open-webui==0.12.4"

RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"

# What JupyterLite's kernel asks for, and what `mgt_np` imports.
KERNEL = ("micropip", "ipython", "packaging", "jedi", "pygments", "six", "tzdata")
LIBRARIES = ("numpy", "matplotlib", "tqdm", "threadpoolctl", "pydoc-data")

# Pure Python that Pyodide's lock does not name: from PyPI, with what each imports and depends on.
OTHERS = {
    "autograd": (["autograd"], ["numpy"]),
    "array-api-compat": (["array_api_compat"], []),
    "comm": (["comm"], ["traitlets"]),
    "jupyterlab-widgets": (["jupyterlab_widgets"], []),
    "ipywidgets": (["ipywidgets"], ["comm", "ipython", "jupyterlab-widgets", "traitlets"]),
}
# Their parts in the page are those of the Python that builds the site, and have to match.
AS_INSTALLED = ("jupyterlab-widgets", "ipywidgets")


def official(files):
    """Pyodide's own lock, as it came with the runtime: name of package → its entry."""
    return json.loads((files / "pyodide" / LOCK).read_text(encoding="utf-8"))


def needed(packages, names):
    """The names, and all that they depend on."""
    found, left = set(), [canonical(name) for name in names]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += map(canonical, packages[name]["depends"])
    return sorted(found)


def canonical(name):
    """A package's name as the lock writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
