"""Heads told from their sum: dimensions lost and won, and verdicts that follow the rows."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, head_identifiability
from mgt_np.experiments.experiment import generator

NAN = float("nan")


@pytest.fixture
def result():
    return small_run("head-identifiability", n_seeds=2)


def measured(result, number):
    return EXPERIMENTS[result.name].claims(result.settings)[number].measure(result)


def test_boundaries():
    check_boundaries(
        "head-identifiability",
        ([0], [1, NAN]),
        ([(0, 0.0), (-1, 1e-10)], [(1, 0.0), (0, 1.01e-10), (0, NAN)]),
        ([0], [1, NAN]),
        ([1.5999], [1.6, NAN]),
    )


def test_verdicts_follow_from_the_measurement(result):
    assert verdicts(result) == [
        "holds only if the output matrix W_O has rank 1 d_k",
        "holds",
        "holds only if the heads are the same at n ≥ H positions",
        "holds only if H = 2, d_k = 64",
    ]
    few = small_run("head-identifiability", n_tokens=2, heads=(3,))
    assert verdicts(few)[2] == "does not hold"
    assert few.rows.where(d_k=2, rank=2).column("tied_gated") == [2]
    assert few.rows.values("n_against_H") == ["<"]


def test_verdicts_on_heads(result):
    assert verdicts(result, miscounted=0)[0] == "holds"
    assert verdicts(result, miscounted=1)[0] == "does not hold"
    assert verdicts(result, after_mlp=0)[1] == "does not hold"
    assert verdicts(result, change_after_mlp=0.1)[1] == "does not hold"
    assert verdicts(result, change_after_mlp=NAN)[1] == "does not hold"
    assert verdicts(result, gated=0, tied_gated=0)[2] == "holds"
    assert verdicts(result, tied_gated=2)[2] == "does not hold"
    assert verdicts(result, tied_gated=2, gated=0)[2] == (
        "holds only if the heads are different at every position"
    )
    assert verdicts(result, gate_percent=1.5)[3] == "holds"
    assert verdicts(result, gate_percent=2.0)[3] == "does not hold"


def test_one_row_of_one_seed_decides(result):
    """One draw that counts otherwise makes the claim false, in whichever seed it is."""
    for seed in (0, 1):

        def in_one(value, other, seed=seed):
            return lambda row: value if (row["heads"], row["seed"]) == (2, seed) else other

        assert (
            verdicts(result, miscounted=in_one(1, 0))[0]
            == "holds only if the output matrix W_O has rank 3 d_k"
        )
        assert verdicts(result, change_after_mlp=in_one(1e-3, 0.0))[1] == "does not hold"
        assert verdicts(result, after_mlp=in_one(0, 99))[1] == "does not hold"
        assert "n ≥ H" not in verdicts(result, tied_gated=in_one(1, 0), gated=1)[2]
        assert verdicts(result, gated=in_one(1, 0), tied_gated=1)[2] == "does not hold"
        assert measured(changed(result, gate_percent=in_one(5.0, 1.0)), 3) == {
            "H = 2, d_k = 2": 5.0,
            "H = 3, d_k = 2": 1.0,
            "H = 2, d_k = 64": 1.0 if seed else 5.0,
        }


def test_gates_are_judged_where_the_blocks_share_one_row_space(result):
    assert (
        measured(changed(result, gated=lambda row: row["ratio"] > 1), 2)[
            "different at every position"
        ]
        == 0
    )


def test_dimensions_lost_are_those_of_the_null_space(result):
    rows = result.rows.where(d_k=2)
    assert len(rows) == 2 * (2 + 3)
    for row in rows:
        lost = row["heads"] * row["d_k"] - row["rank"]
        assert row["of_sum"] == row["after_mlp"] == row["gated"] == 4 * lost
        assert row["claimed"] == 4 * (row["heads"] - 1) * row["d_k"]
        assert row["miscounted"] == row["claimed"] - row["of_sum"]
        assert (row["moved"] > 0.01) == (row["recovery_error"] > 0.01) == (lost > 0)
        assert row["change_of_sum"] <= 1e-14
        assert row["change_after_mlp"] <= 1e-14
        assert (row["change_after_mlp"] > 0) == (lost > 0)  # it is rounding, not nothing measured
        assert row["ratio"] == row["rank"] / row["d_k"]
        assert row["n_against_H"] == "≥"
        if row["ratio"] == 1:
            assert row["tied_gated"] == 0


def test_the_real_size_is_one_token_of_one_draw_at_rank_d_k(result):
    (row,) = result.rows.where(d_k=64)
    assert (row["heads"], row["rank"], row["seed"], row["n_against_H"]) == (2, 64, 0, "<")
    assert row["claimed"] == row["of_sum"] == row["after_mlp"] == row["gated"] == 64
    assert row["gate_percent"] == 100 / 64
    cells = EXPERIMENTS["head-identifiability"].tasks(head_identifiability.QUICK)
    assert len(cells) == 3 * (2 + 4 + 8) + 1
    (real,) = [cell for cell in cells if cell["d_k"] == 64]
    assert (real["n_heads"], real["n_tokens"], real["ratio"]) == (12, 1, 1)


def lost(A):
    return A.shape[0] - np.linalg.matrix_rank(A, tol=1e-6)


def by_hand(n_heads, d_k, rank, n_tokens, seed):
    """What a row says, head by head and token by token, with derivatives by differences."""
    d = n_heads * d_k
    drawn = head_identifiability._draw(generator(seed, n_heads, rank), n_heads, d, rank, n_tokens)
    Z, X, W_o, W_1, W_2, positions, W_g, step = drawn
    U = np.linalg.svd(W_o)[0]
    moved = Z + step @ U[:, rank:] @ U[:, rank:].T

    def block(Z):
        state = X + Z @ W_o
        centred = state - state.mean(-1, keepdims=True)
        hidden = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) @ W_1
        return state + hidden * (1 + np.vectorize(math.erf)(hidden / 2**0.5)) / 2 @ W_2

    units = 1e-5 * np.eye(d)
    slopes = np.stack([(block(Z + unit) - block(Z - unit)) / 2e-5 for unit in units], axis=1)
    gates = 1 / (1 + np.exp(-positions @ W_g))
    maps = [
        np.concatenate([g * W for g, W in zip(gate, W_o.reshape(n_heads, d_k, d), strict=True)])
        for gate in gates
    ]
    return {
        "of_sum": n_tokens * lost(W_o),
        "moved": np.linalg.norm(moved - Z) / np.linalg.norm(Z),
        "recovery_error": np.linalg.norm(Z @ W_o @ np.linalg.pinv(W_o, rcond=1e-9) - Z)
        / np.linalg.norm(Z),
        "change_after_mlp": np.linalg.norm(block(moved) - block(Z)) / np.linalg.norm(block(Z)),
        "after_mlp": sum(lost(J) for J in slopes),
        "gated": sum(lost(each) for each in maps),
        "tied_gated": lost(np.concatenate(maps, axis=1)),
        "gate_percent": 100 * W_g.size / W_o.size,
    }


@pytest.mark.parametrize("n_heads", [2, 3])
def test_rows_are_what_they_say(n_heads):
    rows = small_run("head-identifiability", n_tokens=2).rows.where(heads=n_heads, d_k=2)
    for row in rows:
        expected = by_hand(n_heads, 2, row["rank"], 2, [0, 0])
        found = {name: row[name] for name in expected}
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_all_blocks_of_the_projection_share_the_rows_that_its_rank_allows():
    for n_heads, rank in ((3, 2), (3, 4), (3, 6)):
        W_o = head_identifiability._draw(generator(0), n_heads, 6, rank, 2)[2]
        assert np.linalg.matrix_rank(W_o) == rank
        blocks = W_o.reshape(n_heads, 2, 6)
        assert [np.linalg.matrix_rank(block) for block in blocks] == [2] * n_heads
    drawn = head_identifiability._draw(generator(0), 8, 64, 64, 50)
    for weights, inputs in zip(drawn[2:5] + drawn[6:7], (64, 64, 256, 64), strict=True):
        assert weights.std() == pytest.approx(inputs**-0.5, rel=0.06)


def test_seeds_share_no_draw(result):
    first = {*result.rows.where(rank=2).column("moved")}
    other = small_run("head-identifiability", n_seeds=2, seed=1).rows.where(rank=2).column("moved")
    assert len(first) == 4
    assert not first & {*other}
