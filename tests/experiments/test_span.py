"""Layer norm, span and heads as experiments: verdicts follow the rows, and what they must show."""

import dataclasses

import pytest
from small_settings import SMALL

from mgt_np import experiments
from mgt_np.experiments import EXPERIMENTS, head_identifiability, layer_norm_and_rank, span


def run(name, **settings):
    return experiments.run(EXPERIMENTS[name], dataclasses.replace(SMALL[name], **settings))


def verdicts(result):
    return [claim.verdict for claim in EXPERIMENTS[result.name].claims(result)]


def changed(result, **values):
    """The result with some columns changed; a function is called with the row."""
    rows = [
        {**row, **{k: v(row) if callable(v) else v for k, v in values.items()}}
        for row in result.rows
    ]
    return dataclasses.replace(result, rows=rows)


def test_layer_norm_takes_12_tokens_on_a_line_in_6_dimensions_from_affine_rank_1_to_2():
    result = run("layer-norm-and-rank", n_seeds=3)
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
    result = run("layer-norm-and-rank", n_seeds=3)
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


def test_verdicts_on_spans():
    result = run("span")
    literal, up_to_maps, mlp, generic, collapse = verdicts(result)
    assert literal == "holds only if value maps are cI"
    assert up_to_maps == "holds"  # 3 tokens and 3² paths in 40 dimensions
    assert mlp == "holds only if tokens and paths are fewer than the 40 dimensions"
    assert generic.startswith("holds (as does it without skip)")
    assert collapse == "holds"  # after two layers
    assert verdicts(run("span", d=16))[1] == "holds, and says nothing from layer 2 on"

    assert verdicts(changed(result, outside_embeddings=0.0))[::2][:2] == ["holds", "does not hold"]
    outside = changed(result, outside_embeddings=0.1, outside_paths=0.1)
    assert verdicts(outside)[:2] == ["does not hold"] * 2
    assert verdicts(changed(result, rank=1))[3] == "does not hold"
    assert verdicts(changed(result, rank=3))[3] == "holds (as does it without skip)"
    bare = changed(result, rank=lambda row: 1 if row["stack"] == "attention" else row["rank"])
    assert verdicts(bare)[3] == "holds, but for weights of measure zero"
    assert verdicts(changed(result, relative_residual=1e-9, rank=1))[4] == "does not hold"
    deep = verdicts(changed(result, relative_residual=1e-9))[4]
    assert deep == "holds only if rank is counted exactly: the tokens do become one"


def test_attention_stays_in_its_span_and_an_mlp_does_not():
    result = run("span")
    for name, (maps, _, mlp) in span.STACKS.items():
        outside = result.column("outside_paths", stack=name)[1:]
        assert (min(outside) > 0.1) if mlp else (max(outside) <= 1e-12)
        embeddings = result.column("outside_embeddings", stack=name)[1:]
        literal = maps != "random" and not mlp
        assert (max(embeddings) <= 1e-12) if literal else (min(embeddings) > 0.1)
    assert result.column("path_dimensions", stack="attention + skip") == [3, 9, 27]
    opposite = "attention + skip, equal weights, value maps −I"
    assert result.column("rank", stack=opposite) == [3, 2, 2]


def test_verdicts_on_heads():
    result = run("head-identifiability")
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
    result = run("head-identifiability", n_seeds=2)
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
    result = run("head-identifiability", n_tokens=2, heads=(3,))
    assert result.column("tied_gated", rank=2) == [2]


@pytest.mark.parametrize("module", [head_identifiability, layer_norm_and_rank, span])
def test_float32_settings_count_the_same(module):
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    exact, rounded = (run(name, dtype=dtype) for dtype in ("float64", "float32"))
    for row, other in zip(exact.rows, rounded.rows, strict=True):
        counts = [{k: v for k, v in r.items() if isinstance(v, int)} for r in (row, other)]
        assert counts[0] == counts[1]
    assert verdicts(exact) == verdicts(rounded)
