"""Layer norm and rank: the ranks of sets of tokens, and verdicts that follow the rows."""

from small_settings import SMALL, changed, small_run, verdicts

from mgt_np.experiments import layer_norm_and_rank


def test_layer_norm_takes_12_tokens_on_a_line_in_6_dimensions_from_affine_rank_1_to_2():
    result = small_run("layer-norm-and-rank", n_seeds=3)
    where = {"tokens": "on a line off the origin", "map": "layer norm"}
    assert result.column("affine_before", **where) == [1] * 3
    assert result.column("affine_after", **where) == [2] * 3
    for rank in ("affine", "plain", "centred"):
        everywhere = {"tokens": "all equal", "map": "layer norm"}
        before, after = (
            result.column(f"{rank}_{when}", **everywhere) for when in ("before", "after")
        )
        assert before == after


def test_verdicts_on_layer_norm():
    result = small_run("layer-norm-and-rank", n_seeds=3)
    affine, plain, centred, rms, neutral = verdicts(result)
    assert affine.startswith("holds only if tokens are in a plane through the origin")
    assert plain == "holds only if 1 is not in the span of the tokens"
    assert centred == rms == "holds"
    assert neutral.startswith("holds only if")

    kept = changed(result, affine_after=lambda row: row["affine_before"])
    kept = changed(kept, plain_after=lambda row: row["plain_before"], effective_after=1.0)
    kept = changed(kept, effective_before=1.0)
    assert verdicts(kept) == ["holds"] * 5
    lost = changed(result, affine_after=0, affine_before=1, centred_after=9, distance_of_1=0.5)
    affine, plain, centred, _, neutral = verdicts(lost)
    assert affine == centred == neutral == "does not hold"
    assert plain.startswith("holds only if tokens are on a line off the origin")


def test_all_sets_of_tokens_are_drawn():
    settings = SMALL["layer-norm-and-rank"]
    tasks = layer_norm_and_rank.tasks(settings)
    assert [task["tokens"] for task in tasks] == list(layer_norm_and_rank.SETS)
