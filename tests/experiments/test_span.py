"""Spans: what attention cannot leave and an MLP can, and verdicts that follow the rows."""

from small_settings import changed, small_run, verdicts

from mgt_np.experiments import span


def test_verdicts_on_spans():
    result = small_run("span")
    literal, up_to_maps, mlp, generic, collapse = verdicts(result)
    assert literal == "holds only if value maps are cI"
    assert up_to_maps == "holds"  # 3 tokens and 3² paths in 40 dimensions
    assert mlp == "holds only if tokens and paths are fewer than the 40 dimensions"
    assert generic.startswith("holds (as does it without skip)")
    assert collapse == "holds"  # after two layers
    assert verdicts(small_run("span", d=16))[1] == "holds, and says nothing from layer 2 on"

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
    result = small_run("span")
    for name, (maps, _, mlp) in span.STACKS.items():
        outside = result.column("outside_paths", stack=name)[1:]
        assert (min(outside) > 0.1) if mlp else (max(outside) <= 1e-12)
        embeddings = result.column("outside_embeddings", stack=name)[1:]
        literal = maps != "random" and not mlp
        assert (max(embeddings) <= 1e-12) if literal else (min(embeddings) > 0.1)
    assert result.column("path_dimensions", stack="attention + skip") == [3, 9, 27]
    opposite = "attention + skip, equal weights, value maps −I"
    assert result.column("rank", stack=opposite) == [3, 2, 2]
