"""Counts as rungs: the same targets, the same unit, and the worst seed decides."""

import dataclasses
import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np.data import load_corpus, ngram_probabilities
from mgt_np.experiments import EXPERIMENTS, Rows, against_counts, judged, rungs
from mgt_np.training import Task, load_task

NAME = "against-counts"
NAN = float("nan")


@pytest.fixture
def result():
    return small_run(NAME)


def test_boundaries():
    pairs = ([(1.0, 1.1)], [(1.0, 1.0), (1.1, 1.0), (NAN, 1.0), (1.0, NAN)])
    check_boundaries(NAME, pairs, pairs)


def test_a_row_for_each_logged_step(result):
    places = [(row["level"], row["layers"], row["seed"], row["step"]) for row in result.rows]
    levels = (("words", 1), ("bytes", 2))
    assert places == [
        (*level, seed, step) for level in levels for seed in (0, 1) for step in (2, 4)
    ]


def test_bits_and_perplexity_are_of_one_loss(result):
    valid = {level: load_corpus("python-docs", split="valid", level=level) for level in ("words",)}
    bytes_per_word = valid["words"].provenance["bytes"] / valid["words"].tokens.size
    for row in result.rows:
        per_token = bytes_per_word if row["level"] == "words" else 1.0
        for bits, perplexity in (("bits_per_byte", "perplexity"), ("rung", "rung_perplexity")):
            assert math.log2(row[perplexity]) / per_token == pytest.approx(row[bits], rel=1e-8)


def test_the_bigram_is_judged_on_the_same_targets():
    task = load_task("python-docs", batch=2, n_tokens=5, n_valid=2, level="words")
    train = load_corpus("python-docs", level="words")
    losses = []
    for inputs, targets in task.valid:  # word by word, each with the one before it alone
        for before, after in zip(inputs.ravel(), targets.ravel(), strict=True):
            pair = np.array([before, after])
            losses.append(
                -math.log(ngram_probabilities(train.tokens, pair, train.vocab_size, order=2)[1])
            )
    found = against_counts._bigram("python-docs", task)
    assert found == pytest.approx(np.mean(losses), rel=1e-13)


def test_what_stands_before_a_window_does_not_matter():
    pairs = [np.array([[3, 4], [7, 9]]), np.array([[7, 9], [3, 4]])]
    tasks = [Task("two", 99, None, [(x, x + 1)]) for x in pairs]
    losses = [against_counts._bigram("python-docs", task) for task in tasks]
    assert losses[0] == pytest.approx(losses[1], rel=1e-14)


def test_xz_is_that_of_the_rungs(result):
    (row,) = small_run("rungs").rows.where(model=rungs.GIVEN)
    assert result.rows.where(level="bytes")[0]["rung"] == pytest.approx(row["bits_per_byte"])


def test_verdicts_follow_the_worst_seed(result):
    assert verdicts(result, rung=1.0, bits_per_byte=0.9) == ["holds", "holds"]
    seed = lambda row: 0.9 + 0.2 * row["seed"]  # noqa: E731
    assert verdicts(result, rung=1.0, bits_per_byte=seed) == ["does not hold"] * 2
    broke = lambda row: NAN if row["seed"] == 0 else 0.9  # noqa: E731
    assert verdicts(result, rung=1.0, bits_per_byte=broke) == ["does not hold"] * 2
    words = changed(result, rung=1.0, bits_per_byte=lambda row: 0.9 + (row["level"] == "bytes"))
    assert verdicts(words) == ["holds", "does not hold"]
    early = lambda row: 0.9 if row["step"] == 4 else 9.0  # noqa: E731
    assert verdicts(result, rung=1.0, bits_per_byte=early) == ["holds", "holds"]


def test_a_run_that_broke_off_is_drawn_as_far_as_it_came(result):
    rows = [row for row in result.rows if (row["seed"], row["step"]) != (0, 2)]
    rows = [row | {"bits_per_byte": NAN} if row["seed"] == 0 else row for row in rows]
    broken = dataclasses.replace(result, rows=Rows(rows))
    experiment = EXPERIMENTS[NAME]
    experiment.plot(broken, judged(experiment, broken)).draw_without_rendering()


def test_perplexities_stand_beside(result):
    for claim, stands in zip(EXPERIMENTS[NAME].claims(result.settings), (True, False), strict=True):
        assert (claim.beside is not None) is stands
    told = against_counts.perplexities(changed(result, perplexity=300.25, rung_perplexity=288.75))
    assert told == "Perplexities of the seeds: 300.2, 300.2; the bigram's: 288.8"
