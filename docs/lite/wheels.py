"""Wheels made here: the package itself, the rows that lessons read, and Python's own topics."""

import pydoc_data.topics
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE_VERSION = "1"


def package(folder):
    """Build the wheel of `mgt_np` of this tree, without network."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    return next(folder.glob("mgt_np-*.whl"))


def rows(folder):
    """A wheel of the recorded rows that lessons read beside the package: `figures/full/*.csv`."""
    text = "".join(path.read_text("utf-8") for path in (ROOT / "lessons").glob("*.ipynb"))
    named = set(re.findall(r"ROWS / \\\"([\w-]+\.csv)", text))
    members = {f"figures/full/{name}": ROOT / "figures" / "full" / name for name in sorted(named)}
    return plain(folder, "mgt_np_rows", members)


def topics(folder):
    """A wheel of `pydoc_data`, the text `python-docs`, from the library of this Python."""
    source = Path(pydoc_data.topics.__file__).parent
    members = {f"pydoc_data/{name}": source / name for name in ("__init__.py", "topics.py")}
    return plain(folder, "pydoc_data", members)


def plain(folder, name, members):
    """A wheel of files: path in it → path of the file."""
    wheel = folder / f"{name}-{MADE_VERSION}-py3-none-any.whl"
    facts = f"{name}-{MADE_VERSION}.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, file in members.items():
            archive.write(file, path)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {MADE_VERSION}\n"
        archive.writestr(f"{facts}/METADATA", metadata)
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{facts}/WHEEL", kind)
        archive.writestr(f"{facts}/RECORD", "")
    return wheel
