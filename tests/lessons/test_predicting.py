"""predict and reveal: kept in the process, compared behind the result."""

import pytest

from mgt_np.lessons import Prediction, predict, reveal
from mgt_np.lessons.predicting import KEPT, PREDICTIONS


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    monkeypatch.setattr("mgt_np.lessons.predicting.lesson_module", lambda number: None)
    Prediction("99.a", choices={"yes": "Norms are no memory.", "no": "It does."})
    Prediction("99.b", within=2.0, thoughts=((100.0, 1e9, "That is per block."),))
    yield
    for number in ("99.a", "99.b"):
        PREDICTIONS.pop(number)
        KEPT.pop(number, None)


def said(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_choice(capsys):
    predict("99.a", "yes")
    reveal("99.a", "yes")
    assert said(capsys)[1:] == ["prediction 99.a: it is yes.", "As you said."]
    reveal("99.a", "no")
    assert said(capsys)[1] == "You said yes. Norms are no memory."


@pytest.mark.parametrize(
    ("kept", "near"),
    [(5.0, True), (2.5, True), (10.0, True), (2.49, False), (10.1, False), (-5, False)],
)
def test_a_number_is_near_within_its_factor(capsys, kept, near):
    predict("99.b", kept)
    reveal("99.b", 5.0)
    assert said(capsys)[-1].endswith("near enough.") == near


def test_the_thought_behind_a_number(capsys):
    predict("99.b", 500)
    reveal("99.b", 5.0)
    assert said(capsys)[-1] == "You said 500. That is per block."


@pytest.mark.parametrize(
    ("number", "value", "words"),
    [
        ("99.a", ..., "in the place of the dots"),
        ("99.a", None, "in the place of the dots"),
        ("99.a", "perhaps", "choose one of 'yes', 'no'"),
        ("99.b", "5", "a number is asked for"),
        ("99.b", True, "a number is asked for"),
        ("99.b", [5.0], "a number is asked for"),
    ],
)
def test_what_is_no_prediction_stops_nothing(capsys, number, value, words):
    predict(number, value)
    reveal(number, "yes" if number == "99.a" else 5.0)
    first, _, last = said(capsys)
    assert words in first
    assert last == "You made no prediction."


def test_a_prediction_taken_back(capsys):
    predict("99.a", "yes")
    predict("99.a", ...)
    reveal("99.a", "yes")
    assert said(capsys)[-1] == "You made no prediction."


@pytest.mark.parametrize("call", [predict, reveal])
def test_one_that_is_not_there(call):
    with pytest.raises(ValueError, match="expected a prediction of a lesson"):
        call("99.c", 1.0)
