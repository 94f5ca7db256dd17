"""Build nbgrader's source notebooks, the exercises alone, from the lessons and their solutions.

    python lessons/make_assignments.py FOLDER [NN ...]
    cd FOLDER && nbgrader generate_assignment lesson-04 --create

FOLDER gets `nbgrader_config.py` and `source/lesson-NN/NN-name.ipynb` for each lesson, or those
named. In the released notebooks the answer cells are those of the lesson.
"""

import ast
import re
import sys
from pathlib import Path

import nbformat

LESSONS = Path(__file__).parent
CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "manifold-geometric-transformer"
c.ClearSolutions.code_stub = {"python": "return ..."}
c.ExecutePreprocessor.timeout = 120
"""
SETUP = "import numpy as np\n\nimport mgt_np\nfrom mgt_np.lessons import check"
POINTS = {"●": 1, "●●": 2, "●●●": 3}


def assignment(lesson):
    """Return nbgrader's source of a lesson: each exercise's statement, solution and check."""
    stored, solved = nbformat.read(lesson, as_version=4), solutions(lesson)
    cells = [markdown("title", stored.cells[0].source.split("\n")[0] + "\n\nThe exercises.")]
    cells.append(code("setup", SETUP, locked=True))
    for i, cell in enumerate(stored.cells):
        if not re.fullmatch(r"exercise-\d+", cell.id):
            continue
        statement, check = stored.cells[i - 1], stored.cells[i + 1]
        difficulty = re.search(r"\*\*Exercise (\S+)\*\* (●+)", statement.source)
        cells.append(markdown(f"statement-{cell.id}", statement.source))
        filled = with_solution(cell.source, *solved[difficulty.group(1)])
        cells.append(code(cell.id, filled, solution=True))
        points = POINTS[difficulty.group(2)]
        cells.append(code(check.id, check.source, locked=True, grade=True, points=points))
    metadata = {"kernelspec": stored.metadata["kernelspec"]}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def solutions(lesson):
    """The lines of each exercise's solution, with what it calls, and the solution's name."""
    number = lesson.stem.partition("-")[0]
    text = (LESSONS / "solutions" / f"lesson_{number}.py").read_text(encoding="utf-8")
    tree, named, imports = ast.parse(text), {}, []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            named[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named[node.targets[0].id] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(ast.unparse(node))
    listed = named.pop("SOLUTIONS").value
    named.pop("WRONG", None)
    found = {}
    for key, value in zip(listed.keys, listed.values, strict=True):
        needed = needed_by(value, named)
        lines = [*imports, *(ast.get_source_segment(text, named[name]) for name in needed)]
        name = ast.unparse(value)
        found[key.value] = "\n".join(lines), name if isinstance(value, ast.Name) else f"({name})"
    return found


def needed_by(node, named):
    """The names of a module that an expression needs, each behind those that it needs itself."""
    needed = []
    for used in ast.walk(node):
        if isinstance(used, ast.Name) and used.id in named and used.id not in needed:
            others = {name: x for name, x in named.items() if name != used.id}
            needed += [n for n in needed_by(named[used.id], others) if n not in needed]
            needed.append(used.id)
    return needed


def with_solution(stub, text, name):
    """The lesson's stub, with the solution in the place of its dots."""
    (function,) = ast.parse(stub).body
    arguments = function.args
    passed = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    passed += [f"{a.arg}={a.arg}" for a in arguments.kwonlyargs]
    lines = ["### BEGIN SOLUTION", *text.split("\n"), f"return {name}({', '.join(passed)})"]
    body = "\n".join(f"    {line}" if line else "" for line in [*lines, "### END SOLUTION"])
    return stub[: stub.rindex("    return ...")] + body


def markdown(cell_id, source):
    cell = nbformat.v4.new_markdown_cell(source, id=cell_id)
    cell.metadata["nbgrader"] = marks(cell_id, locked=True)
    return cell


def code(cell_id, source, **what):
    cell = nbformat.v4.new_code_cell(source, id=cell_id)
    cell.metadata["nbgrader"] = marks(cell_id, **what)
    return cell


def marks(cell_id, *, solution=False, locked=False, grade=False, points=None):
    """What nbgrader wants to know of a cell."""
    found = {"grade_id": cell_id, "schema_version": 3, "task": False}
    found |= {"solution": solution, "locked": locked, "grade": grade}
    return found | ({"points": points} if grade else {})


def build(folder, numbers=()):
    """Write the sources of these lessons, or of all, and nbgrader's configuration."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    for lesson in sorted(LESSONS.glob("*.ipynb")):
        number = lesson.stem.partition("-")[0]
        if numbers and number not in numbers:
            continue
        place = folder / "source" / f"lesson-{number}" / lesson.name
        place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(assignment(lesson), place)
        print(place.relative_to(folder))


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2:])
