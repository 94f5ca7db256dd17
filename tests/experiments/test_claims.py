"""Claims as data: one judge, his words for what passed, and numbers in few characters."""

import dataclasses
import math

import pytest

from mgt_np.experiments import Claim, Result, Rows, judge
from mgt_np.experiments.claims import extent, short

RESULT = Result(name="weather", settings=None, rows=Rows([]))


def claim(numbers, **changes):
    """The claim that numbers are below one."""
    options = {
        "says": "it stays dry",
        "source": "the almanac",
        "criterion": "rain < 1 mm",
        "measure": lambda result: numbers,
        "passes": lambda number: number < 1.0,
    }
    return Claim(**options | changes)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({"May": 0.5, "June": 0.9}, "holds"),
        ({"May": 0.5, "June": 1.0, "July": 0.2}, "holds only if the month is May or July"),
        ({"May": 1.0, "June": 2.0}, "does not hold"),
        ({"May": math.nan}, "does not hold"),
        ({"May": math.nan, "June": 0.5}, "holds only if the month is June"),
    ],
)
def test_the_verdict_names_the_conditions_that_pass(numbers, verdict):
    assert judge(claim(numbers, only_if="the month is {}"), RESULT).verdict == verdict


def test_conditions_stand_alone_where_nothing_is_put_around_them():
    assert judge(claim({"it is May": 0.0, "it is June": 1.0}), RESULT).verdict == (
        "holds only if it is May"
    )


def test_every_condition_has_its_number():
    judged = judge(claim({"May": 0.5, "June": 12.3456}), RESULT)
    assert judged.measured == "May: 0.5; June: 12.3"
    judged = judge(claim({"May": 0.5}, form="{:.2f} mm", beside=lambda r: f"In {r.name}"), RESULT)
    assert judged.measured == "May: 0.50 mm. In weather"


def test_several_numbers_of_one_condition_are_laid_out_together():
    pairs = {"May": (1.0, 2.0), "June": (2.0, 1.0)}
    rises = claim(pairs, passes=lambda pair: pair[0] < pair[1], form="{:g} → {:g}")
    judged = judge(rises, RESULT)
    assert judged.measured == "May: 1 → 2; June: 2 → 1"
    assert judged.verdict == "holds only if May"


def test_the_measurement_is_given_the_result():
    seen = []
    judge(claim({}, measure=lambda result: seen.append(result) or {"May": 0.0}), RESULT)
    assert seen == [RESULT]


def test_what_was_not_tried_has_no_verdict():
    with pytest.raises(ValueError, match=r"weather: expected numbers for 'it stays dry', got none"):
        judge(claim({}), RESULT)


def test_a_headline_is_the_short_claim_and_its_verdict():
    judged = judge(claim({"May": 0.0}, readme=True), RESULT)
    assert judged.headline == "it stays dry:\nholds"
    assert judge(claim({"May": 2.0}, title="dry"), RESULT).headline == "dry:\ndoes not hold"
    assert dataclasses.asdict(judged) == {
        "claim": "it stays dry",
        "source": "the almanac",
        "criterion": "rain < 1 mm",
        "measured": "May: 0",
        "verdict": "holds",
        "title": "it stays dry",
        "readme": True,
    }


@pytest.mark.parametrize(
    ("x", "words"),
    [(0.123, "0.12"), (22.0, "22"), (999.0, "1e3"), (3.2e8, "3e8"), (4e-12, "4e-12"), (0.0, "0")],
)
def test_numbers_in_few_characters(x, words):
    assert short(x) == words
    assert short(math.inf) == "inf"


def test_extents_in_words():
    assert extent([3, 1, 2]) == "1 … 3"
    assert extent([2, 2]) == "2"
    assert extent([0.123, 0.124], "{:.2f}") == "0.12"
