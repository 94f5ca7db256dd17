"""Every lesson runs from top to bottom, proves itself against mgt_np, and is stored as it ran.

To run the lessons again and store them: `python tests/test_lessons.py [NOTEBOOK ...]`.
"""

import ast
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

LESSONS = Path(__file__).parents[1] / "lessons"
README = LESSONS / "README.md"
NOTEBOOKS = sorted(LESSONS.glob("*.ipynb"))

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = {"jupyter", "tags"}
MAX_BYTES = 500_000
CELL_TIMEOUT = 60  # seconds, against a cell that hangs
# Folders of any machine, and of this one.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(home|root|tmp|Users|usr|opt|mnt|var|private)/|[A-Z]:\\+Users|site-packages|"
    + "|".join(re.escape(str(folder)) for folder in (LESSONS.parent, sys.prefix))
)
# Warnings raise, but not those of the kernel's own machinery.
STRICT = """
import warnings

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "invalid value encountered in matmul")  # as in pyproject.toml
for machinery in ("IPython", "ipykernel", "matplotlib_inline", "tornado", "traitlets", "zmq"):
    warnings.filterwarnings("ignore", module=rf".*\\b{machinery}\\b")
"""


def execute(notebook, folder, setup=None):
    """Run a copy of the notebook in a fresh kernel, after the code `setup`; return the copy."""
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    if setup is not None:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(setup))
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    # A lesson shows its figures inline and sees none of the user's start-up files.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client.execute(env=environment | {"IPYTHONDIR": str(folder)})
    if setup is not None:
        del notebook.cells[0]
    return notebook


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def outputs_of(cell):
    """What kind of output a cell has: ("stream", ["stdout"]), ("display_data", [MIME types])."""
    return [
        (output.output_type, sorted(output.get("data", [output.get("name")])))
        for output in cell.outputs
    ]


def asserts_against_the_package(notebook):
    """The `assert`s and `np.testing.assert_*` calls that use mgt_np, or a name imported from it."""
    source = "\n".join(
        line
        for cell in code_cells(notebook)
        for line in cell.source.splitlines()
        if not line.startswith(("%", "!"))
    )
    tree = ast.parse(source)
    names, found = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or "mgt_np" for a in node.names if a.name.startswith("mgt_np")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mgt_np"):
            names |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        is_assert = isinstance(node, ast.Assert) or (
            isinstance(node, ast.Call) and "assert" in ast.unparse(node.func)
        )
        used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        if is_assert and used & names:
            found.append(ast.unparse(node))
    return found


lessons = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_lessons():
    assert "04-delta-operator" in {path.stem for path in NOTEBOOKS}


@lessons
def test_lesson_runs_as_stored(path, tmp_path):
    stored = read(path)
    fresh = execute(stored, tmp_path, setup=STRICT)
    assert len(fresh.cells) == len(stored.cells)
    for cell, again in zip(code_cells(stored), code_cells(fresh), strict=True):
        assert outputs_of(cell) == outputs_of(again), cell.source
        assert ("stream", ["stderr"]) not in outputs_of(again), again.outputs


@lessons
def test_lesson_is_stored_executed(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]


@lessons
def test_lesson_checks_itself_against_the_package(path):
    assert asserts_against_the_package(read(path))


@lessons
def test_lesson_file_is_small_and_clean(path):
    assert path.stat().st_size < MAX_BYTES
    text = path.read_text(encoding="utf-8")
    assert not [match.group() for match in MACHINE_PATH.finditer(text)]
    stored = json.loads(text)
    assert stored["metadata"] == METADATA
    for cell in stored["cells"]:
        assert cell["metadata"].keys() <= CELL_METADATA, cell["id"]


def test_the_map_names_every_lesson():
    text = README.read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w-]+\.ipynb)\)", text))
    assert linked == {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", [README, *NOTEBOOKS], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    if path == README:
        text = path.read_text(encoding="utf-8")
    else:
        text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)#\s]+)\)", text)
    assert [t for t in targets if "://" not in t and not (LESSONS / t).exists()] == []


def store(path):
    """Run a lesson, and store it with its outputs and without anything that changes by itself."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(read(path), folder)
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in CELL_METADATA}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or NOTEBOOKS:
        store(Path(name))
        print(f"{name}: {Path(name).stat().st_size / 1000:.0f} kB")
