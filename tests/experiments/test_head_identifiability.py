"""Heads told from their sum: dimensions lost and won, and verdicts that follow the rows."""

from small_settings import changed, small_run, verdicts


def test_verdicts_on_heads():
    result = small_run("head-identifiability")
    count, mlp, gates, cost = verdicts(result)
    assert count == "holds only if the heads' blocks of W_O share one row space of d_k dimensions"
    assert mlp == "holds"
    assert gates.startswith("holds only if heads are the same at n ≥ H positions")
    assert cost.startswith("holds only if our reading")
    assert verdicts(changed(result, of_sum=lambda row: row["claimed"]))[0] == "holds"
    assert verdicts(changed(result, of_sum=1))[0] == "does not hold"
    assert verdicts(changed(result, after_mlp=0))[1] == "does not hold"
    assert verdicts(changed(result, change_after_mlp=0.1))[1] == "does not hold"
    assert verdicts(changed(result, gated=0))[2] == "holds"
    assert verdicts(changed(result, tied_gated=2))[2] == "does not hold"


def test_dimensions_lost_are_those_of_the_null_space():
    result = small_run("head-identifiability", n_seeds=2)
    assert result.rows
    for row in result.rows:
        lost = row["heads"] * row["d_k"] - row["rank"]
        assert row["of_sum"] == row["after_mlp"] == row["gated"] == 4 * lost
        assert row["tied"] == lost
        assert row["claimed"] == 4 * (row["heads"] - 1) * row["d_k"]
        assert (row["moved"] > 0.01) == (row["recovery_error"] > 0.01) == (lost > 0)
        assert row["change_of_sum"] <= 1e-14
        if row["rank"] == row["d_k"]:
            assert row["tied_gated"] == 0


def test_gates_need_as_many_positions_as_heads():
    result = small_run("head-identifiability", n_tokens=2, heads=(3,))
    assert result.column("tied_gated", rank=2) == [2]
