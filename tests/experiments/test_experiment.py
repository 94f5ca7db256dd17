"""The words of a claim: verdicts, numbers and extents."""

import pytest

from mgt_np.experiments.experiment import extent, only_if, short


def test_a_verdict_lists_where_a_claim_was_found_true():
    assert only_if([], [0.5, 1.0], "β = {}") == "does not hold"
    assert only_if([0.5, 1.0], [0.5, 1.0], "β = {}") == "holds"
    assert only_if([0.5, 1.0], [0.5, 1.0, 2.0], "β = {}") == "holds only if β = 0.5 or 1"
    assert only_if(["it rains"], {"it rains": 1, "it snows": 2}) == "holds only if it rains"


@pytest.mark.parametrize(
    ("x", "words"),
    [(0.123, "0.12"), (22.0, "22"), (999.0, "1e3"), (3.2e8, "3e8"), (4e-12, "4e-12")],
)
def test_numbers_in_few_characters(x, words):
    assert short(x) == words
    assert short(float("inf")) == "inf"


def test_extents_in_words():
    assert extent([3, 1, 2]) == "1 … 3"
    assert extent([2, 2]) == "2"
