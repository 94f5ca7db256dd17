"""Experiments about collapse: the exact residual, and verdicts that follow the numbers."""

import dataclasses

import numpy as np
import pytest
from small_settings import SMALL

from mgt_np import (
    init_multi_head_attention,
    multi_head_attention,
    relative_residual,
    token_residual,
)
from mgt_np.experiments import EXPERIMENTS, entropy_collapse, run, width_collapse
from mgt_np.experiments.attention_collapse import apart, exponent


def small(name):
    experiment = EXPERIMENTS[name]
    return experiment, run(experiment, SMALL[name])


def verdicts(experiment, result, change):
    """The verdicts after `change` has been made to every row."""
    rows = [{**row, **change(row)} for row in result.rows]
    changed = dataclasses.replace(result, rows=rows)
    return [claim.verdict for claim in experiment.claims(changed)]


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
    experiment, result = small("attention-collapse")
    assert exponent(result, "attention") == pytest.approx(3.0, abs=0.05)
    assert exponent(result, "causal") == pytest.approx(1.0, abs=0.05)

    def with_value(value, **where):
        def change(row):
            hit = all(row[key] == wanted for key, wanted in where.items())
            return {"value": value(row)} if hit else {}

        return verdicts(experiment, result, change)

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


def test_verdicts_on_collapse_in_width():
    experiment, result = small("width-collapse")

    def falling(row):
        return {"second": row["tokens"] ** -0.5, "covariance_stable_rank": 1.0}

    def growing(row):
        return {
            "second": 0.5,
            "stable_rank": 5.0,
            "covariance_stable_rank": 9.0 if row["remedy"] == "A" else 20.0,
        }

    assert verdicts(experiment, result, falling)[:3] == ["holds", "holds", "does not hold"]
    assert verdicts(experiment, result, growing) == [
        "does not hold",
        "does not hold",
        "holds",
        "holds",
    ]

    def wide_only(row):
        return falling(row) if row["kind"] == width_collapse.GROWING else growing(row)

    assert (
        verdicts(experiment, result, wide_only)[:2] == ["holds only if the width grows with T"] * 2
    )


def test_the_gap_opens_with_the_context_where_the_width_grows_too():
    settings = width_collapse.Settings(
        contexts=(32, 64, 128, 256), total=512, fixed_width=16, depth_tokens=8, depth=1
    )
    experiment = EXPERIMENTS["width-collapse"]
    result = run(dataclasses.replace(experiment, tasks=one_layer_tasks), settings)
    assert width_collapse.slope(result, width_collapse.GROWING) == pytest.approx(-0.5, abs=0.2)
    assert width_collapse.slope(result, width_collapse.FIXED) > -0.25


def one_layer_tasks(settings):
    return [task for task in width_collapse.tasks(settings) if task["tokens"] > 8]


def test_verdicts_on_collapse_of_entropy():
    experiment, result = small("entropy-collapse")
    measured = [claim.verdict for claim in experiment.claims(result)]
    assert measured[0].startswith("holds")
    assert measured[1].startswith("holds")

    def broken(row):
        plain = row["weights"] == "plain"
        return {
            "bound": 2.0,
            "entropy": 0.9 if plain else 0.99,
            "diverged": int(not plain),
        }

    assert verdicts(experiment, result, broken) == [
        "does not hold",
        "does not hold",
        "holds only if γ stays: at the start at any scale; learned, γ lets it fall",
        "does not hold",
    ]
    better = verdicts(
        experiment,
        result,
        lambda row: {"entropy": 0.99, "diverged": int(row["weights"] == "plain")},
    )
    assert better[2:] == ["holds", "holds"]
    uneven = verdicts(experiment, result, lambda row: {"entropy": 1.0 / (1.0 + row["scale"])})
    lost = verdicts(
        experiment,
        result,
        lambda row: {"entropy": 0.1 if row["rate"] else 1.0 / (1.0 + row["scale"])},
    )
    assert (uneven[1], lost[2]) == ("holds", "does not hold")


def test_sigma_reparam_starts_at_one_entropy_whatever_the_scale():
    _, result = small("entropy-collapse")
    entropy = entropy_collapse.of_scale(result, "entropy", "σReparam")
    np.testing.assert_allclose(entropy, entropy[:, :1] * np.ones(3), rtol=1e-12)
    plain = entropy_collapse.of_scale(result, "entropy")
    assert np.all(np.diff(plain, axis=1) < 0.0)


def test_training_diverges_and_says_so():
    settings = dataclasses.replace(SMALL["entropy-collapse"], rates=(1e4,), scales=(1.0,))
    rows = [row for row in run(EXPERIMENTS["entropy-collapse"], settings).rows if row["rate"] > 0]
    assert [row["diverged"] for row in rows if row["weights"] == "plain"] == [1, 1]
    assert all(np.isfinite([row["loss"], row["entropy"]]).all() for row in rows)
