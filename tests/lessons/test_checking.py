"""check: what a reader sees, and what nbgrader does."""

import numpy as np
import pytest

from mgt_np.lessons import check, exercise
from mgt_np.lessons.checking import GRADING, lesson_module, verdict
from mgt_np.lessons.judging import EXERCISES, hint_for


@pytest.fixture
def double(monkeypatch):
    """An exercise that is no lesson's: twice the input."""
    monkeypatch.setattr("mgt_np.lessons.checking.lesson_module", lambda number: None)
    seen = []

    @exercise("99.1")
    def judge(answer, rng):
        x = rng.uniform(1.0, 2.0)
        seen.append(x)
        return hint_for(answer(x), 2.0 * x, [(x, "that is x itself.")])

    yield seen
    del EXERCISES["99.1"]


def test_what_is_printed(double, capsys):
    check("99.1", lambda x: 2 * x)
    check("99.1", lambda x: x)
    check("99.1", ...)
    check("99.1", lambda x: 1 / 0)
    assert capsys.readouterr().out.splitlines() == [
        "exercise 99.1: right.",
        "exercise 99.1: not yet: that is x itself.",
        "exercise 99.1: not yet: put your answer in the place of the dots.",
        "exercise 99.1: not yet: your answer raised ZeroDivisionError: division by zero",
    ]


def test_inputs_are_drawn_afresh_and_others_for_grades(double, monkeypatch):
    check("99.1", lambda x: 2 * x)
    assert len(set(double)) == 3
    first = list(double)
    check("99.1", lambda x: 2 * x)
    assert double[3:] == first
    monkeypatch.setenv(GRADING, "1")
    check("99.1", lambda x: 2 * x)
    assert not set(double[6:]) & set(first)


def test_values_learnt_by_heart_fail_where_grades_are_given(double, monkeypatch, capsys):
    check("99.1", lambda x: 2 * x)
    known = {x: 2 * x for x in double}
    check("99.1", lambda x: known.get(x, 0.0))
    assert capsys.readouterr().out.count("right.") == 2
    monkeypatch.setenv(GRADING, "1")
    with pytest.raises(AssertionError, match="should be"):
        check("99.1", lambda x: known.get(x, 0.0))


@pytest.mark.parametrize(
    "wrong",
    [lambda x: x, ..., lambda: 1.0, "text", 3.0],
    ids=["x", "...", "no x", "text", "number"],
)
def test_grading_raises(double, monkeypatch, wrong):
    monkeypatch.setenv(GRADING, "1")
    with pytest.raises(AssertionError, match=r"exercise 99\.1: "):
        check("99.1", wrong)


@pytest.mark.parametrize("number", ["4", "lesson", "4.1", "../x", 5, None, "98.1"])
def test_a_lesson_that_is_not_there(number):
    with pytest.raises(ValueError, match="expected a number"):
        lesson_module(number)


def test_an_exercise_that_is_not_there(double):
    with pytest.raises(ValueError, match=r"lesson 99 \(99\.1\), got '99\.2'"):
        verdict("99.2", np.ones(1))
