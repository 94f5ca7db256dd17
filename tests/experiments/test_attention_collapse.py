"""Collapse in depth: the residual carried apart, and verdicts that follow the rows."""

import dataclasses

import numpy as np
import pytest
from small_settings import small_run, verdicts

from mgt_np import (
    init_multi_head_attention,
    multi_head_attention,
    relative_residual,
    token_residual,
)
from mgt_np.experiments import EXPERIMENTS
from mgt_np.experiments.attention_collapse import apart, exponent


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_tokens_carried_apart_are_the_layers(rng, size):
    common, residual = rng.standard_normal(8), size * token_residual(rng.standard_normal((6, 8)))
    params = init_multi_head_attention(rng, 8, bias=False)
    new_common, new_residual = apart(common, residual, **params, n_heads=2)
    expected = multi_head_attention(common + residual, **params, n_heads=2)
    np.testing.assert_allclose(new_common + new_residual, expected, rtol=0.0, atol=1e-14)
    np.testing.assert_allclose(np.mean(new_residual, axis=0), 0.0, atol=1e-16)


def test_small_residuals_are_cubed_far_below_rounding(rng):
    common, residual = rng.standard_normal(8), token_residual(rng.standard_normal((6, 8)))
    params = init_multi_head_attention(rng, 8, bias=False)
    one, two = (apart(common, s * residual, **params, n_heads=2)[1] for s in (1e-20, 1e-21))
    np.testing.assert_allclose(1000.0 * two, one, rtol=1e-11, atol=0.0)
    assert 0.0 < np.max(np.abs(one)) < 1e-55


def test_the_headlines_of_collapse_in_depth():
    """Attention alone is gone after 4 layers, a skip over √L keeps the tokens, at full width."""
    experiment = EXPERIMENTS["attention-collapse"]
    settings = dataclasses.replace(experiment.quick, n_seeds=1, depth=24)
    common = {"seed": [0, 0], "n_tokens": 64, "d_model": 64, "n_heads": 4, **settings.where()}

    def last(variant, **options):
        return experiment.work("depth", variant=variant, depth=24, **common)[-1]["value"]

    assert last("attention") < 1e-14
    assert last("causal") > 1e-9
    assert last("+ skip") < 0.1 < 0.9 < last("+ skip/√L")


def test_verdicts_on_collapse_in_depth():
    result = small_run("attention-collapse")
    assert exponent(result, "attention") == pytest.approx(3.0, abs=0.05)
    assert exponent(result, "causal") == pytest.approx(1.0, abs=0.05)

    def with_value(value, **where):
        def change(row):
            hit = all(row[key] == wanted for key, wanted in where.items())
            return value(row) if hit else row["value"]

        return verdicts(result, value=change)

    linear = with_value(lambda row: row["at"], study="rate", variant="attention")
    assert linear[:2] == ["does not hold", "does not hold"]
    cubic = with_value(lambda row: row["at"] ** 3, study="rate", variant="causal")
    assert cubic[0] == "holds"
    gone, kept = (with_value(lambda row, v=v: v, study="depth") for v in (1e-9, 1.0))
    assert (gone[2], kept[2]) == ("does not hold", "holds")
    assert (gone[3], kept[3]) == ("does not hold", "holds")
    assert gone[4].startswith("holds only if the weights are random")
    assert kept[4] == "does not hold"
    flat = with_value(lambda row: 0.5, study="paths")
    assert flat[5] == "does not hold"


def test_layer_norm_keeps_two_clusters_apart_and_nothing_else_does():
    options = {"n_tokens": 10, "d_model": 16, "n_heads": 1, "depth": 60}
    rows = EXPERIMENTS["attention-collapse"].work(
        "clusters", [0, 0], "numpy", None, "float64", **options
    )
    last = {row["variant"]: row["value"] for row in rows if row["at"] == 60}
    assert last["without LN"] < 1e-14
    assert last["with LN"] > 1.0
    clusters = np.where(np.arange(10) < 6, 1.0, -1.0)[:, None] * np.tile([1.0, -1.0], 8)
    assert last["with LN"] == pytest.approx(float(relative_residual(clusters)), rel=1e-4)
