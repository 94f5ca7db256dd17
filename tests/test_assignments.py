"""nbgrader builds an assignment from a lesson, and grades good, blank and wrong submissions."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

LESSONS = Path(__file__).parents[1] / "lessons"
LESSON = LESSONS / "04-delta-operator.ipynb"
NAME = "lesson-04"

needs_nbgrader = pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed"
)


def module():
    spec = importlib.util.spec_from_file_location("made", LESSONS / "make_assignments.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def cells_by_id(notebook):
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells}


@pytest.mark.parametrize("lesson", sorted(LESSONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_source_holds_each_exercise_with_its_solution(lesson, monkeypatch):
    """Run with the solutions in place, an assignment gets every point."""
    source = module().assignment(lesson)
    nbformat.validate(source)
    graded = [cell for cell in source.cells if cell.metadata.nbgrader["grade"]]
    assert len(graded) >= 3
    assert all(cell.metadata.nbgrader["points"] in (1, 2, 3) for cell in graded)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    names = {}
    for cell in source.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), names)


@needs_nbgrader
def test_nbgrader_releases_the_stubs_and_grades(tmp_path):
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls alembic

    def nbgrader(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PATH": here, "IPYTHONDIR": str(tmp_path / "ipython")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    module().build(tmp_path, ["04"])
    nbgrader("generate_assignment", NAME, "--create")
    released = nbformat.read(tmp_path / "release" / NAME / LESSON.name, as_version=4)
    stubs = {cell.id: cell.source for cell in nbformat.read(LESSON, as_version=4).cells}
    answers = [name for name in cells_by_id(released) if name.startswith("exercise-")]
    assert len(answers) >= 3
    for name in answers:
        assert cells_by_id(released)[name].source == stubs[name]

    source = nbformat.read(tmp_path / "source" / NAME / LESSON.name, as_version=4)
    submissions = {
        "good": {name: cells_by_id(source)[name].source for name in answers},
        "blank": {},
        "wrong": {name: stubs[name].replace("...", "0.123") for name in answers},
    }
    for student, written in submissions.items():
        folder = tmp_path / "submitted" / student / NAME
        folder.mkdir(parents=True)
        submitted = nbformat.from_dict(released)
        for name, text in written.items():
            cells_by_id(submitted)[name].source = text
        nbformat.write(submitted, folder / LESSON.name)
        for name in answers:
            cells_by_id(submitted)[name].source = stubs[name]
    nbgrader("autograde", NAME)
    assert grades(tmp_path) == {"good": 1.0, "blank": 0.0, "wrong": 0.0}
    shutil.rmtree(tmp_path)


def grades(folder):
    """The share of the points that each student has."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
        return {
            submission.student.id: submission.score / submission.max_score
            for submission in book.assignment_submissions(NAME)
        }
