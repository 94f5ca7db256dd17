"""check(number, answer): right, or a hint that belongs to that mistake."""

import importlib
import importlib.util
import os
import zlib

import numpy as np

from .judging import EXERCISES, Forbidden, Unanswered, answered

GRADING = "NBGRADER_EXECUTION"  # set by nbgrader while it runs a submission
N_SEEDS = 3


def check(number, answer):
    """Print whether the answer to an exercise is right, or a hint that belongs to its mistake.

    `number` is that of the exercise, "04.2", and `answer` a function or a value. Inputs are drawn
    from seeds. A wrong answer never stops a notebook, except where nbgrader executes it: there it
    raises AssertionError, and inputs are drawn from other seeds. Raises ValueError for a number
    that no exercise has.
    """
    grading = bool(os.environ.get(GRADING))
    hint = verdict(number, answer, first_seed=100 if grading else 0)
    print(f"exercise {number}: {'not yet: ' + hint if hint else 'right.'}")
    if hint and grading:
        raise AssertionError(f"exercise {number}: {hint}")


def verdict(number, answer, *, first_seed=0, n_seeds=N_SEEDS):
    """Return "" for a right answer, else what is wrong with it, in one sentence."""
    judge = judge_of(number)
    for seed in range(first_seed, first_seed + n_seeds):
        rng = np.random.default_rng([zlib.crc32(number.encode()), seed])
        try:
            hint = judge(answered(answer), rng)
        except Unanswered:
            hint = "put your answer in the place of the dots."
        except Forbidden as forbidden:
            hint = f"derive it: {forbidden} is what the exercise asks you to write."
        except Exception as error:  # a student's code may raise anything; say it in words
            hint = f"your answer raised {type(error).__name__}: {error}"
        if hint:
            return hint
    return ""


def judge_of(number):
    """Return the judge of an exercise, or raise ValueError if there is none."""
    lesson_module(number)
    if number not in EXERCISES:
        lesson = str(number).partition(".")[0]
        known = ", ".join(n for n in EXERCISES if n.startswith(f"{lesson}."))
        raise ValueError(
            f"check: expected an exercise of lesson {lesson} ({known}), got {number!r}"
        )
    return EXERCISES[number]


def lesson_module(number):
    """Import and return the module of the lesson of "04.2": `mgt_np.lessons.lesson_04`."""
    lesson = str(number).partition(".")[0]
    name = f"{__package__}.lesson_{lesson}"
    if not lesson.isdigit() or importlib.util.find_spec(name) is None:
        raise ValueError(f'expected a number as "04.2" has it, of a lesson with it, got {number!r}')
    return importlib.import_module(name)
