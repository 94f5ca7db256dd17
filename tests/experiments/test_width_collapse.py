"""Collapse in width: rules, verdicts that follow the rows, and a measurement done again by hand."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, judged, width_collapse
from mgt_np.experiments.experiment import generator
from mgt_np.experiments.width_collapse import (
    FIXED,
    GROWING,
    MANY,
    NO_NORM,
    ONE,
    PLAIN,
    REMEDY,
    RMS_NORM,
)

NAME = "width-collapse"
IF_GROWING = "holds only if the width grows with T"


def test_rules_at_their_boundaries():
    check_boundaries(
        NAME,
        ([-0.5999, -0.5, -0.4001], [-0.6001, -0.3999, 0.5, math.nan]),
        ([1.0, 1.4999], [1.5, 9.0, math.nan]),
        ([2.0001, 50.0], [2.0, 0.5, math.nan]),
        ([1.5001, 9.0], [1.5, 1.0, 0.0, math.nan]),
    )


def collapsing(row):
    return {"second": row["tokens"] ** -0.5, "stable_rank": 1.0, "covariance_stable_rank": 1.0}


def keeping(row):
    return {
        "second": 0.5,
        "stable_rank": 5.0,
        "covariance_stable_rank": 9.0 if row["remedy"] == PLAIN else 20.0,
    }


def verdicts_where(change):
    names = ("second", "stable_rank", "covariance_stable_rank")
    columns = {name: lambda row, name=name: change(row)[name] for name in names}
    return verdicts(small_run(NAME), **columns)


def test_verdicts_follow_the_rows():
    no = "does not hold"
    assert verdicts_where(collapsing) == ["holds", "holds", no, no]
    assert verdicts_where(keeping) == [no, no, "holds", "holds"]
    wide_only = verdicts_where(
        lambda row: (collapsing if row["kind"] == GROWING else keeping)(row),
    )
    assert wide_only[:2] == [IF_GROWING] * 2
    assert wide_only[2] == "holds only if the width is fixed"


def test_the_remedy_may_need_a_norm():
    last = small_run(NAME).settings.depth

    def with_norm(row):
        at_end = row["study"] == MANY and row["layer"] == last and row["remedy"] == REMEDY
        return 5.0 if at_end and row["norm"] == RMS_NORM else 1.0

    kept = verdicts(small_run(NAME), stable_rank=with_norm)
    assert kept[3] == "holds only if each layer has RMS norm"


def test_the_exponent_is_that_of_the_upper_half_of_the_contexts():
    def second(row):
        return row["tokens"] ** -0.5 * (7.0 if row["tokens"] == 4 else 1.0)

    result = changed(small_run(NAME), second=second)
    assert width_collapse.slope(result, GROWING) == pytest.approx(-0.5, abs=1e-12)


def test_the_exponent_is_that_of_attention_without_the_remedy():
    result = changed(
        small_run(NAME),
        second=lambda row: row["tokens"] ** (-0.5 if row["remedy"] == PLAIN else 2.0),
    )
    assert width_collapse.slope(result, FIXED) == pytest.approx(-0.5, abs=1e-12)


def test_ranks_of_one_layer_are_those_of_the_largest_context():
    def rank(row):
        return {4: 1.0, 8: 100.0, 16: 9.0}[row["tokens"]] * (3.0 if row["remedy"] == REMEDY else 1)

    result = changed(small_run(NAME), covariance_stable_rank=rank)
    assert width_collapse.one_layer(result, GROWING)[-1] == 9.0
    assert judged(EXPERIMENTS[NAME], result)[2].measured == f"{GROWING}: × 3.00; {FIXED}: × 3.00"
    assert "T = 16" in judged(EXPERIMENTS[NAME], result)[1].criterion


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def by_hand(kind, tokens, remedy, norm, depth):
    """The rows' numbers: eigenvalues instead of singular values, one draw at a time."""
    settings = small_run(NAME).settings
    rng = generator(settings.seed, tokens)
    d, draws = tokens if kind == GROWING else settings.fixed_width, settings.total // tokens
    X = [math.sqrt(d) * np.eye(d)] * draws
    if kind == FIXED:
        X = list(rng.standard_normal((draws, tokens, d)))
    for _ in range(depth):
        W_q, W_k, W_v = rng.standard_normal((3, draws, d, d)) / math.sqrt(d)
        numbers = []
        for i in range(draws):
            A = softmax((X[i] @ W_q[i]) @ (X[i] @ W_k[i]).T / math.sqrt(d))
            A -= 1.0 / tokens if remedy == REMEDY else 0.0
            X[i] = A @ X[i] @ W_v[i]
            if norm == RMS_NORM:
                X[i] /= np.sqrt(np.mean(X[i] ** 2, axis=-1, keepdims=True) + 1e-6)
            of_A, of_X = (np.linalg.eigvalsh(M @ M.T) for M in (A, X[i]))
            rank, of_covariance = (np.sum((of_X / of_X.max()) ** power) for power in (1, 2))
            numbers.append([*np.sqrt(np.maximum(of_A[:-3:-1], 0.0)), rank, of_covariance])
        yield np.mean(numbers, axis=0)


@pytest.mark.parametrize(
    "labels",
    [
        (ONE, FIXED, 4, PLAIN, NO_NORM),
        (ONE, FIXED, 8, REMEDY, NO_NORM),
        (ONE, GROWING, 8, PLAIN, NO_NORM),
        (MANY, GROWING, 8, REMEDY, RMS_NORM),
        (MANY, GROWING, 8, PLAIN, NO_NORM),
    ],
)
def test_rows_are_what_they_say(labels):
    names = ("study", "kind", "tokens", "remedy", "norm")
    rows = small_run(NAME).rows.where(**dict(zip(names, labels, strict=True)))
    assert rows.column("layer") == list(range(1, len(rows) + 1))
    assert len(rows) == (1 if labels[0] == ONE else small_run(NAME).settings.depth)
    for row, wanted in zip(rows, by_hand(*labels[1:], len(rows)), strict=True):
        got = [row[n] for n in ("first", "second", "stable_rank", "covariance_stable_rank")]
        np.testing.assert_allclose(got, wanted, rtol=1e-8)


def test_one_layer_in_place_of_many():
    assert len(verdicts(small_run(NAME, depth=1))) == 4
    assert small(NAME, depth=1).depth == 1


def test_a_state_that_vanished_is_not_drawn_but_named():
    result = changed(
        small_run(NAME),
        stable_rank=lambda row: 2.0 * (row["norm"] == RMS_NORM or row["layer"] < 3),
    )
    figure = width_collapse.plot(result, judged(EXPERIMENTS[NAME], result))
    lines = {line.get_label(): line for line in figure.axes[2].lines}
    vanished = [line for label, line in lines.items() if "(0 from layer 3)" in label]
    assert len(lines) == 4
    assert len(vanished) == 2
    for line in vanished:
        np.testing.assert_array_equal(line.get_ydata(), [2.0, 2.0, math.nan])
