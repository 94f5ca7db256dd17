"""predict(number, value) before a result, reveal(number, measured) behind it."""

from dataclasses import dataclass, field

import numpy as np

from .checking import lesson_module

PREDICTIONS, KEPT = {}, {}


@dataclass(frozen=True)
class Prediction:
    """What a reader is asked before a result, and what to say of each answer.

    number: "04.a". choices: {choice: the thought that leads there}. For a question after a number,
    `choices` is empty, `within` is the factor by which an answer may be off and still be near, and
    `thoughts` is a list of (low, high, the thought behind a number between them).
    """

    number: str
    choices: dict = field(default_factory=dict)
    within: float = 1.5
    thoughts: tuple = ()

    def __post_init__(self):
        PREDICTIONS[self.number] = self


def predict(number, value):
    """Keep what the reader expects, in this process alone, until `reveal` compares it.

    `value` is one of the prediction's choices, or a number; dots are no prediction yet. Raises
    ValueError for a number that no prediction has.
    """
    asked = _prediction(number)
    KEPT.pop(number, None)
    if value is ... or value is None:
        print(f"prediction {number}: put yours in the place of the dots, then run on.")
    elif asked.choices and value not in asked.choices:
        print(f"prediction {number}: choose one of {', '.join(map(repr, asked.choices))}.")
    elif not asked.choices and not _is_number(value):
        print(f"prediction {number}: a number is asked for.")
    else:
        KEPT[number] = value
        print(f"prediction {number}: {value!r} is kept. Run on.")


def reveal(number, measured):
    """Print how the prediction compares with what came, and the thought that leads elsewhere."""
    asked = _prediction(number)
    shown = measured if asked.choices else f"{measured:.3g}"
    print(f"prediction {number}: it is {shown}.")
    if number not in KEPT:
        print("You made no prediction.")
        return
    kept = KEPT[number]
    if asked.choices:
        print("As you said." if kept == measured else f"You said {kept}. {asked.choices[kept]}")
        return
    near = kept * measured > 0.0 and 1.0 / asked.within <= kept / measured <= asked.within
    if kept == measured or near:
        print(f"You said {kept:g}: near enough.")
        return
    thoughts = [said for low, high, said in asked.thoughts if low <= kept <= high]
    print(f"You said {kept:g}. {' '.join(thoughts)}".strip())


def _prediction(number):
    lesson_module(number)
    if number not in PREDICTIONS:
        raise ValueError(f"predict: expected a prediction of a lesson, as '04.a', got {number!r}")
    return PREDICTIONS[number]


def _is_number(value):
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
