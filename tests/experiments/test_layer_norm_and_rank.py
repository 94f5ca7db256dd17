"""Layer norm and rank: the ranks of sets of tokens, and verdicts that follow the rows."""

import math
from itertools import product

import numpy as np
import pytest
from small_settings import check_boundaries, small_run, verdicts

from mgt_np.experiments.experiment import generator
from mgt_np.experiments.layer_norm_and_rank import BARE, RMS, SETS, WHOLE

NAME = "layer-norm-and-rank"
FLAT = "in a plane through the origin"
KEPT = "the tokens are in a plane through the origin or generic, N < d or all equal"
# Affine rank, matrix rank and rank of the centred features: before → after layer norm.
EXPECTED = {
    "on a line off the origin": ((1, 2), (2, 2), (2, 2)),
    "in a plane off the origin": ((2, 3), (3, 3), (3, 3)),
    FLAT: ((2, 2), (2, 2), (2, 2)),
    "that plane, with 1 in it": ((2, 1), (2, 1), (1, 1)),
    "generic, N > d": ((6, 5), (6, 5), (5, 5)),
    "generic, N < d": ((3, 3), (4, 4), (4, 4)),
    "of uneven length": ((6, 5), (6, 5), (5, 5)),
    "3 long, many short and alike": ((6, 5), (6, 5), (5, 5)),
    "all equal": ((0, 0), (1, 1), (1, 1)),
}


@pytest.fixture
def result():
    return small_run(NAME, n_seeds=3)


def test_each_rule_at_its_boundary():
    nan = math.nan
    kept = [(2, 2, 0.5)], [(2, 1, 0.5), (1, 2, 0.5), (nan, 1, 0.5), (1, nan, 0.5)]
    neutral = [(0.95, 1.05)], [(0.9499, 1.0), (1.0, 1.0501), (nan, 1.0), (1.0, nan)]
    check_boundaries(NAME, kept, kept, kept, kept, neutral)


def test_the_ranks_of_each_set(result):
    assert list(EXPECTED) == list(SETS)
    for tokens, ranks in EXPECTED.items():
        for row in result.rows.where(tokens=tokens, map=BARE):
            names = ("affine", "plain", "centred")
            assert tuple((row[f"{n}_before"], row[f"{n}_after"]) for n in names) == ranks


def rank(X, centred=None):
    """The rank at 1e-10 of X's largest singular value."""
    sigma = np.linalg.svdvals(X if centred is None else centred)
    return int((sigma > 1e-10 * np.linalg.svdvals(X)[0]).sum())


def effective(X):
    sigma = np.linalg.svdvals(X)
    p = sigma[sigma > 0.0] / sigma.sum()
    return math.exp(-(p * np.log(p)).sum())


def without_mean(X):
    return X - X.mean(axis=1, keepdims=True)


def test_rows_by_plain_numpy(result):
    """Everything again without the package's own norms and measures."""
    rows = iter(result.rows)
    for seed, (number, (tokens, draw)) in product(range(3), enumerate(SETS.items())):
        rng = generator([0, seed], number)
        X = draw(rng, 12, 6)
        gain, bias = rng.standard_normal((2, 6))
        normed = without_mean(X) / np.sqrt(X.var(axis=1, keepdims=True) + 1e-5)
        rms = X / np.sqrt((X**2).mean(axis=1, keepdims=True) + 1e-6) * gain
        basis = np.linalg.svd(X)[2][: rank(X)]
        outside = np.ones(6) - basis.T @ (basis @ np.ones(6))
        for name, Y, centred in (
            (BARE, normed, normed),
            (WHOLE, normed * gain + bias, normed * gain),
            (RMS, rms, without_mean(rms)),
        ):
            row = next(rows)
            assert (row["tokens"], row["map"], row["seed"]) == (tokens, name, seed)
            distance = np.linalg.norm(outside) / math.sqrt(6)
            assert row["distance_of_1"] == pytest.approx(distance, rel=1e-8, abs=1e-13)
            for when, Z, C in (("before", X, without_mean(X)), ("after", Y, centred)):
                assert row[f"affine_{when}"] == rank(Z, Z - Z.mean(axis=0))
                assert row[f"plain_{when}"] == rank(Z)
                assert row[f"centred_{when}"] == rank(Z, C)
                assert row[f"effective_{when}"] == pytest.approx(effective(Z), rel=1e-8)


def test_verdicts(result):
    assert verdicts(result) == [
        f"holds only if {KEPT}",
        "holds only if (1, …, 1) is not in the tokens' span",
        "holds",
        "holds",
        "holds only if collapse is measured by the rank of the centred features",
    ]


def test_verdicts_follow_the_rows(result):
    kept = {f"{n}_after": lambda row, n=n: row[f"{n}_before"] for n in ("affine", "plain")}
    kept |= {"effective_before": 3.0, "effective_after": 3.1}
    assert verdicts(result, **kept) == ["holds"] * 5
    lost = {f"{n}_before": 3 for n in ("affine", "plain", "centred", "effective")}
    lost |= {f"{n}_after": 2 for n in ("affine", "plain", "centred", "effective")}
    assert verdicts(result, **lost) == ["does not hold"] * 5
    for inside, outside, words in ((1e-4, 1.01e-4, "not in"), (1.01e-4, 1e-4, "in")):

        def distance(row, where=(outside, inside)):
            return where[row["plain_after"] < row["plain_before"]]

        got = verdicts(result, distance_of_1=distance)[1]
        assert got == f"holds only if (1, …, 1) is {words} the tokens' span"


@pytest.mark.parametrize(
    ("name", "broken"),
    [(BARE, (True, True, True, False)), (WHOLE, (True, False, True, False)), (RMS, (0, 0, 0, 1))],
)
def test_one_draw_is_a_counter_example_to_the_claims_on_its_map(result, name, broken):
    def but_one(rank):
        def after(row):
            one = (row["tokens"], row["map"], row["seed"]) == (FLAT, name, 1)
            return row[f"{rank}_before"] - one

        return after

    got = verdicts(result, **{f"{r}_after": but_one(r) for r in ("affine", "plain", "centred")})
    assert [verdict != "holds" for verdict in got[:4]] == list(broken)


def test_effective_rank_counts_set_by_set_as_a_mean_over_draws(result):
    def ratio(row):
        return {0: 0.9, 1: 1.0, 2: 1.1}[row["seed"]] if row["tokens"] == FLAT else 1.0

    ranks = {f"{n}_after": lambda row, n=n: row[f"{n}_before"] for n in ("affine", "plain")}
    ranks |= {"effective_before": 1.0}
    assert verdicts(result, effective_after=ratio, **ranks)[4] == "holds"
    higher = verdicts(result, effective_after=lambda row: ratio(row) ** 2 + 0.05, **ranks)[4]
    exact = "matrix rank or rank of the centred features"
    assert higher == f"holds only if collapse is measured by the affine rank or {exact}"
    grown = {"affine_before": 0, "affine_after": lambda row: int(row["seed"] == 2)}
    got = verdicts(result, effective_after=1.0, **ranks | grown)[4]
    assert got == f"holds only if collapse is measured by the {exact} or effective rank"


def test_another_seed_draws_other_tokens():
    rows = [small_run(NAME, n_seeds=2, seed=seed).rows for seed in (0, 1)]
    first, second = (set(each.column("effective_after")) for each in rows)
    assert first & second <= {1.0}
