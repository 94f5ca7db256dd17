"""Every lesson runs from top to bottom, proves itself against mgt_np, and is stored as it ran.

To run the lessons again and store them: `python tests/test_lessons.py [NOTEBOOK ...]`.
"""

import ast
import base64
import importlib.util
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mgt_np.lessons import check
from mgt_np.lessons.checking import GRADING, lesson_module, verdict
from mgt_np.lessons.judging import EXERCISES
from mgt_np.lessons.predicting import PREDICTIONS
from mgt_np.lessons.sliding import STORING

LESSONS = Path(__file__).parents[1] / "lessons"
README = LESSONS / "README.md"
NOTEBOOKS = sorted(LESSONS.glob("*.ipynb"))

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = {"jupyter", "tags"}
# A lesson is a session of 60 to 90 minutes: so much can be read, and looked at.
MOST_BYTES, MOST_WORDS, MOST_CODE_LINES, MOST_PICTURES, MOST_LINES_A_CELL = 3e5, 2500, 300, 6, 40
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
    client.execute(env=environment | {"IPYTHONDIR": str(folder), STORING: "1"})
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
    assert path.stat().st_size <= MOST_BYTES
    text = path.read_text(encoding="utf-8")
    assert not [match.group() for match in MACHINE_PATH.finditer(text)]
    stored = json.loads(text)
    assert stored["metadata"] == METADATA
    for cell in stored["cells"]:
        assert cell["metadata"].keys() <= CELL_METADATA, cell["id"]


def markdown_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def words_of(text):
    """Words that are read: no formulas, no code, no addresses."""
    text = re.sub(
        r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL
    )
    return re.findall(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*", text)


def lines_of(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


def pictures_of(notebook):
    """The data and the alt text of each picture."""
    return [
        (output.data["image/png"], output.metadata.get("image/png", {}).get("alt", ""))
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


@lessons
def test_lesson_keeps_its_budget(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert len(words_of("\n\n".join(markdown_of(notebook)))) <= MOST_WORDS
    assert sum(len(lines_of(cell)) for cell in cells) <= MOST_CODE_LINES
    assert max(len(lines_of(cell)) for cell in cells) <= MOST_LINES_A_CELL
    assert 1 <= len(pictures_of(notebook)) <= MOST_PICTURES


@lessons
def test_every_picture_says_what_it_shows(path):
    for picture, alt in pictures_of(read(path)):
        assert len(words_of(alt)) >= 6, alt
        png = base64.b64decode(picture)
        assert int.from_bytes(png[16:20], "big") >= 400  # pixels
        assert png[25] == 3  # a palette, of 128 colours


def faults_of_maths(text):
    """Where a renderer may leave a formula as text: GitHub's rules are the narrowest."""
    faults, open_at, lines = [], None, text.split("\n")
    for i, line in enumerate(lines):
        if "$$" not in line:
            formulas = line.split("$")[1::2]
            if open_at is None and line.count("$") % 2:
                faults.append(f"a formula that does not end: {line}")
            elif open_at is None and any(f != f.strip() for f in formulas):
                faults.append(f"a formula with a space at its edge: {line}")
            continue
        if line.strip() != "$$" or line != line.strip():
            faults.append(f"$$ is not alone on its line: {line}")
            continue
        outside = lines[i - 1] if open_at is None else [*lines, ""][i + 1]
        if outside.strip():
            faults.append(f"no blank line beside $$: {outside}")
        open_at = i if open_at is None else None
    if open_at is not None:
        faults.append("$$ that is not closed")
    for row in (line for line in lines if line.lstrip().startswith("|")):
        faults += [
            f"a bar in a table's formula: {f}" for f in re.findall(r"\$[^$]*\$", row) if "|" in f
        ]
    unsafe = [r"\\tag", r"\\boxed", r"\\operatorname\*"]
    prose = re.sub(r"`[^`]*`", "", text)
    return faults + [f"not every renderer knows {f}" for f in unsafe if re.search(f, prose)]


@lessons
def test_every_renderer_takes_the_formulas(path):
    found = [fault for text in markdown_of(read(path)) for fault in faults_of_maths(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("so $$x$$ is", "alone"),
        ("so\n$$\nx\n$$\n", "blank"),
        ("\n$$\nx\n$$\nand", "blank"),
        ("* so\n\n  $$\n  x\n  $$\n", "alone"),
        ("\n$$\nx\n", "closed"),
        ("a $x and", "does not end"),
        ("a $ x$ and", "edge"),
        ("| $|x|$ | y |", "bar"),
        (r"$\boxed{x}$", "renderer"),
    ],
)
def test_formulas_that_do_not_render_are_seen(text, fault):
    assert any(fault in said for said in faults_of_maths(text))
    assert faults_of_maths("so $x$ is\n\n$$\nx = y\n$$\n\nand | $x$") == []


# ---- exercises and predictions


def number_of(path):
    return path.stem.partition("-")[0]


def solutions_of(number):
    file = LESSONS / "solutions" / f"lesson_{number}.py"
    if not file.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"solutions_{number}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exercises_of(lesson):
    """The numbers of a lesson's exercises; none where their judges are not written."""
    try:
        lesson_module(f"{lesson}.1")
    except ValueError:
        return []
    return sorted(number for number in EXERCISES if number.startswith(f"{lesson}."))


EXERCISED = [
    (number, solutions_of(lesson))
    for lesson in map(number_of, NOTEBOOKS)
    for number in exercises_of(lesson)
    if solutions_of(lesson)
]
WRONG = [
    pytest.param(number, answer, words, id=f"{number}-{i}")
    for number, module in EXERCISED
    for i, (answer, words) in enumerate(module.WRONG[number])
]


@pytest.mark.parametrize(("number", "module"), EXERCISED, ids=lambda x: x if type(x) is str else "")
def test_the_solution_is_right_and_the_dots_are_not(number, module, monkeypatch):
    for first_seed in (0, 100, 200):
        assert verdict(number, module.SOLUTIONS[number], first_seed=first_seed) == ""
    for blank in (..., None, lambda *args, **kwargs: ...):
        assert "dots" in verdict(number, blank)
    for nonsense in ("text", lambda *args, **kwargs: "text", lambda: 1.0, [1.0], 0.123):
        said = verdict(number, nonsense)
        assert said
        assert "\n" not in said
    monkeypatch.setenv(GRADING, "1")
    check(number, module.SOLUTIONS[number])
    with pytest.raises(AssertionError, match="dots"):
        check(number, ...)


@pytest.mark.parametrize(("number", "answer", "words"), WRONG)
def test_a_wrong_answer_gets_its_own_hint(number, answer, words):
    for first_seed in (0, 100):
        assert words in verdict(number, answer, first_seed=first_seed)


@pytest.mark.parametrize(("number", "module"), EXERCISED, ids=lambda x: x if type(x) is str else "")
def test_wrong_answers_are_many_and_their_hints_differ(number, module):
    words = [words for _, words in module.WRONG[number]]
    assert len(words) >= 5
    assert len(set(words)) >= 4


@lessons
def test_exercises_stand_in_the_lesson(path):
    """A stub of an answer, then its check; statements name no word of the lesson's body."""
    lesson, cells = number_of(path), read(path).cells
    numbers = exercises_of(lesson)
    assert len(numbers) >= 3
    assert numbers == sorted(solutions_of(lesson).SOLUTIONS)
    for number in numbers:
        i = number.partition(".")[2]
        ids = [cell.id for cell in cells]
        at = ids.index(f"exercise-{i}")
        assert ids[at + 1] == f"check-{i}"
        assert re.search(rf"Exercise {number}\*\* ●+ \(\d+ minutes", cells[at - 1].source)
        tree = ast.parse(cells[at].source)
        (stub,) = tree.body
        assert isinstance(stub, ast.FunctionDef)
        assert ast.unparse(stub.body[-1]) == "return ..."
        assert cells[at + 1].source == f'check("{number}", {stub.name})'
        assert any("dots" in output.text for output in cells[at + 1].outputs)


@lessons
def test_predictions_come_before_what_they_are_about(path):
    lesson, source = number_of(path), "\n".join(c.source for c in code_cells(read(path)))
    numbers = [number for number in PREDICTIONS if number.startswith(f"{lesson}.")]
    assert len(numbers) >= 2
    for number in numbers:
        assert 0 <= source.index(f'predict("{number}", ...)') < source.index(f'reveal("{number}"')


@lessons
def test_every_lesson_has_a_sheet(path):
    text = (LESSONS / "sheets" / f"{path.stem}.md").read_text(encoding="utf-8")
    assert len(words_of(text)) >= 150
    assert faults_of_maths(text) == []


def test_the_map_names_every_lesson():
    text = README.read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w-]+\.ipynb)\)", text))
    assert linked == {path.name for path in NOTEBOOKS}
    assert len(ROWS) == len(NOTEBOOKS)


ROWS = [
    line for line in README.read_text(encoding="utf-8").split("\n") if re.match(r"\| \[\d", line)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3:5])
def test_code_names_the_lesson_that_derives_it(row):
    """From a lesson to its code by the map, and back by the code's docstring."""
    number, linked = row[3:5], re.findall(r"\(\.\./(mgt_np/[^)]*)\)", row)
    assert linked
    for name in linked:
        path = LESSONS.parent / name
        path = path if path.suffix else path / "__init__.py"
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert re.search(rf"Lessons? (\d\d and )?{number}\b", docstring), path


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
